"""Adaptation: the last layer against an optimiser of scipy's, one speaker's clips, the study."""

import gc
from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import sounds
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from emotion_helpers import EmotionHelpersError, corpora, splits
from emotion_helpers.audio import AudioError, read_audio
from emotion_helpers.beyond import cross_validation
from emotion_helpers.beyond.adaptation import (
    adapt_to_speaker,
    clip_features,
    fit_last_layer,
    study_adaptation,
)
from emotion_helpers.beyond.explanation import extract_features
from emotion_helpers.clips import EMOTIONS, STATEMENTS, find_clips
from emotion_helpers.demo import write_demo_clip
from emotion_helpers.models import Recipe, load_model
from emotion_helpers.pictures import mel_picture

# ---- the last layer


@pytest.fixture(scope="module")
def problem():
    """Old weights of a layer of ten inputs, features of a dozen clips, their emotions."""
    torch.manual_seed(0)
    return torch.randn(8, 10), torch.randn(12, 10), [EMOTIONS[i % 5] for i in range(12)]


@pytest.mark.parametrize("temperature, l2", [(1.0, 0.1), (1.7, 0.01), (1.0, 3.0)])
def test_the_weights_are_those_that_scipy_finds(problem, temperature, l2):
    weight, features, emotions = problem
    old, inputs = weight.numpy().astype(float), features.numpy().astype(float)
    truth = [EMOTIONS.index(emotion) for emotion in emotions]

    def objective(flat):
        scores = inputs @ flat.reshape(8, 10).T / temperature
        likelihood = log_softmax(scores, axis=1)[range(12), truth].mean()
        return l2 * np.sum((flat.reshape(8, 10) - old) ** 2) - likelihood

    best = minimize(objective, old.ravel(), method="BFGS", options={"gtol": 1e-6})
    new = fit_last_layer(weight, features, emotions, temperature, l2)
    assert objective(new.numpy().astype(float).ravel()) < best.fun + 1e-5
    assert new.numpy() == pytest.approx(best.x.reshape(8, 10), abs=5e-3)


def test_with_little_to_hold_it_back_it_learns_what_it_is_taught(problem):
    weight, features, emotions = problem
    truth = torch.tensor([EMOTIONS.index(emotion) for emotion in emotions])
    before = (features @ weight.T).argmax(dim=1) == truth
    after = (features @ fit_last_layer(weight, features, emotions, l2=1e-3).T).argmax(dim=1)
    assert not before.all()
    assert torch.equal(after, truth)


def test_the_more_it_is_held_back_the_less_it_changes(problem):
    weight, features, emotions = problem
    before = weight.clone()
    changes = [
        float((fit_last_layer(weight, features, emotions, l2=l2) - weight).norm())
        for l2 in (0.01, 1.0, 1e4)
    ]
    assert changes[0] > changes[1] > changes[2]
    assert changes[2] < 1e-3
    assert torch.equal(weight, before)


# ---- one speaker


@pytest.fixture(scope="module")
def speaker(demo_clips):
    """Recordings of a synthetic speaker whom the network does not know, and their emotions."""
    clips = demo_clips[demo_clips.speaker == "Actor_01"]
    return list(clips.path), list(clips.emotion)


def test_features_are_those_of_the_recordings_pictures(network, speaker):
    paths = speaker[0][:2]
    settings = network.settings
    pictures = [mel_picture(read_audio(path, settings.sample_rate), settings) for path in paths]
    features = clip_features(paths, network)
    assert features.shape == (2, 512)
    assert torch.allclose(features, extract_features(pictures, network))


def test_it_is_taught_by_any_kind_of_recording(network, speaker, tmp_path):
    network = replace(network, recipe=Recipe(height=32, width=64, kernel_scale=(1, 1)))
    samples = read_audio(speaker[0][0], 22_050)
    sounds.encode(tmp_path / "phone.m4a", samples, 22_050, "aac")
    paths = [*speaker[0], tmp_path / "phone.m4a"]
    features = clip_features(paths, network)
    distances = (features[:-1] - features[-1]).norm(dim=1)
    assert distances[0] < 0.5 * distances[1:].min()


@pytest.mark.parametrize(
    "samples", [np.zeros(0), np.ones(500), np.zeros(22_050)], ids=["empty", "click", "silent"]
)
def test_it_is_not_taught_by_silence(network, speaker, tmp_path, samples):
    sf.write(tmp_path / "nothing.wav", samples, 22_050)
    with pytest.raises(AudioError, match=r"nothing\.wav"):
        adapt_to_speaker(network, [speaker[0][0], tmp_path / "nothing.wav"], ["sad", "happy"])


@pytest.mark.parametrize("emotions", [[], ["sad"], ["joy", "sad"]])
def test_without_a_recording_for_each_emotion_it_says_what_is_needed(network, speaker, emotions):
    paths = speaker[0][:2] if "joy" in emotions else []
    with pytest.raises(EmotionHelpersError, match=rf"{len(paths)} recordings.*one of EMOTIONS"):
        adapt_to_speaker(network, paths, emotions)


def test_only_the_last_layer_changes_and_the_network_given_stays_as_it_was(network, speaker):
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    adapted = adapt_to_speaker(network, speaker[0][:3], speaker[1][:3])
    after = adapted.model.state_dict()
    assert all(
        torch.equal(value, before[name]) for name, value in network.model.state_dict().items()
    )
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["1.3.weight"]
    features = clip_features(speaker[0][:3], network)
    expected = fit_last_layer(before["1.3.weight"], features, speaker[1][:3], network.temperature)
    assert torch.allclose(after["1.3.weight"], expected, atol=1e-4)
    assert not adapted.model.training
    assert (adapted.recipe, adapted.settings) == (network.recipe, network.settings)
    assert adapted.temperature == network.temperature == 1.5


def test_an_adapted_network_says_what_it_was_taught(network, speaker):
    network = replace(network, recipe=Recipe(height=32, width=64, kernel_scale=(1, 1)))
    features = clip_features(speaker[0], network)
    weight = fit_last_layer(network.model[1][-1].weight, features, speaker[1], l2=1e-4)
    assert [EMOTIONS[i] for i in (features @ weight.T).argmax(dim=1)] == speaker[1]


# ---- the study


@pytest.fixture
def project(tmp_path, monkeypatch, small, shallow):
    """A project of three actors with eight clips per sentence; two of them are tested on."""
    for actor in (1, 11, 4):
        for emotion, statement, take in np.ndindex(2, 2, 4):
            codes = (
                f"03-01-{emotion + 3:02}-{take % 2 + 1:02}-{statement + 1:02}-{take // 2 + 1:02}"
            )
            write_demo_clip(tmp_path / "voices", f"RAVDESS/A/{codes}-{actor:02}.wav", 0)
    monkeypatch.setattr(corpora, "ROOT", tmp_path)
    monkeypatch.setattr(cross_validation, "get_corpora", lambda corpus, data: tmp_path / "voices")
    monkeypatch.setitem(splits.ACTORS, "emobox", [["Actor_01", "Actor_11"]])
    gc.collect()
    with joblib.parallel_config(backend="threading"):
        yield tmp_path


def test_the_study_asks_about_the_sentence_that_was_not_taught(project, small):
    recipe = Recipe(height=32, width=32, epochs=1, batch_size=8, tess=False, mixup=0, n_tta=0)
    table = study_adaptation("demo", recipe=recipe, settings=small)
    assert list(table.speaker) == ["Actor_01", "Actor_01", "Actor_11", "Actor_11"]
    assert list(table.taught) == [*STATEMENTS, *STATEMENTS]
    assert (table.clips_taught == 6).all()  # two emotions, three clips of each
    assert (table.clips_asked == 8).all()
    pd.testing.assert_frame_equal(
        pd.read_csv(corpora.results_folder("demo") / "adaptation.csv"), table
    )

    clips, _ = find_clips(project / "voices")
    (folder,) = (corpora.models_folder("demo") / "experiments").iterdir()
    network = load_model(folder)
    for row in table.itertuples():
        spoken = clips[clips.speaker == row.speaker]
        taught = spoken[spoken.text == row.taught].groupby("emotion").head(3)
        asked = spoken[spoken.text != row.taught]
        adapted = adapt_to_speaker(network, list(taught.path), list(taught.emotion))
        for one, accuracy in ((network, row.before), (adapted, row.after)):
            with torch.inference_mode():
                scores = one.model[1][-1](clip_features(list(asked.path), network))
            answers = np.array(EMOTIONS)[scores.argmax(dim=1)]
            assert accuracy == pytest.approx(100 * np.mean(answers == asked.emotion), abs=0.01)
