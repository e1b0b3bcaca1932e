"""What the whole second stage of training brings to chapter 06's network, away from the studio.

    .venv/bin/python -W ignore tests/study_second_stage.py

goes on from the network that chapter 06 has saved (models/real/unseen-speakers): chapter 08 shows
ten steps of this on one batch, here are all twelve epochs. Then both networks are asked about every
clip of the four unseen speakers in all conditions of `python -m emotion_helpers robustness`, which
asks new networks of all six folds (24 epochs, then 12) about every fifth clip, for many hours.
Writes notebooks/results/robustness.csv, and the new network to models/real/second-stage. Takes an
hour and a half on two plain cores; training that was stopped goes on where it was.
"""

from dataclasses import replace
from unittest.mock import patch

from emotion_helpers.beyond import robustness
from emotion_helpers.beyond.cross_validation import (
    Experiment,
    SkipValidation,
    begin_stage,
    make_learner,
    prepare_pictures,
)
from emotion_helpers.corpora import models_folder
from emotion_helpers.models import NOISE, checksum, load_model, save_model
from emotion_helpers.training import checkpoints, picture_loaders

SEED = 42
FIRST, SECOND = models_folder("real") / "unseen-speakers", models_folder("real") / "second-stage"


def train_second_stage(clips, pictures) -> None:
    """Twelve epochs in noise, from chapter 06's network and taught by it."""
    first = load_model(FIRST)
    recipe, facts = replace(first.recipe, start=first.recipe, **NOISE), first.info
    test = set(clips.clip_id[clips.speaker.isin(facts["unseen_speakers"])])
    loaders = picture_loaders(pictures, first.settings, recipe, test)
    learn = make_learner(loaders, recipe, SEED, True, [SkipValidation()])
    teacher = checksum("", first.model.state_dict())  # now: soon it may be on a GPU
    begin_stage(learn, first, recipe)
    run = {"name": "second-stage", "weights": facts["weights"], "first": teacher}
    with checkpoints(learn, models_folder("real") / "runs", run, SEED):
        learn.fit_one_cycle(recipe.epochs, slice(*recipe.lr))
    facts = {name: facts[name] for name in ("corpus", "unseen_speakers", "weights")}
    save_model(SECOND, learn.model, first.settings, recipe, seed=SEED, **facts)


def ask_both(clips):
    """The study of the package, with these two networks in place of those of six folds."""
    second = load_model(SECOND)
    speakers = {"tested_on": second.info["unseen_speakers"], "fold": 1}
    runs = [(clips, speakers | {"folder": folder}) for folder in (SECOND, FIRST)]
    fold = Experiment(second.recipe, "emobox", settings=second.settings)
    with (
        patch.object(robustness, "deployed_experiments", lambda *_, **__: [fold]),
        patch.object(robustness, "run_experiments", lambda *_: iter(runs)),
    ):
        return robustness.study_robustness(every=1)


if __name__ == "__main__":
    clips, pictures = prepare_pictures("real", None)
    train_second_stage(clips, pictures)  # a finished one is loaded, if chapter 06's is the same
    print(ask_both(clips).to_string(index=False))
