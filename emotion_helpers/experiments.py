"""Experiments: a recipe trained and tested on every fold of a split, each run on disk as soon as it is finished."""
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from fastai.torch_core import set_seed

from .clips import EMOTIONS, find_clips
from .corpora import ROOT, get_corpora, results_folder
from .device import find_device
from .evaluation import calibrate, fit_temperature, predict_clips, scores
from .neighbours import FILE as NEIGHBOURS
from .neighbours import write_neighbours
from .pictures import PictureSettings, picture_files, picture_key, render
from .splits import ACTORS, folds_of
from .sturdiness import begin_second_stage
from .training import ANSWERS, FINAL, RECIPES, fit, imagenet_weights, learner_for, load_model, save_model, settings_of, write_model, write_text


RUN = ["split", "fold", "seed"]  # what tells the runs of a recipe apart


def train_and_test(clips: pd.DataFrame, split: str, fold: int, tess: bool, validate: bool = False) -> tuple[set[str], set[str]]:
    """Clips (names) to train on and to test on; `fold` counts from 1, `tess`: train on TESS too.

    With `validate` the fold's own speakers are left out of both, and the next two folds' speakers are tested on: recipes
    are chosen so. Raises ValueError for a fold that the split, or this folder of clips, does not have.
    """
    folds, names = folds_of(clips, split), set(clips["clip"])
    ravdess = set(clips.loc[clips.corpus == "ravdess", "clip"])
    if not 1 <= fold <= len(folds):
        raise ValueError(f"the split {split!r} has no fold {fold}: they are 1 to {len(folds)}")
    if validate and len(folds) == 1:
        raise ValueError(f"the split {split!r} has one fold: there are no other speakers to validate on")
    test, left_out = folds[fold - 1], set()
    if validate:
        test, left_out = folds[fold % len(folds)] | folds[(fold + 1) % len(folds)], test
    if not tess:  # the known voices of "random" are known only if they are in training
        names, test = names & ravdess, test & ravdess
    if not test:
        raise ValueError(f"fold {fold} of the split {split!r}: none of its speakers' clips is here")
    return names - test - left_out, test


def run_fold(clips: pd.DataFrame, pictures: Path, folder: Path, recipe: str, split: str, fold: int, seed: int, pretrained: bool,
             validate: bool = False) -> dict:
    """Train and test once (see `train_and_test`) and keep the outcome in a folder of its own below `folder`.

    It holds `run.json`, `predictions.csv` (a row a clip, probabilities as the network gave them), `history.csv` and the
    model, for whoever needs a network that never heard a speaker. A finished run is only read; one that was stopped
    continues after its last epoch. A recipe that comes `after` another goes on from that one's run. Returns what `run.json`
    holds, and the folder.
    """
    settings = RECIPES[recipe]
    if split.startswith("tess"):
        settings = replace(settings, tess=True)  # or the other woman would not be in training
    train, test = train_and_test(clips, split, fold, settings.tess, validate)
    md5 = clips.set_index("clip").md5
    what = {"recipe": recipe, "settings": settings_of(settings), "spectrogram": json.loads(picture_key("", PictureSettings())),
            "split": split, "fold": fold, "seed": seed, "validation": validate, "trained_on": len(train), "clips": len(test),
            "data": hashlib.sha256(json.dumps([[(c, md5[c]) for c in sorted(side)] for side in (train, test)]).encode()).hexdigest()}
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]  # another recipe under the same name is another run
    runs, folder = folder, folder / f"{recipe}-{split}{'-validation' if validate else ''}-{fold}-seed{seed}-{key}"
    if (folder / "run.json").exists():
        return {**json.loads((folder / "run.json").read_text()), "folder": folder}
    first = run_fold(clips, pictures, runs, settings.after, split, fold, seed, pretrained, validate) if settings.after else None
    # Seeds a thousand apart: `fit` counts up from its seed, an epoch at a time.
    learn = learner_for(settings, pictures, train, test, 1000 * seed, pretrained, peek=validate)
    weights = imagenet_weights() if pretrained else "random"
    if first:
        begin_second_stage(learn, load_model(first["folder"])[0], settings_of(settings))
    history = fit(learn, settings.epochs, slice(*settings.lr), folder / "training", 1000 * seed)
    set_seed(1000 * seed)  # the views are drawn at random
    table = predict_clips(learn, clips, settings.views)
    measured = scores(table).loc["all"]
    save_model(learn, folder, picture_px=settings.px, picture_width=settings.width, recipe=settings_of(settings))
    write_text(folder / "predictions.csv", table.to_csv(index=False))
    write_text(folder / "history.csv", history.to_csv(index=False))
    run = {**what, "tested_on": " ".join(sorted(table.speaker.unique())), "weights": weights, "accuracy": measured.accuracy, "uar": measured.uar,
           "minutes": history.seconds.sum() / 60 + (first["minutes"] if first else 0), "device": find_device()[1]}
    write_text(folder / "run.json", json.dumps(run, indent=1))
    for old in folder.glob("training*"):  # weights and optimizer: a quarter of a gigabyte
        shutil.rmtree(old, ignore_errors=True)
    return {**run, "folder": folder}


def finished(folder: Path) -> tuple[pd.DataFrame, dict[tuple, pd.DataFrame]]:
    """All finished runs below `folder`: a table with a row a run, and the predictions of each (key: the row's index)."""
    files = sorted(folder.glob("*/run.json"))
    runs = [json.loads(file.read_text()) for file in files]
    tables = {i: pd.read_csv(file.parent / "predictions.csv") for i, file in enumerate(files)}
    return pd.DataFrame([{**run, "epochs": run["settings"]["epochs"], "settings": json.dumps(run["settings"])} for run in runs]), tables


def with_temperatures(runs: pd.DataFrame, tables: dict) -> pd.DataFrame:
    """Adds `temperature`: fitted on speakers that the run trained on, as networks of the same recipe answered that had not.

    These are the test speakers of the split's other folds; for a split of one fold, those of EmoBox's. 1 if there are none
    (yet): then the probabilities stay as the network gave them.
    """
    found = []
    for run in runs.itertuples():
        others = runs[(runs.split == run.split) & (runs.fold != run.fold)]
        if others.empty and run.split not in ACTORS:
            others = runs[runs.split == "emobox"]
        answers = pd.concat([tables[i] for i in others.index] or [tables[run.Index].head(0)])
        answers = answers[~answers["clip"].isin(tables[run.Index]["clip"])]  # never its own test
        found.append(fit_temperature(answers) if len(answers) else 1.0)
    return runs.assign(temperature=found)


def recorded(results: Path) -> tuple[pd.DataFrame, dict[tuple, pd.DataFrame]]:
    """The runs that the tables in `results` hold, other machines' among them, as `finished` gives them: not calibrated."""
    if not (results / "runs.csv").exists():
        return pd.DataFrame(), {}
    answers = dict(list(pd.read_csv(results / "predictions.csv.gz").groupby(RUN)))
    runs = pd.read_csv(results / "runs.csv")
    runs = runs[[key in answers for key in zip(*(runs[name] for name in RUN))]]  # a stop may have come between the two files
    return runs, {run.Index: calibrate(answers[run.split, run.fold, run.seed], 1 / run.temperature) for run in runs.itertuples()}


def newest(new: pd.DataFrame, old: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The rows of both, sorted; of two with the same `keys` the one in `new`."""
    both = pd.concat([table for table in (new, old) if len(table)] or [new])
    return both.drop_duplicates(keys).sort_values(keys)


def results_of(recipe: str, corpus: str) -> Path:
    """Where the tables of a recipe are: in the corpus's folder of results if it is the one in `FINAL`, else in a folder of its own there."""
    return results_folder(corpus) / ("" if recipe == FINAL[corpus] else recipe)


def collect(folder: Path, corpus: str, recipe: str) -> None:
    """Bring the tables that notebook 06 reads up to date with all finished runs below `folder`; other machines' runs stay.

    `ablation.csv` has the validation runs. `runs.csv` and `predictions.csv.gz`, where `results_of` says, have the others, of `recipe`
    as it is now; the probabilities are calibrated.
    """
    runs, tables = finished(folder)
    now = [json.dumps(settings_of(settings)) for settings in (RECIPES[recipe], replace(RECIPES[recipe], tess=True))]
    kept = [name for name in runs if name not in ("validation", "spectrogram", "data")]
    figures = {"accuracy": 4, "uar": 4, "minutes": 1, "temperature": 4}
    ablation = results_folder(corpus) / "ablation.csv"
    tried = newest(runs.loc[runs.validation, kept].round(figures), pd.read_csv(ablation) if ablation.exists() else pd.DataFrame(), ["recipe", "settings", *RUN])
    write_text(ablation, tried.to_csv(index=False))
    results = results_of(recipe, corpus)
    tested, (known, answers) = runs.loc[(runs.recipe == recipe) & ~runs.validation & runs.settings.isin(now), kept], recorded(results)
    tables |= {-1 - i: table for i, table in answers.items()}  # below zero, so that no number stands for two runs
    known.index = [-1 - i for i in known.index]
    table = with_temperatures(newest(tested, known[known.settings.isin(now)] if len(known) else known, RUN), tables).round(figures)
    if len(table):
        answers = pd.concat([calibrate(tables[run.Index], run.temperature).assign(split=run.split, fold=run.fold, seed=run.seed) for run in table.itertuples()])
        answers = answers[[*RUN, "clip", "speaker", "truth", *EMOTIONS]].round({e: 6 for e in EMOTIONS}).sort_values([*RUN, "clip"])
        results.mkdir(exist_ok=True)
        answers.to_csv(results / "predictions.part", index=False, compression={"method": "gzip", "mtime": 0})
        table.to_csv(results / "runs.part", index=False)
        os.replace(results / "predictions.part", results / "predictions.csv.gz")  # both are whole before either is in place
        os.replace(results / "runs.part", results / "runs.csv")


def rendered(corpus: str, data: str | None) -> tuple[pd.DataFrame, Path]:
    """The corpus's clips that can be used, and the folder with all their pictures; says which clips cannot."""
    os.environ.setdefault("TORCH_HOME", str(ROOT / "models" / "torch"))  # as the notebooks do
    clips, _ = find_clips(get_corpora(corpus, data))
    pictures = ROOT / "data" / "pictures" / corpus
    report = render(clips, pictures)
    for row in report[report.status == "failed"].itertuples():
        print(f"{row.clip}: no picture, so it is left out: {row.reason}")
    return clips[~clips["clip"].isin(report.loc[report.status == "failed", "clip"])], pictures


def evaluate(split: str, recipe: str | None = None, seeds: int = 1, corpus: str = "real", folds: list[int] | None = None, validate: bool = False,
             data: str | None = None) -> pd.DataFrame:
    """Train and test `recipe` on each fold of `split` with `seeds` seeds, print each result, and write the tables.

    The recipe is the corpus's in `FINAL` unless another is named; `results_of` says where the tables are.
    Raises ValueError for a recipe, a number of seeds or a fold that there is not. Returns the rows of these runs.
    """
    recipe = recipe or FINAL[corpus]
    if recipe not in RECIPES or seeds < 1:
        raise ValueError(f"recipe {recipe!r}, {seeds} seeds: the recipes are {', '.join(RECIPES)}, and at least one seed is needed")
    clips, pictures = rendered(corpus, data)
    folder = ROOT / "models" / corpus / "experiments"
    folds = folds or range(1, 1 + len(folds_of(clips, split)))
    for fold in folds:
        train_and_test(clips, split, fold, True, validate)  # raises before anything is trained
    print(f"{split}, recipe {recipe}, {find_device()[1]}: {seeds} seed(s) of {len(folds)} fold(s)")
    done = []
    for seed in range(1, 1 + seeds):
        for fold in folds:
            started = time.time()
            done.append(run := run_fold(clips, pictures, folder, recipe, split, fold, seed, corpus == "real", validate))
            print(f"{time.strftime('%H:%M:%S')}  fold {fold}, seed {seed}: {run['accuracy']:.1f} %, UAR {run['uar']:.1f} "
                  f"({(time.time() - started) / 60:.0f} minutes)", flush=True)
            collect(folder, corpus, recipe)
    table = pd.DataFrame(done)
    print(f"mean of {len(table)} runs: {table.accuracy.mean():.1f} %, UAR {table.uar.mean():.1f}; tables in {results_of(recipe, corpus)}")
    return table


def emobox_runs(clips: pd.DataFrame, pictures: Path, corpus: str, recipe: str, folds: Iterable[int] = range(1, 1 + len(ACTORS["emobox"]))) -> list[dict]:
    """The runs that `evaluate` does first for a recipe (EmoBox, seed 1), as `run_fold` returns them."""
    return [run_fold(clips, pictures, ROOT / "models" / corpus / "experiments", recipe, "emobox", fold, 1, corpus == "real") for fold in folds]


def train_final(corpus: str = "real", data: str | None = None) -> Path:
    """Train the network that answers about any recording (`prediction`), and write it into models/<corpus>/final, with the features of
    the clips that it heard (`neighbours`); returns that folder.

    It is the one that `evaluate` trains first for the corpus's recipe in `ANSWERS`: EmoBox's fold 1. So four actors stay strangers to it, whom
    notebooks 07 and 08 ask about. Its temperature is the run's in the tables of results, or 1 while there is none.
    """
    clips, pictures = rendered(corpus, data)
    recipe = ANSWERS[corpus]
    (run,) = emobox_runs(clips, pictures, corpus, recipe, [1])
    known, _ = recorded(results_of(recipe, corpus))
    temperature = known[(known.split == "emobox") & (known.fold == 1) & (known.seed == 1) & (known.settings == json.dumps(settings_of(RECIPES[recipe])))].temperature if len(known) else []
    model, settings = load_model(run["folder"])
    if not (run["folder"] / NEIGHBOURS).exists():  # once: the run's network does not change any more
        heard, _ = train_and_test(clips, "emobox", 1, RECIPES[recipe].tess)
        write_neighbours(run["folder"], [picture for picture in picture_files(pictures) if picture.stem in heard], model, settings)
    folder = ROOT / "models" / corpus / "final"
    (folder / NEIGHBOURS).unlink(missing_ok=True)  # or they might be another network's
    write_model(folder, model, settings | {
        "corpus": corpus, "strangers": run["tested_on"].split(), "temperature": float([1, *temperature][-1])})
    shutil.copy(run["folder"] / NEIGHBOURS, folder / f"{NEIGHBOURS}.part")
    os.replace(folder / f"{NEIGHBOURS}.part", folder / NEIGHBOURS)
    return folder
