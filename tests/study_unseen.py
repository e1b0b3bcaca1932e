"""Ideas for unseen speakers, each alone, on the validation speakers of all of EmoBox's folds.

    .venv/bin/python -W ignore tests/study_unseen.py --variants best mixstyle filter rows-96

trains the recipe `best` (64 x 224 pixels, RAVDESS alone: quick) with one change, on each fold (its
own speakers left out, those of the next two folds asked; see `fold_clips`), and writes a row per
variant, fold and seed into notebooks/results/unseen.csv, women and men apart. The test folds'
speakers are asked by no network of this study. A study that was stopped goes on where it was.
"""

import argparse
import gc
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pandas as pd
import torch
from study_sizes import extra_callbacks
from torch.nn.functional import interpolate

from emotion_helpers import models, training, write_text
from emotion_helpers.augmentation import spec_augment
from emotion_helpers.beyond import cross_validation as cv
from emotion_helpers.clips import parse_name
from emotion_helpers.corpora import models_folder, results_folder
from emotion_helpers.models import BEST
from emotion_helpers.training import fastai

RUNS = models_folder("real") / "experiments"


class MixStyle(fastai.Callback):
    """Blends mean and spread of the maps after ResNet's first two stages with those of another
    clip of the same emotion, in half of the batches; Zhou et al. 2021, arXiv:2104.02008."""

    order = -5  # before MixUp, which takes the labels away

    def before_fit(self):
        body, self.partner = self.model[0], None
        self.hooks = [body[i].register_forward_hook(self.blend) for i in (4, 5)]

    def after_fit(self):
        for hook in self.hooks:
            hook.remove()

    def before_batch(self):
        labels, self.partner = self.y.as_subclass(torch.Tensor), None
        if self.training and torch.rand(1) < 0.5:
            order = (labels + 0.5 * torch.rand(len(labels))).argsort()  # by emotion, else at random
            following = order.roll(-1)
            same = labels[order] == labels[following]
            self.partner = torch.arange(len(labels))
            self.partner[order[same]] = following[same]
            self.share = torch.distributions.Beta(0.1, 0.1).sample((len(labels), 1, 1, 1))

    def blend(self, _module, _inputs, maps):
        if self.partner is None:
            return maps
        exact, share = maps.float(), self.share.to(maps.device)  # 16 bits are too few for spreads
        mean, spread = exact.mean((2, 3), keepdim=True), exact.std((2, 3), keepdim=True) + 1e-6
        mean, spread = mean.detach(), spread.detach()
        other_mean, other_spread = mean[self.partner], spread[self.partner]
        blended = (exact - mean) / spread * (share * spread + (1 - share) * other_spread)
        return (blended + share * mean + (1 - share) * other_mean).to(maps.dtype)


def filter_augment(pictures, mask_size=0.1):
    """A smooth random gain of up to 6 dB over frequency, then `spec_augment`; after FilterAugment,
    Nam et al. 2022, arXiv:2110.03282. Black stays black."""
    gain = (torch.rand(len(pictures), 1, 6, 1) - 0.5) * 12 / 80
    gain = interpolate(gain, (pictures.shape[2], 1), mode="bilinear", align_corners=True)
    changed = (pictures + gain * (pictures > 0)).clamp(0, 1)
    return spec_augment(changed, mask_size=mask_size)


@contextmanager
def mixstyle():
    with extra_callbacks(MixStyle()):
        yield BEST


@contextmanager
def filtered():
    with patch.object(training, "spec_augment", filter_augment):
        yield BEST


@contextmanager
def recipe(**changes):
    yield replace(BEST, **changes)


VARIANTS = {  # name: in words, what to do around a run, which gives the recipe
    "best": ("`best` as it is", recipe),
    "mixstyle": ("mean and spread of maps blended between clips of one emotion", mixstyle),
    "filter": ("a smooth random gain over frequency, up to 6 dB", filtered),
    "rows-96": ("96 rows in place of 64", lambda: recipe(height=96)),
    "epochs-48": ("48 epochs in place of 24", lambda: recipe(epochs=48)),
}


def main() -> None:
    """Go through the seeds, variants and folds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    clips, pictures = cv.prepare_pictures("real", None)
    file, keys = results_folder("real") / "unseen.csv", ["variant", "fold", "seed"]
    for seed in options.seeds:
        for variant in options.variants:
            words, around = VARIANTS[variant]
            for fold in range(1, 7):
                with around() as changed:
                    e = cv.Experiment(changed, "emobox", fold, seed, validate=True)
                    run = cv.run_experiment(e, clips, pictures, RUNS / f"unseen-{variant}")
                table = pd.read_csv(run["folder"] / "predictions.csv")
                right = 100 * (table.truth == table.predicted)
                gender = [parse_name(clip_id)["gender"] for clip_id in table.clip_id]
                shares = right.groupby(gender).mean()
                row = {"variant": variant, "what": words, "fold": fold, "seed": seed}
                row |= {"clips": len(table), "accuracy": run["accuracy"], "uar": run["uar"]}
                row |= {"women": shares.get("female"), "men": shares.get("male")}
                row |= {"minutes": run["minutes"], "device": models.describe_device()}
                rows = cv.update_table(file, pd.DataFrame([row]), keys, keys)
                write_text(file, rows.round({"minutes": 1}).round(4).to_csv(index=False))
                print(variant, fold, seed, f"{run['accuracy']:.2f}", flush=True)
                gc.collect()


if __name__ == "__main__":
    main()
