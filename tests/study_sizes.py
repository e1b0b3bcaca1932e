"""How to go on from 144 to 288 pixels: ways to do it, each from the same networks.

    .venv/bin/python -W ignore tests/study_sizes.py --seeds 1 2 3

trains chapter 04's first stage on the split of that chapter, goes on from it in several ways, and
writes a row per way, seed and corpus into notebooks/results/sizes.csv. Answers are given with
test-time augmentation, as in `evaluate`. A study that was stopped goes on where it was. `--ways`:
names in WAYS.
"""

import argparse
import gc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch.optim.swa_utils import update_bn

from emotion_helpers import models, write_text
from emotion_helpers.beyond import cross_validation as cv
from emotion_helpers.beyond.cross_validation import SkipValidation, make_learner
from emotion_helpers.corpora import models_folder, results_folder
from emotion_helpers.evaluation import predict_clips, scores
from emotion_helpers.models import HALF, WHOLE, Recipe
from emotion_helpers.pictures import SpectrogramSettings
from emotion_helpers.training import checkpoints, fastai, picture_loaders

RUNS, FLOAT32_RUNS = models_folder("real") / "sizes", models_folder("real") / "sizes-float32"
PLAIN = replace(WHOLE, kernel_scale=HALF.kernel_scale)
CONTROL = replace(PLAIN, height=HALF.height, width=HALF.width)
TURN = HALF.epochs - WHOLE.epochs  # epochs of the first stage's one cycle, where `descent` begins
WAYS = {  # name: in words, recipe
    "first": ("144 pixels", HALF),
    "float32": ("144 pixels, in float32", HALF),
    "grown": ("288 pixels, first layer grown, 4 epochs more", WHOLE),
    "control": ("144 pixels, 4 epochs more", CONTROL),
    "descent": ("288 pixels, first layer grown, for the last 4 of 24 epochs", WHOLE),
    "classifier": ("288 pixels, two epochs for the head alone, body as it is (FixRes)", PLAIN),
    "frozen": ("288 pixels, body frozen for an epoch, then low rates", PLAIN),
    "plain": ("288 pixels, nothing else changed", PLAIN),
    "statistics": ("144 pixels, batch norm's statistics taken anew from clean pictures", HALF),
}
RECIPES = ("first", "grown", "control", "plain")  # ways that are recipes, which `evaluate` knows


class KeepAt(fastai.Callback):
    """Keeps the first stage's network as it is after TURN epochs."""

    def __init__(self, file: Path):
        self.file = file

    def after_train(self):  # not in epochs that a stopped run passes over
        if (self.epoch + 1, self.n_epoch) == (TURN, HALF.epochs):  # of the first stage
            self.file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(self.model.state_dict(), self.file)


def one_descent(learn, keep) -> None:
    """The last epochs of the first stage's one cycle, as fastai has it."""
    learn.create_opt()
    learn.opt.set_hyper("lr", slice(*HALF.lr))
    top = np.array([group["lr"] for group in learn.opt.hypers])
    cycle = {"lr": fastai.combined_cos(0.25, top / 25, top, top / 1e5)}
    cycle |= {"mom": fastai.combined_cos(0.25, *learn.moms)}
    end = {
        name: lambda x, whole=whole: whole((TURN + x * WHOLE.epochs) / HALF.epochs)
        for name, whole in cycle.items()
    }
    with keep("descent"):
        learn.fit(WHOLE.epochs, cbs=fastai.ParamScheduler(end))


def classifier_only(learn, keep) -> None:
    """Only batch norm and linear layer on top; Touvron et al. 2019, arXiv:1906.06423."""
    learn.train_bn = False
    learn.create_opt()
    learn.freeze()
    with keep("classifier"):
        learn.fit_one_cycle(2, 1e-3, cbs=fastai.BnFreeze())


def frozen_first(learn, keep) -> None:
    """An epoch for the head with batch norm live in the body, three for all at low rates."""
    learn.freeze()
    with keep("frozen"):
        learn.fit_one_cycle(1, 1e-3)
    learn.unfreeze()
    with keep("low-rates"):
        learn.fit_one_cycle(3, slice(1e-5, 2e-4), pct_start=0.1, div=5)


def fresh_statistics(learn, _keep) -> None:
    """Nothing is trained: batch norm's means and spreads are those of training pictures (an eighth
    of TESS's) as they are, neither mixed nor changed."""
    pictures = learn.dls.test_dl(learn.dls.train_ds.items, shuffle=True)
    update_bn(pictures, learn.model)


FITS = {"descent": one_descent, "classifier": classifier_only, "frozen": frozen_first}
FITS |= {"statistics": fresh_statistics}


@contextmanager
def extra_callbacks(*callbacks):
    """While this is open, the learners of `cross_validation` have these callbacks too."""

    def make(loaders, recipe, seed, pretrained, cbs):
        return make_learner(loaders, recipe, seed, pretrained, [*cbs, *callbacks])

    with patch.object(cv, "make_learner", make):
        yield


def run_recipe(recipe: Recipe, seed: int, clips, pictures: Path) -> dict:
    """The run of a recipe and of those that it starts from, see `run_experiment`; keeps what
    `descent` begins with."""
    with extra_callbacks(KeepAt(RUNS / f"seed{seed}-epoch{TURN}.pth")):
        experiment = cv.Experiment(recipe, "random", seed=seed)
        return cv.run_experiment(experiment, clips, pictures, RUNS)


def learner_from(start: models.Network, e: cv.Experiment, clips, pictures: Path):
    """A learner for an experiment's clips, that goes on from a network of another one."""
    recipe = replace(e.recipe, tess=e.recipe.tess or e.split.startswith("tess"))
    train, test = cv.fold_clips(clips, e.split, e.fold, recipe.tess, e.validate)
    loaders = picture_loaders(pictures, SpectrogramSettings(), recipe, test, train)
    learn = make_learner(loaders, recipe, 1000 * e.seed, True, [SkipValidation()])
    cv.begin_stage(learn, start, recipe)
    return learn


def run_way(way: str, seed: int, clips, pictures: Path) -> tuple[pd.DataFrame, float]:
    """Answers and minutes of a way's network, first stage included."""
    recipe = WAYS[way][1]
    if way == "float32":  # where this processor would take bfloat16
        with patch.object(cv, "speed_callbacks", lambda: [fastai.ChannelsLast()]):
            e = cv.Experiment(recipe, "random", seed=seed)
            run = cv.run_experiment(e, clips, pictures, FLOAT32_RUNS)
        return pd.read_csv(run["folder"] / "predictions.csv"), run["minutes"]
    if way in RECIPES:
        run = run_recipe(recipe, seed, clips, pictures)
        return pd.read_csv(run["folder"] / "predictions.csv"), run["minutes"]
    first = run_recipe(HALF, seed, clips, pictures)
    start, minutes = models.load_model(first["folder"]), first["minutes"]
    if way == "descent":
        file = RUNS / f"seed{seed}-epoch{TURN}.pth"
        start.model.load_state_dict(torch.load(file, map_location="cpu"))
        minutes *= TURN / HALF.epochs
    learn = learner_from(start, cv.Experiment(recipe, "random", seed=seed), clips, pictures)
    seconds = []

    @contextmanager
    def keep(phase):
        config = {"name": f"{way}-{phase}", "start": first["folder"].name}
        with checkpoints(learn, RUNS, config, 1000 * seed) as history:
            yield
        seconds.extend(epoch["seconds"] for epoch in history)

    with fastai.no_random(1000 * seed):
        FITS[way](learn, keep)
        return predict_clips(learn, clips, recipe.n_tta), minutes + sum(seconds) / 60


def main() -> None:
    """Go through the seeds, and for each through the ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--ways", nargs="+", choices=list(WAYS), default=["first", "grown", "control", "descent"]
    )
    options = parser.parse_args()
    clips, pictures = cv.prepare_pictures("real", None)
    file = results_folder("real") / "sizes.csv"
    for seed in options.seeds:
        for way in options.ways:
            table, minutes = run_way(way, seed, clips, pictures)
            words, recipe = WAYS[way]
            row = {"way": way, "what": words, "picture_px": recipe.height, "seed": seed}
            row |= {"minutes": round(minutes, 1), "device": models.describe_device()}
            parts = scores(table).round(4).reset_index().drop(columns="clips")
            rows = parts.assign(**row)[[*row, "corpus", "accuracy", "uar"]]
            keys = ["way", "device", "seed", "corpus"]
            rows = cv.update_table(file, rows, keys, keys)
            rows = rows.sort_values("way", key=lambda ways: ways.map([*WAYS].index), kind="stable")
            write_text(file, rows.to_csv(index=False))
            print(seed, way, row["minutes"], parts.to_numpy().tolist(), flush=True)
            wrong = table[(table.corpus == "tess") & (table.truth != table.predicted)]
            print(wrong.groupby(["speaker", "truth", "predicted"]).size().nlargest(2).to_string())
            gc.collect()


if __name__ == "__main__":
    main()
