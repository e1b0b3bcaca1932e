"""Whether memory, open files and threads grow over five hundred predictions and app answers,
epochs of training, or notebooks.

    .venv/bin/python tests/study_long_runs.py [how many] [predict app epochs notebooks ...]

Prints what the process holds after a tenth and after all of them, and fails if it grew by more than
30 MB, one file or one thread. test_long_runs.py does the same with fewer.
"""

import ctypes
import gc
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import soundfile as sf
from hostile import quick_network
from sounds import voice

from emotion_helpers.beyond import app
from emotion_helpers.beyond.cross_validation import make_learner, prepare_pictures
from emotion_helpers.beyond.prediction import predict
from emotion_helpers.models import RECIPES
from emotion_helpers.notebooks import run_notebook
from emotion_helpers.pictures import SpectrogramSettings
from emotion_helpers.training import checkpoints, fastai, picture_loaders


def held():
    """Megabytes, open files and threads of this process."""
    gc.collect()
    with suppress(AttributeError, TypeError, OSError):  # what is free goes back, where that exists
        ctypes.CDLL(None).malloc_trim(0)
    process = psutil.Process()
    return process.memory_info().rss / 1e6, process.num_fds(), threading.active_count()


def repeat(work, times):
    """What is held after a tenth of so many repetitions, and after all of them."""
    for number in range(times):
        work()
        if number + 1 == max(times // 10, 1):
            before = held()
    return before, held()


class Watch(fastai.Callback):
    """Notes what is held after a tenth of the epochs, and after all of them."""

    order = 90  # after the one that writes to disk

    def after_epoch(self):
        if self.epoch + 1 == max(self.n_epoch // 10, 1):
            self.before = held()
        self.after = held()


def train(times, folder):
    """What is held after a tenth of so many epochs on the demo voices, and after all of them."""
    clips, pictures = prepare_pictures("demo", None)
    recipe, few = RECIPES["quick"], clips.clip_id[::5]
    sides = set(few[::4]), set(few) - set(few[::4])  # for validation and for training
    loaders = picture_loaders(pictures, SpectrogramSettings(), recipe, *sides)
    learn = make_learner(loaders, recipe, 1, False, [watch := Watch()])
    with learn.no_bar(), learn.no_logging(), checkpoints(learn, folder, {"name": "long"}, 1):
        learn.fit_one_cycle(times, slice(*recipe.lr))
    return watch.before, watch.after


def check(before, after):
    assert after[0] - before[0] < 30, (before, after)
    assert after[1] - before[1] <= 1 and after[2] - before[2] <= 1, (before, after)


def studies(folder):
    """What is repeated, by name."""
    network, path, bad = quick_network(), folder / "a.wav", folder / "bad.wav"
    cells = [nbformat.v4.new_code_cell("import matplotlib.pyplot as plt; plt.plot([1, 2]);")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "tiny.ipynb")
    sf.write(path, voice(1, 16_000), 16_000)
    bad.write_bytes(b"Dear network" * 99)
    return {
        "predict": lambda: predict(path, network),
        "app": lambda: list(app.ask(str(path), "sad", network)),
        "app, no sound": lambda: list(app.ask(str(bad), "", network)),
        "notebooks": lambda: run_notebook(folder / "tiny.ipynb", folder / "run.ipynb", "real"),
    }


def main(times, names):
    with tempfile.TemporaryDirectory() as folder:
        cases = studies(Path(folder))
        for name in names or [*cases, "epochs"]:
            before, after = train(times, folder) if name == "epochs" else repeat(cases[name], times)
            before, after = ([round(x, 1) for x in numbers] for numbers in (before, after))
            print(name, times, before, after, flush=True)
            check(before, after)


if __name__ == "__main__":
    main(int((sys.argv[1:] or [500])[0]), sys.argv[2:])
