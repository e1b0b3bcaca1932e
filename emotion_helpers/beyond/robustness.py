"""Robustness: how often clips of unseen speakers are recognised away from the studio."""

import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import librosa
import numpy as np
import pandas as pd
import soundfile as sf
from scipy.signal import butter, fftconvolve, sosfiltfilt
from soxr import resample

from .. import EmotionHelpersError, write_text
from ..audio import read_audio
from ..clips import EMOTIONS
from ..corpora import results_folder
from ..models import load_model
from ..pictures import SpectrogramSettings, mel_picture
from .cross_validation import deployed_experiments, run_experiments
from .prediction import map_in_threads, probabilities

RATE, TRIM_DB = SpectrogramSettings.sample_rate, SpectrogramSettings.trim_db


def add_at_snr(samples: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Samples with `noise`, repeated as needed, `snr` dB below the mean power of what is spoken."""
    voice, _ = librosa.effects.trim(samples, top_db=TRIM_DB)
    noise = np.resize(noise, len(samples))
    return samples + noise * np.sqrt(np.mean(voice**2) / np.mean(noise**2) / 10 ** (snr / 10))


def mix_babble(voices: list[np.ndarray]) -> np.ndarray:
    """Many voices at once, equally loud, each repeated without a pause; as long as the longest."""
    spoken = [librosa.effects.trim(voice, top_db=TRIM_DB)[0] for voice in voices]
    longest = max(map(len, spoken))
    return sum(np.resize(voice, longest) / np.std(voice) for voice in spoken)


def through_mp3(samples: np.ndarray, _=None) -> np.ndarray:
    """Coded as MP3 and decoded again, as many samples as before (the coder's delay stays in)."""
    file, level = io.BytesIO(), 0.85  # libsndfile's, which is 32 kbit/s at this rate
    sf.write(file, samples, RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=level)
    file.seek(0)
    return librosa.util.fix_length(sf.read(file)[0], size=len(samples))


def reverberate(samples: np.ndarray, rng: np.random.Generator, seconds: float = 0.5) -> np.ndarray:
    """With echoes that fall by 60 dB in so many `seconds`, as loud as the voice itself."""
    t = np.arange(round(seconds * RATE)) / RATE
    echoes = rng.normal(size=len(t)) * 10 ** (-3 * t / seconds)
    return samples + fftconvolve(samples, echoes / np.linalg.norm(echoes))[: len(samples)]


def make_conditions(voices: list[np.ndarray]) -> dict[str, Callable]:
    """What is done to a clip, by name: functions of samples, (n,) at RATE, and of a random
    generator; `voices` speak in the background."""
    crowd, levels = mix_babble(voices), (30, 20, 10, 0)
    band = butter(4, (300, 3400), "bandpass", fs=RATE, output="sos")

    noises = {"white noise": lambda x, rng: rng.normal(size=len(x))}
    noises["babble"] = lambda x, rng: np.roll(crowd, rng.integers(len(crowd)))

    def noisy(noise, snr):
        return lambda x, rng: add_at_snr(x, noises[noise](x, rng), snr)

    return {
        "studio": lambda x, _: x,
        **{f"{noise}, {snr} dB": noisy(noise, snr) for noise in noises for snr in levels},
        "telephone band": lambda x, _: sosfiltfilt(band, x),
        "8 kHz": lambda x, _: resample(resample(x, RATE, 8_000), 8_000, RATE),
        "MP3, 32 kbit/s": through_mp3,
        "reverberant room": reverberate,
        "1 s cut off the beginning": lambda x, _: x[min(RATE, len(x) // 2) :],
        "1 s cut off the end": lambda x, _: x[: max(len(x) - RATE, len(x) // 2)],
    }


def ask_everywhere(row, networks: dict, conditions: dict[str, Callable]) -> list[tuple]:
    """Per condition and network: does it recognise a clip (a row of the table)? 100 or 0."""
    samples, answers = read_audio(row.path, RATE), []
    settings = next(iter(networks.values())).settings  # all have the same
    for condition, change in conditions.items():
        changed = change(samples, np.random.default_rng(row.Index))
        picture = mel_picture(resample(changed, RATE, settings.sample_rate), settings)
        for stage, network in networks.items():
            answer = probabilities(picture, network).argmax()
            answers.append((stage, condition, 100 * (EMOTIONS[answer] == row.emotion)))
    return answers


def study_robustness(corpus="real", data: str | None = None, every=5, **options) -> pd.DataFrame:
    """How many clips of unseen speakers (one in `every` of EmoBox's) are recognised where, by the
    networks of `deployed_experiments` (`options`: recipe, settings) and of their teachers, which
    are trained if needed. Writes robustness.csv into the results, and returns it. Raises
    `EmotionHelpersError` for pictures of a higher sample rate than RATE, at which sound is made."""
    folds, answers = deployed_experiments(corpus, **options), []
    if (rate := folds[0].settings.sample_rate) > RATE:
        raise EmotionHelpersError(f"pictures of {rate} Hz: here noise and rooms have {RATE} Hz")
    last = folds[0].recipe
    stages = {"robust": last, "teacher": last.start} if last.corruption_p else {"teacher": last}
    experiments = [replace(fold, recipe=recipe) for fold in folds for recipe in stages.values()]
    runs = run_experiments(experiments, corpus, data)
    for _ in folds:
        networks = {}
        for stage in stages:
            clips, run = next(runs)
            networks[stage] = load_model(run["folder"])
        ravdess = clips[clips.corpus == "ravdess"].sort_values("clip_id")
        unseen = ravdess.speaker.isin(run["tested_on"])
        voices = ravdess[~unseen].groupby("speaker").sample(1, random_state=0)  # of each speaker
        conditions = make_conditions([read_audio(path, RATE) for path in voices.path])
        ask = partial(ask_everywhere, networks=networks, conditions=conditions)
        rows = list(ravdess[unseen].iloc[::every].itertuples())
        for part in map_in_threads(ask, rows, desc=f"fold {run['fold']}", unit="clip"):
            answers += part
    table = pd.DataFrame(answers, columns=["recipe", "condition", "right"])
    groups = table.groupby(["recipe", "condition"], sort=False).right
    table = groups.agg(clips="size", accuracy="mean").round(4).reset_index()
    write_text(results_folder(corpus) / "robustness.csv", table.to_csv(index=False))
    return table
