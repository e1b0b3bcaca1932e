"""Robustness: how often strangers' clips are still recognised away from the studio."""
import io
from collections.abc import Callable

import av
import librosa
import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from scipy.signal import butter, fftconvolve, sosfiltfilt
from tqdm import tqdm

from .clips import EMOTIONS, read_clip
from .corpora import results_folder
from .experiments import emobox_runs, rendered
from .pictures import PictureSettings, mel_picture
from .prediction import probabilities
from .training import ANSWERS, RECIPES, load_model, write_text

RATE = PictureSettings().sample_rate


def with_noise(samples: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Samples with `noise` (repeated as needed) added, `snr` dB below the mean power of what is spoken."""
    voice, _ = librosa.effects.trim(samples, top_db=PictureSettings().trim_db)
    noise = np.resize(noise, len(samples))
    return samples + noise * np.sqrt(np.mean(voice**2) / np.mean(noise**2) / 10**(snr / 10))


def babble(voices: list[np.ndarray]) -> np.ndarray:
    """Many voices at once, equally loud, each repeated without a pause; as long as the longest."""
    spoken = [librosa.effects.trim(voice, top_db=PictureSettings().trim_db)[0] for voice in voices]
    longest = max(map(len, spoken))
    return sum(np.resize(voice, longest) / np.std(voice) for voice in spoken)


def encode(file: str | io.BytesIO, samples: np.ndarray, rate: int, codec: str, container_format: str | None = None, **options) -> None:
    """Write samples at `rate` [Hz] through PyAV into a file (its name says the container, or `container_format` does)."""
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono", **options)
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        pieces = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.codec_context.frame_size or 1024)
        for piece in [*pieces.resample(frame), *pieces.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def through_mp3(samples: np.ndarray, bit_rate: int = 32_000) -> np.ndarray:
    """Coded as MP3 and decoded again, as many samples as before (the coder's delay stays in)."""
    file = io.BytesIO()
    encode(file, samples, RATE, "libmp3lame", "mp3", bit_rate=bit_rate)
    file.seek(0)
    with av.open(file) as container:
        decoded = np.concatenate([frame.to_ndarray().mean(axis=0) for frame in container.decode(audio=0)])
    return librosa.util.fix_length(decoded, size=len(samples))


def in_a_room(samples: np.ndarray, rng: np.random.Generator, seconds: float = 0.5) -> np.ndarray:
    """With the echoes of a room whose sound falls by 60 dB in so many `seconds`, as loud as the voice itself (synthetic)."""
    t = np.arange(round(seconds * RATE)) / RATE
    echoes = rng.normal(size=len(t)) * 10**(-3 * t / seconds)
    echoes /= np.sqrt(np.sum(echoes**2))
    return samples + fftconvolve(samples, echoes)[:len(samples)]


def band(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    """Only what lies between two frequencies [Hz], as a telephone passes it on."""
    return sosfiltfilt(butter(4, (low, high), "bandpass", fs=RATE, output="sos"), samples)


def conditions(voices: list[np.ndarray]) -> dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]]:
    """What is done to a clip, by name: each takes samples at RATE and a random generator. `voices` speak in the background."""
    crowd = babble(voices)
    found = {"studio": lambda samples, rng: samples}
    for snr in (30, 20, 10, 0):
        found[f"white noise, {snr} dB"] = lambda samples, rng, snr=snr: with_noise(samples, rng.normal(size=len(samples)), snr)
    for snr in (30, 20, 10, 0):
        found[f"babble, {snr} dB"] = lambda samples, rng, snr=snr: with_noise(samples, np.roll(crowd, rng.integers(len(crowd))), snr)
    return found | {
        "telephone band": lambda samples, rng: band(samples, 300, 3400),
        "8 kHz": lambda samples, rng: librosa.resample(librosa.resample(samples, orig_sr=RATE, target_sr=8_000), orig_sr=8_000, target_sr=RATE),
        "MP3, 32 kbit/s": lambda samples, rng: through_mp3(samples),
        "20 dB softer": lambda samples, rng: samples / 10,
        "20 dB louder": lambda samples, rng: samples * 10,
        "reverberant room": lambda samples, rng: in_a_room(samples, rng),
        "1 s cut off the beginning": lambda samples, rng: samples[RATE:],
        "1 s cut off the end": lambda samples, rng: samples[:-RATE],
    }


def robustness(corpus: str = "real", data: str | None = None, every: int = 5) -> pd.DataFrame:
    """How many of the strangers' clips (`every` fifth of EmoBox's) are recognised in each of `conditions`, by the networks of seed 1 of
    the corpus's recipe in `ANSWERS` and of its first stage, if it has one; they are trained if they are not there yet. Writes
    robustness.csv into the results; returns it."""
    clips, pictures = rendered(corpus, data)
    ravdess, tables = clips[clips.corpus == "ravdess"].sort_values("clip"), []
    recipes = [name for name in (RECIPES[ANSWERS[corpus]].after, ANSWERS[corpus]) if name]
    folds = list(zip(*(emobox_runs(clips, pictures, corpus, recipe) for recipe in recipes)))
    torch.set_num_threads(1)  # a clip a core; not before, or training would be slow
    for runs in folds:
        models = {run["recipe"]: load_model(run["folder"]) for run in runs}
        known = ~ravdess.speaker.isin(runs[0]["tested_on"].split())
        background = ravdess[known].groupby("speaker").sample(1, random_state=0)  # everybody speaks
        apart = conditions([read_clip(path, RATE) for path in background.path])
        asked = ravdess[~known].iloc[::every]

        def answers(row):
            samples, found = read_clip(row.path, RATE), []
            for name, change in apart.items():
                picture = mel_picture(change(samples, np.random.default_rng(row.Index)))
                found += [(recipe, name, row.emotion, EMOTIONS[probabilities(picture, *model).argmax()]) for recipe, model in models.items()]
            return found

        jobs = Parallel(n_jobs=-1, prefer="threads", return_as="generator")(delayed(answers)(row) for row in asked.itertuples())
        tables += [answer for found in tqdm(jobs, total=len(asked), desc=f"fold {runs[0]['fold']}", unit="clip") for answer in found]
    table = pd.DataFrame(tables, columns=["recipe", "condition", "truth", "predicted"])
    right = (table.truth == table.predicted).groupby([table.recipe, table.condition], sort=False)
    found = pd.DataFrame({"clips": right.size(), "accuracy": 100 * right.mean()}).reset_index().round({"accuracy": 2})
    write_text(results_folder(corpus) / "robustness.csv", found.to_csv(index=False))
    return found
