"""Emotions in a voice: the code that the notebooks share, one room per step, in reading order.

The tutorial: `audio` (any sound file to samples), `clips` (what a file name says), `demo` (voices
that a program made), `corpora` (where clips come from), `pictures` (sound to spectrogram), `splits`
(who is tested on), `augmentation`, `models` (the network), `training`, `evaluation`, `plots`.
Beyond it, in `emotion_helpers.beyond`: `distillation`, `cross_validation` (unseen speakers),
`prediction` (any recording), `explanation`, `adaptation`, `robustness`, `app`. Then `notebooks`,
which runs them. Each room uses only rooms before it."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory


class EmotionHelpersError(Exception):
    """What went wrong, with which file, and what to do about it, in a sentence for the reader."""


def remove_leftovers(folder: Path, pattern: str, seconds: float = 60) -> None:
    """Delete what was left in `folder`, if it is older: a living program may still write it."""
    for path in folder.glob(pattern):
        with suppress(OSError):  # another program has just finished or deleted it
            if time.time() - path.stat().st_mtime > seconds:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """Give a new folder in `parent` that nobody else writes to; what stays in it is deleted."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent, ".emotion-helpers-????????", 86_400)
    with TemporaryDirectory("", ".emotion-helpers-", parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def move_once(new: Path, target: Path, is_whole: Callable[[Path], object]) -> None:
    """Rename a folder to `target`, unless another program is quicker; a broken one moves aside."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # nothing is there, or something since a moment
        if not is_whole(target):
            target.rename(f"{target}-{token_hex(4)}")  # not deleted: it may be the reader's
    try:
        new.rename(target)
    except OSError:
        if not is_whole(target):
            raise


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; rename it to `path` at the end, or delete it on an error.

    So `path` is there whole or not at all, also after a crash, and its old content stays till then.
    """
    path = Path(path)
    if path.exists():  # not for each of a million new pictures: `tidy` looks after those
        remove_leftovers(path.parent, f"{escape(path.name)}.????????.part")
    partial = path.with_name(f"{path.name}.{token_hex(4)}.part")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:  # a full disk names no file
        if error.errno and not error.filename:
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a small file whole or not at all, with line ends as they are in `text`."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def config_hash(config: dict) -> str:
    """Eight hex digits that stand for a configuration (what JSON can hold): its run's name."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
