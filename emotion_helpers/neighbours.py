"""Neighbours: which clip of its training the network hears as most like a recording."""
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .clips import EMOTIONS
from .corpora import ROOT
from .prediction import as_input, features

Neighbours = tuple[pd.DataFrame, np.ndarray]  # training clips (columns clip, emotion) and their features, shape (n, 512)
FILE = "neighbours.safetensors"  # beside the model


def write_neighbours(folder: Path, pictures: list[Path], model: torch.nn.Module, settings: dict) -> None:
    """Keep the features of the training `pictures` (files <emotion>/<clip>.png) beside the model in `folder`."""
    found = torch.cat([features(as_input(np.asarray(Image.open(picture)), settings), model) for picture in pictures])
    clips = json.dumps([(picture.stem, picture.parent.name) for picture in pictures])
    save_file({"features": found.half()}, folder / f"{FILE}.part", metadata={"clips": clips})
    os.replace(folder / f"{FILE}.part", folder / FILE)


def read_neighbours(folder: Path) -> Neighbours | None:
    """What `write_neighbours` kept beside the model in `folder`; None if it has none, as the models of notebook 04.

    Raises ValueError naming the file if it is damaged or something else.
    """
    if not (folder / FILE).exists():
        return None
    try:
        with safe_open(folder / FILE, "pt") as file:  # nothing to execute
            clips, found = pd.DataFrame(json.loads(file.metadata()["clips"]), columns=["clip", "emotion"], dtype=str), file.get_tensor("features").float().numpy()
        known = len(clips) and clips.emotion.isin(EMOTIONS).all() and clips["clip"].str.fullmatch(r"[\w-]+", flags=re.ASCII).all()
        if not known or found.shape != (len(clips), 512) or not np.abs(found).max() < 1e4:
            raise ValueError(f"{len(clips)} clips, features of shape {found.shape}")
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"{folder / FILE}: not the features of training clips, or damaged ({error}). Run `python -m emotion_helpers train` again") from error
    return clips, found


def nearest(picture: np.ndarray, emotion: str, neighbours: Neighbours, model: torch.nn.Module, settings: dict) -> tuple[str, float]:
    """The training clip of `emotion` whose features are most like those of a `mel_picture`, and the cosine of the angle between them.

    Both are taken from the mean of all training clips: what all voices have in common says nothing.
    """
    clips, known = neighbours
    middle = known.mean(axis=0)
    own, others = features(as_input(picture, settings), model)[0].numpy() - middle, known - middle
    likeness = others @ own / (np.linalg.norm(others, axis=1) * np.linalg.norm(own) + 1e-9)
    best = np.where(clips.emotion == emotion, likeness, -2).argmax()
    return clips["clip"][best], float(likeness[best])


def clip_file(clip: str, corpus: str) -> Path:
    """Where a training clip lies in data/<corpus>; raises FileNotFoundError if it is not there."""
    folder = ROOT / "data" / corpus
    found = next((file for file in folder.rglob("*.wav") if file.stem == clip), None)
    if not found:
        raise FileNotFoundError(f"it is not in {folder}")
    return found
