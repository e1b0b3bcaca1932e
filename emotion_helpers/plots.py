"""Figures in one style: one colour per emotion in the whole series."""

import librosa
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from .clips import EMOTIONS
from .pictures import SpectrogramSettings

# Okabe and Ito's, which most colour-blind people can tell apart; brown in place of their black.
COLOURS = ("#7f7f7f", "#56b4e9", "#d6a500", "#0072b2", "#d55e00", "#cc79a7", "#009e73", "#5c3a21")
COLOURS = dict(zip(EMOTIONS, COLOURS, strict=True))
DARK, LIGHT = "#2f4b4f", "#a9b8ba"  # slate, for all that is no emotion
CORPUS_COLOURS = {"ravdess": DARK, "tess": LIGHT}


def set_style() -> None:
    """Draw all later figures of this program in the series' style."""
    axes = {"spines.top": False, "spines.right": False, "titlesize": "medium"}
    plt.rc("axes", titlelocation="left", **axes)
    plt.rc("figure", dpi=144, **{"constrained_layout.use": True})
    plt.rc("legend", frameon=False)
    plt.rc("svg", hashsalt="emotions")  # the same figure is the same text in every run
    plt.rc("path", simplify_threshold=1)  # a wave of 60,000 samples has no use for each of them


def title(text: str, corpus: str) -> None:
    """Title of the whole figure; a figure from the demo corpus says that it is synthetic."""
    text += "  (synthetic demo voices)" if corpus == "demo" else ""
    plt.gcf().suptitle(text, x=0.01, ha="left", fontweight="bold")


def show_picture(picture, ax=None, settings=SpectrogramSettings(), axes=True, seconds=None):
    """Draw a picture (file or array) over time and mel-spaced frequency; returns the axes.

    `seconds`: how much time it shows, if not `settings.seconds`. `axes`: with ticks and labels."""
    ax = ax or plt.gca()
    pixels = picture if isinstance(picture, np.ndarray) else np.asarray(Image.open(picture))
    ax.imshow(pixels, extent=(0, seconds or settings.seconds, 0, settings.n_mels), aspect="auto")
    edges = librosa.mel_frequencies(settings.n_mels + 2, fmin=settings.fmin, fmax=settings.fmax)
    hertz = [f for f in (100, 500, 1000, 2000, 4000, 8000) if settings.fmin <= f <= settings.fmax]
    rows = np.interp(hertz, edges[1:-1], np.arange(settings.n_mels) + 0.5)
    ax.set_yticks(rows, [f"{frequency / 1000:g}" for frequency in hertz])
    ax.set(xlabel="time [s]", ylabel="frequency [kHz]")
    if not axes:
        ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
    return ax
