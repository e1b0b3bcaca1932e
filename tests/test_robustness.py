"""Robustness: each condition does to a clip what its name says."""
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from emotion_helpers import robustness as module
from emotion_helpers.clips import EMOTIONS, find_clips
from emotion_helpers.robustness import RATE, babble, band, conditions, in_a_room, robustness, through_mp3, with_noise
from emotion_helpers.splits import folds_of
from emotion_helpers.training import RECIPES


@pytest.fixture
def voice():
    """Two seconds of a buzz of 200 Hz with harmonics up to 8 kHz, between two half seconds of silence; peak 0.5."""
    t = np.arange(2 * RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * 200 * k * t) / k for k in range(1, 40))
    silence = np.zeros(RATE // 2)
    return np.concatenate([silence, 0.5 * buzz / np.abs(buzz).max(), silence]).astype(np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def power(samples, low=0, high=RATE):
    """Power between two frequencies [Hz]."""
    spectrum, hertz = np.abs(np.fft.rfft(samples))**2, np.fft.rfftfreq(len(samples), 1 / RATE)
    return spectrum[(hertz >= low) & (hertz < high)].sum()


@pytest.mark.parametrize("snr", [30, 0])
def test_noise_is_as_far_below_the_voice_as_it_says(voice, rng, snr):
    added = with_noise(voice, rng.normal(size=len(voice)), snr) - voice
    spoken = voice[RATE // 2:-RATE // 2]
    assert 10 * np.log10(np.mean(spoken**2) / np.mean(added**2)) == pytest.approx(snr, abs=0.3)


def test_babble_is_the_sum_of_equally_loud_voices(rng):
    loud, soft = np.sin(np.arange(RATE) / 3), 0.01 * np.sin(np.arange(RATE // 2) / 7)
    crowd = babble([loud, soft])
    assert len(crowd) == pytest.approx(RATE, abs=512)
    assert np.corrcoef(crowd, np.sin(np.arange(len(crowd)) / 3))[0, 1] == pytest.approx(np.sqrt(0.5), abs=0.02)


def test_a_telephone_passes_its_band_only(voice):
    passed = band(voice, 300, 3400)
    assert power(passed, 500, 3000) == pytest.approx(power(voice, 500, 3000), rel=0.05)
    assert power(passed, 0, 210) < 0.1 * power(voice, 0, 210) and power(passed, 5000) < 0.01 * power(voice, 5000)


def test_8_khz_leaves_nothing_above_4_khz(voice, rng):
    passed = conditions([voice])["8 kHz"](voice, rng)
    assert power(passed, 4500) < 1e-3 * power(voice, 4500) and power(passed, 0, 3000) == pytest.approx(power(voice, 0, 3000), rel=0.02)


def test_mp3_is_nearly_the_same_sound(voice):
    passed = through_mp3(voice)
    delay = np.argmax(np.correlate(passed, voice[RATE // 2:RATE], "valid")) - RATE // 2
    assert len(passed) == len(voice) and np.corrcoef(passed[delay + 1000:], voice[1000:len(voice) - delay])[0, 1] > 0.8
    assert not np.array_equal(passed, voice)


def test_a_room_rings_on_for_as_long_as_it_says(rng):
    click = np.zeros(RATE)
    click[0] = 1
    heard = in_a_room(click, rng, seconds=0.4)
    decibels = [10 * np.log10(np.mean(heard[round(t * RATE):round((t + 0.02) * RATE)]**2)) for t in (0.01, 0.21)]
    assert decibels[0] - decibels[1] == pytest.approx(30, abs=3) and not heard[round(0.41 * RATE):].round(9).any()


def test_gain_and_cuts_are_gain_and_cuts(voice, rng):
    change = conditions([voice])
    assert np.allclose(change["20 dB softer"](voice, rng) * 10, voice) and np.allclose(change["20 dB louder"](voice, rng), 10 * voice)
    assert np.array_equal(change["1 s cut off the beginning"](voice, rng), voice[RATE:])
    assert np.array_equal(change["1 s cut off the end"](voice, rng), voice[:-RATE])
    assert np.array_equal(change["studio"](voice, rng), voice)


def test_the_same_seed_makes_the_same_noise(voice):
    change = conditions([voice])
    first, second = ([f(voice, np.random.default_rng(3)) for f in change.values()] for _ in range(2))
    assert all(map(np.array_equal, first, second)) and len(change) == 17


def test_the_table_has_a_row_for_each_recipe_and_condition_and_asks_strangers_only(demo_corpus, tmp_path, monkeypatch):
    """With networks that always answer the same, the accuracy is that emotion's share of the clips that were asked about."""
    clips, asked = find_clips(demo_corpus)[0].query("corpus == 'ravdess' and emotion in ['sad', 'angry']"), []
    folds = {fold: sorted(set(clips[clips["clip"].isin(names)].speaker)) for fold, names in enumerate(folds_of(clips, "emobox"), 1)}
    monkeypatch.setattr(module, "RECIPES", {"quick": replace(RECIPES["quick"], after="sad"), "sad": RECIPES["quick"]})
    monkeypatch.setattr(module, "rendered", lambda corpus, data: (clips, tmp_path))
    monkeypatch.setattr(module, "emobox_runs", lambda clips, pictures, corpus, recipe: [
        {"folder": recipe, "recipe": recipe, "fold": fold, "tested_on": " ".join(folds[fold])} for fold in (1, 2)])
    monkeypatch.setattr(module, "load_model", lambda recipe: ("sad" if recipe == "sad" else "angry", {}))
    monkeypatch.setattr(module, "probabilities", lambda picture, emotion, settings: np.array([e == emotion for e in EMOTIONS]))
    monkeypatch.setattr(module, "mel_picture", len)
    monkeypatch.setattr(module, "read_clip", lambda path, rate: asked.append(path) or np.random.default_rng(0).normal(size=2 * rate))
    behind = []
    monkeypatch.setattr(module, "conditions", lambda voices: behind.append(asked[-len(voices):]) or conditions(voices))
    monkeypatch.setattr(module, "results_folder", lambda corpus: tmp_path)
    table = robustness("demo", every=1)
    for fold, paths in enumerate(behind, 1):  # in the background everybody speaks, but for the strangers
        assert sorted(clips.set_index("path").speaker[paths]) == sorted(set(clips.speaker) - set(folds[fold]))
    mine = clips[clips.speaker.isin(folds[1] + folds[2])]
    assert set(mine.path) <= set(asked) and (table["clips"] == len(mine)).all() and len(table) == 2 * 17
    for recipe, emotion in (("sad", "sad"), ("quick", "angry")):
        assert table.accuracy[table.recipe == recipe].to_numpy() == pytest.approx(100 * (mine.emotion == emotion).mean(), abs=0.01)
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "robustness.csv"))
