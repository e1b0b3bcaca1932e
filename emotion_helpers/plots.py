"""Figures in one style: one colour an emotion in the whole series (Okabe & Ito's, safe for the colour-blind)."""
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

from .clips import EMOTIONS
from .pictures import PictureSettings, mel_filters

COLOURS = dict(zip(EMOTIONS, ("#7f7f7f", "#56b4e9", "#d6a500", "#0072b2", "#d55e00", "#cc79a7", "#009e73", "#000000")))
CORPUS_COLOURS = {"ravdess": "#0072b2", "tess": "#e69f00"}
plt.rcParams.update({"figure.constrained_layout.use": True, "figure.dpi": 84, "axes.spines.top": False, "axes.spines.right": False,
                     "axes.titlesize": "medium", "axes.titlelocation": "left", "legend.frameon": False, "font.size": 10})


def title(text: str, corpus: str) -> None:
    """Title of the whole figure; a figure from the demo corpus says that it is synthetic."""
    plt.gcf().suptitle(text + ("  (synthetic demo voices)" if corpus == "demo" else ""), x=0.01, ha="left", fontweight="bold")


def show_picture(picture, ax=None, settings: PictureSettings = PictureSettings(), axes: bool = True,
                 seconds: float | None = None):
    """Draw a picture (file or array) with time (`seconds`; a clip's unless given) and mel-spaced frequency on the axes; returns the
    matplotlib axes."""
    ax = ax or plt.gca()
    pixels = picture if isinstance(picture, np.ndarray) else np.asarray(Image.open(picture))
    ax.imshow(pixels, extent=(0, seconds or settings.seconds, 0, settings.n_mels), aspect="auto")
    peaks = mel_filters(settings).argmax(axis=1) * settings.sample_rate / settings.n_fft  # Hz, of each row
    hertz = [100, 500, 1000, 2000, 4000, 8000] if axes else []
    ax.set_yticks(np.interp(hertz, peaks, np.arange(len(peaks)) + 0.5), [f"{f / 1000:g}" for f in hertz])
    if axes:
        ax.set(xlabel="time [s]", ylabel="frequency [kHz]")
    else:
        ax.set_xticks([])
    return ax


def plot_counts(counts: pd.DataFrame, ax=None, unit: str = "clips"):
    """Stacked bars, a bar an emotion (rows) and a colour a corpus (columns); returns the axes."""
    ax = counts.plot.bar(stacked=True, color=[CORPUS_COLOURS.get(c, "grey") for c in counts], ax=ax or plt.gca(), width=0.8, rot=30)
    for bars in ax.containers:
        ax.bar_label(bars, labels=[f"{v:.0f}" if v else "" for v in bars.datavalues], label_type="center", color="white", fontsize=9)
    ax.set(xlabel="", ylabel=unit)
    ax.legend([c.upper() for c in counts], loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def plot_confusion(counts: pd.DataFrame, ax=None, rates: bool = False):
    """Confusion matrix, truth down and prediction across, in clips or in % of the truth; returns the axes."""
    ax = ax or plt.gca()
    share = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (i, j), value in np.ndenumerate((share if rates else counts).to_numpy()):
        ax.text(j, i, f"{value:.0f}" if value else "·", ha="center", va="center", fontsize=9,
                color="white" if share.iat[i, j] > 55 else "black" if value else "lightgrey")
    ax.set_xticks(range(len(counts)), counts.columns, rotation=45, ha="right")
    ax.set_yticks(range(len(counts)), counts.index)
    ax.set(xlabel="the network said", ylabel="it was", title="% of each emotion's clips" if rates else "clips")
    ax.spines[:].set_visible(False)
    return ax


def plot_recall(recall: pd.DataFrame, ax=None):
    """Recall [%] of each emotion, a group of bars an emotion and a bar a corpus; returns the axes."""
    ax = recall.plot.bar(color=[CORPUS_COLOURS[c] for c in recall], ax=ax or plt.gca(), width=0.8, rot=30)
    for corpus, bars in zip(recall, ax.containers):
        ax.bar_label(bars, labels=["" if np.isnan(value) else f"{value:.0f}" for value in recall[corpus]], fontsize=8)
    ax.set(xlabel="", ylabel="recognised [%]", ylim=(0, 108))
    ax.legend([c.upper() for c in recall], loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def show_map(picture: np.ndarray, found: np.ndarray, ax=None, settings: PictureSettings = PictureSettings(), limit: float | None = None, blur: bool = True, axes: bool = True):
    """Draw a picture in grey with a map of any size over it, orange what is above 0 and purple what is below; returns the axes."""
    ax = show_picture(picture[..., 1:2].repeat(3, axis=2), ax, settings, axes)
    limit = limit or np.abs(found).max() or 1
    ax.imshow(found, extent=(0, settings.seconds, 0, settings.n_mels), aspect="auto", cmap="PuOr_r", vmin=-limit, vmax=limit, alpha=0.55,
              interpolation="bilinear" if blur else "nearest")
    return ax
