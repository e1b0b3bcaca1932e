"""Emotions in a voice: the code that the notebooks share, one room per step, in reading order.

The tutorial: `audio` (any sound file to samples), `clips` (what a file name says), `demo` (voices
that a program made), `corpora` (where clips come from), `pictures` (sound to spectrogram), `splits`
(who is tested on), `augmentation`, `models` (the network), `training`, `evaluation`, `plots`.
Beyond it, in `emotion_helpers.beyond`: `learners`, `distillation`, `cross_validation` (unseen
speakers), `prediction` (any recording), `explanation`, `adaptation`, `robustness`, `app`. Then
`notebooks`, which runs them. Each room uses only rooms before it.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex


class EmotionHelpersError(Exception):
    """What went wrong, with which file, and what to do about it, in a sentence for the reader."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; rename it to `path` at the end, or delete it on an error.

    So `path` is there whole or not at all, also after a crash, and its old content stays till then.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{token_hex(4)}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a small file whole or not at all, with line ends as they are in `text`."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def config_hash(config: dict) -> str:
    """Eight letters that stand for a configuration (what JSON can hold): its run's name on disk."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
