"""Batch norm's statistics taken anew at the end: what it changes, split by split.

    .venv/bin/python -W ignore tests/study_statistics.py --splits emobox --validate --seeds 1 2 3

asks each network of the recipe `144` (trained if it is not there) twice, as it is and with batch
norm's means and spreads taken anew from clean training pictures (see `fresh_statistics`), and
writes a row per network into notebooks/results/statistics.csv. A study that was stopped goes on
where it was.
"""

import argparse
import gc
from dataclasses import replace

import pandas as pd
from study_sizes import fresh_statistics, learner_from

from emotion_helpers import models, write_text
from emotion_helpers.beyond import cross_validation as cv
from emotion_helpers.corpora import models_folder, results_folder
from emotion_helpers.evaluation import predict_clips, scores
from emotion_helpers.models import HALF
from emotion_helpers.splits import count_folds
from emotion_helpers.training import fastai


def anew(e: cv.Experiment, run: dict, clips, pictures) -> float:
    """Accuracy of a finished run's network with statistics taken anew [%]."""
    learn = learner_from(models.load_model(run["folder"]), e, clips, pictures)
    with fastai.no_random(1000 * e.seed):
        fresh_statistics(learn, None)
        return scores(predict_clips(learn, clips, e.recipe.n_tta)).accuracy["all"]


def main() -> None:
    """Go through the splits, folds and seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", nargs="+", default=["random"])
    parser.add_argument("--validate", action="store_true", help="ask validation speakers")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    clips, pictures = cv.prepare_pictures("real", None)
    runs = models_folder("real") / ("unseen" if options.validate else "experiments")
    file = results_folder("real") / "statistics.csv"
    keys = ["split", "validation", "fold", "seed", "device"]
    for split in options.splits:
        folds = range(1, 1 + count_folds(split))
        plain = cv.Experiment(HALF, split, validate=options.validate)
        for e in (replace(plain, fold=f, seed=seed) for f in folds for seed in options.seeds):
            run = cv.run_experiment(e, clips, pictures, runs)
            after = anew(e, run, clips, pictures)
            row = {key: run[key] for key in keys}
            row |= {"clips": run["clips"], "before": run["accuracy"], "after": after}
            rows = cv.update_table(file, pd.DataFrame([row]).round(4), keys, keys)
            write_text(file, rows.to_csv(index=False))
            print(split, e.fold, e.seed, f"{run['accuracy']:.2f} {after:.2f}", flush=True)
            gc.collect()


if __name__ == "__main__":
    main()
