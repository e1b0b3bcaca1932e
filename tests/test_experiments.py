"""Experiments: who is trained on, runs that survive being stopped, and the tables collected from them."""
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score

from emotion_helpers import experiments, training
from emotion_helpers.clips import EMOTIONS, find_clips
from emotion_helpers.experiments import evaluate, run_fold, train_and_test, with_temperatures
from emotion_helpers.pictures import render
from emotion_helpers.splits import SPLITS, folds_of
from emotion_helpers.sturdiness import Distil
from emotion_helpers.training import RECIPES, Recipe, load_model, settings_of

TINY = Recipe(px=32, width=32, epochs=1, batch_size=16, lr=(2e-3, 2e-3), mixup=0, views=0)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(RECIPES, "tiny", TINY)


@pytest.fixture(scope="module")
def all_clips(demo_corpus):
    return find_clips(demo_corpus)[0]


# ---- who is trained on and who is tested on


@pytest.mark.parametrize("split", [split for split in SPLITS if split != "random"])
@pytest.mark.parametrize("tess", [False, True])
def test_no_test_speaker_is_in_training(all_clips, split, tess):
    speaker = all_clips.set_index("clip").speaker
    tess = tess or split.startswith("tess")  # as run_fold does
    for fold in range(1, 1 + len(folds_of(all_clips, split))):
        train, test = train_and_test(all_clips, split, fold, tess)
        assert not set(speaker[list(train)]) & set(speaker[list(test)])
        assert train | test == set(all_clips["clip"] if tess else all_clips["clip"][all_clips.corpus == "ravdess"])


def test_across_tess_the_other_woman_and_ravdess_are_trained_on(all_clips):
    train, _ = train_and_test(all_clips, "tess-oaf-yaf", 1, tess=True)
    assert set(all_clips.speaker[all_clips["clip"].isin(train)]) == {"OAF", *(f"Actor_{i:02}" for i in range(1, 25))}


def test_validation_hears_and_asks_nobody_of_the_fold(all_clips):
    speaker, folds = all_clips.set_index("clip").speaker, folds_of(all_clips, "emobox")
    for fold in range(1, 7):
        train, test = train_and_test(all_clips, "emobox", fold, tess=False, validate=True)
        assert test == folds[fold % 6] | folds[(fold + 1) % 6]
        heard, asked, left_out = (set(speaker[list(clips)]) for clips in (train, test, folds[fold - 1]))
        assert not heard & asked and not left_out & (heard | asked) and len(heard | asked | left_out) == 24


@pytest.mark.parametrize("split, fold, validate, said", [("emobox", 7, False, "no fold 7: they are 1 to 6"), ("luna", 0, False, "1 to 5"),
                                                         ("random", 1, True, "no other speakers")])
def test_a_fold_that_there_is_not_is_an_error(all_clips, split, fold, validate, said):
    with pytest.raises(ValueError, match=said):
        train_and_test(all_clips, split, fold, False, validate)


def test_a_fold_without_clips_is_an_error_that_names_it(all_clips):
    with pytest.raises(ValueError, match="fold 1 of the split 'emobox'.*none"):
        train_and_test(all_clips[all_clips.speaker != "Actor_02"].query("speaker == 'Actor_03'"), "emobox", 1, False)


# ---- one run


@pytest.fixture(scope="module")
def voices(all_clips, tmp_path_factory):
    """One clip of each of the demo's actors in each of four emotions, and their pictures."""
    clips = all_clips[(all_clips.corpus == "ravdess") & all_clips.emotion.isin(EMOTIONS[:4])].groupby(["speaker", "emotion"]).head(1)
    folder = tmp_path_factory.mktemp("pictures")
    render(clips, folder)
    return clips, folder


def run(voices, folder, **kwargs):
    clips, pictures = voices
    return run_fold(clips, pictures, folder, **dict(dict(recipe="tiny", split="emobox", fold=1, seed=1, pretrained=False), **kwargs))


def answers_in(folder):
    (file,) = folder.glob("*/predictions.csv")
    return pd.read_csv(file)


def test_a_run_tests_on_the_folds_clips_and_leaves_a_row_a_clip(voices, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done, table = run(voices, tmp_path / "runs"), answers_in(tmp_path / "runs")
    assert set(table["clip"]) == folds_of(voices[0], "emobox")[0] and done["clips"] == len(table)
    assert done["trained_on"] == len(voices[0]) - len(table) and done["tested_on"] == "Actor_01 Actor_11 Actor_20 Actor_21"
    assert done["accuracy"] == pytest.approx(100 * accuracy_score(table.truth, table.predicted))
    (folder,) = (tmp_path / "runs").iterdir()
    left = {"history.csv", "model.safetensors", "predictions.csv", "run.json", "settings.json"}
    assert {file.name for file in folder.iterdir()} == left  # no optimizer
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]  # nothing is left where one stands


def test_what_is_tested_on_is_not_looked_at_before_training_is_over(voices, tmp_path):
    run(voices, tmp_path / "test")
    run(voices, tmp_path / "validation", validate=True)
    tested, validated = (pd.read_csv(next((tmp_path / name).glob("*/history.csv"))) for name in ("test", "validation"))
    assert tested.get("accuracy", pd.Series([np.nan])).isna().all()
    assert validated.accuracy.notna().all()


def test_a_finished_run_is_read_and_not_trained_again(voices, tmp_path, monkeypatch):
    done = run(voices, tmp_path)
    monkeypatch.setattr(experiments, "learner_for", None)
    assert run(voices, tmp_path) == done


def test_another_recipe_under_the_same_name_is_another_run(voices, tmp_path, monkeypatch):
    run(voices, tmp_path)
    monkeypatch.setitem(RECIPES, "tiny", replace(TINY, lr=(1e-3, 1e-3)))
    assert run(voices, tmp_path)["settings"]["lr"] == [1e-3, 1e-3] and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("after", ["", "tiny"], ids=["first stage", "second stage"])
def test_a_run_that_was_stopped_continues_and_ends_the_same(voices, tmp_path, monkeypatch, after):
    monkeypatch.setitem(RECIPES, "longer", replace(TINY, epochs=2, after=after, spoilt=0.5))
    run(voices, tmp_path / "whole", recipe="longer")

    class PowerCut(training.EachEpochOnDisk):
        def after_epoch(self):
            super().after_epoch()
            raise KeyboardInterrupt

    if after:
        run(voices, tmp_path / "stopped")
    with monkeypatch.context() as patched:
        patched.setattr(training, "EachEpochOnDisk", PowerCut)
        with pytest.raises(KeyboardInterrupt):
            run(voices, tmp_path / "stopped", recipe="longer")
    (folder,) = (tmp_path / "stopped").glob("longer-*")
    assert len(pd.read_csv(folder / "training/history.csv")) == 1 and not (folder / "run.json").exists()
    run(voices, tmp_path / "stopped", recipe="longer")
    whole, stopped = (pd.read_csv(next((tmp_path / name).glob("longer-*/predictions.csv"))) for name in ("whole", "stopped"))
    pd.testing.assert_frame_equal(whole, stopped, rtol=1e-4)


def test_a_second_stage_goes_on_from_the_network_of_the_first(voices, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "second", replace(TINY, after="tiny", spoilt=0.5, lr=(1e-6, 1e-6)))
    second = run(voices, tmp_path, recipe="second")
    with monkeypatch.context() as patched:
        patched.setattr(experiments, "learner_for", None)
        first = run(voices, tmp_path)  # it is there already
    before, after = (load_model(done["folder"])[0].state_dict() for done in (first, second))
    moved = max((after[name] - value).abs().max() for name, value in before.items() if "running" not in name and value.is_floating_point())
    assert 0 < moved < 1e-4 and second["minutes"] > first["minutes"] and second["tested_on"] == first["tested_on"]


def test_a_second_stage_is_taught_by_the_first(voices, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "second", replace(TINY, after="tiny", spoilt=0.5, views=2))
    taught = []

    def watched(learn, *args):
        taught.extend(callback for callback in learn.cbs if isinstance(callback, Distil))
        return training.fit(learn, *args)

    monkeypatch.setattr(experiments, "fit", watched)
    run(voices, tmp_path, recipe="second")
    model, _ = load_model(run(voices, tmp_path)["folder"])
    (distil,) = taught
    assert all(torch.equal(value, distil.teacher.state_dict()[name].cpu()) for name, value in model.state_dict().items())
    assert distil.recipe["spoilt"] == 0.5


def test_a_second_stage_is_validated_on_voices_that_neither_stage_heard(voices, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "second", replace(TINY, after="tiny", spoilt=0.5))
    run(voices, tmp_path, recipe="second", validate=True)
    stages = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("*/run.json"))]
    assert [stage["recipe"] for stage in stages] == ["second", "tiny"] and all(stage["validation"] for stage in stages)
    assert len({(stage["tested_on"], stage["data"]) for stage in stages}) == 1 and "Actor_01" not in stages[0]["tested_on"]


def test_labels_that_mean_something_are_learnt_and_permuted_ones_are_not(all_clips, tmp_path, monkeypatch):
    """Sad and angry demo voices differ so much that a network from scratch learns them within a dozen epochs."""
    monkeypatch.setitem(RECIPES, "tiny", replace(TINY, epochs=12))
    clips = all_clips[(all_clips.corpus == "ravdess") & all_clips.emotion.isin(["sad", "angry"])]
    permuted = clips.assign(emotion=np.random.default_rng(0).permutation(clips.emotion))
    accuracy = {}
    for name, table in (("true", clips), ("permuted", permuted)):
        render(table, tmp_path / name)
        accuracy[name] = run((table, tmp_path / name), tmp_path / f"{name}-runs")["accuracy"]
    chance, error = 50, 100 * np.sqrt(0.25 / len(folds_of(clips, "emobox")[0]))
    assert accuracy["permuted"] < chance + 3 * error and accuracy["true"] > 85, accuracy


# ---- the tables


@pytest.fixture
def project(monkeypatch, tmp_path, demo_corpus):
    """`evaluate` with a project folder of its own, and a training that only counts how often it was called."""
    trained = []

    def quick(clips, pictures, folder, recipe, split, fold, seed, pretrained, validate=False):
        name = folder / f"{split}{validate}-{fold}-{seed}"
        if not (name / "run.json").exists():
            trained.append((split, fold, seed))
            write_run(name, clips[clips["clip"].isin(train_and_test(clips, split, fold, True, validate)[1])], recipe, split, fold, seed, validate)
        return json.loads((name / "run.json").read_text())

    monkeypatch.setattr(experiments, "ROOT", tmp_path)
    monkeypatch.setattr("emotion_helpers.corpora.ROOT", tmp_path)
    monkeypatch.setattr(experiments, "render", lambda clips, _: pd.DataFrame({"clip": clips["clip"], "status": "kept", "reason": ""}))
    monkeypatch.setattr(experiments, "run_fold", quick)
    (tmp_path / "data").mkdir()
    shutil.copytree(demo_corpus, tmp_path / "data" / "demo")
    return trained, tmp_path / "models" / "demo" / "results"


def write_run(folder, clips, recipe, split, fold, seed, validation=False):
    """A finished run of a network that is right half of the time and always quite sure."""
    rng = np.random.default_rng([fold, seed])
    said = np.where(rng.random(len(clips)) < 0.5, clips.emotion, rng.choice(EMOTIONS, len(clips)))
    table = clips[["clip", "corpus", "speaker", "emotion"]].rename(columns={"emotion": "truth"}).assign(predicted=said)
    table[list(EMOTIONS)] = np.where(np.array(EMOTIONS)[None] == said[:, None], 0.93, 0.01)
    folder.mkdir(parents=True)
    table.to_csv(folder / "predictions.csv", index=False)
    accuracy = 100 * accuracy_score(table.truth, table.predicted)
    (folder / "run.json").write_text(json.dumps({
        "recipe": recipe, "settings": settings_of(RECIPES[recipe]), "spectrogram": {}, "split": split, "fold": fold, "seed": seed,
        "validation": validation, "data": "", "clips": len(table), "accuracy": accuracy, "uar": accuracy, "minutes": 1.0}))


def test_an_evaluation_that_was_stopped_after_one_fold_continues_with_the_second(project, monkeypatch):
    trained, results = project
    quick = experiments.run_fold

    def cut_at_two(*args, **kwargs):
        if args[5] == 2:
            raise KeyboardInterrupt
        return quick(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(experiments, "run_fold", cut_at_two)
        with pytest.raises(KeyboardInterrupt):
            evaluate("emobox", corpus="demo")
    assert trained == [("emobox", 1, 1)] and len(pd.read_csv(results / "runs.csv")) == 1  # the first one's row is there
    table = evaluate("emobox", corpus="demo")
    assert trained == [("emobox", fold, 1) for fold in range(1, 7)] and list(table.fold) == [1, 2, 3, 4, 5, 6]
    assert list(pd.read_csv(results / "runs.csv").fold) == [1, 2, 3, 4, 5, 6]


def test_the_tables_have_a_row_a_clip_and_a_row_a_run_and_agree(project, all_clips):
    _, results = project
    evaluate("emobox", seeds=2, corpus="demo")
    evaluate("tess-oaf-yaf", corpus="demo")
    evaluate("emobox", corpus="demo", folds=[1], validate=True)
    runs, tried, table = (pd.read_csv(results / name) for name in ("runs.csv", "ablation.csv", "predictions.csv.gz"))
    assert list(table.columns) == ["split", "fold", "seed", "clip", "speaker", "truth", *EMOTIONS]
    assert table.groupby("split").size().to_dict() == {"emobox": 2 * (all_clips.corpus == "ravdess").sum(), "tess-oaf-yaf": (all_clips.speaker == "YAF").sum()}
    assert table[list(EMOTIONS)].sum(axis=1).to_numpy() == pytest.approx(np.ones(len(table)), abs=1e-5)
    right = table[list(EMOTIONS)].idxmax(axis=1) == table.truth
    accuracy = 100 * right.groupby([table.split, table.fold, table.seed]).mean()
    assert accuracy.to_numpy() == pytest.approx(runs.set_index(["split", "fold", "seed"]).accuracy.to_numpy(), abs=1e-3)
    strangers = table[table.split == "emobox"]
    assert strangers[list(EMOTIONS)].max(axis=1).mean() == pytest.approx(right[strangers.index].mean(), abs=0.03)  # as sure as it is right
    assert len(runs) == 13 and (runs.temperature > 1.2).all() and len(tried) == 1


def test_runs_of_another_machine_stay_in_the_tables_and_those_of_an_older_recipe_do_not(project, tmp_path, monkeypatch):
    trained, results = project
    evaluate("emobox", seeds=2, corpus="demo")
    shutil.rmtree(tmp_path / "models/demo/experiments")
    evaluate("luna", corpus="demo")
    assert pd.read_csv(results / "runs.csv").groupby("split").size().to_dict() == {"emobox": 12, "luna": 5}
    assert set(pd.read_csv(results / "predictions.csv.gz").split) == {"emobox", "luna"}
    shutil.rmtree(tmp_path / "models/demo/experiments")
    monkeypatch.setitem(RECIPES, "quick", replace(RECIPES["quick"], epochs=99))
    evaluate("luna", corpus="demo")
    assert pd.read_csv(results / "runs.csv").groupby("split").size().to_dict() == {"luna": 5}
    assert set(pd.read_csv(results / "predictions.csv.gz").split) == {"luna"}


def test_another_recipe_has_tables_of_its_own(project):
    _, results = project
    evaluate("luna", corpus="demo", folds=[1])
    before = (results / "runs.csv").read_text()
    evaluate("emobox", corpus="demo", recipe="tiny", folds=[2])
    assert (results / "runs.csv").read_text() == before and set(pd.read_csv(results / "tiny/runs.csv").recipe) == {"tiny"}
    assert set(pd.read_csv(results / "tiny/predictions.csv.gz").split) == {"emobox"}


def test_folds_evaluated_on_two_machines_give_the_tables_of_one(project, tmp_path):
    _, results = project

    def tables():
        return pd.read_csv(results / "runs.csv"), pd.read_csv(results / "predictions.csv.gz")

    evaluate("emobox", corpus="demo")
    on_one = tables()
    shutil.rmtree(tmp_path / "models")
    evaluate("emobox", corpus="demo", folds=[4, 5, 6])
    shutil.rmtree(tmp_path / "models/demo/experiments")  # the other machine has the tables only
    evaluate("emobox", corpus="demo", folds=[1, 2, 3])
    for one, two in zip(on_one, tables()):
        pd.testing.assert_frame_equal(one, two, atol=1e-4)  # the temperatures of all folds too


def test_a_runs_temperature_does_not_depend_on_its_own_answers(project, all_clips, tmp_path):
    for fold in (1, 2, 3):
        write_run(tmp_path / str(fold), all_clips[all_clips["clip"].isin(folds_of(all_clips, "emobox")[fold - 1])], "quick", "emobox", fold, 1)
    runs, tables = experiments.finished(tmp_path)
    before = with_temperatures(runs, tables).temperature
    tables[0] = tables[0].assign(truth="sad")
    after = with_temperatures(runs, tables).temperature
    assert after[0] == before[0] and (after[1:] != before[1:]).all()


def test_a_second_stage_after_an_older_first_one_is_another_run(project, monkeypatch):
    _, results = project
    monkeypatch.setitem(RECIPES, "second", replace(TINY, after="tiny", spoilt=0.5))
    evaluate("emobox", corpus="demo", recipe="second", folds=[1, 2])
    shutil.rmtree(results.parent / "experiments")
    monkeypatch.setitem(RECIPES, "tiny", replace(TINY, epochs=99))
    evaluate("emobox", corpus="demo", recipe="second", folds=[1])
    assert list(pd.read_csv(results / "second/runs.csv").fold) == [1]


def test_a_run_of_an_older_recipe_that_lies_beside_does_not_hide_the_new_one(project, all_clips, tmp_path, monkeypatch):
    _, results = project
    monkeypatch.setitem(RECIPES, "quick", replace(RECIPES["quick"], epochs=99))
    write_run(tmp_path / "models/demo/experiments/a-before", all_clips[all_clips.speaker == "Actor_01"], "quick", "emobox", 1, 1)
    monkeypatch.setitem(RECIPES, "quick", replace(RECIPES["quick"], epochs=3))
    evaluate("emobox", corpus="demo", folds=[1])
    assert len(pd.read_csv(results / "runs.csv")) == 1 and pd.read_csv(results / "predictions.csv.gz").speaker.nunique() == 4


@pytest.mark.parametrize("wrong, said", [(dict(recipe="bets"), "recipe 'bets'.*best"), (dict(seeds=0), "0 seeds"), (dict(folds=[1, 9]), "no fold 9")])
def test_a_wrong_argument_is_an_error_before_anything_is_trained(project, wrong, said):
    with pytest.raises(ValueError, match=said):
        evaluate("emobox", corpus="demo", **wrong)
    assert project[0] == []
