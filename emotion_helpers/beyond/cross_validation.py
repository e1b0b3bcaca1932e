"""Cross-validation: a recipe on every fold of a split, each run on disk as soon as it is done."""

import gc
import gzip
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from .. import EmotionHelpersError, atomic_write, config_hash, models, remove_leftovers, write_text
from ..clips import EMOTIONS, find_clips
from ..corpora import get_corpora, models_folder, pictures_folder, results_folder
from ..evaluation import fit_temperature, predict_clips, scores
from ..models import DEPLOYED_RECIPE, RECIPES, Recipe, predict_proba, scale_kernels, to_tensor
from ..pictures import SpectrogramSettings, render
from ..splits import ACTORS, count_folds, speaker_folds
from ..training import HEAD, MixOrCut, checkpoints, fastai, picture_loaders, speed_callbacks
from .distillation import begin_distillation

FEWEST = 40  # clips that a temperature is fitted to
KEYS = ["recipe", "split", "fold", "seed"]  # one row per run in the tables of results


def prepare_pictures(corpus: str, data: str | None, settings=SpectrogramSettings()):
    """The clips of a corpus that can be used, as a table, and the folder with their pictures."""
    clips, _ = find_clips(get_corpora(corpus, data))
    folder = pictures_folder(corpus, settings.name)
    failed = render(clips, folder, settings).query("status == 'failed'")
    for row in failed.itertuples():
        print(f"{row.clip_id}: no picture, so it is left out: {row.reason}")
    return clips[~clips.clip_id.isin(failed.clip_id)], folder


def fold_clips(clips, split: str, fold: int, tess: bool, validate=False) -> tuple[set, set]:
    """Clip_ids to train on and to test on; `fold` counts from 1, `tess`: train on TESS too. With
    `validate` the fold is left alone, and the next two folds' speakers are tested on: recipes are
    chosen so. Raises `EmotionHelpersError` for a fold that is not there."""
    folds = speaker_folds(clips, split)
    if not 1 <= fold <= len(folds):
        raise EmotionHelpersError(f"split {split!r} has no fold {fold}: they are 1 to {len(folds)}")
    usable, (train, test) = set(clips.clip_id[tess | (clips.corpus == "ravdess")]), folds[fold - 1]
    if validate:
        (train_a, test_a), (train_b, test_b) = (folds[i % len(folds)] for i in (fold, fold + 1))
        usable, train, test = usable - test, train & train_a & train_b, test_a | test_b
    if not test & usable or not train & usable:
        problem = "nobody is left to validate on" if validate else "no clip of its speakers is here"
        raise EmotionHelpersError(f"fold {fold} of split {split!r}: {problem}")
    return usable & train, usable & test


@dataclass(frozen=True)
class Experiment:
    """One network to train and test, and all that its result depends on, but for the clips."""

    recipe: Recipe
    split: str
    fold: int = 1  # counted from 1
    seed: int = 1
    settings: SpectrogramSettings = SpectrogramSettings()
    pretrained: bool = True  # from ImageNet weights, else from random ones
    validate: bool = False  # see `fold_clips`


def describe_run(e: Experiment, clips: pd.DataFrame, train: set[str], test: set[str]) -> dict:
    """All that a run's result depends on, as JSON has it."""
    labels = clips.md5 + clips.emotion
    data = config_hash([sorted(labels[clips.clip_id.isin(side)]) for side in (train, test)])
    run = {"split": e.split, "fold": e.fold, "seed": e.seed, "validation": e.validate}
    run |= {"config": asdict(e.recipe), "spectrogram": asdict(e.settings), "data": data}
    run |= {"weights": models.imagenet_weights() if e.pretrained else "random"}
    return run | {"trained_on": len(train), "clips": len(test)}


class SkipValidation(fastai.Callback):
    """Leaves validation out of the epochs: what is tested on is looked at once, afterwards."""

    def before_validate(self):
        if not hasattr(self.learn, "gather_preds"):  # which get_preds has
            raise fastai.CancelValidException


def make_learner(loaders, recipe: Recipe, seed: int, pretrained: bool, cbs=()) -> fastai.Learner:
    """ResNet-34 with one linear layer on top, all layers trained, with the recipe's mixing."""
    if pretrained:
        models.imagenet_weights()  # or an error that says what to do
    mixing = MixOrCut if recipe.cut else fastai.MixUp
    mixing = [mixing(float(recipe.mixup))] if recipe.mixup else []  # Beta(1, 1) takes no integer
    options = HEAD | {"pretrained": pretrained, "cbs": [*speed_callbacks(), *mixing, *cbs]}
    options |= {"loss_func": fastai.LabelSmoothingCrossEntropy(), "metrics": fastai.accuracy}
    with fastai.no_random(seed):
        learn = fastai.vision_learner(loaders, fastai.resnet34, **options)
    learn.model[0][0] = scale_kernels(learn.model[0][0], *recipe.kernel_scale).to(learn.dls.device)
    learn.unfreeze()
    return learn


def begin_stage(learn: fastai.Learner, start: models.Network, recipe: Recipe) -> None:
    """Make a learner go on from a trained network and, if it is for noise, be taught by it."""
    (rows, columns), (old_rows, old_columns) = recipe.kernel_scale, start.recipe.kernel_scale
    start.model[0][0] = scale_kernels(start.model[0][0], rows // old_rows, columns // old_columns)
    learn.model.load_state_dict(start.model.state_dict())
    if recipe.corruption_p:
        begin_distillation(learn, start.model, recipe, start.settings.top_db)


def run_experiment(experiment: Experiment, clips: pd.DataFrame, pictures: Path, runs: Path) -> dict:
    """Train and test once, in a folder below `runs` that is named by what the result depends on. It
    gets run.json, predictions.csv (not calibrated), history.csv, model.safetensors. A finished run
    is read, one that was stopped goes on. Returns what run.json holds, and the folder."""
    recipe, seed = experiment.recipe, 1000 * experiment.seed  # epochs count up
    recipe = replace(recipe, tess=recipe.tess or experiment.split.startswith("tess"))
    e = replace(experiment, recipe=recipe)
    train, test = fold_clips(clips, e.split, e.fold, recipe.tess, e.validate)
    run = describe_run(e, clips, train, test)
    folder = runs / f"{e.split}-{e.fold}-seed{e.seed}-{config_hash(run)}"
    with suppress(FileNotFoundError, ValueError):  # none yet, or half of one
        (folder / "model.safetensors").stat()  # somebody may have deleted a damaged one
        run = json.loads((folder / "run.json").read_text("utf-8"))
        remove_leftovers(folder, "training-*/last.pth", float("-inf"))  # a quarter of a gigabyte
        return run | {"folder": folder}
    loaders = picture_loaders(pictures, e.settings, recipe, test, train)
    if not len(loaders.train):  # few clips, or an eighth of few
        raise EmotionHelpersError(f"{loaders.train.n} clips fill no batch of {recipe.batch_size}")
    first = replace(e, recipe=recipe.start)
    start = run_experiment(first, clips, pictures, runs) if first.recipe else {"minutes": 0.0}
    gc.collect()  # the learner before this one refers to itself: its memory would not be freed
    learn = make_learner(loaders, recipe, seed, e.pretrained, [SkipValidation()] * (not e.validate))
    if first.recipe:
        begin_stage(learn, models.load_model(start["folder"]), recipe)
    with checkpoints(learn, folder, {"name": "training"}, seed) as history:
        learn.fit_one_cycle(recipe.epochs, slice(*recipe.lr))
    with fastai.no_random(seed):  # test-time augmentation is drawn at random
        table = predict_clips(learn, clips, recipe.n_tta)
    run |= scores(table).loc["all", ["accuracy", "uar"]].to_dict()
    run["minutes"] = start["minutes"] + sum(epoch["seconds"] for epoch in history) / 60
    run |= {"device": models.describe_device(), "tested_on": sorted(set(table.speaker))}
    models.save_model(folder, learn.model, e.settings, recipe)
    write_text(folder / "predictions.csv", table.to_csv(index=False))
    write_text(folder / "history.csv", pd.DataFrame(history).to_csv(index=False))
    write_text(folder / "run.json", json.dumps(run, indent=1))
    return run_experiment(experiment, clips, pictures, runs)  # which reads it


def run_experiments(experiments: list[Experiment], corpus: str, data: str | None) -> Iterator:
    """Run experiments with the same settings; yields the table of clips and the run, for each.
    Raises `EmotionHelpersError` for a split or fold that is not there, before any training."""
    if not experiments:
        raise EmotionHelpersError("no seed, no network: --seeds is 1 or more")
    clips, pictures = prepare_pictures(corpus, data, experiments[0].settings)
    for e in experiments:
        fold_clips(clips, e.split, e.fold, True, e.validate)
    for e in experiments:
        yield clips, run_experiment(e, clips, pictures, models_folder(corpus) / "experiments")


def out_of_fold_temperature(run, predictions: pd.DataFrame) -> float:
    """Temperature for a run (a row), fitted on the test clips of its recipe's other folds (on
    EmoBox's, but for the run's own clips, if its split is none of ACTORS); 1 if there are none."""
    same = predictions[predictions.recipe == run.recipe]
    own = same.clip_id[(same.split == run.split) & (same.fold == run.fold)]
    split = run.split if run.split in ACTORS else "emobox"
    others = same[(same.split == split) & ~same.clip_id.isin(own)]
    return round(fit_temperature(others), 4) if len(others) else 1.0


def update_table(file: Path, rows: pd.DataFrame, order: list[str] = KEYS, keys=KEYS):
    """The table in a file with `rows` added, in place of those with the same `keys`; sorted."""
    if file.exists():
        old = pd.read_csv(file, dtype={"recipe": str, "variant": str})
        rows = pd.concat([old[~old.set_index(keys).index.isin(rows.set_index(keys).index)], rows])
    return rows.sort_values(order, ignore_index=True)


def write_results(done: list[dict], folder: Path) -> None:
    """Bring the tables in a folder of results up to date with runs (as `evaluate` has them):
    ablation.csv has the validation runs; runs.csv has the others, with their temperatures, and
    predictions.csv.gz a row per clip of each, not calibrated."""
    runs = pd.DataFrame(done).drop(columns=["folder", "spectrogram", "data"])
    runs = runs.assign(config=runs.config.map(json.dumps), tested_on=runs.tested_on.str.join(" "))
    file = folder / ("ablation.csv" if done[0]["validation"] else "runs.csv")
    runs = update_table(file, runs.round({"accuracy": 4, "uar": 4, "minutes": 1}))
    if file.name == "runs.csv":
        file_of_clips, order, parts = folder / "predictions.csv.gz", [*KEYS, "clip_id"], []
        for run in done:
            part = pd.read_csv(run["folder"] / "predictions.csv").round(6)
            parts.append(part.assign(**{key: run[key] for key in KEYS}))
        clips = pd.concat(parts)[[*order, "speaker", "truth", *EMOTIONS]]
        clips = update_table(file_of_clips, clips, order)
        runs["temperature"] = [out_of_fold_temperature(run, clips) for run in runs.itertuples()]
        with atomic_write(file_of_clips) as partial:
            partial.write_bytes(gzip.compress(clips.to_csv(index=False).encode(), mtime=0))
    write_text(file, runs.to_csv(index=False))


def evaluate(
    split: str, recipe: Recipe, name: str, corpus="real", data=None, seeds=1, folds=None, **options
) -> pd.DataFrame:
    """Train and test a recipe on each fold of a split, print each result, write the tables.
    `name`: what the tables call it; `seeds`: how many; `options`: settings and validate, see
    `Experiment`. Returns a row per run."""
    one, done = Experiment(recipe, split, pretrained=corpus == "real", **options), []
    folds, seeds = {*(folds or range(1, 1 + count_folds(split)))}, range(1, 1 + seeds)
    experiments = [replace(one, fold=fold, seed=seed) for seed in seeds for fold in folds]
    print(f"{split}, recipe {name}, {models.describe_device()}: {len(experiments)} run(s)")
    for _, run in run_experiments(experiments, corpus, data):
        done.append({"recipe": f"{name} {one.settings.name}".strip()} | run)
        write_results(done, results_folder(corpus))
        result = f"{run['accuracy']:.1f} %, UAR {run['uar']:.1f}, {run['minutes']:.0f} minutes"
        print(f"fold {run['fold']}, seed {run['seed']}: {result}", flush=True)
    table = pd.DataFrame(done)
    print(f"mean of {len(table)} runs: {table.accuracy.mean():.1f} %, UAR {table.uar.mean():.1f}")
    return table


def deployed_experiments(corpus: str, recipe: Recipe | None = None, settings=SpectrogramSettings()):
    """EmoBox's folds, seed 1, of the recipe whose networks answer about recordings; a list."""
    recipe = recipe or RECIPES[DEPLOYED_RECIPE[corpus]]
    one = Experiment(recipe, "emobox", settings=settings, pretrained=corpus == "real")
    return [replace(one, fold=fold) for fold in range(1, 1 + len(ACTORS["emobox"]))]


def train_final(corpus="real", data: str | None = None, **options) -> Path:
    """Train the network that answers about recordings, write it into models/<corpus>/final. It is
    EmoBox's fold 1: four actors stay unseen, whom later notebooks ask about. Its temperature is
    of its plain answers about them, if they are not few. `options`: recipe, settings."""
    e, *_ = deployed_experiments(corpus, **options)
    clips, run = next(run_experiments([e], corpus, data))
    model, unseen = models.load_model(run["folder"]).model, clips.speaker.isin(run["tested_on"])
    folder, truth = pictures_folder(corpus, e.settings.name), clips.emotion[unseen]
    files = folder / truth / (clips.clip_id[unseen] + ".png")
    rows = [predict_proba(model, to_tensor(file, e.recipe))[0].tolist() for file in files]
    answers = pd.DataFrame(rows, columns=EMOTIONS).assign(truth=[*truth])
    info = {"corpus": corpus, "unseen_speakers": run["tested_on"]}
    info["temperature"] = fit_temperature(answers) if len(answers) >= FEWEST else 1.0
    info["clips_folder"] = os.path.commonpath(list(clips.path))
    return models.save_model(models_folder(corpus) / "final", model, e.settings, e.recipe, **info)
