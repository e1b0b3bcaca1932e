"""Recordings: any sound file of any length, piece by piece, and where in it somebody speaks."""
import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import soundfile as sf
import soxr

from .clips import ClipError, refuse_not_numbers, refuse_truncated
from .pictures import PictureSettings, mel_filters

HOP = 512  # samples: how finely loudness is looked at (what librosa.effects.trim goes by)
STEP = 1.0  # s from one window of a long recording to the next
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,asf,amr,flv,avi,ogg,flac"  # for PyAV: no playlists, which name other files or addresses


def decoded(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """Pieces of a recording: float samples, shape (n, channels), and their rate [Hz]. What soundfile cannot read PyAV may."""
    try:
        file = sf.SoundFile(os.fsencode(path) if os.name == "posix" else path)  # names need not be UTF-8
    except (sf.LibsndfileError, TypeError) as error:  # TypeError: .raw, which does not say what it holds
        unreadable = getattr(error, "error_string", "it does not say its rate.")
    else:
        with file:
            if file.frames < 2**63 - 1:  # else FLAC that was written into a pipe
                while len(block := file.read(2**18 // file.channels, dtype="float32", always_2d=True)):  # not .blocks: it trusts the header's length
                    yield block, file.samplerate
                return
        unreadable = "Its header does not say how long it is."
    try:
        import av  # not above: only some containers need it
    except ImportError:
        raise ClipError(f"{path}: soundfile cannot read it ({unreadable}). For m4a, webm and the like: pip install av") from None
    try:
        with av.open(str(path.resolve()), options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise ClipError(f"{path}: there is no sound in it")
            as_floats = av.AudioResampler(format="fltp")
            for frame in container.decode(audio=0):
                yield from ((piece.to_ndarray().T, piece.sample_rate) for piece in as_floats.resample(frame))
    except (av.FFmpegError, OSError) as error:
        raise ClipError(f"{path}: not a recording that soundfile or PyAV can read ({unreadable} {error.strerror})") from error


def mono_blocks(path: str | Path, sample_rate: int) -> Iterator[np.ndarray]:
    """Any recording as mono float32 pieces at `sample_rate` [Hz], one after the other: memory does not grow with its length.

    Raises `ClipError` if the file is missing, is no sound, or has samples that are not numbers.
    """
    path, resampler = Path(path), None
    if not path.is_file():
        raise ClipError(f"{path}: there is no such file")
    refuse_truncated(path)
    try:
        for block, rate in decoded(path):
            if not 1_000 <= rate <= 1_000_000:
                raise ClipError(f"{path}: {rate} samples a second cannot be; export it again, at 44100 Hz for example")
            mono = block.mean(axis=1, dtype=np.float32)
            refuse_not_numbers(path, mono)
            resampler = resampler or soxr.ResampleStream(rate, sample_rate, 1, dtype="float32")
            yield resampler.resample_chunk(mono)
    except sf.LibsndfileError as error:
        raise ClipError(f"{path}: its sound cannot be decoded ({error.error_string}); copy or record it again") from error
    if resampler:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def pieces(blocks: Iterable[np.ndarray], spans: Iterable[tuple[int, int]]) -> Iterator[np.ndarray]:
    """The samples of each span (from, to; both ascending) out of a row of blocks; a span that goes beyond the end is cut."""
    spans, held, offset = deque(spans), np.zeros(0, np.float32), 0  # held: the samples from `offset` on
    for block in blocks:
        held = np.concatenate([held, block])
        while spans and spans[0][1] <= offset + len(held):
            start, stop = spans.popleft()
            yield held[start - offset:stop - offset]
        passed = len(held) if not spans else min(spans[0][0] - offset, len(held))
        held, offset = held[passed:], offset + passed
    yield from (held[start - offset:stop - offset] for start, stop in spans)


def share_at_peak(path: str | Path) -> float:
    """Share of a recording's louder samples (a tenth of the peak and more), as they were recorded, that stand within 2 % of the
    peak: many if it was clipped."""
    found = []
    for block, _ in decoded(Path(path)):
        loud = np.abs(block).max(axis=1)
        found.append((peak := loud.max(), (loud > 0.98 * peak).sum(), (loud > 0.1 * peak).sum()))
    loudest = max(peak for peak, *_ in found)
    counts = np.sum([counts for peak, *counts in found if peak > 0.98 * loudest], axis=0)
    return counts[0] / max(counts[1], 1)


def levels(path: str | Path, sample_rate: int, longest: float = np.inf) -> tuple[pd.DataFrame, float]:
    """A recording's loudness, a row for every HOP samples at `sample_rate` [Hz], power (summed squares) and peak (full scale 1);
    and its length [s]. Raises `ClipError` as soon as it turns out to be longer than `longest` [s]."""
    rows, rest, length = [np.zeros((0, 2))], np.zeros(0, np.float32), 0
    for block in chain(mono_blocks(path, sample_rate), [None]):  # None: the end, filled up with silence
        rest = np.concatenate([rest, np.zeros(-len(rest) % HOP, np.float32) if block is None else block])
        length += 0 if block is None else len(block)
        if length > longest * sample_rate + 1:  # a resampler may round up
            raise ClipError(f"{path}: longer than {longest:.0f} s, which is the limit; cut it into parts")
        whole = rest[:len(rest) // HOP * HOP].reshape(-1, HOP)
        rest = rest[whole.size:]
        rows.append(np.stack([(whole.astype(float)**2).sum(axis=1), np.abs(whole).max(axis=1)], axis=1))
    return pd.DataFrame(np.concatenate(rows), columns=["power", "peak"]), length / sample_rate


def voiced(loudness: pd.DataFrame, trim_db: float) -> np.ndarray:
    """Which rows of `levels` are less than `trim_db` below the loudest: the frames that librosa.effects.trim goes by; bool, (n,)."""
    rms_squared = loudness.power.rolling(4, min_periods=1).sum().shift(-1)  # frames of 2048 samples around each row's beginning
    return (10 * np.log10(rms_squared.fillna(0).clip(lower=1e-20) / rms_squared.max()) > -trim_db).to_numpy()


def windows(heard: np.ndarray, settings: PictureSettings) -> list[tuple[int, int]]:
    """From which to which sample the network is asked: all that is `voiced`, if it fits into one picture; else overlapping
    windows of a picture's length, those left out that are silent for four fifths."""
    size, rows = (settings.width - 1) * settings.hop_length, np.flatnonzero(heard)
    first, end = rows[0] * HOP, (rows[-1] + 1) * HOP
    if end - first <= size:
        return [(max(first - 4 * HOP, 0), end + 4 * HOP)]  # with some silence around, which mel_picture cuts off as in training
    starts = [*range(first, end - size, round(STEP * settings.sample_rate)), end - size]
    share = [heard[start // HOP:(start + size) // HOP].mean() for start in starts]
    least = min(0.2, max(share))  # a few words far apart are heard all the same
    return [(start, start + size) for start, spoken in zip(starts, share) if spoken >= least]


def overview(path: str | Path, settings: PictureSettings, length: int, columns: int = 1000) -> np.ndarray:
    """Mel spectrogram of a whole recording of `length` samples in about so many columns, each the loudest of its stretch of time.

    Decibels below the loudest point, shape (n_mels, columns), from -top_db to 0.
    """
    n_fft, step, found = settings.n_fft, max(settings.hop_length, length // columns), []
    size = max(1, 2**19 // step) * step  # samples at once
    spans = [(start, min(start + size, length) + n_fft) for start in range(0, length, size)]  # each with what its last frame needs
    blocks = chain([np.zeros(n_fft // 2, np.float32)], mono_blocks(path, settings.sample_rate))  # so that the first frame is centred on the beginning
    for (start, stop), samples in zip(spans, pieces(blocks, spans)):
        samples = librosa.util.fix_length(samples, size=stop - start)
        spectrum = librosa.stft(samples, n_fft=n_fft, hop_length=min(step, HOP), win_length=settings.win_lengths[1], center=False)
        power = mel_filters(settings) @ np.abs(spectrum)**2
        found += [part.max(axis=1) for part in np.array_split(power, max(1, (stop - start - n_fft) // step), axis=1)]
    power = np.stack(found, axis=1)
    return librosa.power_to_db(power, ref=np.max, top_db=settings.top_db) if power.any() else np.full_like(power, -settings.top_db)
