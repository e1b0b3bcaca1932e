"""Explanation: which parts of a picture an answer hangs on, which training clips are like it."""

from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from ..clips import EMOTIONS, parse_name
from ..corpora import pictures_folder
from ..models import Network, normalize, to_tensor
from ..pictures import SpectrogramSettings, picture_files
from ..plots import show_picture


def extract_features(pictures: Iterable[np.ndarray], network: Network) -> torch.Tensor:
    """What the network's last layer gets for each `mel_picture`: shape (n, 512)."""
    (body, head), features = network.model, []
    inputs = (to_tensor(picture, network.recipe) for picture in pictures)
    with torch.inference_mode():
        while batch := list(islice(inputs, 32)):
            features.append(head[:-1](body(normalize(torch.cat(batch)))))
    return torch.cat(features)


def class_activation_map(picture: np.ndarray, network: Network, emotion: str) -> np.ndarray:
    """How much each part of a `mel_picture` speaks for `emotion`, or against it (below 0).

    The sum of the network's 512 last maps, weighted as the last layer weights their means: its mean
    is the emotion's score but for a constant. It has a 32nd of the network's pixels each way,
    (2, 7) for 64 x 224. Zhou et al. 2016, doi:10.1109/CVPR.2016.319.
    """
    body, (_, _, norm, linear) = network.model
    with torch.inference_mode():
        maps = body(normalize(to_tensor(picture, network.recipe)))[0]
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return torch.einsum("c,chw", linear.weight[EMOTIONS.index(emotion)] * scale, maps).numpy()


def occlusion_map(picture, network: Network, emotion: str, rows=8, columns=18) -> np.ndarray:
    """How much of an emotion's probability is lost if a part of a `mel_picture` is blackened.

    Shape (rows, columns). Asked without augmented copies. The parts are twice as high and wide as
    the steps between them. Zeiler & Fergus 2014, doi:10.1007/978-3-319-10590-1_53.
    """
    height, width = picture.shape[0] / rows, picture.shape[1] / columns
    pictures = np.repeat(picture[None], 1 + rows * columns, axis=0)  # the first stays as it is
    for covered, (row, column) in zip(pictures[1:], np.ndindex(rows, columns), strict=True):
        top, left = max(0, round((row - 0.5) * height)), max(0, round((column - 0.5) * width))
        covered[top : round((row + 1.5) * height), left : round((column + 1.5) * width)] = 0
    inputs = torch.cat([to_tensor(one, network.recipe) for one in pictures]).split(32)
    with torch.inference_mode():
        scores = torch.cat([network.model(normalize(part)) for part in inputs])
    probability = (scores / network.temperature).softmax(dim=1)[:, EMOTIONS.index(emotion)].numpy()
    return (probability[0] - probability[1:]).reshape(rows, columns)


def show_map(picture, values, ax=None, settings=SpectrogramSettings(), limit=None, **options):
    """Draw a picture in grey and over it a map of any size: orange above 0, purple below.

    `limit`: the value of the full colours, the largest unless given; `options`: of `show_picture`.
    Returns the axes.
    """
    ax = show_picture(picture[..., 1:2].repeat(3, axis=2), ax, settings, **options)
    limit = limit or np.abs(values).max() or 1
    colours = {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit, "alpha": 0.55}
    place = {"extent": (0, settings.seconds, 0, settings.n_mels), "aspect": "auto"}
    ax.imshow(values, interpolation="bilinear", **place, **colours)
    return ax


@lru_cache(maxsize=1)
def training_features(network: Network) -> tuple[list[Path], torch.Tensor]:
    """The pictures that the network of `train_final` learnt from, and their features, (n, 512).

    Raises `EmotionHelpersError` if the pictures are not on this machine.
    """
    info, settings = network.info, network.settings
    files = picture_files(pictures_folder(info["corpus"], settings.name), settings)
    clips = pd.DataFrame(map(parse_name, files)).assign(file=files)
    learnt = clips[~clips.speaker.isin(info["unseen_speakers"])]
    if not network.recipe.tess:
        learnt = learnt[learnt.corpus == "ravdess"]
    pictures = (np.asarray(Image.open(file)) for file in learnt.file)
    return list(learnt.file), extract_features(pictures, network)


def nearest_clips(picture: np.ndarray, network: Network) -> pd.DataFrame:
    """The clips that the network learnt from, the one most like a `mel_picture` first.

    Columns clip_id, emotion, similarity: the cosine of their features, less the mean of all.
    """
    files, features = training_features(network)
    mean = features.mean(dim=0)
    (similarity,) = cosine_similarity(extract_features([picture], network) - mean, features - mean)
    table = pd.DataFrame(map(parse_name, files))[["clip_id", "emotion"]].assign(
        similarity=similarity
    )
    return table.sort_values("similarity", ascending=False, ignore_index=True)
