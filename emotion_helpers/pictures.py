"""Pictures: one clip becomes one mel spectrogram picture, all clips become eight folders of them."""
import errno
import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import Image, PngImagePlugin
from tqdm import tqdm

from .clips import EMOTIONS, ClipError, read_clip


@dataclass(frozen=True)
class PictureSettings:
    """How sound becomes a picture. The defaults give 432 x 288 pixels: 3.0 s by 288 mel bands."""
    sample_rate: int = 22_050  # Hz
    n_fft: int = 4096  # points: 5.4 Hz from one frequency to the next
    win_lengths: tuple[int, int, int] = (512, 1024, 2048)  # samples (23, 46, 93 ms), one for each of red, green, blue
    hop_length: int = 153  # samples: 6.9 ms from one column to the next
    width: int = 432  # columns
    n_mels: int = 288  # rows
    fmin: float = 40.0  # Hz, the lowest row
    fmax: float = 11_025.0  # Hz, the highest row
    top_db: float = 80.0  # dB from white down to black
    trim_db: float = 35.0  # what is quieter than this below the loudest moment, at either end, is cut off

    def __post_init__(self):
        object.__setattr__(self, "win_lengths", tuple(self.win_lengths))  # settings read from JSON hold a list

    @property
    def seconds(self) -> float:
        """Time from the first column's centre to the last one's [s]."""
        return (self.width - 1) * self.hop_length / self.sample_rate


@lru_cache(maxsize=8)
def mel_filters(settings: PictureSettings) -> np.ndarray:
    """Triangles that sum Fourier power into mel bands (Slaney's scale and norm), shape (n_mels, 1 + n_fft // 2)."""
    return librosa.filters.mel(sr=settings.sample_rate, n_fft=settings.n_fft, n_mels=settings.n_mels,
                               fmin=settings.fmin, fmax=settings.fmax)


def centre_voice(samples: np.ndarray, settings: PictureSettings) -> np.ndarray:
    """Cut the silence off both ends and centre the rest in `settings.seconds`, padded with zeros or cropped; (n,)."""
    voice, _ = librosa.effects.trim(samples, top_db=settings.trim_db)
    size = (settings.width - 1) * settings.hop_length
    if len(voice) > size:
        start = (len(voice) - size) // 2
        return voice[start:start + size]
    return librosa.util.pad_center(voice, size=size)


def mel_decibels(samples: np.ndarray, win_length: int, settings: PictureSettings) -> np.ndarray:
    """Mel spectrogram in dB below its loudest point, shape (n_mels, frames), from -top_db to 0."""
    spectrum = librosa.stft(samples, n_fft=settings.n_fft, hop_length=settings.hop_length, win_length=win_length)
    return librosa.power_to_db(mel_filters(settings) @ np.abs(spectrum)**2, ref=np.max, top_db=settings.top_db)


def as_pixels(decibels: np.ndarray, settings: PictureSettings) -> np.ndarray:
    """Decibels from -top_db (black, 0) to 0 (white, 255), low frequencies first, as uint8 with high frequencies on top."""
    return np.round(255 * (1 + decibels[::-1] / settings.top_db)).astype(np.uint8)


def mel_picture(samples: np.ndarray, settings: PictureSettings = PictureSettings()) -> np.ndarray:
    """Picture of one clip: uint8, shape (n_mels, width, 3), high frequencies on top, one window length a colour."""
    if loudest := np.abs(samples).max(initial=0):  # the picture must not depend on gain, but power_to_db has a floor
        samples = samples / 2.0**np.floor(np.log2(loudest))  # a power of two moves no bit of the samples' fractions
    voice = centre_voice(samples, settings)
    decibels = np.stack([mel_decibels(voice, win_length, settings) for win_length in settings.win_lengths], axis=-1)
    return as_pixels(decibels, settings)


def squeezed(picture: str | Path | np.ndarray, px: int, width: int | None = None) -> Image.Image:
    """The whole of a picture (a file or a `mel_picture`) in px x px pixels, or width x px: what the network gets to see."""
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else Image.open(picture)
    return image.convert("RGB").resize((width or px, px), Image.Resampling.BILINEAR)


def picture_key(md5: str, settings: PictureSettings) -> str:
    """What a picture was made from; stands inside its PNG file, so that a picture can tell whether it is current."""
    return json.dumps({"clip_md5": md5, **asdict(settings)})


def made_with(picture: Path) -> dict:
    """What the `picture_key` inside a PNG file says; empty if there is no such file, or it is not one of ours."""
    try:
        with Image.open(picture) as image:
            return json.loads(image.info["emotion_helpers"])
    except (OSError, SyntaxError, KeyError, ValueError):
        return {}


def render_one(row: dict, folder: Path, settings: PictureSettings) -> tuple[str, str, str]:
    """Write one clip's picture unless it is there already; (clip, "made" | "kept" | "failed", reason)."""
    target, key = folder / row["emotion"] / f"{row['clip']}.png", picture_key(row["md5"], settings)
    if made_with(target) == json.loads(key):
        return row["clip"], "kept", ""
    try:
        picture = mel_picture(read_clip(row["path"], settings.sample_rate), settings)
    except (ClipError, OSError) as error:  # OSError: the clip is gone, or cannot be read
        return row["clip"], "failed", str(error)
    text = PngImagePlugin.PngInfo()
    text.add_text("emotion_helpers", key)
    partial = target.with_suffix(f".{os.getpid()}.part")
    try:
        Image.fromarray(picture).save(partial, format="PNG", pnginfo=text, compress_level=4)
        os.replace(partial, target)  # either the whole picture or none
    finally:
        partial.unlink(missing_ok=True)
    return row["clip"], "made", ""


def render(clips: pd.DataFrame, folder: str | Path, settings: PictureSettings = PictureSettings(),
           n_jobs: int = -1) -> pd.DataFrame:
    """Make `folder` hold exactly the pictures of `clips`, as `<emotion>/<clip>.png`, on `n_jobs` cores (-1: all).

    What is current is kept, so a second call does nothing and an interrupted one continues; pictures of other settings
    or changed clips are made again, pictures of clips no longer in the table are removed. Returns a table with clip,
    status ("made", "kept", "failed" or "removed") and reason. One bad clip does not stop the rest.
    Raises OSError if the disk is full or the folder cannot be written; what was finished stays.
    """
    folder, rows = Path(folder), clips.to_dict("records")
    wanted = {folder / row["emotion"] / f"{row['clip']}.png" for row in rows}
    try:
        for emotion in EMOTIONS:
            (folder / emotion).mkdir(parents=True, exist_ok=True)
        stale = [p for p in folder.glob("*/*") if p.suffix == ".part" or p not in wanted and made_with(p)]
        for path in stale:
            path.unlink()
        # librosa's compiled parts are made here, once: workers that each compile and store them crash the next process
        # that loads them (https://github.com/numba/numba/issues/10128)
        mel_picture(np.zeros(settings.sample_rate, np.float32), settings)
        jobs = Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=16)(
            delayed(render_one)(row, folder, settings) for row in rows)
        done = list(tqdm(jobs, total=len(rows), desc="pictures", unit="clip", mininterval=1))
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise OSError(error.errno, f"cannot write pictures to {folder}: {what}. Make room or choose another folder, then "
                                   "run again: finished pictures are kept") from error
    report = pd.DataFrame(done, columns=["clip", "status", "reason"]).sort_values("clip", ignore_index=True)
    for clip in report.loc[report.status == "failed", "clip"]:
        for old in folder.glob(f"*/{clip}.png"):
            old.unlink()
    removed = pd.DataFrame([(p.stem, "removed", "not in the table of clips") for p in stale if p.suffix == ".png"],
                           columns=report.columns)
    return pd.concat([report, removed], ignore_index=True)


def picture_files(folder: str | Path, settings: PictureSettings = PictureSettings()) -> list[Path]:
    """All pictures in `folder`, sorted by name, so that every machine sees them in one order.

    Raises FileNotFoundError if there are none and ValueError if one was made with other settings.
    """
    files = sorted(Path(folder).glob("*/*.png"), key=lambda p: p.name)
    if not files:
        raise FileNotFoundError(f"no pictures in {folder}: run notebook 03 first, it renders them")
    expected = json.loads(picture_key("", settings))
    for file in files:
        if not (made := made_with(file)):
            raise ValueError(f"{file} is not a picture that notebook 03 made: move it out of the emotion folders")
        if other := [f"{k} {made.get(k)} instead of {v}" for k, v in expected.items()
                     if k != "clip_md5" and made.get(k) != v]:
            raise ValueError(f"{file} was made with other settings ({'; '.join(other)}): run notebook 03 again")
    return files
