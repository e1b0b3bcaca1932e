"""Explanation: which parts of a picture an answer hangs on, which training clips are like it."""

from collections.abc import Iterable
from functools import lru_cache
from itertools import islice, product

import numpy as np
import pandas as pd
import torch

from .. import EmotionHelpersError
from ..clips import EMOTIONS, parse_name
from ..corpora import pictures_folder
from ..models import Network, normalize, to_tensor
from ..pictures import SpectrogramSettings, picture_files
from ..plots import show_picture
from .prediction import probabilities


def extract_features(pictures: Iterable, network: Network) -> torch.Tensor:
    """What the network's last layer gets for each `mel_picture`, or file of one: shape (n, 512)."""
    (body, head), features = network.model, []
    inputs = (to_tensor(picture, network.recipe) for picture in pictures)
    with torch.inference_mode():
        while batch := list(islice(inputs, 32)):
            features.append(head[:-1](body(normalize(torch.cat(batch)))))
    return torch.cat(features)


def class_activation_map(picture: np.ndarray, network: Network, emotion: str) -> np.ndarray:
    """How much each part of a `mel_picture` speaks for `emotion`, or against it (below 0): the
    sum of the network's 512 last maps, weighted as the last layer weights their means: its mean is
    the emotion's score but for a constant. Shape (3, 7) for pictures of 144 x 216 pixels and a
    `kernel_scale` of (2, 1). Zhou et al. 2016, doi:10.1109/CVPR.2016.319."""
    body, (_, _, norm, linear) = network.model
    with torch.inference_mode():
        maps = body(normalize(to_tensor(picture, network.recipe)))[0]
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return torch.einsum("c,chw", linear.weight[EMOTIONS.index(emotion)] * scale, maps).numpy()


def occlusion_map(picture, network: Network, emotion: str, rows=6, columns=12) -> np.ndarray:
    """How much of an emotion's probability is lost if a part of a `mel_picture` is blackened: shape
    (rows, columns), a value per part. Calibrated. Zeiler & Fergus 2014,
    doi:10.1007/978-3-319-10590-1_53."""
    sides = zip(picture.shape, (rows, columns), strict=False)
    parts = (np.array_split(np.arange(pixels), number) for pixels, number in sides)
    pictures = [picture]  # the first stays as it is
    for part in product(*parts):
        pictures.append(picture.copy())
        pictures[-1][np.ix_(*part)] = 0
    probability = [probabilities(one, network)[EMOTIONS.index(emotion)] for one in pictures]
    return (probability[0] - np.array(probability[1:])).reshape(rows, columns)


def show_map(picture, values, ax=None, settings=SpectrogramSettings()):
    """Draw a map of any size as coloured paper, orange above 0 and purple below, and the sound of a
    picture on it in black ink; returns the axes."""
    ink = np.zeros((*picture.shape[:2], 4))  # the louder, the less transparent
    ink[..., 3] = (picture[..., 1] / 255) ** 1.5
    ax = show_picture(ink, ax, settings)
    limit = np.abs(values).max() or 1
    colours = {"cmap": "PuOr_r", "vmin": -2 * limit, "vmax": 2 * limit}  # no dark ones
    paper = ax.imshow(values, extent=ax.images[0].get_extent(), aspect="auto", zorder=-1, **colours)
    ax.figure.colorbar(paper, ax=ax).ax.set_ylim(-limit, limit)
    return ax


@lru_cache(maxsize=1 + len(EMOTIONS))
def training_features(network: Network, emotion: str = "") -> tuple[pd.DataFrame, torch.Tensor]:
    """The clips of RAVDESS that the network learnt from, and their features, (n, 512).
    `emotion`: only this one's, which takes an eighth of the time. Raises `EmotionHelpersError` if
    there are none, or if the pictures are not on this machine."""
    info, settings = network.info, network.settings
    files = picture_files(pictures_folder(info["corpus"], settings.name), settings)
    clips = pd.DataFrame(map(parse_name, files)).assign(file=files)
    learnt = clips[(clips.corpus == "ravdess") & ~clips.speaker.isin(info["unseen_speakers"])]
    learnt = learnt[learnt.emotion.isin([emotion] if emotion else EMOTIONS)]
    if learnt.empty:
        raise EmotionHelpersError(f"the network learnt from no clip of RAVDESS {emotion}".strip())
    return learnt, extract_features(learnt.file, network)


def nearest_clips(picture: np.ndarray, network: Network, emotion: str = "") -> pd.DataFrame:
    """The clips of RAVDESS that the network learnt from (of one emotion, if given), the one most
    like a `mel_picture` first. Columns clip_id, emotion, similarity: the cosine of their features,
    less the mean of all."""
    learnt, features = training_features(network, emotion)
    mean = features.mean(dim=0)
    own = extract_features([picture], network)
    similarity = torch.cosine_similarity(own - mean, features - mean).numpy()
    table = learnt[["clip_id", "emotion"]].assign(similarity=similarity)
    return table.sort_values("similarity", ascending=False, ignore_index=True)
