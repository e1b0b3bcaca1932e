"""Pictures: one clip becomes one mel spectrogram picture, all clips become eight folders."""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import librosa.filters  # by name: librosa would load it only at the first picture
import numpy as np
import pandas as pd
import scipy.fft
from joblib import Parallel, delayed
from PIL import Image
from scipy.sparse import csr_matrix
from tqdm import tqdm

from . import EmotionHelpersError, atomic_write, config_hash, remove_leftovers, write_text
from .audio import active_intervals, high_pass, read_audio
from .clips import EMOTIONS, clip_path


@dataclass(frozen=True)
class SpectrogramSettings:
    """How sound becomes a picture. The defaults give 432 x 288 pixels: 3.0 s by 288 mel bands."""

    sample_rate: int = 22_050  # Hz
    n_fft: int = 4096  # points: 5.4 Hz from one frequency to the next
    win_lengths: tuple[int, int, int] = (512, 1024, 2048)  # samples, for red, green, blue
    hop_length: int = 153  # samples: 6.9 ms from one column to the next
    width: int = 432  # columns
    n_mels: int = 288  # rows
    fmin: float = 40.0  # Hz, the lowest row
    fmax: float = 11_025.0  # Hz, the highest row
    top_db: float = 80.0  # dB from white down to black
    trim_db: float = 35.0  # what is this much quieter than the loudest moment is cut off both ends

    def __post_init__(self):
        try:
            object.__setattr__(self, "win_lengths", tuple(self.win_lengths))  # JSON has lists
            for name in ("fmin", "fmax", "top_db", "trim_db"):  # 80 and 80.0 are one setting
                object.__setattr__(self, name, float(getattr(self, name)))
            counts = (self.sample_rate, self.n_fft, *self.win_lengths, self.hop_length)
            counts += (self.width - 1, self.n_mels)
            possible = all(type(count) is int and 1 <= count <= 2**18 for count in counts)
            possible &= max(self.width, self.n_mels) <= 4096 and len(self.win_lengths) == 3
            possible &= max(self.win_lengths) <= self.n_fft and 0 < self.trim_db <= 200
            possible &= 0 < self.fmin < self.fmax <= self.sample_rate / 2 and 0 < self.top_db <= 200
        except (TypeError, ValueError):  # something that is no number
            possible = False
        if not possible:
            raise EmotionHelpersError(f"{self}: such settings cannot be")

    @property
    def seconds(self) -> float:
        """Time from the first column's centre to the last one's [s]."""
        return (self.width - 1) * self.hop_length / self.sample_rate

    @property
    def name(self) -> str:
        """What a folder of such pictures adds to its name: nothing for the defaults."""
        return "" if self == SpectrogramSettings() else config_hash(asdict(self))


@lru_cache(maxsize=8)
def mel_filters(settings: SpectrogramSettings) -> csr_matrix:
    """Triangles that sum power into mel bands, shape (n_mels, 1 + n_fft // 2), nearly all zeros."""
    shape = {"sr": settings.sample_rate, "n_fft": settings.n_fft, "n_mels": settings.n_mels}
    return csr_matrix(librosa.filters.mel(fmin=settings.fmin, fmax=settings.fmax, **shape))


def centre_voice(samples: np.ndarray, settings: SpectrogramSettings) -> np.ndarray:
    """Cut silence off both ends, centre the rest in `settings.seconds`, padded or cropped; (n,).
    What lies below `fmin` is filtered out first; the gain is evened out in powers of two."""
    offset = np.abs(samples).max()
    samples = high_pass(samples, settings.sample_rate, settings.fmin)
    loudest = np.abs(samples).max()
    silent = not 1e-7 * offset < loudest < np.inf  # what rounding leaves of an offset, or overflow
    samples = np.zeros_like(samples) if silent else samples / 2.0 ** np.floor(np.log2(loudest))
    first, *_, end = active_intervals(samples, settings.trim_db).flat
    size = (settings.width - 1) * settings.hop_length
    start = size + int((end - first - size) / 2)  # in the middle, rounded towards it
    return np.pad(samples[first:end], size)[start : start + size]


def mel_decibels(voice: np.ndarray, win_length: int, settings: SpectrogramSettings) -> np.ndarray:
    """Mel spectrogram in dB below its loudest point, shape (n_mels, frames), -top_db to 0; below
    -100 dB if nothing is louder, so that silence is -top_db.

    What `librosa.feature.melspectrogram` and `power_to_db(amin=1e-30)` give, in less time: frames
    are as long as the window, those of nothing but zeros are left out, and the rest are taken in
    parts that fit into a processor's cache."""
    before = settings.n_fft // 2 - (settings.n_fft - win_length) // 2
    padded = np.pad(voice, (before, win_length - before))
    frames = np.lib.stride_tricks.sliding_window_view(padded, win_length)[:: settings.hop_length]
    active = np.flatnonzero(frames.any(axis=1))
    window = librosa.filters.get_window("hann", win_length).astype(voice.dtype)
    power = np.zeros((settings.n_mels, len(frames)), voice.dtype)
    for part in np.array_split(active, 1 + len(active) // 48):
        spectrum = scipy.fft.rfft(frames[part] * window, n=settings.n_fft)
        power[:, part] = mel_filters(settings) @ (spectrum.real**2 + spectrum.imag**2).T
    decibels = 10 * np.log10(np.maximum(power, 1e-30))  # -300: 200, the longest scale, below -100
    return np.maximum(decibels - max(decibels.max(), -100), -settings.top_db)


def to_pixels(decibels: np.ndarray, settings: SpectrogramSettings) -> np.ndarray:
    """Decibels, -top_db (black, 0) to 0 (white, 255), as uint8 with high frequencies on top."""
    return np.round(255 * (1 + decibels[::-1] / settings.top_db)).astype(np.uint8)


def mel_picture(samples: np.ndarray, settings=SpectrogramSettings()) -> np.ndarray:
    """Picture of one clip: uint8, (n_mels, width, 3), high frequencies on top, a window per colour.

    `samples`: mono, shape (n,), at `settings.sample_rate`. Silence is black. Raises
    `EmotionHelpersError` for samples of another shape, none at all, or some that are no numbers."""
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        what = f"shape {samples.shape}, {np.sum(~np.isfinite(samples))} of them NaN or infinite"
        raise EmotionHelpersError(f"a picture needs mono samples, all of them numbers, not {what}")
    voice = centre_voice(samples, settings)
    decibels = [mel_decibels(voice, win_length, settings) for win_length in settings.win_lengths]
    return to_pixels(np.stack(decibels, axis=-1), settings)


def resize(picture: str | Path | np.ndarray, height: int, width: int) -> Image.Image:
    """All of a picture (a file or an array) in height x width pixels: what the network sees."""
    try:
        image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else Image.open(picture)
        if image.mode[0] == "I":  # 16 bits, which would become white
            raise ValueError("16 bits deep")
        return image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:  # Pillow's
        if getattr(e, "errno", None):  # not the picture's fault: it is not there, or closed
            raise
        raise EmotionHelpersError(f"{picture} is damaged ({e}): delete it, run chapter 03") from e


def render_clip(row: dict, folder: Path, settings: SpectrogramSettings) -> tuple[str, str, str]:
    """Write one clip's picture unless it is current; (clip_id, made | kept | failed, reason)."""
    target = folder / row["emotion"] / f"{row['clip_id']}.png"
    try:
        changed = os.stat(row["path"]).st_mtime_ns  # a picture has its clip's time of change
        # Not all disks keep it whole: exFAT, HFS+, FAT.
        times = {changed // step * step // 1000 for step in (1, 10**7, 10**9, 2 * 10**9)}
        with suppress(FileNotFoundError):
            if (old := target.stat()).st_size and old.st_mtime_ns // 1000 in times:
                return row["clip_id"], "kept", ""
        picture = mel_picture(read_audio(row["path"], settings.sample_rate), settings)
    except (EmotionHelpersError, OSError) as error:
        target.unlink(missing_ok=True)
        return row["clip_id"], "failed", str(error)
    with atomic_write(target) as partial:  # 3: runs of equal bytes, quicker and smaller
        Image.fromarray(picture).save(partial, format="PNG", compress_level=1, compress_type=3)
        os.utime(partial, ns=(changed, changed))
    return row["clip_id"], "made", ""


def read_settings(folder: Path) -> SpectrogramSettings | None:
    """The settings that the pictures in a folder were made with; None if it does not say."""
    try:
        return SpectrogramSettings(**json.loads((folder / "settings.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError, EmotionHelpersError):
        return None


def tidy(folder: Path, wanted: set[Path], settings: SpectrogramSettings) -> list[Path]:
    """Make the eight folders, delete what is out of date; returns deleted pictures not `wanted`."""
    for emotion in EMOTIONS:
        (folder / emotion).mkdir(parents=True, exist_ok=True)
    pictures = {path for path in folder.glob("*/*") if clip_path(path, ".png")}
    current = read_settings(folder) == settings
    for path in pictures - wanted if current else pictures:
        path.unlink(missing_ok=True)
    remove_leftovers(folder, "*/*.part")
    if not current:  # only now: pictures of old settings must never pass for new ones
        write_text(folder / "settings.json", json.dumps(asdict(settings), indent=1))
    return sorted(pictures - wanted)


def render(clips: pd.DataFrame, folder, settings=SpectrogramSettings(), n_jobs=-1) -> pd.DataFrame:
    """Make `folder` hold exactly the pictures of `clips`, as <emotion>/<clip_id>.png.

    Uses `n_jobs` cores (-1: all). What is current is kept: a call that was interrupted goes on.
    Pictures of other settings or changed clips are made again, those of clips not in the table are
    deleted. Returns a row per clip: clip_id, status (made, kept, failed, removed), reason; one bad
    clip does not stop the rest. Raises `EmotionHelpersError` if the folder cannot be written."""
    folder, rows = Path(folder), clips.to_dict("records")
    wanted = {folder / row["emotion"] / f"{row['clip_id']}.png" for row in rows}
    try:
        stale = tidy(folder, wanted, settings)
        jobs = Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=16)
        made = jobs(delayed(render_clip)(row, folder, settings) for row in rows)
        report = list(tqdm(made, total=len(rows), desc="pictures", unit="clip", mininterval=1))
    except OSError as error:
        problem = f"cannot write pictures to {folder} ({error.strerror or error})"
        advice = "make room or choose another folder, then run again: finished pictures are kept"
        raise EmotionHelpersError(f"{problem}: {advice}") from error
    report += [(path.stem, "removed", "not in the table of clips") for path in stale]
    table = pd.DataFrame(report, columns=["clip_id", "status", "reason"])
    return table.sort_values("clip_id", ignore_index=True)


def picture_files(folder: str | Path, settings=SpectrogramSettings()) -> list[Path]:
    """All pictures in `folder`, sorted by name. Raises `EmotionHelpersError` if there are none, if
    they were made with other settings, or if one is not of a clip."""
    files = [path for path in Path(folder).glob("*/*.png") if path.name[0] != "."]
    if not files:
        raise EmotionHelpersError(f"no pictures in {folder}: run chapter 03, it renders them")
    if (made := read_settings(Path(folder))) != settings:
        raise EmotionHelpersError(f"{folder}: made with {made}, not {settings}: run chapter 03")
    if strange := [path for path in files if not clip_path(path, ".png")]:
        raise EmotionHelpersError(f"{strange[0]} is not of chapter 03: move it elsewhere")
    return sorted(files, key=lambda path: path.name)
