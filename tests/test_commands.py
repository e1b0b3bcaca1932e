"""The command line: what it prints and writes, and that every problem is a sentence."""

import io
import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import joblib
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from sounds import encode, noise, voice

from emotion_helpers import EmotionHelpersError, corpora, models
from emotion_helpers.__main__ import COMMANDS, main, make_parser, read_options
from emotion_helpers.beyond import adaptation, cross_validation, prediction, robustness
from emotion_helpers.clips import EMOTIONS

ROOT = Path(__file__).resolve().parent.parent
RATE = 22_050
COLUMNS = ["file", "emotion", "reason", "seconds", *EMOTIONS, "notes"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Nothing is written into the project; no name of another machine has an address."""
    resolve = socket.getaddrinfo

    def resolve_here(host, *arguments, **options):
        if host not in ("127.0.0.1", "::1", "localhost", None):
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_here)
    monkeypatch.setattr(corpora, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(monkeypatch, capsys):
    """A function that runs a command line here: its exit code, what it prints, its sentences."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["emotion_helpers", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        output, errors = capsys.readouterr()
        if isinstance(end.value.code, str):  # what Python prints then, before it exits with 1
            return SimpleNamespace(code=1, output=output, errors=errors + end.value.code)
        return SimpleNamespace(code=end.value.code, output=output, errors=errors)

    return run


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    """The folder of a network that answers in some milliseconds, as if it knew people."""
    recipe = replace(network.recipe, height=32, width=32, n_tta=0)
    folder, facts = tmp_path_factory.mktemp("quick"), network.info | {"corpus": "real"}
    return models.save_model(folder, network.model, network.settings, recipe, **facts)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A second of something like a voice."""
    path = tmp_path_factory.mktemp("clip") / "voice.wav"
    sf.write(path, voice(1, RATE), RATE)
    return path


@pytest.fixture
def folder(clip, tmp_path):
    """A folder with three recordings, deep down too, and with what is none."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for name in ("one.wav", "deep/two.WAV", "three.ogg"):
        shutil.copy(clip, folder / name)
    (folder / "bad.wav").write_text("no sound")
    (folder / "notes.txt").write_text("no sound either")
    (folder / "._one.wav").write_text("what macOS leaves")
    return folder


def run_python(*arguments, **environment):
    """A new Python, which knows the project, in the folder where this one is."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


# ---- predict


def test_one_recording_is_a_row_and_no_file_is_written(clip, network_folder, command, tmp_path):
    """Asked of the network that people get."""
    done = command("predict", clip, "--model", network_folder)
    assert done.code == 0
    header, row = done.output.splitlines()
    assert header.split() == COLUMNS
    assert row.split()[0] == str(clip)
    assert list(tmp_path.iterdir()) == []


def test_what_learnt_from_the_demo_voices_says_so(clip, network_folder, model, command):
    done = command("predict", clip, "--model", network_folder)
    assert done.errors.startswith(f"{network_folder} knows synthetic voices")
    assert command("predict", clip, "--model", model).errors == ""


def test_what_an_extra_brings_is_named_where_it_is_missing(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "emotion_helpers.beyond.app", raising=False)
    done = command("app")
    assert "gradio" in done.errors and 'pip install ".[app,notebooks]"' in done.errors


def test_one_recording_as_json_with_its_timeline(clip, model, command, tmp_path):
    done = command("predict", clip, "--model", model, "--json", "--timeline", "t.png")
    assert done.code == 0
    (answer,) = json.loads(done.output)
    assert list(answer) == [*COLUMNS, "segments"]
    assert answer["file"] == str(clip) and answer["seconds"] == 1
    assert sum(answer[emotion] for emotion in EMOTIONS) == pytest.approx(1, abs=1e-3)
    assert list(answer["segments"][0]) == ["start", "end", *EMOTIONS]
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_becomes_a_table_and_bad_files_are_told_at_the_end(folder, model, command):
    threads, style = torch.get_num_threads(), dict(mpl.rcParams)
    torch.set_num_threads(3)  # to be shared out, and given back
    try:
        done = command("predict", folder, "--model", model, "--csv", "out.csv")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert done.code == 1
    table = pd.read_csv("out.csv")
    assert list(table.columns) == COLUMNS
    files = [str(folder / name) for name in ("one.wav", "three.ogg", "deep/two.WAV")]
    assert sorted(table.file) == sorted(files)
    assert len(done.output.splitlines()) == 4
    assert f"{folder / 'bad.wav'}: not a recording that can be read" in done.errors
    assert "left out, by their endings: 1 .txt" in done.errors
    assert "._one" not in done.output + done.errors
    assert dict(mpl.rcParams) == style


def test_the_answers_about_a_folder_do_not_keep_its_samples(folder, model, command, monkeypatch):
    """A hundred hours of them would not fit into memory."""
    kept = []
    monkeypatch.setattr(prediction, "report", lambda answers, *_: kept.extend(answers))
    command("predict", folder, "--model", model)
    assert len(kept) == 3
    assert all(len(pickle.dumps(row)) < 2 * RATE for row in kept)  # a second has 4 * RATE bytes


def test_several_recordings_become_emotions_csv(folder, model, command):
    done = command("predict", folder / "one.wav", folder / "three.ogg", "--model", model)
    assert done.code == 0
    assert len(pd.read_csv("emotions.csv")) == 2


def test_a_folder_with_one_recording_becomes_a_table_too(clip, model, command):
    assert command("predict", clip.parent, "--model", model).code == 0
    assert len(pd.read_csv("emotions.csv")) == 1


def test_a_folder_as_json_is_valid_json(folder, model, command):
    done = command("predict", folder, "--model", model, "--json")
    assert [len(row) for row in json.loads(done.output)] == [len(COLUMNS) + 1] * 3


def test_nothing_but_silence_is_a_table_too(model, command, tmp_path):
    sf.write(tmp_path / "nothing.wav", np.zeros(RATE), RATE)
    done = command("predict", "nothing.wav", "--model", model, "--csv", "out.csv")
    assert done.code == 0
    (row,) = pd.read_csv("out.csv").to_dict("records")
    assert row["reason"] == "silence" and np.isnan(row["happy"])
    (answer,) = json.loads(command("predict", "nothing.wav", "--model", model, "--json").output)
    assert answer["happy"] is None and answer["segments"] == []


ENDINGS = [".mkv", ".mp2", ".3ga", ".wv", ".tta", ".ac3", ".ts", ".webm", ".caf", ".m4a", ".OPUS"]


def test_every_file_is_asked_about_or_counted(clip, model, command, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for ending in [*ENDINGS, ".txt", ".jpg", ".JPG", ""]:
        shutil.copy(clip, folder / f"a{ending}")
    done = command("predict", folder, "--model", model)
    assert done.code == 0
    table = pd.read_csv("emotions.csv")
    assert sorted(table.file) == sorted(str(folder / f"a{ending}") for ending in ENDINGS)
    for counted in ("1 .txt", "1 .jpg", "1 without an ending"):
        assert counted in done.errors


def test_a_file_that_is_named_is_asked_whatever_its_ending(clip, model, command, tmp_path):
    shutil.copy(clip, tmp_path / "voice.xyz")
    assert command("predict", "voice.xyz", "--model", model).code == 0


def test_links_to_folders_are_followed_once(folder, model, command, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "elsewhere").symlink_to(folder, target_is_directory=True)
    (folder / "deep" / "round").symlink_to(folder, target_is_directory=True)
    command("predict", "links", "--model", model)
    assert len(pd.read_csv("emotions.csv")) == 3


def test_notes_about_a_recording_are_in_the_table(model, command, tmp_path):
    samples = np.concatenate([voice(1, 48_000), noise(1, 48_000, 1e-3)])
    content = bytearray(encode(tmp_path / "a.m4a", samples, 48_000, "aac").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = b"\xff" * 300
    (tmp_path / "a.m4a").write_bytes(content)
    done = command("predict", "a.m4a", "--model", model, "--csv", "out.csv")
    assert "damaged packets were left out" in done.output
    assert "damaged packets were left out" in pd.read_csv("out.csv").notes[0]


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), MemoryError(), KeyError("x")])
def test_whatever_a_decoder_raises_others_have_their_answers(
    folder, model, command, monkeypatch, error
):
    open_file = av.open

    def fail_for_one(file, *arguments, **options):
        if "three" in str(getattr(file, "name", file)):
            raise error
        return open_file(file, *arguments, **options)

    monkeypatch.setattr(av, "open", fail_for_one)
    done = command("predict", folder, "--model", model)
    assert done.code == 1
    assert len(pd.read_csv("emotions.csv")) == 2
    assert str(folder / "three.ogg") in done.errors and "Traceback" not in done.errors


BAD_OUTPUTS = {
    "a csv in no folder": ["--csv", "nowhere/e.csv"],
    "a folder as csv": ["--csv", "in"],
    "a timeline in no folder": ["--timeline", "nowhere/t.png"],
    "a folder as timeline": ["--timeline", "in"],
    "a csv in a file": ["--csv", "in/notes.txt/e.csv"],
}


@pytest.mark.parametrize("options", BAD_OUTPUTS.values(), ids=BAD_OUTPUTS)
def test_where_nothing_can_be_written_is_said_before_the_work(folder, command, options):
    done = command("predict", folder / "one.wav", "--model", "there is none", *options)
    assert done.code == 1
    assert done.errors.startswith(options[1]) and "model" not in done.errors


def test_a_table_that_cannot_be_written_after_all_is_printed(clip, model, command, monkeypatch):
    """As on Windows, where a spreadsheet program has the old one open."""

    def refuse(source, target):
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(os, "replace", refuse)
    done = command("predict", clip, "--model", model, "--csv", "out.csv")
    assert done.code == 1
    assert str(clip) in done.output
    assert "out.csv" in done.errors and "Permission denied" in done.errors


def test_a_timeline_of_an_unknown_format_is_said_before_the_work(clip, command):
    done = command("predict", clip, "--model", "there is none", "--timeline", "t.xyz")
    assert done.code == 1
    assert done.errors.startswith("t.xyz") and "model" not in done.errors


def test_a_folder_with_one_recording_has_a_timeline_too(clip, model, command, tmp_path):
    (tmp_path / "in").mkdir(exist_ok=True)
    shutil.copy(clip, tmp_path / "in" / "a.wav")
    done = command("predict", "in", "--model", model, "--timeline", "t.png")
    assert done.code == 0
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_a_timeline_is_of_one_recording(folder, command):
    done = command("predict", folder, "--model", "there is none", "--timeline", "t.png")
    assert done.errors.endswith("a timeline is of one recording, and these are 4")


def test_problems_of_predict_are_sentences(folder, model, command, tmp_path):
    done = command("predict", folder / "one.wav")
    assert "there is no trained network yet" in done.errors
    assert "python -m emotion_helpers train" in done.errors
    done = command("predict", folder / "one.wav", "--model", tmp_path)
    assert done.errors.startswith(f"{tmp_path / 'model.safetensors'} is missing")
    done = command("predict", "gone.wav", "--model", model)
    assert done.code == 1
    assert done.errors.startswith("gone.wav: ") and "No such file" in done.errors
    shutil.rmtree(folder / "deep")
    for name in ("one.wav", "three.ogg", "bad.wav"):
        (folder / name).unlink()
    done = command("predict", folder, "--model", model)
    assert done.errors.endswith(f"no recording in {folder}")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    done = command("predict", "gone.wav", "--model", tmp_path)
    assert "model.safetensors is damaged" in done.errors and done.code == 1


def test_names_that_a_terminal_cannot_show(clip, model, tmp_path):
    """As on Windows, where the output goes into a file; one name is not even UTF-8."""
    (tmp_path / "in").mkdir()
    shutil.copy(clip, tmp_path / "in" / "Zoë 😀.wav")
    shutil.copy(clip, os.fsencode(tmp_path / "in") + b"/caf\xe9 $_$.wav")
    (tmp_path / "in" / "bad 😀.wav").write_text("no sound")
    arguments = ["predict", "in", "--model", model]
    run = run_python("-m", "emotion_helpers", *arguments, PYTHONIOENCODING="cp1252")
    output, errors = (stream.decode("cp1252") for stream in run.communicate())
    assert run.returncode == 1
    assert "Zoë ?.wav" in output and "caf? $_$.wav" in output
    assert "bad ?.wav: not a recording" in errors and "Traceback" not in errors
    files = pd.read_csv("emotions.csv").file
    assert sorted(files) == ["in/Zoë 😀.wav", "in/caf? $_$.wav"]


def test_names_in_json_are_valid_whatever_the_terminal(clip, model, command, tmp_path, monkeypatch):
    shutil.copy(clip, tmp_path / "Zoë 😀.wav")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    command("predict", "Zoë 😀.wav", "--model", model, "--json")
    sys.stdout.flush()
    (answer,) = json.loads(sys.stdout.buffer.getvalue())
    assert answer["file"] == "Zoë 😀.wav"


def test_what_is_finished_when_it_is_interrupted_is_in_the_table(
    clip, model, command, tmp_path, monkeypatch
):
    """Ctrl-C while the third of five is asked about."""
    for number in range(1, 6):
        shutil.copy(clip, tmp_path / f"{number}.wav")
    exits = []
    predict, interrupted, collected = prediction.predict, threading.Event(), threading.Event()

    def bar(answers, **_):
        for number, answer in enumerate(answers, 1):
            yield answer
            if number == 2:  # it was collected, or nobody would ask for the next one
                collected.set()

    def interrupt_at_the_third(path, *arguments):
        if Path(path).name == "3.wav":
            collected.wait(60)
            signal.raise_signal(signal.SIGINT)
            interrupted.wait(60)
        return predict(path, *arguments)

    def leave(code):
        exits.append(code)
        sys.exit(code)

    monkeypatch.setattr(prediction, "predict", interrupt_at_the_third)
    monkeypatch.setattr(prediction, "tqdm", bar)
    monkeypatch.setattr(os, "_exit", leave)
    files = [f"{number}.wav" for number in range(1, 6)]
    done = command("predict", *files, "--model", model)
    interrupted.set()
    assert done.code == 130
    assert list(pd.read_csv("emotions.csv").file) == ["1.wav", "2.wav"]
    assert "1.wav" in done.output and "2.wav" in done.output
    assert done.errors.splitlines()[-1] == "stopped; what is finished is kept"


def test_ctrl_c_ends_with_130_and_a_line(model, tmp_path):
    (tmp_path / "in").mkdir()
    sf.write(tmp_path / "long.wav", voice(20, 8_000), 8_000)
    for number in range(200):
        os.link(tmp_path / "long.wav", tmp_path / "in" / f"{number}.wav")
    run = run_python("-m", "emotion_helpers", "predict", "in", "--model", model)
    bar = b""
    while not re.search(rb"[1-9]\d*/200 ", bar):  # the first recordings are done
        bar += run.stderr.read(1) or pytest.fail(bar.decode())
    run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert errors.splitlines()[-1] == b"stopped; what is finished is kept"
    assert b"Traceback" not in errors
    table = pd.read_csv("emotions.csv")
    assert 0 < len(table) < 200 and list(table.columns) == COLUMNS
    assert len(output.splitlines()) == len(table) + 1


# ---- train, evaluate and the others


@pytest.mark.parametrize("name", ["train", "evaluate", "robustness", "adaptation"])
def test_a_download_that_fails_is_a_sentence_with_advice(name, command):
    done = command(name)
    assert done.code == 1
    assert "could not be downloaded:\n" in done.errors
    advice = done.errors.splitlines()[-1]
    assert "https://" in advice and str(corpora.ROOT) in advice and "DATA" in advice


@pytest.fixture
def voices(demo_clips):
    """The folder of the small demo corpus, as a reader's DATA."""
    with joblib.parallel_config(backend="threading"):  # processes take seconds to start
        yield Path(demo_clips.path[0]).parent.parent


QUICK = ["sample_rate=8000", "n_fft=512", "win_lengths=[128,256,512]", "hop_length=250"]
QUICK = ["--settings", *QUICK, "width=32", "n_mels=32", "fmax=4000"]


def test_weights_that_cannot_be_fetched_are_a_sentence(voices, command, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    models.imagenet_weights.cache_clear()
    done = command("train", "--data", voices, *QUICK)
    assert done.code == 1
    message = done.errors.splitlines()[-1]
    assert "ImageNet weights" in message and "Temporary failure in name resolution" in message
    assert "https://download.pytorch.org/models/resnet34-b627a593.pth" in message
    assert str(tmp_path / "torch" / "hub" / "checkpoints" / "resnet34-b627a593.pth") in message
    assert not list((tmp_path / "models").rglob("*.safetensors"))


def test_damaged_weights_are_a_sentence(voices, command, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    models.imagenet_weights.cache_clear()
    file = tmp_path / "hub" / "checkpoints" / "resnet34-b627a593.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a file")
    done = command("train", "--data", voices, *QUICK)
    assert f"{file} is damaged" in done.errors and "delete it" in done.errors


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--split", "nowhere"], "nowhere"),
        (["--folds", "99"], "split 'emobox' has no fold 99: they are 1 to"),
        (["--split", "random", "--validate"], "nobody is left to validate on"),
    ],
    ids=["split", "fold", "validate"],
)
def test_splits_and_folds_that_are_not_there(voices, command, options, sentence):
    done = command("evaluate", "--data", voices, *QUICK, *options)
    assert done.code == 1
    assert sentence in done.errors


@pytest.mark.parametrize("name", ["train", "evaluate", "robustness", "adaptation"])
def test_an_unknown_recipe_is_told_with_those_there_are(name, command):
    done = command(name, "--corpus", "demo", "--recipe", "sturdy")
    assert done.code == 1
    assert done.errors == "there is no recipe 'sturdy'; there are 144, 288, robust, quick"


NONSENSE = {
    "--change": "height height=abc height=0 height=64.5 epochs=1e9 n_tta=-1 colour=1 shift=2 "
    "shift=abc lr=5 lr=abc start=5 =5 cut=False tess=False",
    "--settings": "n_mels n_mels=abc n_mels=0 top_db=loud fmin=0 fmax=1e6 win_lengths=5 "
    "win_lengths=[1,2] hop_length=2.5 colour=1 fmin=NaN",
}
NONSENSE = [(option, pair) for option, pairs in NONSENSE.items() for pair in pairs.split()]


@pytest.mark.parametrize("option, pair", NONSENSE)
def test_what_cannot_be_is_said_before_the_work(command, tmp_path, option, pair):
    done = command("train", "--corpus", "demo", option, pair)
    assert done.code == 1
    assert pair.split("=")[0] in done.errors or pair.split("=")[1] in done.errors
    assert list(tmp_path.iterdir()) == []


def test_recipe_and_settings_arrive(command, monkeypatch, tmp_path):
    calls = []

    def train(**options):
        calls.append(options)
        return tmp_path / "final"

    monkeypatch.setattr(cross_validation, "train_final", train)
    change = ["--change", "height=96", "mixup=0", "cut=false", "lr=[0.001,0.002]"]
    done = command("train", "--corpus", "demo", *change, "--settings", "top_db=60", "n_mels=128")
    (options,) = calls
    recipe = replace(models.RECIPES["quick"], height=96, mixup=0, cut=False, lr=(0.001, 0.002))
    assert options["recipe"] == recipe
    assert (options["settings"].top_db, options["settings"].n_mels) == (60, 128)
    assert (options["corpus"], options["data"], done.code) == ("demo", None, 0)
    assert done.output.startswith(f"The network is in {tmp_path / 'final'}; now: python -m")


def test_a_teacher_of_ones_own_arrives(command, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(cross_validation, "train_final", lambda **options: calls.append(options))
    change = ["--change", "epochs=2", "height=96", 'start={"epochs": 3}']
    command("train", "--corpus", "demo", "--recipe", "robust", *change)
    recipe = calls[0]["recipe"]
    assert (recipe.epochs, recipe.start.epochs) == (2, 3)
    assert recipe.height == recipe.start.height == 96  # it is asked about the same pictures


def test_an_option_that_is_given_twice_counts_twice():
    arguments = "evaluate --change height=96 --folds 1 2 --change epochs=12 mixup=0 --folds 3"
    for _ in range(2):  # nor is anything left of the first time
        options = make_parser().parse_args(arguments.split())
        assert options.change == ["height=96", "epochs=12", "mixup=0"]
        assert (options.folds, options.settings) == ([1, 2, 3], [])


def test_a_port_that_cannot_be_is_a_sentence(command, monkeypatch):
    """Whatever a library says of it; here gradio's last step."""
    served = SimpleNamespace(serve=lambda port: socket.create_server(("127.0.0.1", port)))
    monkeypatch.setitem(sys.modules, "emotion_helpers.beyond.app", served)
    done = command("app", "--port", "99999")
    assert done.code == 1
    assert "0-65535" in done.errors


def test_without_options_people_get_the_recipes_that_are_reported_and_deployed(
    command, monkeypatch
):
    calls = []
    monkeypatch.setattr(cross_validation, "train_final", lambda **options: calls.append(options))
    monkeypatch.setattr(cross_validation, "evaluate", lambda **options: calls.append(options))
    for name in ("train", "evaluate"):
        command(name)
        command(name, "--corpus", "demo")
    recipes = [models.RECIPES[name] for name in ("robust", "quick", "144", "quick")]
    assert [options["recipe"] for options in calls] == recipes


@pytest.mark.parametrize("name", ["robustness", "adaptation"])
def test_studies_print_their_table(command, monkeypatch, name):
    table = pd.DataFrame({"condition": ["quiet"], "accuracy": [70.5]})
    study = {"robustness": robustness, "adaptation": adaptation}[name]
    monkeypatch.setattr(study, f"study_{name}", lambda **options: table)
    done = command(name, "--corpus", "demo")
    assert done.code == 0
    assert done.output.split() == ["condition", "accuracy", "quiet", "70.5"]


# ---- main: every problem that has a name is a sentence


def subclasses(error):
    return [error, *(c for child in error.__subclasses__() for c in subclasses(child))]


@pytest.mark.parametrize("error", subclasses(EmotionHelpersError))
@pytest.mark.parametrize("name", ["predict", "app", "train", "evaluate", "tutorial"])
def test_every_error_of_ours_ends_in_its_sentence(command, monkeypatch, error, name):
    def fail(**options):
        raise error("clip.wav: it is too short; record it again")

    monkeypatch.setitem(COMMANDS, name, ("beyond.prediction.fail", "fails"))
    monkeypatch.setattr(prediction, "fail", fail, raising=False)
    done = command(name, *(["clip.wav"] if name == "predict" else []))
    assert done.code == 1
    assert done.errors == "clip.wav: it is too short; record it again"


def test_a_bug_is_no_sentence(command, monkeypatch):
    """It has a traceback, which is what its report needs."""

    def fail(**options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cross_validation, "train_final", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        command("train")


def test_numba_that_finds_no_place_for_its_cache_is_a_sentence(clip, model):
    """As where the environment is read-only and there is no home: here it may look nowhere."""
    arguments = ["-m", "emotion_helpers", "predict", clip, "--model", model]
    run = run_python(*arguments, NUMBA_CACHE_LOCATOR_CLASSES="ZipCacheLocator")
    _, errors = run.communicate()
    assert run.returncode == 1
    assert b"cannot cache function" in errors and b"Traceback" not in errors
    assert b"NUMBA_CACHE_DIR" in errors


@pytest.mark.parametrize("arguments", [[], ["predict"], ["paint"], ["train", "--corpus", "mine"]])
def test_a_command_line_that_cannot_be_shows_how_it_is_used(command, arguments):
    done = command(*arguments)
    assert done.code == 2
    assert done.errors.startswith("usage: python -m emotion_helpers")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(command, name):
    done = command(name, "--help")
    assert done.code == 0 and done.output.startswith(f"usage: python -m emotion_helpers {name}")


def test_help_is_quick():
    """It imports neither torch nor pandas."""
    run = run_python("-X", "importtime", "-m", "emotion_helpers", "--help")
    output, imports = (stream.decode() for stream in run.communicate())
    assert all(name in output for name in COMMANDS)
    modules = {line.split("|")[-1].strip() for line in imports.splitlines()}
    assert not modules & {"torch", "pandas", "numpy", "librosa", "fastai", "matplotlib"}


def test_an_answer_loads_no_library_for_training_drawing_or_notebooks(clip, model):
    run = run_python("-X", "importtime", "-m", "emotion_helpers", "predict", clip, "--model", model)
    output, imports = (stream.decode() for stream in run.communicate())
    assert "voice.wav" in output
    modules = {line.split("|")[-1].strip() for line in imports.splitlines()}
    assert "torch" in modules
    assert not modules & {
        "fastai",
        "matplotlib",
        "IPython",
        "gradio",
        "jupyter_client",
        "papermill",
    }


def test_a_change_of_the_picture_size_is_the_teachers_too():
    options = {"corpus": "real", "recipe": None, "change": ["height=96"], "settings": ["top_db=60"]}
    options = read_options("train", options)
    assert options["recipe"].height == options["recipe"].start.height == 96
    assert options["recipe"].width == options["recipe"].start.width == 216
    assert options["settings"].top_db == 60


def test_the_recipe_of_the_first_edition_can_be_had_for_both_stages():
    first = ["height=64", "width=224", "kernel_scale=[1,1]", "tess=false"]
    options = {"corpus": "real", "recipe": None, "change": first, "settings": []}
    recipe = read_options("train", options)["recipe"]
    for stage in (recipe, recipe.start):
        assert (stage.height, stage.width, stage.kernel_scale, stage.tess) == (
            64,
            224,
            (1, 1),
            False,
        )
