"""Ideas for unseen speakers, each alone, on the validation speakers of all of EmoBox's folds.

    .venv/bin/python -W ignore tests/study_unseen.py --variants 144 filter --seeds 1 2 3

trains the recipe `144` with one change, on each fold (its own speakers left out, those of the next
two folds asked; see `fold_clips`), and writes a row per variant, fold and seed into
notebooks/results/unseen.csv, women and men apart. The test folds' speakers are not asked, unless
`--test` says so: then the rows are in runs.csv. A study that was stopped goes on where it was.
"""

import argparse
import gc
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import pandas as pd
import torch
from study_sizes import extra_callbacks
from torch.nn.functional import interpolate
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from emotion_helpers import models, training, write_text
from emotion_helpers.augmentation import spec_augment
from emotion_helpers.beyond import cross_validation as cv
from emotion_helpers.beyond.distillation import begin_distillation
from emotion_helpers.clips import parse_name
from emotion_helpers.corpora import models_folder, results_folder
from emotion_helpers.models import HALF, RECIPES
from emotion_helpers.training import fastai

RUNS = models_folder("real")


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
            order = (
                labels + 0.5 * torch.rand_like(labels, dtype=torch.float)
            ).argsort()  # by emotion, else at random
            following = order.roll(-1)
            same = labels[order] == labels[following]
            self.partner = torch.arange(len(labels), device=labels.device)
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
    gain = (torch.rand(len(pictures), 1, 6, 1, device=pictures.device) - 0.5) * 12 / 80
    gain = interpolate(gain, (pictures.shape[2], 1), mode="bilinear", align_corners=True)
    changed = (pictures + gain * (pictures > 0)).clamp(0, 1)
    return spec_augment(changed, mask_size=mask_size)


class Averaged(fastai.Callback):
    """Ends with a running average of the weights, over some 200 steps, which a run that is stopped
    and goes on begins anew."""

    order = 90

    def before_fit(self):
        self.mean = AveragedModel(self.learn.model, multi_avg_fn=get_ema_multi_avg_fn(0.995))

    def after_batch(self):
        if self.training:
            self.mean.update_parameters(self.learn.model)

    def after_fit(self):
        self.learn.model.load_state_dict(self.mean.module.state_dict())


class Together(torch.nn.Module):
    """Several networks, as one: the logarithm of their mean probabilities."""

    def __init__(self, networks):
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)

    def forward(self, x):
        each = torch.stack([network(x).float().softmax(dim=1) for network in self.networks])
        return each.mean(dim=0).clamp(min=1e-9).log()


@contextmanager
def recipe(_networks, start=HALF, **changes):
    yield replace(start, **changes)


@contextmanager
def with_callback(_networks, kind, start=HALF):
    with extra_callbacks(kind()):
        yield start


@contextmanager
def filtered(_networks):
    with patch.object(training, "spec_augment", filter_augment):
        yield HALF


@contextmanager
def hard_labels(_networks):
    with patch.object(fastai, "LabelSmoothingCrossEntropy", fastai.CrossEntropyLossFlat):
        yield HALF


@contextmanager
def taught(networks):
    """`robust` without noise, by three teachers: the fold's networks of `144`, of seeds 1 to 3."""

    def begin(learn, teacher, *options):
        begin_distillation(learn, teacher, *options)
        several = Together(networks()).eval()
        learn.distil.teacher = several.to(learn.dls.device, memory_format=torch.channels_last)

    with patch.object(cv, "begin_distillation", begin):
        yield replace(RECIPES["robust"], corruption_p=1e-9)


BEST = replace(HALF, height=64, width=224, kernel_scale=(1, 1), tess=False)
VARIANTS = {  # name: in words, what to do around a run, which gives the recipe
    "144": ("`144` as it is", recipe),
    "filter": ("a smooth random gain over frequency, up to 6 dB", filtered),
    "stretch": ("stretched twice as much", partial(recipe, stretch=0.2)),
    "masks": ("masks of twice the size", partial(recipe, mask_size=0.2)),
    "labels": ("labels not smoothed", hard_labels),
    "rows": (
        "192 pixels high, 48 rows after the first layer (144: 36)",
        partial(recipe, height=192),
    ),
    "weights": ("a running average of the weights", partial(with_callback, kind=Averaged)),
    "mixstyle": ("maps blended between speakers", partial(with_callback, kind=MixStyle)),
    "288": ("the second stage of chapter 04", partial(recipe, start=RECIPES["288"])),
    "robust": ("the second stage of chapter 08", partial(recipe, start=RECIPES["robust"])),
    "taught": ("a second stage, taught by three seeds' networks together", taught),
    "best": ("`best`, the first edition's", partial(recipe, start=BEST)),
    "best-mixstyle": ("`best`, maps blended", partial(with_callback, kind=MixStyle, start=BEST)),
}
PATCHED = ("filter", "labels", "weights", "mixstyle", "best-mixstyle")  # no field of the recipe


def main() -> None:
    """Go through the seeds, variants and folds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=["144"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument(
        "--test", action="store_true", help="ask the test folds, once a recipe is chosen"
    )
    options = parser.parse_args()
    clips, pictures = cv.prepare_pictures("real", None)
    file, keys = results_folder("real") / "unseen.csv", ["variant", "device", "fold", "seed"]
    order = {variant: i for i, variant in enumerate(VARIANTS)}
    for seed in options.seeds:
        for variant in options.variants:
            words, around = VARIANTS[variant]
            plain_runs = "experiments" if options.test else "unseen"  # where `evaluate` has them
            runs = RUNS / (f"unseen-{variant}" if variant in PATCHED else plain_runs)
            for fold in range(1, 7):
                plain = cv.Experiment(HALF, "emobox", fold, seed, validate=not options.test)

                def networks(plain=plain, runs=runs):
                    each = [replace(plain, seed=seed) for seed in (1, 2, 3)]
                    done = [cv.run_experiment(one, clips, pictures, runs) for one in each]
                    return [models.load_model(run["folder"]).model for run in done]

                with around(networks) as changed:
                    e = replace(plain, recipe=changed)
                    run = cv.run_experiment(e, clips, pictures, runs)
                print(variant, fold, seed, f"{run['accuracy']:.2f}", flush=True)
                gc.collect()
                if options.test:
                    if variant in PATCHED:  # or `train` would take it for `144`
                        run["config"] |= {"variant": variant}
                    cv.write_results([{"recipe": variant} | run], file.parent)
                    continue
                table = pd.read_csv(run["folder"] / "predictions.csv")
                right = 100 * (table.truth == table.predicted)
                gender = [parse_name(clip_id)["gender"] for clip_id in table.clip_id]
                shares = right.groupby(gender).mean()
                row = {"variant": variant, "what": words, "fold": fold, "seed": seed}
                row |= {"clips": len(table), "accuracy": run["accuracy"], "uar": run["uar"]}
                row |= {"women": shares.get("female"), "men": shares.get("male")}
                row |= {"minutes": run["minutes"], "device": run["device"]}
                rows = cv.update_table(file, pd.DataFrame([row]), keys, keys)
                rows = rows.sort_values("variant", key=lambda v: v.map(order), kind="stable")
                write_text(file, rows.round({"minutes": 1}).round(4).to_csv(index=False))


if __name__ == "__main__":
    main()
