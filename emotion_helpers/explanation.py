"""Explanation: which parts of a picture an answer hangs on, asked in two ways."""
import numpy as np
import torch

from .clips import EMOTIONS
from .prediction import as_input


def activations(picture: np.ndarray, model: torch.nn.Module, settings: dict, emotion: str) -> np.ndarray:
    """Class activation map: how much each part of a `mel_picture` speaks for `emotion`, or against it (below 0).

    The last thing the network does with its 512 maps is to average each over the picture and to add up the averages, weighted. Weighted
    first and not averaged at all, they show where the sum comes from; the map's mean is the emotion's score but for a constant.
    Zhou et al. 2016, doi:10.1109/CVPR.2016.319. The map has a 32nd of the network's pixels each way: 2 rows and 7 columns for 64 x 224.
    """
    body, (_, _, norm, linear) = model
    with torch.inference_mode():
        maps = body(as_input(picture, settings))[0]
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        weighted = (linear.weight[EMOTIONS.index(emotion)] * scale)[:, None, None] * maps
        return weighted.sum(dim=0).numpy()


def occlusion_map(picture: np.ndarray, model: torch.nn.Module, settings: dict, emotion: str, rows: int = 8, columns: int = 18) -> np.ndarray:
    """How much of an emotion's probability is lost if a part of a `mel_picture` is covered in black (silence); shape (rows, columns).

    Asked about the picture as it is, without views. The covered parts are twice as high and wide as the steps between them (less at the
    edges). Zeiler & Fergus 2014, doi:10.1007/978-3-319-10590-1_53.
    """
    height, width = picture.shape[0] / rows, picture.shape[1] / columns
    covered = np.repeat(picture[None], 1 + rows * columns, axis=0)  # the first stays as it is
    for i, (row, column) in enumerate(np.ndindex(rows, columns), 1):
        top, left = (max(0, round((at - 0.5) * size)) for at, size in ((row, height), (column, width)))
        covered[i, top:round((row + 1.5) * height), left:round((column + 1.5) * width)] = 0
    with torch.inference_mode():
        inputs = torch.cat([as_input(one, settings) for one in covered])
        scores = torch.cat([model(batch) for batch in inputs.split(32)])
    found = (scores / settings.get("temperature", 1)).softmax(dim=1)[:, EMOTIONS.index(emotion)].numpy()
    return (found[0] - found[1:]).reshape(rows, columns)
