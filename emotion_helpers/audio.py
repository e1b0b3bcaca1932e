"""Any sound file as mono float32 samples at one rate: the one reader, for training and answers."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, groupby, islice, pairwise
from mmap import ACCESS_READ, mmap
from operator import attrgetter
from pathlib import Path

import av
import numpy as np
import soxr
from scipy.signal import butter, sosfiltfilt

from . import EmotionHelpersError

MIN_SECONDS = 0.1
FRAME, HOP = 2048, 512  # samples: how finely loudness is looked at
SILENT = 1e-4  # peak, -80 dB of full scale
# All 4,238 clips of RAVDESS and TESS stay below it. Amplified tenfold from full scale and cut off,
# 50 of RAVDESS are above it in 100 (wav), 98 (webm), 94 (mp3) and 82 % (m4a).
CLIPPED_LIMIT = 0.22
# A playlist must not open other files; to probe more packets for their codec makes wav files slow.
AV_OPTIONS = {"options": {"protocol_whitelist": "none", "max_probe_packets": "1"}}
AV_OPTIONS |= {"metadata_errors": "ignore"}


class AudioError(EmotionHelpersError):
    """A file that is missing, is no sound, or holds sound that cannot be used."""


@dataclass(frozen=True, eq=False)
class Recording:
    """A whole sound file, decoded once."""

    samples: np.ndarray  # mono float32 (n,), full scale 1
    sample_rate: int  # Hz
    channel_peak: float  # loudest |sample| of any channel
    clipped: float  # 0 to 1, how flat the loud parts' tops are; distorted above CLIPPED_LIMIT
    notes: tuple[str, ...]  # sentences about what was left out

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate


def is_truncated(path: str | Path) -> bool:
    """Whether a wav or aiff file is shorter than it says, as after a broken download."""
    with open(path, "rb") as file:
        header = file.read(8)
    order = {b"RIFF": "little", b"RIFX": "big", b"FORM": "big"}.get(header[:4])
    length = int.from_bytes(header[4:], order) if order else 0
    # Some count their header twice; from 0x7fff0000 on it is a placeholder, as in pipes.
    return Path(path).stat().st_size + 64 < length < 0x7FFF0000


def decode(path: str | Path, track: int, notes: list[str]) -> Iterator[av.AudioFrame]:
    """Yield the frames of a track; raises IndexError if there is no such track."""
    damaged = 0
    with open(path, "rb") as file:
        # FFmpeg decodes joined Ogg files with the codebooks of the first: split where one begins
        # (RFC 3533); nearer than 300 bytes to another it is a second track of the same part.
        data = mmap(file.fileno(), 0, access=ACCESS_READ) if file.peek(4)[:4] == b"OggS" else b""
        begins = [match.start() for match in re.finditer(rb"OggS\0\x02", data)]
        starts = [0] + [end for start, end in pairwise(begins) if end - start > 300]
        parts = (io.BytesIO(data[start:end]) for start, end in pairwise([*starts, None]))
        for number, part in enumerate(parts if starts[1:] else [file]):
            try:
                container = av.open(part, **AV_OPTIONS)
            except av.FFmpegError:  # a joined file that ends within its header
                if not number:
                    raise
                damaged += 1
                continue
            with container:
                packets = container.demux(container.streams.audio[track])
                while True:
                    try:
                        yield from next(packets).decode()
                    except StopIteration:
                        break
                    except av.FFmpegError:
                        damaged += 1
    if damaged:
        notes.append(f"damaged packets were left out ({damaged})")


def flat_tops(block: np.ndarray, rate: int) -> np.ndarray:
    """Peak and flatness (0 to 1) of every 20 ms of a block (channels, n), as columns. A top that is
    cut off is flat within 2 %; lossy coding makes it ripple, but it remains broad."""
    size = rate // 50
    parts = block[:, : block.shape[1] // size * size].reshape(-1, size)
    slow, _ = np.linalg.qr(np.vander(np.linspace(-1, 1, size), 3).astype(np.float32))
    parts = np.abs(parts - parts @ slow @ slow.T)  # offset and rumble are not clipping
    peaks = parts.max(axis=1, keepdims=True)
    flat, broad = ((parts >= level * peaks).mean(axis=1) for level in (0.98, 0.7))
    return np.column_stack([peaks, np.clip(5 * flat, broad, 1)])


def read_track(path: str | Path, track: int, sample_rate: int, max_seconds: float) -> Recording:
    """One track of a file, see `read_recording`; raises IndexError if there is no such track."""
    notes = [f"track 1 is silent, so track {track + 1} was read"] if track else []
    pieces, tops, length, channel_peak = [np.zeros(0, np.float32)], [np.zeros((1, 2))], 0, 0.0
    # All of these may change within a file: each stretch has a resampler of its own.
    layout = attrgetter("rate", "layout.nb_channels", "layout.name", "format.name")
    for (rate, channels, *_), stretch in groupby(decode(path, track, notes), layout):
        if not 1_000 <= rate <= 1_000_000:
            raise AudioError(f"{path}: {rate} samples a second cannot be; export it at 44100 Hz")
        to_float = av.AudioResampler(format="flt")  # packed: PyAV reads but 8 separate channels
        resampler = soxr.ResampleStream(rate, sample_rate, 1)
        while parts := [to_float.resample(f)[0].to_ndarray()[0] for f in islice(stretch, 16)]:
            block = np.ascontiguousarray(np.concatenate(parts).reshape(-1, channels).T)
            channel_peak = max(channel_peak, float(np.abs(block).max()))
            if not np.abs(block).max() < 1e12:  # nor is NaN
                raise AudioError(f"{path}: samples are not numbers (NaN, or huge); export it again")
            tops.append(flat_tops(block, rate))
            pieces.append(resampler.resample_chunk(block.mean(axis=0)))
            length += len(pieces[-1])
            if length > max_seconds * sample_rate + 1:
                raise AudioError(f"{path}: longer than {max_seconds:g} s, which is the limit")
        pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    peaks, flatness = np.concatenate(tops).T
    loud = peaks >= max(0.7 * np.percentile(peaks, 90), 0.003)  # a tap is one of many
    clipped = float(flatness[loud].mean()) if loud.any() else 0.0
    return Recording(np.concatenate(pieces), sample_rate, channel_peak, clipped, tuple(notes))


def read_recording(path: str | Path, sample_rate: int, max_seconds: float = 3600.0) -> Recording:
    """Read a sound file in any container: the first track that is not silent, channels averaged.

    Equals `librosa.load(path, sr=sample_rate)` where that can read the file. Raises `AudioError` if
    it is missing, no sound, shorter than `MIN_SECONDS`, longer than `max_seconds`, or holds NaN."""
    first = track = None  # of many silent ones, two are held
    try:
        for number in count():
            track = read_track(path, number, sample_rate, max_seconds)
            first = first or track
            if track.channel_peak >= SILENT:
                break
    except IndexError:  # no further track
        track = first
    except (av.FFmpegError, OSError, ValueError, LookupError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: not a recording that can be read ({reason})") from error
    if not track or track.seconds < MIN_SECONDS:
        raise AudioError(f"{path}: less than {MIN_SECONDS} s of sound read; record or cut it anew")
    return track


def read_audio(path: str | Path, sample_rate: int) -> np.ndarray:
    """Samples of one clip, mono float32 (n,), full scale 1, at `sample_rate` [Hz]. Raises
    `AudioError` as `read_recording`, and if it is silent."""
    samples = read_recording(path, sample_rate).samples
    if np.abs(high_pass(samples, sample_rate)).max() < SILENT:
        raise AudioError(f"{path}: silent (peak below -80 dB); check the recording")
    return samples


def high_pass(samples: np.ndarray, sample_rate: int, cutoff: float = 40.0) -> np.ndarray:
    """Samples (n,) without what lies below `cutoff` [Hz], offset and rumble; float32 (n,).
    Butterworth of order 4, both ways, so that nothing moves in time; 50 ms at the ends fade."""
    # An offset makes resamplers ring for 5 ms at both ends: mirror these from what follows.
    edge, padding = min(sample_rate // 200, (len(samples) - 1) // 3), sample_rate // 10
    inner = samples[edge : len(samples) - edge]
    padded = np.pad(inner, edge + padding, mode="reflect", reflect_type="odd")
    sos = butter(4, cutoff, "highpass", fs=sample_rate, output="sos")
    result = sosfiltfilt(sos, padded, padlen=0)[padding:-padding].astype(np.float32)
    # What went on outside is not known, so that some rumble is left at both ends: fade them.
    size = min(sample_rate // 20, len(result) // 2)
    fade = np.sin(np.linspace(0, np.pi / 2, size, dtype=np.float32)) ** 2
    result[:size] *= fade
    result[len(result) - size :] *= fade[::-1]
    return result


def active_intervals(samples: np.ndarray, top_db: float) -> np.ndarray:
    """First sample and end of each run of frames at most `top_db` quieter than the loudest, (n, 2).
    As `librosa.effects.split`, which loads compiled code for seconds; without its -100 dB floor."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, FRAME // 2), FRAME)[::HOP]
    power = np.einsum("ij,ij->i", frames, frames)
    loud = power >= power.max() * 10 ** (-top_db / 10)  # in silence: every frame
    edges = np.flatnonzero(np.diff(loud, prepend=False, append=False))
    return np.minimum(edges * HOP, len(samples)).reshape(-1, 2)
