"""Sounds for tests: made by a formula, and written through any codec."""

import io

import av
import numpy as np


def voice(seconds=2.0, rate=48_000):
    """A buzz below 3.5 kHz whose pitch and loudness move as in speech; peak 0.5."""
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 0.7 * t)) / rate
    buzz = sum(np.cos(k * phase + k**2) / k**0.7 for k in range(1, 20))
    buzz = buzz * (0.1 + np.sin(np.pi * 1.5 * t) ** 2)
    return (0.5 * buzz / np.abs(buzz).max()).astype(np.float32)


def noise(seconds=2.0, rate=48_000, peak=0.5, seed=0):
    """White noise, as of a fan."""
    samples = np.random.default_rng(seed).normal(size=round(seconds * rate))
    return (peak * samples / np.abs(samples).max()).astype(np.float32)


def hum(seconds=2.0, rate=48_000, hertz=100, peak=0.5):
    """A steady hum with two overtones, as of a transformer."""
    t = np.arange(round(seconds * rate)) / rate
    samples = sum(np.sin(2 * np.pi * k * hertz * t) / k for k in (1, 2, 3))
    return (peak * samples / np.abs(samples).max()).astype(np.float32)


def music(seconds=4.0, rate=48_000, peak=0.5, seed=0):
    """Chords of plucked strings, two a second, over a bass."""
    rng = np.random.default_rng(seed)
    samples = np.zeros(round(seconds * rate))
    for start in np.arange(0, seconds, 0.5):
        t = np.arange(len(samples) - round(start * rate)) / rate
        root = 110 * 2 ** (rng.choice([0, 5, 7, 9]) / 12)
        for note in (0.5, 1, 2 ** (4 / 12), 2 ** (7 / 12), 2):
            for k in range(1, 6):
                string = np.sin(2 * np.pi * k * root * note * t) * np.exp(-2 * k * t) / k
                samples[-len(t) :] += string
    return (peak * samples / np.abs(samples).max()).astype(np.float32)


def encode(file, samples, rate, codec, container_format=None, **options):
    """Write samples, (n,) or (channels, n), through PyAV into a path or a file object."""
    samples = np.atleast_2d(samples).astype(np.float32)
    write_tracks(file, [samples], rate, codec, container_format, **options)
    return file


def write_tracks(file, tracks, rate, codec, container_format=None, **options):
    """The same for several tracks, each (channels, n)."""
    name = file if isinstance(file, io.IOBase) else str(file)
    with av.open(name, "w", format=container_format) as container:
        layouts = [{1: "mono", 2: "stereo", 6: "5.1"}[len(samples)] for samples in tracks]
        streams = [
            container.add_stream(codec, rate=rate, layout=layout, **options) for layout in layouts
        ]
        for stream, samples, layout in zip(streams, tracks, layouts, strict=True):
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.sample_rate = rate
            size = stream.codec_context.frame_size or 1024
            resampler = av.AudioResampler(stream.format, layout, rate, frame_size=size)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(piece))
            container.mux([packet for packet in stream.encode(None) if packet.size])
