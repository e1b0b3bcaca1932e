"""Adaptation: a network taught a few clips of one speaker."""
import numpy as np
import pytest
import soundfile as sf
import torch

from emotion_helpers.adaptation import adapted, clip_features
from emotion_helpers.clips import EMOTIONS, ClipError, find_clips, read_clip
from emotion_helpers.pictures import mel_picture
from emotion_helpers.prediction import as_input
from emotion_helpers.robustness import encode


@pytest.fixture(scope="module")
def speaker(demo_corpus):
    """Clips and emotions of one synthetic speaker whom the network does not know."""
    clips = find_clips(demo_corpus)[0].query("speaker == 'Actor_20'")
    return list(clips.path), list(clips.emotion)


def said(model, settings, paths):
    with torch.no_grad():
        return [EMOTIONS[i] for i in model[1][-1](clip_features(paths, model, settings)).argmax(dim=1)]


def test_it_learns_what_it_is_taught(network, speaker):
    paths, emotions = speaker
    before, after = (np.mean(np.equal(said(model, network[1], paths), emotions)) for model in (network[0], adapted(*network, *speaker, pull=1e-4)))
    assert after > 0.95 > before


def test_it_is_taught_by_any_kind_of_recording(network, speaker, tmp_path):
    samples = read_clip(speaker[0][0], 22_050)
    encode(str(tmp_path / "phone.m4a"), samples, 22_050, "aac")
    whole, phone = (clip_features([path], *network)[0] for path in (speaker[0][0], tmp_path / "phone.m4a"))
    other = clip_features([speaker[0][np.flatnonzero(np.array(speaker[1]) != speaker[1][0])[0]]], *network)[0]
    assert torch.cosine_similarity(whole, phone, dim=0) > max(0.98, torch.cosine_similarity(whole, other, dim=0))


def test_it_is_not_taught_by_silence(network, tmp_path):
    for name, samples in (("empty", np.zeros(0)), ("click", np.ones(500)), ("silent", np.zeros(22_050))):
        sf.write(tmp_path / f"{name}.wav", samples, 22_050)
        with pytest.raises(ClipError, match=f"{name}.wav: .* silent or too short"):
            clip_features([tmp_path / f"{name}.wav"], *network)


def test_only_the_last_layer_changes_and_the_network_given_stays_as_it_is(network, speaker):
    kept = {name: value.clone() for name, value in network[0].state_dict().items()}
    taught = adapted(*network, *speaker).state_dict()
    assert all(torch.equal(value, network[0].state_dict()[name]) for name, value in kept.items())
    assert [name for name in kept if not torch.equal(kept[name], taught[name])] == ["1.3.weight"]


def test_the_stronger_the_pull_the_smaller_the_change(network, speaker):
    old = network[0][1][-1].weight
    change = [(adapted(*network, *speaker, pull=pull)[1][-1].weight - old).norm().item() for pull in (0.01, 1.0, 1e4)]
    assert change[0] > change[1] > change[2] and change[2] < 1e-3


def test_features_are_what_the_last_layer_gets(network, speaker):
    with torch.no_grad():
        whole = network[0](as_input(mel_picture(read_clip(speaker[0][0], 22_050)), network[1]))
        assert torch.allclose(network[0][1][-1](clip_features(speaker[0][:1], *network)), whole, atol=1e-4)
