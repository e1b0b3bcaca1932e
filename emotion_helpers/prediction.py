"""Prediction: what a network on disk says of any recording, and when it had better say nothing."""
import json
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile as sf
import torch
from joblib import Parallel, delayed
from scipy.ndimage import uniform_filter1d
from tqdm import tqdm

from .clips import EMOTIONS, MIN_SECONDS, ClipError
from .corpora import ROOT
from .pictures import PictureSettings, as_pixels, mel_picture, squeezed
from .plots import COLOURS, show_picture
from .recordings import HOP, STEP, decoded, levels, mono_blocks, overview, pieces, share_at_peak, voiced, windows
from .training import answers, in_views, load_model, normalised, write_text

RANDOM = threading.Lock()
QUIET = 1e-3  # peak (-60 dB) below which 16 bits leave too few steps to go by
FLAT = 0.01  # share of the louder samples that stand at the peak: more is clipping
STEADY = 6.0  # dB between a picture's loud and quiet columns: speech moves more
LAG, STANDING = 27, 0.78  # columns (0.19 s), and how alike a picture's tones may be after them


@dataclass(frozen=True)
class Answer:
    """What a network says of one recording."""
    file: str
    emotion: str  # one of EMOTIONS, or "" if it had better not say
    reason: str  # why it does not; "" if it does
    probabilities: dict[str, float]  # calibrated, in the order of EMOTIONS; empty where there was nothing to ask about
    seconds: float
    track: pd.DataFrame  # a row a window: start and end [s], and a probability for each emotion


def squeezed_pixels(picture: np.ndarray, settings: dict) -> torch.Tensor:
    """A `mel_picture` squeezed to the network's size, from 0 to 1, shape (1, 3, picture_px, picture_width)."""
    image = np.asarray(squeezed(picture, settings["picture_px"], settings.get("picture_width")), dtype=np.float32) / 255
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def as_input(picture: np.ndarray, settings: dict) -> torch.Tensor:
    """A `mel_picture` as the network wants it: squeezed, normalised, shape (1, 3, picture_px, picture_width)."""
    return normalised(squeezed_pixels(picture, settings))


def features(inputs: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """What the network's last layer gets for a batch of `as_input`: shape (n, 512)."""
    with torch.no_grad():
        return model[1][:-1](model[0](inputs))


def probabilities(picture: np.ndarray, model: torch.nn.Module, settings: dict) -> np.ndarray:
    """Calibrated probabilities of the emotions for one `mel_picture`, shape (8,); see `answers`, here always with the same views."""
    with RANDOM, torch.random.fork_rng(devices=[]):  # torch's random numbers are one row for all threads
        torch.manual_seed(0)
        pictures = in_views(squeezed_pixels(picture, settings), settings.get("recipe", {}))
    with torch.inference_mode():
        (answer,) = answers(model, pictures, 1)
    return (answer.clamp(min=1e-12).log() / settings.get("temperature", 1)).softmax(dim=0).double().numpy()


def movement(picture: np.ndarray, top_db: float) -> tuple[float, float]:
    """How far a `mel_picture` goes from quiet to loud [dB], and how alike its tones are to those a fifth of a second later, 0 to 1.

    Speech moves in both; noise and hums hardly move in loudness, and the tones of music stand still.
    """
    decibels = top_db * (picture[::-1, :, 2].astype(np.float32) / 255 - 1)  # the longest window: the finest pitch
    columns = np.flatnonzero(picture.max(axis=(0, 2)))
    decibels = decibels[:, columns[0]:columns[-1] + 1]
    quiet, loud = np.percentile(10 * np.log10((10**(decibels / 10)).sum(axis=0)), [10, 95])
    lines = (decibels - uniform_filter1d(decibels, 15, axis=0)).clip(min=0)[:150]  # harmonics, up to 4 kHz
    before, after = lines[:, :-LAG], lines[:, LAG:]
    alike = (before * after).sum(axis=0) / (np.linalg.norm(before, axis=0) * np.linalg.norm(after, axis=0) + 1e-6)
    return loud - quiet, np.median(alike) if alike.size else 0.0


def predict(path: str | Path, model: torch.nn.Module, settings: dict, longest: float = 7200) -> Answer:
    """What the network says of a recording of any container, rate, number of channels and length; see `Answer`.

    A recording whose voice fits into one picture is prepared as in training. A longer one is heard through overlapping windows, and
    its probabilities are the windows' mean. Raises `ClipError` for a file that is no recording, shorter than 0.1 s, or
    longer than `longest` [s].
    """
    pictures = PictureSettings(**settings["spectrogram"])
    rate, (loudness, seconds) = pictures.sample_rate, levels(path, pictures.sample_rate, longest)
    nothing = pd.DataFrame(columns=["start", "end", *EMOTIONS])
    if seconds < MIN_SECONDS:
        raise ClipError(f"{path}: only {1000 * seconds:.0f} ms of sound; at least {MIN_SECONDS} s is needed")
    if (peak := loudness.peak.max()) < QUIET:
        how = f"too quiet (peak {20 * np.log10(peak):.0f} dB): record it louder" if peak > 1e-4 else "silence"
        if max(np.abs(block).max() for block, _ in decoded(Path(path))) > max(QUIET, 10 * peak):
            how = "its channels cancel each other, one is the other upside down: save one of them alone"
        return Answer(str(path), "", how, {}, seconds, nothing)
    heard = voiced(loudness, pictures.trim_db)
    if heard.sum() < 5:  # a click lasts four rows
        return Answer(str(path), "", f"only {1000 * heard.sum() * HOP / rate:.0f} ms are not silence: a click, not speech", {}, seconds, nothing)
    spans, track, moves = windows(heard, pictures), [], []
    for span, samples in zip(spans, pieces(mono_blocks(path, rate), spans)):
        picture = mel_picture(samples, pictures)
        moves.append(movement(picture, pictures.top_db))
        track.append((span[0] / rate, min(span[1] / rate, seconds), *probabilities(picture, model, settings)))
    track = pd.DataFrame(track, columns=nothing.columns)
    mean = track[list(EMOTIONS)].mean()
    decibels, likeness = np.median(moves, axis=0)
    if likeness > STANDING:
        reason = f"its tones stand still (likeness {likeness:.2f} after a fifth of a second): music or a tone, not speech"
    elif (at_peak := share_at_peak(path)) > FLAT:
        reason = f"clipped: {100 * at_peak:.0f} % of its louder samples stand at the very peak; record it with less gain"
    elif decibels < STEADY:
        reason = f"its loudness hardly moves ({decibels:.1f} dB): noise or a hum, not speech"
    else:
        reason = "" if mean.max() > 0.5 else f"not sure: {mean.idxmax()} comes first with {100 * mean.max():.0f} %"
    return Answer(str(path), "" if reason else mean.idxmax(), reason, mean.to_dict(), seconds, track)


def clearest_window(path: str | Path, emotion: str, answer: Answer, settings: dict) -> tuple[np.ndarray, PictureSettings]:
    """The `mel_picture` of the window in which `emotion` is most probable, and its settings."""
    pictures = PictureSettings(**settings["spectrogram"])
    window = answer.track.loc[answer.track[emotion].idxmax()]
    (samples,) = pieces(mono_blocks(path, pictures.sample_rate), [tuple(round(at * pictures.sample_rate) for at in (window.start, window.end))])
    return mel_picture(samples, pictures), pictures


def plot_timeline(answer: Answer, settings: dict):
    """Waveform, spectrogram and the emotions' probabilities of a recording on one time axis; returns the matplotlib figure."""
    pictures = PictureSettings(**settings["spectrogram"])
    peak = levels(answer.file, pictures.sample_rate)[0].peak.to_numpy()
    peak = np.array([part.max() for part in np.array_split(peak, min(len(peak), 2000))])
    decibels = overview(answer.file, pictures, round(answer.seconds * pictures.sample_rate))
    fig, axes = plt.subplots(3, 1, figsize=(10, 6.5), sharex=True, height_ratios=(1, 2, 2))
    axes[0].fill_between(np.linspace(0, answer.seconds, len(peak)), -peak, peak, color="grey", linewidth=0)
    axes[0].set(ylabel="peak", ylim=(-1, 1), xlim=(0, answer.seconds))
    show_picture(as_pixels(decibels, pictures)[..., None].repeat(3, axis=2), axes[1], pictures, seconds=answer.seconds)
    axes[1].set_xlabel("")
    below, middle = 0, (answer.track.start + answer.track.end) / 2
    width = (answer.track.end - answer.track.start).clip(upper=STEP) if len(answer.track) > 1 else answer.track.end - answer.track.start
    for emotion in EMOTIONS:
        axes[2].bar(middle, 100 * answer.track[emotion], width, bottom=below, color=COLOURS[emotion], label=emotion)
        below = below + 100 * answer.track[emotion]
    axes[2].set(xlabel="time [s]", ylabel="probability [%]", ylim=(0, 100))
    axes[2].legend(*(part[::-1] for part in axes[2].get_legend_handles_labels()), loc="upper left", bbox_to_anchor=(1, 1))
    fig.suptitle(f"{Path(answer.file).name}: {answer.emotion or answer.reason}", x=0.01, ha="left", fontweight="bold", parse_math=False)
    return fig


# ---- on the command line

SUFFIXES = {f".{name.lower()}" for name in sf.available_formats()} - {".raw"} | set(".aif .oga .opus .m4a .mp4 .webm .aac .wma .amr .3gp .mka .mov".split())


def final_model() -> Path:
    """The folder of the network that answers: `experiments.train_final`'s on the real voices, else on the demo's."""
    for corpus in ("real", "demo"):
        if (folder := ROOT / "models" / corpus / "final" / "settings.json").exists():
            return folder.parent
    raise FileNotFoundError("there is no trained network yet. `python -m emotion_helpers train` makes one from RAVDESS (a quarter of an "
                            "hour to an hour and a half), `python -m emotion_helpers train --corpus demo` one from synthetic voices (a minute; to try things)")


def is_recording(path: Path) -> bool:
    """Whether a file in a folder is one to ask about, by its name."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def printable(path: str) -> str:
    """A path that can be printed and written, whatever bytes its name has."""
    return str(path).encode(errors="surrogateescape").decode(errors="replace")


def predict_files(paths: list[str], model: str | None = None, as_json: bool = False, timeline: str | None = None, csv: str = "emotions.csv") -> int:
    """Answer about each recording in `paths`, and each in the folders there, on all cores; returns how many could not be read.

    One recording is printed in full (with `as_json` as JSON), with its `timeline` drawn into that file; several, or a folder, are printed a line each and written to `csv`.
    Raises ValueError if there is no recording in a folder.
    """
    network, settings = load_model(model or final_model())
    files = [file for path in map(Path, paths) for file in (sorted(filter(is_recording, path.rglob("*"))) if path.is_dir() else [path])]
    if timeline and len(files) != 1:
        raise ValueError(f"a timeline is of one recording, and these are {len(files)}")
    if not files:
        raise ValueError(f"no recording in {', '.join(paths)}: looked for files that end in {', '.join(sorted(SUFFIXES))}")

    def ask(file):
        try:
            return predict(file, network, settings)
        except Exception as error:  # whatever is wrong with one file, the others have their answers
            return str(error) if isinstance(error, ClipError) else f"{file}: {type(error).__name__}: {error}"

    if several := len(files) > 1 or any(Path(path).is_dir() for path in paths):
        torch.set_num_threads(1)  # a recording a core
    jobs = Parallel(n_jobs=-1, prefer="threads", return_as="generator")(delayed(ask)(file) for file in files)
    found = list(tqdm(jobs, total=len(files), unit="recording", disable=not several))
    answers, failed = [a for a in found if isinstance(a, Answer)], [a for a in found if isinstance(a, str)]
    rows = [{"file": printable(a.file), "emotion": a.emotion, "reason": a.reason, "seconds": round(a.seconds, 2), **{e: round(p, 4) for e, p in a.probabilities.items()}} for a in answers]
    if as_json:
        print(json.dumps([{**row, "track": answer.track.round(4).to_dict("records")} for row, answer in zip(rows, answers)], indent=1))
    else:
        for row, answer in zip(rows, answers):
            print(f"{row['file']}: {row['emotion'] or 'no answer, ' + row['reason']}")
            if not several:
                print("\n".join(f"  {emotion:10} {100 * p:5.1f} %" for emotion, p in answer.probabilities.items()))
    if several and rows:
        write_text(Path(csv), pd.DataFrame(rows, columns=["file", "emotion", "reason", "seconds", *EMOTIONS]).to_csv(index=False))
    if timeline and rows:
        plot_timeline(answers[0], settings).savefig(timeline)
    for reason in failed:
        print(printable(reason), file=sys.stderr)
    return len(failed)
