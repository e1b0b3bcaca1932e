"""Whether memory, open files and threads grow over five hundred predictions and app answers.

    .venv/bin/python tests/study_long_runs.py [how many] [predict app]

Prints what the process holds after a tenth and after all of them, and fails if it grew by more than
30 MB, one file or one thread. test_long_runs.py does the same with fewer.
"""

import gc
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import soundfile as sf
from hostile import quick_network
from sounds import voice

from emotion_helpers.beyond import app
from emotion_helpers.beyond.prediction import predict


def held():
    """Megabytes, open files and threads of this process."""
    gc.collect()
    process = psutil.Process()
    return process.memory_info().rss / 1e6, process.num_fds(), threading.active_count()


def repeat(work, times):
    """What is held after a tenth of so many repetitions, and after all of them."""
    for number in range(times):
        work()
        if number + 1 == max(times // 10, 1):
            before = held()
    return before, held()


def check(before, after):
    assert after[0] - before[0] < 30, (before, after)
    assert after[1] - before[1] <= 1 and after[2] - before[2] <= 1, (before, after)


def studies(folder):
    """What is repeated, by name."""
    network, path, bad = quick_network(), folder / "a.wav", folder / "bad.wav"
    sf.write(path, voice(1, 16_000), 16_000)
    bad.write_bytes(b"Dear network" * 99)
    return {
        "predict": lambda: predict(path, network),
        "app": lambda: list(app.ask(str(path), "sad", network)),
        "app, no sound": lambda: list(app.ask(str(bad), "", network)),
    }


def main(times, names):
    with tempfile.TemporaryDirectory() as folder:
        cases = studies(Path(folder))
        for name, work in ((name, cases[name]) for name in names or cases):
            before, after = repeat(work, times)
            print(
                name, times, [round(x, 1) for x in before], [round(x, 1) for x in after], flush=True
            )
            check(before, after)


if __name__ == "__main__":
    main(int((sys.argv[1:] or [500])[0]), sys.argv[2:])
