"""What the whole second stage of training brings to chapter 06's network, away from the studio.

    .venv/bin/python -W ignore tests/study_second_stage.py

goes on from the network that chapter 06 has saved (models/real/unseen-speakers): chapter 08 shows
ten steps of this on one batch, here are all twelve epochs. Then both networks are asked about every
clip of the four unseen speakers in all conditions of `emotion_helpers.beyond.robustness`. Writes
notebooks/results/robustness.csv, and the new network to models/real/second-stage. Takes an hour and
a half on two plain cores; a study that was stopped goes on where it was.
"""

from dataclasses import replace

from emotion_helpers.beyond.cross_validation import (
    SkipValidation,
    begin_stage,
    make_learner,
    prepare_pictures,
)
from emotion_helpers.corpora import models_folder
from emotion_helpers.models import NOISE, load_model, save_model
from emotion_helpers.training import checkpoints, picture_loaders

SEED = 42


def train_second_stage(first, clips, pictures):
    """Twelve epochs in noise, from a network and taught by it; the folder of the new network."""
    recipe, facts = replace(first.recipe, start=first.recipe, **NOISE), first.info
    test = set(clips.clip_id[clips.speaker.isin(facts["unseen_speakers"])])
    loaders = picture_loaders(pictures, first.settings, recipe, test)
    learn = make_learner(loaders, recipe, SEED, True, [SkipValidation()])
    begin_stage(learn, first, recipe)
    run = {"name": "second-stage", "weights": facts["weights"], "first": facts["temperature"]}
    with checkpoints(learn, models_folder("real") / "runs", run, SEED):
        learn.fit_one_cycle(recipe.epochs, slice(*recipe.lr))
    facts = {name: facts[name] for name in ("corpus", "unseen_speakers", "weights")}
    folder = models_folder("real") / "second-stage"
    return save_model(folder, learn.model, first.settings, recipe, seed=SEED, **facts)


if __name__ == "__main__":
    clips, pictures = prepare_pictures("real", None)
    train_second_stage(load_model(models_folder("real") / "unseen-speakers"), clips, pictures)
