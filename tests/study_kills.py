"""Kill rendering, training, saving and making the demo voices at random moments, many times each.

    .venv/bin/python tests/study_kills.py [how many times] [Rendering Training Saving Demo]

After each kill nothing that is half-written may pass for whole, and the next run must end as an
undisturbed one does. Prints how often it was tried, and how often the kill came before the end.
test_interrupted.py does the same a few times.
"""

import io
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path

import joblib
import numpy as np
import torch
from conftest import SMALL
from PIL import Image
from tqdm import tqdm

from emotion_helpers import write_text
from emotion_helpers.clips import EMOTIONS, find_clips
from emotion_helpers.demo import make_demo, write_demo_clip
from emotion_helpers.models import RECIPES, Recipe, build_network, load_model, save_model
from emotion_helpers.pictures import SpectrogramSettings, render
from emotion_helpers.training import checkpoints, fastai, picture_loaders

SETTINGS = SpectrogramSettings(**SMALL)
RECIPE = Recipe(height=16, width=24, kernel_scale=(1, 1), batch_size=8)


def slowly(save, seconds):
    """A function that writes a file as `save` does, but in two parts with a pause between them: a
    kill at a random moment would hardly ever meet a small file that is half written."""

    def save_in_parts(what, file, **options):
        whole = io.BytesIO()
        save(what, whole, **options)
        with open(file, "wb") if isinstance(file, Path) else nullcontext(file) as opened:
            opened.write(whole.getvalue()[:100])
            opened.flush()
            time.sleep(seconds)
            opened.write(whole.getvalue()[100:])

    return save_in_parts


def start(work):
    """A process of its own that does `work`, a function, on a slow disk, and says nothing."""

    def quietly():
        tqdm.set_lock(threading.RLock())  # the usual one is shared: killed, it would stay locked
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        Image.Image.save = slowly(Image.Image.save, 0.01)
        torch.save = slowly(torch.save, 0.05)
        work()

    process = multiprocessing.get_context("fork").Process(target=quietly)
    process.start()
    return process


def kill_after(work, seconds):
    """Do `work` in a process that is killed after so long; whether it was still at it."""
    process = start(work)
    process.join(seconds)
    with_work = process.exitcode is None
    process.kill()
    process.join()
    return with_work


class Rendering:
    """Pictures of `clips`; expected: those of an undisturbed run."""

    def __init__(self, folder, clips, n_jobs=1):
        self.clips, self.folder, self.n_jobs = clips, folder / "pictures", n_jobs
        render(clips, folder / "expected", SETTINGS, n_jobs=1)
        self.expected = self.contents(folder / "expected")

    def contents(self, folder):
        return {path.name: path.read_bytes() for path in folder.glob("*/*.png")}

    def work(self):
        render(self.clips, self.folder, SETTINGS, n_jobs=self.n_jobs)

    def check_after_a_kill(self):
        for path in self.folder.glob("*/*.png"):
            with Image.open(path) as image:
                image.load()
        assert self.contents(self.folder).items() <= self.expected.items()

    def check_at_the_end(self):
        assert self.contents(self.folder) == self.expected

    def forget(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Training:
    """Three epochs of a small network; expected: the weights of an undisturbed run."""

    def __init__(self, folder, clips):
        self.runs = folder / "runs"
        render(clips, folder / "pictures", SETTINGS, n_jobs=1)
        self.valid = set(clips.clip_id[clips.speaker == clips.speaker.iloc[0]])
        self.pictures = folder / "pictures"
        self.expected = self.train(folder / "expected")

    def train(self, runs):
        loaders = picture_loaders(self.pictures, SETTINGS, RECIPE, self.valid)
        fastai.set_seed(7)
        layers = (torch.nn.Conv2d(3, 8, 5, stride=3), torch.nn.BatchNorm2d(8))
        layers += (torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())
        network = torch.nn.Sequential(*layers, torch.nn.Linear(8 * 16, len(EMOTIONS)))
        options = {"loss_func": fastai.CrossEntropyLossFlat(), "cbs": fastai.MixUp(0.2)}
        learn = fastai.Learner(loaders, network, **options)
        with checkpoints(learn, runs, {"name": "tiny"}), learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(3, 1e-2)
        return learn.model.state_dict()

    def work(self):
        self.train(self.runs)

    def check_after_a_kill(self):
        for path in self.runs.glob("*/last.pth"):
            state = torch.load(path, weights_only=False)
            assert len(state["history"]) <= 3 and set(state["model"]) == set(self.expected)

    def check_at_the_end(self):
        weights = self.train(self.runs)
        assert all(torch.equal(weights[name], self.expected[name]) for name in weights)

    def forget(self):
        shutil.rmtree(self.runs, ignore_errors=True)


class Saving:
    """A model and a table, written over and over; expected: one of the two that are written."""

    def __init__(self, folder, _clips):
        self.folder, self.tables = folder / "saved", ["a,b\n" * 200_000, "c,d\n" * 300_000]
        self.models = [build_network().requires_grad_(False) for _ in range(2)]

    def work(self):
        for model, table in zip(self.models, self.tables, strict=True):
            save_model(self.folder, model, SETTINGS, RECIPES["quick"])
            write_text(self.folder / "table.csv", table)

    def check_after_a_kill(self):
        if (self.folder / "model.safetensors").exists():
            weight = load_model(self.folder).model[1][3].weight
            assert any(torch.equal(weight, model[1][3].weight) for model in self.models)
        if (self.folder / "table.csv").exists():
            assert (self.folder / "table.csv").read_text() in self.tables

    def check_at_the_end(self):
        assert (self.folder / "table.csv").read_text() == self.tables[1]

    def forget(self):
        """What is there stays: the next kill comes while it is written over."""
        for path in self.folder.glob("*.part"):
            path.unlink()


class Demo:
    """The synthetic voices, all or none; the mark that says so is written last."""

    def __init__(self, folder, _clips):
        self.folder = folder / "demo"
        self.make(folder / "expected")
        self.expected = self.contents(folder / "expected")

    def make(self, folder):
        with joblib.parallel_config(backend="threading"):  # a pool of processes cannot be forked
            make_demo(folder)

    def contents(self, folder):
        return {path.name: path.read_bytes() for path in folder.rglob("*.*")}

    def work(self):
        self.make(self.folder)

    def check_after_a_kill(self):
        assert self.contents(self.folder) in ({}, self.expected)

    def check_at_the_end(self):
        assert self.contents(self.folder) == self.expected

    def forget(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def kill_and_go_on(case, times, seed=0):
    """Kill a case's work at `times` random moments, looking at what is left; after each kill it is
    done undisturbed. Returns how many kills came before the end."""
    rng, killed = np.random.default_rng(seed), 0
    seconds = np.inf
    for _ in range(2):  # the first may have been held up
        case.forget()
        started = time.monotonic()
        start(case.work).join()
        seconds = min(seconds, time.monotonic() - started)
        case.check_at_the_end()
    for moment in rng.uniform(0, 1, times):
        case.forget()
        killed += kill_after(case.work, moment * seconds)
        case.check_after_a_kill()
        again = start(case.work)
        again.join()
        assert again.exitcode == 0
        case.check_at_the_end()
    return killed


def demo_voices(folder):
    """The table of two dozen small clips."""
    for actor in (1, 2, 3, 4):
        for emotion in range(1, 7):
            name = f"03-01-{emotion:02}-01-01-01-{actor:02}.wav"
            write_demo_clip(folder, f"RAVDESS/Actor_{actor:02}/{name}", 0)
    return find_clips(folder)[0]


def main(times, names):
    torch.set_num_threads(1)
    fastai.default_device(False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cases = (Rendering, Training, Saving, Demo)
    for case in [case for case in cases if not names or case.__name__ in names]:
        with tempfile.TemporaryDirectory() as folder:
            number = max(times // 5, 1) if case is Demo else times  # it takes seconds
            begun = time.monotonic()
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                killed = kill_and_go_on(case(Path(folder), demo_voices(Path(folder, "v"))), number)
            seconds = time.monotonic() - begun
            print(f"{case.__name__}: {number} runs, {killed} killed, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main(int((sys.argv[1:] or [100])[0]), sys.argv[2:])
