"""The staircase: from the article's recipe to ours, a step at a time, on one random split.

    .venv/bin/python -W ignore tests/study_staircase.py [--steps article colours ...] [--seeds 1]

trains the networks of the steps (of all, unless given) and writes notebooks/results/staircase.csv.
A run that was stopped goes on where it was.

"Detecting Emotions from Voice Clips" (May 2020) prints neither its epochs nor its rates. What is
taken for them here is what fastai's course of that time has (its first lesson, on pets), and for
its pictures what most notebooks of that time did: Jupyter's default figure, margins and all.
"""

import argparse
import gc
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from matplotlib.figure import Figure

from emotion_helpers import EmotionHelpersError, atomic_write, config_hash, models, write_text
from emotion_helpers.audio import read_audio
from emotion_helpers.augmentation import shift_and_stretch, spec_augment
from emotion_helpers.beyond.cross_validation import make_learner, update_table
from emotion_helpers.clips import find_clips
from emotion_helpers.corpora import get_corpora, models_folder, pictures_folder, results_folder
from emotion_helpers.evaluation import predict_clips, scores
from emotion_helpers.models import Recipe
from emotion_helpers.pictures import SpectrogramSettings, render, resize
from emotion_helpers.splits import random_split
from emotion_helpers.training import (
    Augment,
    FewerTess,
    checkpoints,
    fastai,
    make_loaders,
    speed_callbacks,
)


@dataclass(frozen=True)
class Step:
    """How a network of the staircase is trained; the defaults are what the article is taken for."""

    change: str
    pictures: SpectrogramSettings | None = None  # None: the article's
    crop: bool = True  # a square; else the whole picture at half its size
    photographs: bool = True  # fastai's augmentation, made for them; else ours
    head: bool = True  # fastai's, trained alone at first; else the plain one, with all layers
    epochs: tuple[int, int] = (4, 2)  # with the body frozen, and with all layers
    lr: tuple[tuple[float, float], ...] = ((3e-3, 3e-3), (1e-6, 1e-4))  # of either
    all_of_tess: bool = True  # in each epoch, else an eighth
    ours: bool = False  # mixed pictures and a scaled first layer


def staircase() -> dict[str, Step]:
    """The steps by name; each keeps the changes of those before it."""
    step, grey = Step("the article's recipe"), SpectrogramSettings(win_lengths=(1024, 1024, 1024))
    steps, eighth = {"article": step}, {"epochs": (0, 24), "all_of_tess": False}
    layers = {"head": False, "epochs": (0, 6), "lr": ((1e-3, 4e-3),) * 2}
    for name, change, fields in (
        ("pictures", "no margins, one time scale", {"pictures": grey}),
        ("colours", "three windows for three colours", {"pictures": SpectrogramSettings()}),
        ("whole", "the whole picture, not a crop", {"crop": False}),
        ("augmentation", "augmentation that fits sound", {"photographs": False}),
        ("layers", "all layers, higher rates, plain head, smoothed labels, batches of 32", layers),
        ("epochs", "24 epochs, each with an eighth of TESS", eighth),
        ("mixing", "mixed clips, a taller first layer", {"ours": True}),
    ):
        step = steps[name] = replace(step, change=change, **fields)
    return steps


def draw_as_the_article(row: dict, folder: Path) -> None:
    """Write a clip's spectrogram as `plt.savefig` of a default figure: 432 x 288, with margins."""
    target = folder / row["emotion"] / f"{row['clip_id']}.png"
    if target.exists():
        return
    samples, _ = librosa.effects.trim(read_audio(row["path"], 22_050))
    mel = librosa.feature.melspectrogram(y=samples, sr=22_050, n_fft=1024, hop_length=100)
    decibels, axes = librosa.power_to_db(mel, ref=np.max), {"x_axis": "time", "y_axis": "mel"}
    figure = Figure(figsize=(6, 4), dpi=72)
    figure.subplots_adjust(bottom=0.125)
    options = {"sr": 22_050, "hop_length": 100, "fmax": 20_000, "ax": figure.subplots(), **axes}
    librosa.display.specshow(decibels, **options)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as new:
        figure.savefig(new, format="png")


def prepare(step: Step, clips: pd.DataFrame, corpus: str) -> Path:
    """The folder with the step's pictures, rendered."""
    if step.pictures:
        folder = pictures_folder(corpus, step.pictures.name)
        render(clips, folder, step.pictures)
    else:
        folder = pictures_folder(corpus, f"as-the-article-{config_hash([*clips.md5])}")
        rows = clips.to_dict("records")
        draw_as_the_article(rows[0], folder)  # alone: it makes what librosa compiles, once
        Parallel(n_jobs=-1)(delayed(draw_as_the_article)(row, folder) for row in rows)
    return folder


def step_loaders(step: Step, folder: Path, valid: set[str], px: int):
    """Batches of the step's pictures, `px` high."""
    sized = lru_cache(maxsize=None)(partial(resize, height=px, width=px * 3 // 2))
    ours = [Augment(shift_and_stretch), Augment(spec_augment)]
    augmentation = fastai.aug_transforms() if step.photographs else ours
    kind = fastai.TfmdDL if step.all_of_tess else FewerTess
    options = {"get_x": sized, "item_tfms": fastai.Resize(px) if step.crop else None}
    options |= {"batch_size": 64 if step.head else 32, "dl_type": kind}
    return make_loaders(sorted(folder.glob("*/*.png")), valid, augmentation, **options)


def step_learner(step: Step, loaders, seed: int, pretrained: bool) -> fastai.Learner:
    """The step's network, with fastai's head or the one of the recipes."""
    if not step.head:
        recipe = Recipe() if step.ours else Recipe(mixup=0.0, kernel_scale=(1, 1))
        return make_learner(loaders, recipe, seed, pretrained)
    fastai.set_seed(seed)
    options = {"metrics": fastai.accuracy, "cbs": speed_callbacks(), "pretrained": pretrained}
    return fastai.vision_learner(loaders, fastai.resnet34, **options)


def train_step(name: str, clips: pd.DataFrame, corpus: str, seed: int) -> Iterator[list[dict]]:
    """Train a step's network at 144 pixels, the article's then at 288, and so once more on a split
    drawn again, as without a seed: most of it was learnt at 144. Gives the rows after each."""
    step, rows, minutes, start = staircase()[name], [], {}, {}
    folder = prepare(step, clips, corpus)
    weights = models.imagenet_weights() if corpus == "real" else "random"
    stages = [(144, 42, ""), (288, 42, ", at 288"), (288, 43, ", at 288, the split drawn again")]
    for px, split, stage in stages if name == "article" else stages[:1]:
        loaders = step_loaders(step, folder, random_split(clips, seed=split), px)
        if px == 144:
            learn = step_learner(step, loaders, seed, corpus == "real")
        else:
            learn.model.load_state_dict(start)
        learn.dls, minutes[px] = loaders, 0.0
        for phase, (count, lr) in enumerate(zip(step.epochs, step.lr, strict=True)):
            (learn.unfreeze if phase else learn.freeze)()
            config = {"name": f"{name}-{px}-{split}", "phase": phase, "weights": weights}
            config |= asdict(replace(step, change="")) | {"data": config_hash([*clips.md5])}
            if count:
                with checkpoints(learn, models_folder(corpus) / "staircase", config, seed) as done:
                    learn.fit_one_cycle(count, slice(*lr))
                minutes[px] += sum(epoch["seconds"] for epoch in done) / 60
        start = start or deepcopy(learn.model.state_dict())
        row = {"step": name, "change": step.change + stage, "picture_px": px}
        row |= {"epochs": len(minutes) * sum(step.epochs), "seed": seed}
        row["minutes"] = round(sum(minutes.values()), 1)
        for part, result in scores(predict_clips(learn, clips)).round(4).iterrows():
            rows.append(row | {"corpus": part} | result.drop("clips").to_dict())
        yield rows


def study_staircase(corpus="real", data: str | None = None, steps=None, seeds=1) -> pd.DataFrame:
    """Train the networks of the named steps (None: of all), bring staircase.csv up to date with
    them; returns the table. A run that was stopped goes on where it was. Raises
    `EmotionHelpersError` for a step that is not there, before any training."""
    if unknown := sorted({*(steps or [])} - {*staircase()}):
        raise EmotionHelpersError(f"no step {unknown[0]!r}; there are {', '.join(staircase())}")
    todo = [*product(range(1, 1 + seeds), steps or staircase())]
    if not todo:
        raise EmotionHelpersError("no seed, no network: --seeds is 1 or more")
    clips, _ = find_clips(get_corpora(corpus, data))
    file = results_folder(corpus) / "staircase.csv"
    for seed, name in todo:
        for done in train_step(name, clips, corpus, seed):
            rows = update_table(file, pd.DataFrame(done), ["seed", "picture_px"], ["step", "seed"])
            order = dict.fromkeys([*staircase(), *rows.step])
            rows = pd.concat([rows[rows.step == one] for one in order])
            write_text(file, rows.to_csv(index=False))
            print(rows[rows.step == name].to_string(index=False), flush=True)
        gc.collect()  # the learner refers to itself
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder that holds your RAVDESS and TESS already")
    parser.add_argument("--steps", nargs="+", choices=list(staircase()), help="only these")
    parser.add_argument("--seeds", type=int, default=1, help="how many networks for each step")
    study_staircase(**vars(parser.parse_args()))
