"""Killed or stopped anywhere, twice at once, a folder that goes: nothing half passes for whole.

study_kills.py does the same a hundred times.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import nbformat
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from study_kills import RECIPE, Rendering, Saving, Training, kill_and_go_on, start

from emotion_helpers import EmotionHelpersError, atomic_write, demo, training, write_text
from emotion_helpers.beyond.prediction import predict_files
from emotion_helpers.demo import make_demo
from emotion_helpers.pictures import picture_files, render

ROOT = Path(__file__).resolve().parent.parent
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this machine cannot fork")


@pytest.fixture
def clips(demo_clips):
    return demo_clips.head(24)


# ---- killed


@forks
@pytest.mark.parametrize("case, times", [(Rendering, 3), (Training, 3), (Saving, 1)])
def test_killed_at_a_random_moment_nothing_half_is_left_and_the_next_run_ends_the_same(
    tmp_path, clips, case, times
):
    killed = kill_and_go_on(case(tmp_path, clips), times)
    assert killed or case is Saving, "each kill came after the end"
    shutil.rmtree(tmp_path)


def test_what_a_killed_writer_left_goes_with_the_next_write_but_not_a_living_ones(tmp_path):
    for name in ("table.csv.0123abcd.part", "table.csv.4567abcd.part", "other.csv.0123abcd.part"):
        (tmp_path / name).write_text("a,")
        if "0123" in name:
            os.utime(tmp_path / name, (0, 0))
    for _ in range(2):  # a file that is there is looked after
        write_text(tmp_path / "table.csv", "a,b\n")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["other.csv.0123abcd.part", "table.csv", "table.csv.4567abcd.part"]


# ---- two at once


@forks
def test_two_trainings_of_one_configuration_at_once_both_end_as_one_alone(tmp_path, clips):
    case = Training(tmp_path, clips)
    programs = [start(case.check_at_the_end) for _ in range(2)]
    for program in programs:
        program.join()
    assert [program.exitcode for program in programs] == [0, 0]
    assert [path.name for path in case.runs.glob("*/*.p*")] == ["last.pth"]


@pytest.mark.parametrize("delay", [0, 0.05])
def test_the_demo_may_be_made_twice_at_once(tmp_path, monkeypatch, delay):
    names, write, results = demo.demo_names()[:20], demo.write_demo_clip, []

    def write_slowly(*arguments):
        write(*arguments)
        time.sleep(0.01)

    monkeypatch.setattr(demo, "demo_names", lambda: names)
    monkeypatch.setattr(demo, "write_demo_clip", write_slowly)
    monkeypatch.setattr(demo, "Parallel", lambda n_jobs: list)
    monkeypatch.setattr(demo, "delayed", lambda function: function)
    programs = [
        threading.Thread(target=lambda: results.append(make_demo(tmp_path / "demo")))
        for _ in range(2)
    ]
    for program in programs:
        program.start()
        time.sleep(delay)
    for program in programs:
        program.join()
    assert results == [tmp_path / "demo"] * 2
    assert len(list((tmp_path / "demo").rglob("*.wav"))) == len(names)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


# ---- full disks, and folders that go


def test_a_checkpoint_on_a_full_disk_names_its_file_and_the_one_before_stays(
    tmp_path, clips, monkeypatch
):
    case, save, times = Training(tmp_path, clips), torch.save, iter(range(9))

    def full_in_the_third(state, file):
        save(state, file)
        if next(times) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full_in_the_third)
        with pytest.raises(OSError, match=r"No space left on device: '.*last\.pth'"):
            case.work()
    (file,) = case.runs.glob("*/*.p*")
    assert len(torch.load(file, weights_only=False)["history"]) == 1
    case.check_at_the_end()


def test_a_disk_that_is_really_full_is_named_too(tmp_path):
    """/dev/full is one: every write to it fails."""
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")

    def write():
        with atomic_write(tmp_path / "weights") as partial:
            partial.symlink_to("/dev/full")
            with open(partial, "wb") as file:
                torch.save({"weights": torch.zeros(100_000)}, file)

    with pytest.raises(OSError, match=r"No space left on device: '.*weights'"):
        write()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_timeline_and_no_half_a_recording(
    tmp_path, tone, network_folder, monkeypatch
):
    from emotion_helpers.beyond import app

    def full(self, path, *_, **__):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    recording, timeline = tone(tmp_path / "a.wav", seconds=1), tmp_path / "a.png"
    timeline.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.png'"):
        predict_files([recording], network_folder, timeline=timeline)
    assert timeline.read_bytes() == b"old"
    monkeypatch.setattr(app.shutil, "copy", partial(full, None))
    keep = []
    monkeypatch.setattr(app, "launch", lambda build: keep.append(build()))
    app.record_sentences(tmp_path / "mine")
    (stopped,) = (f for f in keep[0].fns.values() if f.name == "keep")
    with pytest.raises(OSError, match="No space left"):
        stopped.fn(str(recording), "sad")
    assert not list((tmp_path / "mine").iterdir())


def test_a_folder_of_pictures_that_is_deleted_meanwhile_is_an_error_that_names_it(
    tmp_path, clips, small, monkeypatch
):
    save = Image.Image.save

    def delete(image, path, **options):
        shutil.rmtree(tmp_path / "pictures")
        save(image, path, **options)

    monkeypatch.setattr(Image.Image, "save", delete)
    with pytest.raises(EmotionHelpersError, match=f"cannot write pictures to {tmp_path}/pictures"):
        render(clips, tmp_path / "pictures", small, n_jobs=1)


def test_a_run_that_is_deleted_meanwhile_is_an_error_that_names_it(tmp_path, clips, monkeypatch):
    case, begin = Training(tmp_path, clips), training.CheckpointEveryEpoch.before_epoch

    def delete(callback):
        shutil.rmtree(case.runs, ignore_errors=True)
        begin(callback)

    with monkeypatch.context() as patch:
        patch.setattr(training.CheckpointEveryEpoch, "before_epoch", delete)
        with pytest.raises(OSError, match=r"No such file.*tiny-.*last\.pth"):
            case.work()
    case.check_at_the_end()


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="here nothing can be closed to us")
def test_a_folder_closed_to_us_is_an_error_that_names_it(tmp_path, clips, small):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(EmotionHelpersError, match=r"cannot write pictures to .*closed"):
        render(clips, tmp_path / "closed/pictures", small, n_jobs=1)
    with pytest.raises(OSError, match=r"Permission denied: '.*closed/a\.csv"):
        write_text(tmp_path / "closed/a.csv", "a")


def test_a_picture_that_was_damaged_is_named_with_what_to_do(tmp_path, clips, small):
    render(clips, tmp_path, small, n_jobs=1)
    path = picture_files(tmp_path, small)[0]
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"IDAT") + 4] ^= 16
    # Cut off; a shorter header; a bit of how it is packed.
    for damaged in (whole[:300], whole[:11] + b"\x05" + whole[12:], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(EmotionHelpersError, match=f"{path.name} .*delete it.*chapter 03"):
            training.picture_loaders(tmp_path, small, RECIPE, set()).train.one_batch()


# ---- Ctrl-C


@forks
@pytest.mark.slow
def test_ctrl_c_while_the_notebooks_run_is_a_line_and_130(tmp_path):
    """The kernel has a session of its own: it must end by itself, and say nothing."""
    begun = "open('begun', 'w').close()"
    cells = [nbformat.v4.new_code_cell(f"{begun}\nimport time\ntime.sleep(60)")]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "01-x.ipynb")
    shutil.copytree(ROOT / "emotion_helpers", tmp_path / "emotion_helpers")
    command = [sys.executable, "-m", "emotion_helpers", "tutorial"]
    options = {"cwd": tmp_path, "stderr": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen(command, **options) as run:
        while not (tmp_path / "notebooks" / "begun").exists():
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGINT)
        errors = run.stderr.read().decode()
    assert run.returncode == 130, errors
    assert errors.splitlines()[-1] == "stopped; what is finished is kept"
    assert "Traceback" not in errors


@pytest.mark.parametrize("module", ["numpy", "torch"])
def test_ctrl_c_while_a_command_is_loading_is_a_line_and_130(tmp_path, module):
    command = [sys.executable, "-X", "importtime", "-m", "emotion_helpers", "robustness"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    options = {"cwd": tmp_path, "env": environment, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--data", str(tmp_path)], **options) as run:
        while not run.stderr.readline().rstrip().endswith(f" {module}".encode()):
            assert run.poll() is None, f"it never loads {module}"
        run.send_signal(signal.SIGINT)
        errors = run.stderr.read()
    assert run.returncode == 130, errors
    assert errors.splitlines()[-1] == b"stopped; what is finished is kept"
    assert b"Traceback" not in errors
