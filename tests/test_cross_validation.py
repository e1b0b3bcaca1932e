"""Cross-validation: who is trained on, runs that are stopped and go on, and what the tables say."""

import ctypes
import gc
import json
import os
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from PIL import Image
from sklearn.metrics import accuracy_score

from emotion_helpers import EmotionHelpersError, corpora, splits
from emotion_helpers.beyond import cross_validation
from emotion_helpers.beyond.adaptation import adapt_to_speaker
from emotion_helpers.beyond.cross_validation import (
    Experiment,
    evaluate,
    fold_clips,
    make_learner,
    prepare_pictures,
    run_experiment,
    train_final,
    write_results,
)
from emotion_helpers.beyond.explanation import class_activation_map, occlusion_map
from emotion_helpers.beyond.prediction import clearest_picture, predict
from emotion_helpers.clips import EMOTIONS, find_clips, parse_name
from emotion_helpers.demo import demo_names
from emotion_helpers.evaluation import calibrate, fit_temperature
from emotion_helpers.models import Recipe, load_model
from emotion_helpers.pictures import render
from emotion_helpers.splits import random_split, speaker_folds
from emotion_helpers.training import CheckpointEveryEpoch, picture_loaders

pytestmark = pytest.mark.usefixtures("shallow")
SMALL = {"height": 32, "width": 32, "kernel_scale": (1, 1), "tess": False, "mixup": 0, "n_tta": 0}
TINY = Recipe(epochs=2, batch_size=16, lr=(2e-3, 2e-3), **SMALL)
SECOND = replace(TINY, start=TINY, corruption_p=0.5, n_tta=2)
STEPS = 2  # batches per epoch: 36 of the 48 clips are for training


@pytest.fixture(scope="module")
def all_clips():
    """The table of the demo's 416 clips; to share them out, no sound is needed."""
    table = pd.DataFrame([parse_name(name) for name in demo_names()])
    return table.assign(md5=table.clip_id)


# ---- who is trained on and who is tested on


@pytest.mark.parametrize("split", ["emobox", "luna", "tess-oaf-yaf", "tess-yaf-oaf"])
@pytest.mark.parametrize("tess", [False, True])
def test_no_speaker_who_is_tested_on_is_in_training(all_clips, split, tess):
    speaker = all_clips.set_index("clip_id").speaker
    tess = tess or split.startswith("tess")
    usable = all_clips.clip_id[tess | (all_clips.corpus == "ravdess")]
    for fold, (_, expected) in enumerate(speaker_folds(all_clips, split), 1):
        train, test = fold_clips(all_clips, split, fold, tess)
        assert test == expected
        assert train | test == set(usable)
        assert not set(speaker[list(train)]) & set(speaker[list(test)])


@pytest.mark.parametrize("woman, other", [("OAF", "YAF"), ("YAF", "OAF")])
def test_across_tess_one_woman_and_ravdess_are_trained_on(all_clips, woman, other):
    speaker = all_clips.set_index("clip_id").speaker
    train, test = fold_clips(all_clips, f"tess-{woman}-{other}".lower(), 1, tess=True)
    assert set(speaker[list(test)]) == {other}
    assert set(speaker[list(train)]) == {woman, *(f"Actor_{i:02}" for i in range(1, 25))}


def test_the_random_split_is_that_of_the_first_chapters(all_clips):
    train, test = fold_clips(all_clips, "random", 1, tess=True)
    assert test == random_split(all_clips)
    assert train == set(all_clips.clip_id) - test


def test_validation_leaves_the_folds_own_speakers_out_and_tests_on_the_next_two(all_clips):
    folds = [test for _, test in speaker_folds(all_clips, "emobox")]
    ravdess = set(all_clips.clip_id[all_clips.corpus == "ravdess"])
    for i in range(6):
        train, test = fold_clips(all_clips, "emobox", i + 1, tess=False, validate=True)
        assert test == folds[(i + 1) % 6] | folds[(i + 2) % 6]
        assert train == ravdess - test - folds[i]


def test_validation_keeps_its_speakers_apart_from_training_where_sentences_are_split(all_clips):
    folds = [test for _, test in speaker_folds(all_clips, "emobox")]
    by_clip = all_clips.set_index("clip_id")
    train, test = fold_clips(all_clips, "statement-emobox", 1, tess=False, validate=True)
    for column in ("speaker", "text"):
        assert not set(by_clip[column][list(train)]) & set(by_clip[column][list(test)])
    assert test <= folds[1] | folds[2]
    assert not (train | test) & folds[0]


@pytest.mark.parametrize(
    "split, fold, validate, message",
    [
        ("emobox", 7, False, "'emobox' has no fold 7: they are 1 to 6"),
        ("luna", 0, False, "'luna' has no fold 0: they are 1 to 5"),
        ("random", 1, True, "'random'.*nobody is left to validate on"),
        ("gender", 1, True, "'gender'.*nobody is left to validate on"),
        ("emobx", 1, False, "no split 'emobx'.*emobox, luna"),
    ],
)
def test_a_split_or_fold_that_is_not_there_is_an_error(all_clips, split, fold, validate, message):
    with pytest.raises(EmotionHelpersError, match=message):
        fold_clips(all_clips, split, fold, False, validate)


def test_a_fold_without_clips_is_an_error_that_names_it(all_clips):
    one_actor = all_clips[all_clips.speaker == "Actor_03"]
    with pytest.raises(EmotionHelpersError, match="fold 1 of split 'emobox': no clip"):
        fold_clips(one_actor, "emobox", 1, False)


# ---- runs


def free_memory():
    """Give back what learners held: 300 MB each, in circles of references, which glibc keeps."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another system's memory is its own affair
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextmanager
def forward_passes(stop_at=None):
    """What goes through networks meanwhile: a list of `training`, `rows`, `weight` per batch.

    `weight` is the last layer's at that time. In training batch number `stop_at` somebody presses
    Ctrl-C.
    """
    passes = []

    def note(module, inputs):
        if isinstance(module, torch.nn.Linear):  # each network has one, its last layer
            weight = module.weight.detach().clone()
            batch = {"training": module.training, "rows": len(inputs[0]), "weight": weight}
            passes.append(SimpleNamespace(**batch))
            if module.training and sum(one.training for one in passes) - 1 == stop_at:
                raise KeyboardInterrupt

    handle = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield passes
    finally:
        handle.remove()
        free_memory()


@pytest.fixture(scope="module")
def project(demo_clips, tmp_path_factory):
    """A project folder with the clips of `demo_clips`; one works in an empty folder meanwhile."""
    root, empty = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("empty")
    voices = os.path.commonpath(list(demo_clips.path))
    with pytest.MonkeyPatch.context() as patched, joblib.parallel_config(backend="threading"):
        patched.setattr(corpora, "ROOT", root)
        patched.setattr(cross_validation, "get_corpora", lambda corpus, data: voices)
        patched.chdir(empty)
        yield root
        assert not list(empty.iterdir())  # nothing is left where one stands


def experiments():
    """The folders of all runs."""
    return set((corpora.models_folder("demo") / "experiments").iterdir())


def tables():
    """The tables of results: a row per run, a row per clip."""
    folder = corpora.results_folder("demo")
    return pd.read_csv(folder / "runs.csv"), pd.read_csv(folder / "predictions.csv.gz")


@pytest.fixture(scope="module")
def evaluation(project, small):
    """An evaluation of two folds that is stopped in the second one's second epoch, and goes on."""
    options = {"corpus": "demo", "settings": small, "folds": [1, 2]}
    with forward_passes(3 * STEPS) as before, pytest.raises(KeyboardInterrupt):
        evaluate("emobox", TINY, "tiny", **options)
    stopped = tables()
    with forward_passes() as after:
        table = evaluate("emobox", TINY, "tiny", **options)
    names = {"before": before, "after": after, "stopped": stopped, "tables": tables()}
    return SimpleNamespace(runs=table.to_dict("records"), **names)


def read_predictions(run):
    return pd.read_csv(run["folder"] / "predictions.csv")


def same_answers(one, two):
    """Whether two runs answered the same about every clip."""
    one, two = read_predictions(one), read_predictions(two)
    return list(one.clip_id) == list(two.clip_id) and np.allclose(
        one[list(EMOTIONS)], two[list(EMOTIONS)], atol=1e-3
    )


def test_a_run_tests_on_the_folds_clips_and_leaves_four_files(evaluation, demo_clips):
    run, table = evaluation.runs[0], read_predictions(evaluation.runs[0])
    assert set(table.clip_id) == speaker_folds(demo_clips, "emobox")[0][1]
    assert run["clips"] == len(table) == 12
    assert run["trained_on"] == 36
    assert run["tested_on"] == ["Actor_01", "Actor_11"]
    assert run["weights"] == "random"
    emotion = demo_clips.set_index("clip_id").emotion
    assert list(table.truth) == list(emotion[table.clip_id])
    assert run["accuracy"] == pytest.approx(100 * accuracy_score(table.truth, table.predicted))
    files = {"history.csv", "model.safetensors", "predictions.csv", "run.json"}  # no optimizer
    assert {file.name for file in run["folder"].iterdir() if file.is_file()} == files
    (training,) = (folder for folder in run["folder"].iterdir() if folder.is_dir())
    assert [file.name for file in training.iterdir()] == ["config.json"]
    network = load_model(run["folder"])
    assert network.recipe == TINY


def test_what_is_tested_on_is_not_looked_at_before_training_is_over(evaluation):
    batches = [(batch.training, batch.rows) for batch in evaluation.before]
    first_fold = batches[: -STEPS - 1]
    assert first_fold[: 2 * STEPS] == 2 * STEPS * [(True, 16)]
    assert first_fold[2 * STEPS :] == [(False, 12)]  # once
    history = pd.read_csv(evaluation.runs[0]["folder"] / "history.csv")
    assert len(history) == 2
    assert "accuracy" not in history


def test_a_finished_run_is_read_and_not_trained_again(evaluation, project, demo_clips, small):
    run = evaluation.runs[0]
    experiment = Experiment(TINY, "emobox", 1, settings=small, pretrained=False)
    pictures = corpora.pictures_folder("demo", small.name)
    with forward_passes() as passes:
        again = run_experiment(experiment, demo_clips, pictures, run["folder"].parent)
    assert passes == []
    assert again == {name: value for name, value in run.items() if name != "recipe"}


def test_a_checkpoint_beside_a_finished_run_is_deleted_when_it_is_read(
    evaluation, project, demo_clips, small
):
    """It was stopped between its last two steps."""
    experiment = Experiment(TINY, "emobox", 1, settings=small, pretrained=False)
    runs, pictures = (
        evaluation.runs[0]["folder"].parent,
        corpora.pictures_folder("demo", small.name),
    )
    checkpoint = evaluation.runs[0]["folder"] / "training-1234" / "last.pth"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"a quarter of a gigabyte")
    run_experiment(experiment, demo_clips, pictures, runs)
    assert not checkpoint.exists()


def test_a_fold_that_is_named_twice_is_one_run(evaluation, project, small, monkeypatch):
    monkeypatch.setattr(cross_validation, "write_results", lambda *_: None)
    table = evaluate("emobox", TINY, "twice", "demo", settings=small, folds=[1, 1])
    assert len(table) == 1


@pytest.mark.parametrize("cut", [False, True])
def test_mixing_takes_a_whole_number_too(demo_pictures, small, cut):
    """As in `--change mixup=1`, where JSON has an integer: torch draws from no Beta of those."""
    loaders = picture_loaders(demo_pictures, small, TINY, set())
    learn = make_learner(loaders, replace(TINY, mixup=1, cut=cut), 1, pretrained=False)
    (mixing,) = (cb for cb in learn.cbs if hasattr(cb, "distrib"))
    assert 0 <= mixing.distrib.sample((4,)).max() <= 1


def test_half_a_result_is_none_and_the_run_is_made_again(evaluation, demo_clips, small):
    run = evaluation.runs[0]
    file, whole = run["folder"] / "run.json", (run["folder"] / "run.json").read_text()
    file.write_text(whole[:100])  # as after a power cut
    experiment = Experiment(TINY, "emobox", 1, settings=small, pretrained=False)
    pictures = corpora.pictures_folder("demo", small.name)
    again = run_experiment(experiment, demo_clips, pictures, run["folder"].parent)
    assert again["accuracy"] == run["accuracy"]
    assert json.loads(file.read_text())["data"] == run["data"]


def test_a_run_whose_network_was_deleted_is_made_again(evaluation, demo_clips, small):
    """As `load_model` tells the reader to do with a damaged one."""
    run = evaluation.runs[1]
    (run["folder"] / "model.safetensors").unlink()
    experiment = Experiment(TINY, "emobox", 2, settings=small, pretrained=False)
    pictures = corpora.pictures_folder("demo", small.name)
    again = run_experiment(experiment, demo_clips, pictures, run["folder"].parent)
    assert again["accuracy"] == run["accuracy"]
    assert load_model(run["folder"]).recipe == TINY


def test_a_run_that_another_program_finishes_meanwhile_goes_on_to_its_end(
    demo_clips, demo_pictures, small, tmp_path, monkeypatch
):
    experiment = Experiment(TINY, "emobox", settings=small, pretrained=False)
    save, others = CheckpointEveryEpoch.save, []

    def save_while_another_finishes(checkpoint):
        save(checkpoint)
        if len(checkpoint.history) == 1 and not others:
            others.append("begun")
            others[0] = run_experiment(experiment, demo_clips, demo_pictures, tmp_path)

    monkeypatch.setattr(CheckpointEveryEpoch, "save", save_while_another_finishes)
    run = run_experiment(experiment, demo_clips, demo_pictures, tmp_path)
    assert same_answers(run, others[0])
    assert not list(tmp_path.rglob("last.pth"))
    free_memory()


def fewer_training_clips(clips):
    return clips.drop(clips.index[clips.speaker == "Actor_05"][:1])


def another_recording(clips):
    return clips.assign(md5=clips.md5.where(clips.index != clips.index[0], "of another file"))


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": replace(TINY, lr=(1e-3, 1e-3))},
        {"settings": {"top_db": 60.0}},
        {"seed": 2},
        {"validate": True, "recipe": replace(TINY, batch_size=8)},
        {"clips": fewer_training_clips},
        {"clips": another_recording},
    ],
    ids=["recipe", "settings", "seed", "validation", "a clip less", "another clip"],
)
def test_what_a_result_depends_on_makes_another_run(
    evaluation, demo_clips, demo_pictures, small, tmp_path, change
):
    change = {"recipe": TINY, "split": "emobox", "pretrained": False, "settings": {}, **change}
    change["settings"] = replace(small, **change["settings"])
    clips, pictures = change.pop("clips", pd.DataFrame.copy)(demo_clips), demo_pictures
    if change["settings"] != small:
        pictures = tmp_path / "pictures"
        render(clips, pictures, change["settings"], n_jobs=1)
    with forward_passes(stop_at=0), pytest.raises(KeyboardInterrupt):  # it is trained
        run_experiment(Experiment(**change), clips, pictures, tmp_path / "runs")
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name not in {run["folder"].name for run in evaluation.runs}


def test_where_pictures_and_clips_lie_makes_no_other_run(
    evaluation, demo_clips, demo_pictures, small, tmp_path
):
    experiment = Experiment(TINY, "emobox", settings=small, pretrained=False)
    shuffled = demo_clips.sample(frac=1, random_state=0).assign(path="elsewhere")
    with forward_passes(stop_at=0), pytest.raises(KeyboardInterrupt):
        run_experiment(experiment, shuffled, demo_pictures, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name == evaluation.runs[0]["folder"].name


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(
    evaluation, demo_clips, demo_pictures, small, tmp_path
):
    steps = [batch.training for batch in evaluation.after]
    assert sum(steps) == STEPS  # of four: the first fold is done, of the second one epoch
    experiment = Experiment(TINY, "emobox", 2, settings=small, pretrained=False)
    with forward_passes() as passes:
        unbroken = run_experiment(experiment, demo_clips, demo_pictures, tmp_path)
    assert sum(batch.training for batch in passes) == 2 * STEPS
    assert same_answers(unbroken, evaluation.runs[1])
    assert not same_answers(unbroken, evaluation.runs[0])


# ---- the second stage


@pytest.fixture(scope="module")
def second(evaluation, project, small):
    """A second stage after the evaluation of the first one, what it trained, and new folders."""
    before = experiments()
    with forward_passes() as passes:
        table = evaluate("emobox", SECOND, "second", "demo", settings=small, folds=[1])
    (run,) = table.to_dict("records")
    return SimpleNamespace(run=run, passes=passes, folders=experiments() - before)


def test_a_second_stage_uses_the_run_that_an_evaluation_of_its_teacher_left(second, evaluation):
    assert second.folders == {second.run["folder"]}
    assert sum(batch.training for batch in second.passes) == 2 * STEPS  # its own two epochs
    assert second.run["tested_on"] == evaluation.runs[0]["tested_on"]
    assert second.run["minutes"] > evaluation.runs[0]["minutes"]  # both stages' time


def test_a_second_stage_goes_on_from_its_teacher_and_is_taught_by_it(second, evaluation):
    teacher = load_model(evaluation.runs[0]["folder"]).model[1][-1].weight
    pupil = load_model(second.run["folder"]).model[1][-1].weight
    training = [batch for batch in second.passes if batch.training]
    assert torch.equal(training[0].weight, teacher)
    assert not torch.equal(training[-1].weight, teacher)
    asked = [batch.rows for batch in second.passes if torch.equal(batch.weight, teacher)]
    assert asked.count(5 * 16) == 2 * STEPS  # every clip of every batch, and four copies of it
    tested = [batch.rows for batch in second.passes if torch.equal(batch.weight, pupil)]
    assert sum(tested) == 3 * 12  # as it is, and two copies


def test_a_second_stage_that_was_stopped_goes_on_and_ends_the_same(
    second, evaluation, demo_clips, demo_pictures, small, tmp_path
):
    teacher = evaluation.runs[0]["folder"]
    (tmp_path / teacher.name).symlink_to(teacher)
    experiment = Experiment(SECOND, "emobox", settings=small, pretrained=False)
    with forward_passes(stop_at=STEPS), pytest.raises(KeyboardInterrupt):
        run_experiment(experiment, demo_clips, demo_pictures, tmp_path)
    with forward_passes() as passes:
        run = run_experiment(experiment, demo_clips, demo_pictures, tmp_path)
    assert sum(batch.training for batch in passes) == STEPS
    assert same_answers(run, second.run)


def test_a_second_stage_is_validated_on_voices_that_neither_stage_heard(
    evaluation, project, demo_clips, small
):
    runs, before = tables()[0], experiments()
    teacher = replace(TINY, epochs=1, batch_size=8)
    pupil = replace(teacher, start=teacher, corruption_p=0.5)
    options = {"settings": small, "folds": [1], "validate": True}
    with forward_passes():
        evaluate("emobox", pupil, "pupil", "demo", **options)
    stages = [json.loads((folder / "run.json").read_text()) for folder in experiments() - before]
    assert len(stages) == 2
    for stage in stages:
        assert stage["validation"]
        assert stage["tested_on"] == ["Actor_04", "Actor_08", "Actor_09", "Actor_10"]
        assert stage["trained_on"] == 12  # of the two who are neither in fold 1, nor in 2 or 3
    assert stages[0]["data"] == stages[1]["data"]
    assert all("accuracy" in pd.read_csv(new / "history.csv") for new in experiments() - before)
    ablation = pd.read_csv(corpora.results_folder("demo") / "ablation.csv")
    assert list(ablation.recipe) == [f"pupil {small.name}"]
    pd.testing.assert_frame_equal(tables()[0], runs)  # validation is no result


# ---- labels


@pytest.mark.slow
def test_labels_that_mean_something_are_learnt_and_permuted_ones_are_not(small, tmp_path):
    """Tones of two pitches under the names of sad and angry clips, 16 per actor; two are unseen."""
    rng = np.random.default_rng(0)
    for actor, emotion, *codes in np.ndindex(6, 2, 2, 2, 2):
        level, text, take = (code + 1 for code in codes)
        hertz = (400, 1300)[emotion] * rng.uniform(0.9, 1.1)
        tone = np.sin(2 * np.pi * hertz * np.arange(6_000) / 8_000) + rng.normal(0, 0.1, 6_000)
        name = f"03-01-0{emotion + 4}-0{level}-0{text}-0{take}-{(1, 11, 4, 10, 8, 9)[actor]:02}"
        sf.write(tmp_path / f"{name}.wav", 0.3 * tone, 8_000)
    clips, _ = find_clips(tmp_path)
    recipe = replace(TINY, epochs=4, batch_size=8, lr=(5e-4, 5e-4))
    experiment = Experiment(recipe, "emobox", settings=small, pretrained=False)
    accuracy = {}
    permuted = rng.permutation(clips.emotion)
    for name, table in (("true", clips), ("permuted", clips.assign(emotion=permuted))):
        render(table, tmp_path / name, small, n_jobs=1)
        run = run_experiment(experiment, table, tmp_path / name, tmp_path / f"{name} runs")
        accuracy[name] = run["accuracy"]
        assert run["clips"] == 32
        free_memory()
    error = 100 * np.sqrt(0.25 / 32)
    assert accuracy["true"] > 85, accuracy
    assert accuracy["permuted"] < 50 + 3 * error, accuracy


# ---- the tables


def test_an_evaluation_that_was_stopped_has_the_finished_folds_in_its_tables(evaluation, small):
    runs, predictions = evaluation.stopped
    assert list(runs.fold) == [1]
    assert set(predictions.fold) == {1}
    assert list(runs.temperature) == [1.0]  # nobody else has answered yet
    runs, predictions = evaluation.tables
    assert list(runs.fold) == [1, 2]
    assert list(runs.recipe) == 2 * [f"tiny {small.name}"]


def test_a_row_per_run_and_a_row_per_clip_agree(evaluation):
    runs, predictions = evaluation.tables
    keys = ["recipe", "split", "fold", "seed"]
    assert list(predictions.columns) == [*keys, "clip_id", "speaker", "truth", *EMOTIONS]
    assert len(predictions) == runs.clips.sum() == 24
    assert predictions[list(EMOTIONS)].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-4)
    right = predictions[list(EMOTIONS)].idxmax(axis=1) == predictions.truth
    accuracy = 100 * right.groupby([predictions[key] for key in keys]).mean()
    assert accuracy.to_numpy() == pytest.approx(runs.set_index(keys).accuracy.to_numpy(), abs=1e-3)
    for run, row in zip(evaluation.runs, runs.itertuples(), strict=True):
        assert row.accuracy == pytest.approx(run["accuracy"], abs=1e-3)
        assert Recipe(**json.loads(row.config)) == TINY
        assert row.tested_on.split() == run["tested_on"]


def test_rows_of_other_recipes_stay(second, evaluation, small):
    runs, predictions = tables()
    assert (
        set(runs.recipe)
        == set(predictions.recipe)
        == {f"{x} {small.name}" for x in ("tiny", "second")}
    )
    old, new = evaluation.tables[0], runs[runs.recipe == f"tiny {small.name}"]
    pd.testing.assert_frame_equal(new.reset_index(drop=True), old)


def make_run(folder, clips, split="emobox", fold=1, seed=1, recipe="best", share=0.5, **changes):
    """A finished run, as `evaluate` has it, of a network that is 93 % sure and right in a `share`
    of its answers about `clips`."""
    rng = np.random.default_rng([fold, seed])
    right = rng.random(len(clips)) < share
    predicted = np.where(right, clips.emotion, rng.choice(EMOTIONS, len(clips)))
    table = clips[["clip_id", "corpus", "speaker"]].assign(truth=clips.emotion, predicted=predicted)
    table[list(EMOTIONS)] = np.where(np.array(EMOTIONS) == predicted[:, None], 0.93, 0.01)
    folder = folder / f"{recipe}-{split}-{fold}-{seed}-{len(clips)}"
    folder.mkdir(parents=True)
    table.to_csv(folder / "predictions.csv", index=False)
    accuracy = 100 * accuracy_score(table.truth, table.predicted)
    run = {"recipe": recipe, "split": split, "fold": fold, "seed": seed, "validation": False}
    run |= {"config": asdict(TINY), "spectrogram": {}, "data": "", "weights": "random"}
    run |= {"trained_on": 1, "clips": len(table), "accuracy": accuracy, "uar": accuracy}
    run |= {"minutes": 1.0, "device": "CPU", "tested_on": sorted(set(clips.speaker))}
    return run | {"folder": folder} | changes


def emobox_runs(folder, clips, folds, **options):
    tests = enumerate(speaker_folds(clips, "emobox"), 1)
    return [
        make_run(folder, clips[clips.clip_id.isin(test)], fold=fold, **options)
        for fold, (_, test) in tests
        if fold in folds
    ]


def read_results(folder):
    return pd.read_csv(folder / "runs.csv"), pd.read_csv(folder / "predictions.csv.gz")


def test_under_one_name_the_table_says_what_was_evaluated_last(all_clips, tmp_path):
    runs = emobox_runs(tmp_path, all_clips, (1, 2), share=0.4)
    write_results(runs, tmp_path)
    some = all_clips[all_clips.emotion != "calm"]  # another corpus, and other spectrograms
    (newer,) = emobox_runs(tmp_path, some, (1,), share=0.7)
    newer |= {"data": "other", "spectrogram": {"top_db": 60.0}}
    write_results([newer], tmp_path)
    table, predictions = read_results(tmp_path)
    assert list(table.fold) == [1, 2]
    assert list(table.accuracy) == [round(run["accuracy"], 4) for run in (newer, runs[1])]
    assert list(table.clips) == [newer["clips"], runs[1]["clips"]]
    assert predictions.groupby("fold").size().to_dict() == {1: newer["clips"], 2: runs[1]["clips"]}
    assert not predictions.duplicated(["recipe", "split", "fold", "seed", "clip_id"]).any()


def test_a_recipe_whose_name_is_a_number_is_in_the_table_once(all_clips, tmp_path):
    runs = emobox_runs(tmp_path, all_clips, (1, 2), recipe="144")
    for run in (*runs, runs[0]):
        write_results([run], tmp_path)
    table, predictions = read_results(tmp_path)
    assert list(table.fold) == [1, 2]
    assert len(predictions) == sum(table.clips)


def test_a_temperature_does_not_depend_on_the_runs_own_answers(all_clips, tmp_path):
    runs = emobox_runs(tmp_path, all_clips, (1, 2, 3))
    write_results(runs, tmp_path)
    before, _ = read_results(tmp_path)
    answers = read_predictions(runs[0]).assign(truth="sad")
    answers.to_csv(runs[0]["folder"] / "predictions.csv", index=False)
    write_results(runs, tmp_path)
    after, _ = read_results(tmp_path)
    assert after.temperature[0] == before.temperature[0]
    assert (after.temperature[1:] != before.temperature[1:]).all()


def test_a_lone_fold_has_temperature_1_until_others_have_answered(all_clips, tmp_path):
    first, other, second = (
        *emobox_runs(tmp_path, all_clips, (1,)),
        *emobox_runs(tmp_path, all_clips, (2,), recipe="other"),
        *emobox_runs(tmp_path, all_clips, (2,)),
    )
    write_results([first], tmp_path)
    write_results([other], tmp_path)
    assert list(read_results(tmp_path)[0].temperature) == [1.0, 1.0]
    write_results([second], tmp_path)
    runs, _ = read_results(tmp_path)
    assert (runs.temperature[runs.recipe == "best"] > 1.2).all()
    assert list(runs.temperature[runs.recipe == "other"]) == [1.0]


def test_a_split_of_one_fold_has_the_temperature_of_emoboxs_networks(all_clips, tmp_path):
    runs = emobox_runs(tmp_path, all_clips, range(1, 7))
    yaf = make_run(tmp_path, all_clips[all_clips.speaker == "YAF"], "tess-oaf-yaf", share=0)
    write_results([*runs, yaf], tmp_path)
    table = read_results(tmp_path)[0].set_index("split").temperature
    emobox = table["emobox"]
    assert emobox.min() - 0.01 < table["tess-oaf-yaf"] < emobox.max() + 0.01


def test_calibrated_with_it_a_network_is_as_sure_as_it_is_right(all_clips, tmp_path):
    write_results(emobox_runs(tmp_path, all_clips, range(1, 7)), tmp_path)
    runs, predictions = read_results(tmp_path)
    temperature = runs.set_index("fold").temperature[predictions.fold].to_numpy()[:, None]
    sure = predictions[list(EMOTIONS)].max(axis=1).mean()
    right = (predictions[list(EMOTIONS)].idxmax(axis=1) == predictions.truth).mean()
    calibrated = calibrate(predictions, temperature)[list(EMOTIONS)].max(axis=1).mean()
    assert sure > right + 0.3
    assert calibrated == pytest.approx(right, abs=0.03)


@pytest.mark.parametrize(
    "split, options, message",
    [
        ("emobx", {}, "no split 'emobx'"),
        ("emobox", {"folds": [1, 9]}, "no fold 9"),
        ("emobox", {"folds": [1, 6]}, "fold 6.*no clip"),
        ("random", {"validate": True}, "nobody is left"),
    ],
)
def test_a_split_or_fold_that_is_not_there_is_refused_before_anything_is_trained(
    project, small, split, options, message
):
    with forward_passes() as passes, pytest.raises(EmotionHelpersError, match=message):
        evaluate(split, TINY, "wrong", "demo", settings=small, **options)
    assert passes == []


# ---- the whole way, with other settings and another recipe


@pytest.fixture(scope="module")
def walk(demo_clips, small, tmp_path_factory):
    """Pictures, evaluation, final network: of a project with two folds and settings of its own."""
    root = tmp_path_factory.mktemp("walk")
    voices = os.path.commonpath(list(demo_clips.path))
    settings = replace(small, top_db=60.0, n_mels=24, hop_length=800)  # 3.1 s, as long as the clips
    recipe = replace(TINY, height=24, width=48, epochs=1)
    with pytest.MonkeyPatch.context() as patched, joblib.parallel_config(backend="threading"):
        patched.setattr(corpora, "ROOT", root)
        patched.setattr(cross_validation, "get_corpora", lambda corpus, data: voices)
        folds = [["Actor_01", "Actor_11"], ["Actor_04", "Actor_10"]]
        patched.setitem(splits.ACTORS, "emobox", folds)
        patched.setattr(cross_validation, "FEWEST", 10)
        clips, pictures = prepare_pictures("demo", None, settings)
        table = evaluate("emobox", recipe, "walk", "demo", settings=settings)
        with forward_passes() as passes:
            folder = train_final("demo", recipe=recipe, settings=settings)
        names = {"table": table, "passes": passes, "folder": folder, "pictures": pictures}
        yield SimpleNamespace(clips=clips, settings=settings, recipe=recipe, **names)


def test_the_whole_way_with_other_settings_and_another_recipe(walk, demo_clips):
    file = next(walk.pictures.glob("sad/*.png"))
    assert Image.open(file).size == (32, 24)
    assert len(walk.clips) == len(demo_clips)
    # It is the network of the first fold, asked once, for its temperature.
    assert [(one.training, one.rows) for one in walk.passes] == 12 * [(False, 1)]
    network = load_model(walk.folder)
    assert (network.settings, network.recipe) == (walk.settings, walk.recipe)
    assert network.info["unseen_speakers"] == ["Actor_01", "Actor_11"]
    assert network.info["clips_folder"] == os.path.commonpath(list(demo_clips.path))
    _, predictions = tables()
    fold = walk.clips[walk.clips.speaker.isin(["Actor_01", "Actor_11"])]
    plain = replace(network, info={})
    answers = pd.DataFrame([predict(path, plain).probabilities for path in fold.path])
    best = fit_temperature(answers.assign(truth=[*fold.emotion]))
    assert network.temperature == pytest.approx(best, rel=0.02) != 1

    unseen = walk.clips[walk.clips.speaker == "Actor_01"]
    answer = predict(unseen.path.iloc[0], network)
    row = predictions[predictions.clip_id == unseen.clip_id.iloc[0]]
    expected = calibrate(row, network.temperature)[list(EMOTIONS)].to_numpy()[0]
    assert list(answer.probabilities.values()) == pytest.approx(expected, abs=0.03)

    picture = clearest_picture(answer, "sad", network)
    assert np.array_equal(
        picture, Image.open(walk.pictures / "neutral" / f"{row.clip_id.iloc[0]}.png")
    )
    assert class_activation_map(picture, network, "sad").shape == (1, 2)
    assert occlusion_map(picture, network, "sad", rows=2, columns=3).shape == (2, 3)

    adapted = adapt_to_speaker(network, list(unseen.path), list(unseen.emotion))
    likelihoods = []
    for one in (network, adapted):
        answers = [predict(path, one).probabilities for path in unseen.path]
        taught = [answer[emotion] for answer, emotion in zip(answers, unseen.emotion, strict=True)]
        likelihoods.append(np.log(taught).mean())
    assert likelihoods[1] > likelihoods[0]


def test_the_final_networks_temperature_is_its_own_whatever_the_tables_have(walk, tmp_path):
    """Two evaluations of one recipe, with other spectrograms, are two recipes in the tables."""
    before = load_model(walk.folder).temperature
    others = (replace(walk.settings, trim_db=float(trim_db)) for trim_db in range(20, 60))
    other = next(one for one in others if one.name > walk.settings.name)  # further down the table
    runs = emobox_runs(tmp_path, walk.clips, (1, 2), recipe=f"walk {other.name}")
    config = json.loads(json.dumps(walk.table.config[0]))
    write_results(
        [run | {"config": config, "spectrogram": asdict(other)} for run in runs],
        corpora.results_folder("demo"),
    )
    runs, _ = tables()
    assert runs.temperature.iloc[-1] != before
    train_final("demo", recipe=walk.recipe, settings=walk.settings)
    assert load_model(walk.folder).temperature == before


def test_a_temperature_is_not_fitted_to_a_handful_of_clips(walk, monkeypatch):
    before = load_model(walk.folder).temperature
    monkeypatch.setattr(cross_validation, "FEWEST", 13)
    assert (
        load_model(
            train_final("demo", None, recipe=walk.recipe, settings=walk.settings)
        ).temperature
        == 1
    )
    monkeypatch.setattr(cross_validation, "FEWEST", 12)
    train_final("demo", None, recipe=walk.recipe, settings=walk.settings)
    assert load_model(walk.folder).temperature == before


def test_fewer_clips_than_a_batch_are_an_error_and_not_an_untrained_network(
    demo_clips, demo_pictures, small, tmp_path
):
    one = Experiment(replace(TINY, batch_size=500), "emobox", settings=small, pretrained=False)
    with pytest.raises(EmotionHelpersError, match="fill no batch of 500"):
        run_experiment(one, demo_clips, demo_pictures, tmp_path)
