"""Robustness: each condition does to a clip what its name says, and the study asks in them."""

import gc
from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pytest
import sounds
from scipy.signal import correlate

from emotion_helpers import EmotionHelpersError, corpora, splits
from emotion_helpers.audio import read_audio
from emotion_helpers.beyond import cross_validation, robustness
from emotion_helpers.beyond.adaptation import clip_features, fit_last_layer
from emotion_helpers.beyond.cross_validation import (
    deployed_experiments,
    prepare_pictures,
    run_experiment,
)
from emotion_helpers.beyond.robustness import (
    RATE,
    add_at_snr,
    make_conditions,
    mix_babble,
    study_robustness,
)
from emotion_helpers.models import Recipe, load_model, save_model

NAMES = [
    "studio",
    *(f"{noise}, {snr} dB" for noise in ("white noise", "babble") for snr in (30, 20, 10, 0)),
    "telephone band",
    "8 kHz",
    "MP3, 32 kbit/s",
    "reverberant room",
    "1 s cut off the beginning",
    "1 s cut off the end",
]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def voice():
    """Two seconds of a buzz of 200 Hz and its harmonics up to 8 kHz, silence before and after."""
    t = np.arange(2 * RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * 200 * k * t) / k for k in range(1, 40))
    return np.pad(0.5 * buzz / np.abs(buzz).max(), RATE // 2).astype(np.float32)


@pytest.fixture
def conditions(voice):
    return make_conditions([voice])


def power(samples, low=0, high=RATE):
    """Power between two frequencies [Hz]."""
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    return spectrum[(hertz >= low) & (hertz < high)].sum()


# ---- conditions


def test_they_are_fifteen_and_the_studio_changes_nothing(voice, conditions, rng):
    assert list(conditions) == NAMES
    assert np.array_equal(conditions["studio"](voice, rng), voice)


@pytest.mark.parametrize("noise", ["white noise", "babble"])
@pytest.mark.parametrize("snr", [30, 10, 0])
def test_noise_is_as_far_below_what_is_spoken_as_it_says(voice, conditions, rng, noise, snr):
    added = conditions[f"{noise}, {snr} dB"](voice, rng) - voice
    spoken = voice[RATE // 2 : -RATE // 2]
    ratio = 10 * np.log10(np.mean(spoken**2) / np.mean(added**2))
    assert ratio == pytest.approx(snr, abs=0.3)


def test_noise_shorter_than_the_clip_is_repeated(voice):
    noise = np.sin(np.arange(1000))
    added = add_at_snr(voice, noise, 0) - voice
    assert added[1000:2000] == pytest.approx(added[:1000], abs=1e-6)
    assert added[-500:].std() > 0


def test_babble_has_every_voice_equally_loud_and_without_pauses():
    t = np.arange(2 * RATE) / RATE
    loudness = {440: 1, 1000: 0.01, 3000: 0.1}
    voices = [level * np.sin(2 * np.pi * hertz * t) for hertz, level in loudness.items()]
    voices[1] = np.pad(voices[1][: RATE // 2], RATE // 2)  # half a second between pauses
    crowd = mix_babble(voices)
    assert len(crowd) == 2 * RATE
    for second in np.split(crowd, 2):
        powers = [power(second, hertz - 30, hertz + 30) for hertz in loudness]
        assert max(powers) < 1.3 * min(powers)
        assert sum(powers) > 0.9 * power(second)


def test_a_telephone_passes_300_to_3400_hz_only(voice, conditions, rng):
    passed = conditions["telephone band"](voice, rng)
    assert power(passed, 500, 3000) == pytest.approx(power(voice, 500, 3000), rel=0.05)
    assert power(passed, 0, 210) < 0.1 * power(voice, 0, 210)
    assert power(passed, 5000) < 0.01 * power(voice, 5000)


def test_8_khz_leaves_nothing_above_4_khz(voice, conditions, rng):
    passed = conditions["8 kHz"](voice, rng)
    assert len(passed) == len(voice)
    assert power(passed, 4500) < 1e-3 * power(voice, 4500)
    assert power(passed, 0, 3000) == pytest.approx(power(voice, 0, 3000), rel=0.02)


def distortion(samples, coded):
    """How far what a coder changed is below the samples [dB], whatever delay it has."""
    middle = samples[RATE : 2 * RATE].astype(float)
    delays = correlate(coded[RATE - 2000 : 2 * RATE + 4000].astype(float), middle, "valid")
    start = RATE - 2000 + delays.argmax()
    coded = coded[start : start + RATE].astype(float)
    coded = coded * (middle @ coded) / (coded @ coded)
    return 10 * np.log10(np.mean(middle**2) / np.mean((middle - coded) ** 2))


def test_mp3_spoils_a_clip_as_32_kbit_per_second_do(rng, tmp_path):
    samples = sounds.voice(3.0, RATE) + sounds.noise(3.0, RATE, peak=0.1)
    coded = make_conditions([samples])["MP3, 32 kbit/s"](samples, rng)
    assert len(coded) == len(samples)
    expected = {}
    for rate in (16, 24, 32, 40, 64):
        file = tmp_path / f"{rate}.mp3"
        sounds.encode(file, samples, RATE, "libmp3lame", "mp3", bit_rate=1000 * rate)
        assert file.stat().st_size * 8 / 3 == pytest.approx(1000 * rate, rel=0.1)
        expected[rate] = distortion(samples, read_audio(file, RATE))
    assert distortion(samples, coded) == pytest.approx(expected[32], abs=0.7)
    assert expected[24] + 1 < expected[32] < expected[40] - 1  # so it would show


def test_a_room_rings_on_and_falls_by_60_db_in_half_a_second(conditions, rng):
    click = np.zeros(RATE)
    click[0] = 1
    echoes = conditions["reverberant room"](click, rng)
    echoes[0] -= 1
    assert np.sum(echoes**2) == pytest.approx(1, rel=0.05)  # as loud as the voice
    windows = [echoes[round(t * RATE) : round((t + 0.02) * RATE)] for t in (0.01, 0.26)]
    early, late = (10 * np.log10(np.mean(window**2)) for window in windows)
    assert early - late == pytest.approx(30, abs=3)
    assert np.abs(echoes[round(0.51 * RATE) :]).max() < 1e-9


def test_a_second_is_cut_off(voice, conditions, rng):
    start, end = (
        conditions[f"1 s cut off the {part}"](voice, rng) for part in ("beginning", "end")
    )
    assert len(start) == len(end) == len(voice) - RATE
    assert np.array_equal(start[-RATE:], voice[-RATE:])
    assert np.array_equal(end[:RATE], voice[:RATE])


def test_of_a_short_clip_half_is_cut_off(conditions, rng):
    clip = np.arange(RATE) + 1.0
    for part in ("beginning", "end"):
        assert len(conditions[f"1 s cut off the {part}"](clip, rng)) == RATE // 2


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_makes_the_same_sound_and_leaves_the_clip_alone(voice, conditions, name):
    before = voice.copy()
    first, second, other = (
        conditions[name](voice, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert np.array_equal(first, second)
    assert np.array_equal(first, other) != (name.startswith(("white", "babble", "rever")))
    assert np.array_equal(voice, before)
    assert np.isfinite(first).all()


# ---- the study

TINY = {"height": 32, "width": 32, "kernel_scale": (1, 1), "tess": False, "mixup": 0, "n_tta": 0}
TEACHER = Recipe(epochs=1, batch_size=16, **TINY)
PUPIL = replace(TEACHER, start=TEACHER, corruption_p=0.5)


@pytest.fixture
def project(tmp_path, monkeypatch, demo_clips, shallow):
    """A project with eight actors; the first two are tested on."""
    monkeypatch.setattr(corpora, "ROOT", tmp_path)
    voices = demo_clips.path[0].split("RAVDESS")[0]
    monkeypatch.setattr(cross_validation, "get_corpora", lambda corpus, data: voices)
    monkeypatch.setitem(splits.ACTORS, "emobox", [["Actor_01", "Actor_11"]])
    with joblib.parallel_config(backend="threading"):
        yield tmp_path
    gc.collect()


def learn_by_heart(recipe, clips, settings):
    """Train a network, and put one in its place that knows all clips by heart."""
    experiment = deployed_experiments("demo", recipe, settings)[0]
    runs = corpora.models_folder("demo") / "experiments"
    pictures = corpora.pictures_folder("demo", settings.name)
    run = run_experiment(experiment, clips, pictures, runs)
    gc.collect()  # its learner is 300 MB in a circle of references
    network = load_model(run["folder"])
    features, layer = clip_features(list(clips.path), network), network.model[1][-1]
    layer.weight.data = fit_last_layer(layer.weight, features, list(clips.emotion), l2=1e-5)
    save_model(run["folder"], network.model, settings, recipe)


def test_pictures_of_more_hertz_than_the_study_has_are_refused(small):
    finer = replace(small, sample_rate=44_100)
    with pytest.raises(EmotionHelpersError, match="pictures of 44100 Hz"):
        study_robustness("demo", recipe=PUPIL, settings=finer)


def test_the_study_asks_about_the_pictures_that_the_networks_learnt_from(
    project, small, monkeypatch
):
    """Networks that know the clips by heart have none wrong in the studio, whatever the rate."""
    clips, _ = prepare_pictures("demo", None, small)
    for recipe in (TEACHER, PUPIL):
        learn_by_heart(recipe, clips, small)
    background = []

    def fewer_conditions(voices):
        background.append(voices)
        every = make_conditions(voices)
        return {name: every[name] for name in ("studio", "white noise, 0 dB")}

    monkeypatch.setattr(robustness, "make_conditions", fewer_conditions)
    table = study_robustness("demo", every=2, recipe=PUPIL, settings=small)
    assert set(table.recipe) == {"robust", "teacher"}
    assert (table.clips == 6).all()  # every second of twelve
    accuracy = table.pivot_table(values="accuracy", index="condition", columns="recipe")
    assert (accuracy.loc["studio"] == 100).all()
    assert (accuracy.loc["white noise, 0 dB"] < 100).all()
    results = corpora.results_folder("demo") / "robustness.csv"
    pd.testing.assert_frame_equal(pd.read_csv(results), table, check_dtype=False)
    alone = study_robustness("demo", every=6, recipe=TEACHER, settings=small)
    assert set(alone.recipe) == {"teacher"}  # nobody has taught it to hear in noise

    voices, _ = background  # everybody speaks behind, but for the two who are asked about
    training = clips[~clips.speaker.isin(["Actor_01", "Actor_11"])]
    assert len(voices) == training.speaker.nunique() == 6
    rows = zip(training.speaker, training.path, strict=True)
    spoken = {read_audio(path, RATE).tobytes(): speaker for speaker, path in rows}
    assert {spoken[voice.tobytes()] for voice in voices} == set(training.speaker)
