"""Prediction: what a network says of any recording, and when it had better say nothing."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import soxr
import torch
from joblib import Parallel, delayed
from scipy.ndimage import uniform_filter1d
from tqdm import tqdm

from .. import EmotionHelpersError, atomic_write, audio, write_text
from ..audio import FRAME, HOP, Recording, active_intervals, high_pass, read_recording
from ..clips import EMOTIONS, files_below
from ..corpora import models_folder
from ..models import Network, load_model, predict_proba, to_tensor
from ..pictures import SpectrogramSettings, mel_decibels, mel_picture, to_pixels

STEP = 1.0  # s from one window of a long recording to the next
QUIET = 1e-3  # peak, -60 dB: below, 16 bits leave too few steps to go by
CLICK = 0.093  # s; beside 5 HOP, as long as the shortest click seems to last
MEASURED = SpectrogramSettings()  # of the pictures that all limits below are of
DYNAMIC_RANGE_LIMIT = 8.5  # dB between a picture's loud and quiet columns: speech moves more
STATIONARITY_LAG, STATIONARITY_LIMIT = 27, 0.78  # columns (0.19 s); likeness of tones after it
TONALITY_LIMIT = 1.65  # dB that tones stand out: all clips of RAVDESS and TESS have 1.77 and more
SURE = 0.5  # the probability that an answer needs
# The files in a folder that are asked about.
SUFFIXES = """.3g2 .3ga .3gp .aac .ac3 .aif .aifc .aiff .amr .ape .asf .au .avi .caf .dts .eac3
.flac .flv .gsm .m4a .m4b .m4v .mka .mkv .mov .mp2 .mp3 .mp4 .mpeg .mpg .oga .ogg .ogv .opus .ra
.rf64 .rm .snd .spx .tta .ts .voc .w64 .wav .webm .wma .wmv .wv"""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of one recording."""

    file: str  # as it can be printed
    emotion: str  # one of EMOTIONS, or "" if it had better not say
    reason: str  # why it does not; "" if it does
    probabilities: dict[str, float]  # calibrated, in the order of EMOTIONS; empty if not asked
    segments: pd.DataFrame  # per window that was asked about: start and end [s], probabilities
    recording: Recording


def probabilities(picture: np.ndarray, network: Network) -> np.ndarray:
    """Calibrated probabilities of the emotions for one `mel_picture`, shape (8,)."""
    tensor = to_tensor(picture, network.recipe)
    return predict_proba(network.model, tensor, network.temperature)[0].numpy()


def split_windows(active: np.ndarray, settings: SpectrogramSettings) -> list[tuple[int, int]]:
    """From which to which sample the network is asked: all from the first to the last of the
    `active` intervals, (n, 2), if one picture can hold it, else windows, but for silent ones."""
    size, first, end = (settings.width - 1) * settings.hop_length, active[0, 0], active[-1, 1]
    if end - first <= size:
        return [(max(first - FRAME, 0), end + FRAME)]  # mel_picture cuts off what is silent
    starts = [*range(first, end - size, round(STEP * settings.sample_rate)), end - size]
    shares = [np.diff(active.clip(start, start + size)).sum() / size for start in starts]
    least = min(0.2, max(shares))  # a few words far apart are asked about all the same
    return [(s, s + size) for s, share in zip(starts, shares, strict=True) if share >= least]


def speech_measures(picture: np.ndarray, top_db: float) -> tuple[float, float, float]:
    """Dynamic range [dB], stationarity (0 to 1), tonality [dB] of a `mel_picture`: how far columns
    go from quiet to loud, how alike tones are a fifth of a second later, how far rows stand out
    where it is loud. Noise hardly moves, tones of music stand still, drums and taps have none."""
    columns = np.flatnonzero(picture.any(axis=(0, 2))) if picture.any() else [0, 0]
    voice = picture[::-1, columns[0] : columns[-1] + 1, 2]  # of the longest window
    decibels = top_db * (voice.astype(np.float32) / 255 - 1)
    loudness = 10 * np.log10((10 ** (decibels / 10)).sum(axis=0))
    tones = (decibels - uniform_filter1d(decibels, 15, axis=0)).clip(min=0)[:150]  # up to 2 kHz
    tonality = np.percentile(tones[:, loudness >= np.median(loudness)].mean(axis=0), 75)
    tones = tones / (np.linalg.norm(tones, axis=0) + 1e-3)
    likeness = (tones[:, :-STATIONARITY_LAG] * tones[:, STATIONARITY_LAG:]).sum(axis=0)
    stationarity = np.median(likeness) if likeness.size else 0.0
    return np.subtract(*np.percentile(loudness, [95, 10])), stationarity, tonality


def why_inaudible(recording: Recording, samples: np.ndarray, active: np.ndarray) -> str:
    """Why there is nothing to ask about (in `samples`, what is audible of it); "" if there is."""
    peak, longest = np.abs(samples).max(), np.diff(active).max()
    if peak < QUIET and recording.channel_peak > max(QUIET, 10 * np.abs(recording.samples).max()):
        return "its channels cancel each other, one is upside down: save one of them alone"
    if peak <= audio.SILENT:
        return "silence"
    if peak < QUIET:
        return f"too quiet (peak {20 * np.log10(peak):.0f} dB): record it louder"
    click = f"no sound in it exceeds {longest / recording.sample_rate:.2f} s: clicks, not speech"
    return click if longest <= 5 * HOP + CLICK * recording.sample_rate < len(samples) else ""


def why_unanswered(recording: Recording, measures: list[tuple], mean: pd.Series) -> str:
    """Why the network had better not name an emotion, in words; "" if it may."""
    dynamic_range, stationarity, tonality = np.median(measures, axis=0)
    if stationarity > STATIONARITY_LIMIT:
        return f"its tones stand still (likeness {stationarity:.2f}): music or a tone, not speech"
    if recording.clipped > audio.CLIPPED_LIMIT:
        return "clipped: flat at the top, as a pure tone is too; record it with less gain"
    if dynamic_range < DYNAMIC_RANGE_LIMIT:
        return f"its loudness hardly moves ({dynamic_range:.1f} dB): noise or a hum, not speech"
    if tonality < TONALITY_LIMIT:
        return f"no tone stands out ({tonality:.1f} dB): drums, taps or a whisper, not a voice"
    unsure = f"not sure: {mean.idxmax()} comes first with {100 * mean.max():.0f} %"
    return "" if mean.max() > SURE else unsure


def predict(path: str | Path, network: Network, max_seconds: float = 3600) -> Prediction:
    """What the network says of a recording; of a long one the mean over overlapping windows. Raises
    `AudioError` for a file that is none, shorter than 0.1 s or longer than `max_seconds`."""
    settings, rate = network.settings, network.settings.sample_rate
    # Of windows longer than 28 s the middle is measured.
    width = round(MEASURED.width * settings.seconds / MEASURED.seconds)
    measured = replace(MEASURED, width=min(max(width, 2), 4096))
    recording = read_recording(path, rate, max_seconds)
    samples = high_pass(recording.samples, rate, settings.fmin)
    active = active_intervals(samples, settings.trim_db)
    reason, rows, measures = why_inaudible(recording, samples, active), [], []
    for start, end in [] if reason else split_windows(active, settings):
        part = recording.samples[start:end]
        picture = standard = mel_picture(part, settings)
        if settings != measured:
            standard = mel_picture(soxr.resample(part, rate, measured.sample_rate), measured)
        measures.append(speech_measures(standard, measured.top_db))
        times = (start / rate, min(end / rate, recording.seconds))
        rows.append((*times, *probabilities(picture, network)))
    segments = pd.DataFrame(rows, columns=["start", "end", *EMOTIONS], dtype=float)
    mean = segments[list(EMOTIONS)].mean().dropna()
    reason = reason or why_unanswered(recording, measures, mean)
    emotion, file = "" if reason else mean.idxmax(), str(path).encode(errors="replace").decode()
    return Prediction(file, emotion, reason, mean.to_dict(), segments, recording)


def clearest_picture(prediction: Prediction, emotion: str, network: Network) -> np.ndarray:
    """The `mel_picture` of the window in which `emotion` is most probable."""
    window = prediction.segments.loc[prediction.segments[emotion].idxmax()]
    start, end = (round(at * network.settings.sample_rate) for at in (window.start, window.end))
    return mel_picture(prediction.recording.samples[start:end], network.settings)


def plot_timeline(prediction: Prediction, network: Network):
    """Waveform, spectrogram and probabilities of a recording on one time axis; the figure."""
    from matplotlib.figure import Figure  # not above: answers need none; no pyplot: it has one user

    from ..plots import COLOURS, show_picture

    segments, settings = prediction.segments, network.settings
    samples, seconds = prediction.recording.samples, prediction.recording.seconds
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    waveform, spectrogram, emotions = figure.subplots(3, sharex=True, height_ratios=(1, 2, 2))
    peaks = [np.abs(part).max() for part in np.array_split(samples, min(len(samples), 2000))]
    times = np.linspace(0, seconds, len(peaks))
    waveform.fill_between(times, np.negative(peaks), peaks, color="grey", linewidth=0)
    waveform.set(ylabel="peak", ylim=(-1, 1), xlim=(0, seconds))
    hop_length = min(max(settings.hop_length, len(samples) // 1000), 2**18)
    coarse = replace(settings, hop_length=hop_length)
    picture = to_pixels(mel_decibels(samples, settings.win_lengths[1], coarse), settings)
    show_picture(np.stack([picture] * 3, axis=2), spectrogram, settings, seconds=seconds)
    spectrogram.set_xlabel("")
    width = (segments.end - segments.start).clip(upper=STEP if len(segments) > 1 else seconds)
    percent = 100 * segments[list(EMOTIONS)]
    for emotion, bottom in (percent.cumsum(axis=1) - percent).items():
        bars = {"bottom": bottom, "color": COLOURS[emotion], "label": emotion}
        emotions.bar((segments.start + segments.end) / 2, percent[emotion], width, **bars)
    emotions.set(xlabel="time [s]", ylabel="probability [%]", ylim=(0, 100))
    emotions.legend(loc="upper left", bbox_to_anchor=(1, 1), reverse=True, frameon=False)
    text = f"{Path(prediction.file).name}: {prediction.emotion or prediction.reason}"
    figure.suptitle(text, x=0.01, ha="left", fontweight="bold", parse_math=False)
    return figure


def final_model(*corpora: str) -> Path:
    """The folder of the network that answers, of the first of `corpora` that has one (real, then
    demo, unless given): `train_final`'s, else chapter 06's."""
    for corpus, name in product(corpora or ("real", "demo"), ("final", "unseen-speakers")):
        folder = models_folder(corpus) / name
        if (folder / "model.safetensors").exists():
            return folder
    train = "`python -m emotion_helpers train` (hours; a minute with `--corpus demo`, to try)"
    raise EmotionHelpersError(f"there is no trained network yet: run chapter 06, or {train}")


def map_in_threads(function: Callable, items: list, **options) -> Iterator:
    """The function's result for each item, in order, on all cores; `options` of tqdm's bar."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // len(items)))  # several times all would be too many
    try:
        jobs = Parallel(n_jobs=-1, prefer="threads", return_as="generator")
        yield from tqdm(jobs(map(delayed(function), items)), total=len(items), **options)
    finally:
        torch.set_num_threads(threads)


def find_recordings(paths: list[str]) -> list[Path]:
    """The files among `paths`, and those in the folders there that have a recording's ending."""
    files, left_out = [], Counter()
    for path in map(Path, paths):
        for file in files_below(path) if path.is_dir() else [path]:
            if file == path or file.suffix.lower() in SUFFIXES.split():
                files.append(file)
            else:
                left_out[file.suffix or "without an ending"] += 1
    if left_out:
        endings = ", ".join(f"{number} {ending}" for ending, number in left_out.items())
        print(f"left out, by their endings: {endings}", file=sys.stderr)
    if not files:
        raise EmotionHelpersError(f"no recording in {', '.join(paths)}")
    return files


def report(rows: list[dict], as_json: bool, csv: str | None) -> None:
    """Write and print the table of predictions."""
    columns = ["file", "emotion", "reason", "seconds", *EMOTIONS, "notes"]
    table = pd.DataFrame(rows, columns=columns).round({"seconds": 2} | dict.fromkeys(EMOTIONS, 4))
    try:
        if csv and rows:
            write_text(csv, table.to_csv(index=False))
    finally:  # whatever keeps it from being written, it is printed
        if as_json:
            segments = [row["segments"].round(4).to_dict("records") for row in rows]
            print(table.assign(segments=segments).to_json(orient="records", indent=1))
        elif rows:
            table[list(EMOTIONS)] = (100 * table[list(EMOTIONS)]).round()
            print(table.to_string(index=False, na_rep="", float_format="{:g}".format))


def predict_files(paths, model=None, as_json=False, timeline=None, csv=None) -> int:
    """Answer about each recording in `paths`, and in the folders there. Prints a table, or JSON,
    also of what is finished when it is interrupted, and writes it to `csv` (of several recordings:
    emotions.csv). `timeline`: where its figure goes. Returns how many could not be read."""
    files, answers = find_recordings(paths), []
    several = len(files) > 1 or Path(paths[0]).is_dir()
    csv = csv or ("emotions.csv" if several else None)
    if timeline and len(files) > 1:
        raise EmotionHelpersError(f"a timeline is of one recording, and these are {len(files)}")
    if timeline and Path(timeline).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise EmotionHelpersError(f"{timeline}: a timeline is a .png, .svg or .pdf file")
    for output in filter(None, (csv, timeline)):  # before the work, not after it
        if Path(output).is_dir() or not Path(output).absolute().parent.is_dir():
            raise EmotionHelpersError(f"{output}: it is a folder, or in one that is not there")
    network = load_model(folder := model or final_model())
    if network.info.get("corpus") == "demo":
        print(f"{folder} knows synthetic voices: trust no answer about people.", file=sys.stderr)

    def ask(file):
        try:
            answer = predict(file, network)
            row = vars(answer) | answer.probabilities | {"seconds": answer.recording.seconds}
            row |= {"notes": "; ".join(answer.recording.notes), "answer": timeline and answer}
            return row | {"recording": None}  # the samples of thousands do not fit into memory
        except Exception as error:  # whatever is wrong with one file, others have their answers
            ours = isinstance(error, EmotionHelpersError)
            return str(error) if ours else f"{file}: {type(error).__name__}: {error}"

    try:
        answers.extend(map_in_threads(ask, files, unit="recording", disable=not several))
    finally:
        report([answer for answer in answers if isinstance(answer, dict)], as_json, csv)
        problems = [answer for answer in answers if isinstance(answer, str)]
        sys.stderr.writelines(f"{problem}\n" for problem in problems)
    if timeline and not problems:
        with atomic_write(timeline) as new:
            plot_timeline(answers[0]["answer"], network).savefig(new, format=str(timeline)[-3:])
    return len(problems)
