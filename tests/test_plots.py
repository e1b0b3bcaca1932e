"""Figures: what they say can be read off them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from chapters import run_cells
from PIL import Image

from emotion_helpers.clips import EMOTIONS
from emotion_helpers.pictures import SpectrogramSettings, mel_picture
from emotion_helpers.plots import COLOURS, CORPUS_COLOURS, set_style, show_picture, title


@pytest.fixture(autouse=True)
def figure():
    """A new one for each test, and the settings of before after it."""
    with plt.rc_context():
        plt.switch_backend("agg")
        yield plt.figure()
        plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_each_emotion_has_its_own_colour():
    assert list(COLOURS) == list(EMOTIONS)
    assert len(set(COLOURS.values())) == len(EMOTIONS)


@pytest.mark.parametrize("corpus, words", [("real", "Voices"), ("demo", "synthetic demo voices")])
def test_a_figure_from_the_demo_says_so(figure, corpus, words):
    title("Voices", corpus)
    assert words in figure.get_suptitle()
    assert ("synthetic" in figure.get_suptitle()) == (corpus == "demo")


def test_set_style_is_what_changes_the_style():
    before = plt.rcParams["axes.spines.top"]
    assert before
    set_style()
    assert not plt.rcParams["axes.spines.top"]


@pytest.mark.parametrize("hertz", [1_000, 4_000])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"n_mels": 64, "fmin": 100.0, "top_db": 60.0},
        {"n_fft": 1024, "win_lengths": (256, 512, 1024)},  # some rows hold no frequency
    ],
    ids=str,
)
def test_a_sine_is_shown_at_its_frequency(tmp_path, hertz, change):
    settings = SpectrogramSettings(**change)
    sine = np.sin(2 * np.pi * hertz * np.arange(22_050) / 22_050)
    Image.fromarray(mel_picture(sine, settings)).save(tmp_path / "sine.png")
    ax = show_picture(tmp_path / "sine.png", settings=settings)
    shown = ax.images[0].get_array()[:, settings.width // 2, 2]
    height = settings.n_mels - 0.5 - shown.argmax()  # of the brightest row's middle
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert ax.get_yticks()[labels.index(f"{hertz // 1000}")] == pytest.approx(height, abs=1.5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time [s]", "frequency [kHz]")


@pytest.mark.parametrize("seconds", [None, 12.0])
def test_the_time_axis_is_as_long_as_the_sound(seconds):
    ax = show_picture(np.zeros((288, 432, 3), np.uint8), seconds=seconds)
    assert ax.get_xlim() == pytest.approx((0, seconds or 2.99), abs=0.01)


def test_frequencies_that_a_picture_does_not_show_get_no_tick():
    settings = SpectrogramSettings(fmin=300.0, fmax=4_000.0)
    ax = show_picture(np.zeros((288, 432, 3), np.uint8), settings=settings)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0.5", "1", "2", "4"]


def test_a_picture_can_be_shown_without_ticks():
    ax = show_picture(np.zeros((288, 432, 3), np.uint8), axes=False)
    assert not len(ax.get_xticks()) + len(ax.get_yticks())


@pytest.mark.parametrize("columns", [["ravdess", "tess"], ["ravdess"]])
def test_the_bars_of_chapter_01_say_how_many_clips_they_are(columns):
    counts = pd.DataFrame({"ravdess": [3, 4], "tess": [5, 0]}, index=["happy", "calm"])[columns]
    given = {"counts": counts, "CORPUS_COLOURS": CORPUS_COLOURS, "title": title, "CORPUS": "real"}
    ax = run_cells("01", "counts.plot.bar", **given)["ax"]
    assert [text for text in texts(ax) if text] == ["3", "4", "5"][: 1 + len(columns)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == columns
    assert [label.get_text() for label in ax.get_xticklabels()] == ["happy", "calm"]
