"""Neighbours: the training clips most like a recording."""
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.metrics.pairwise import cosine_similarity

from emotion_helpers import neighbours as module
from emotion_helpers.clips import find_clips, read_clip
from emotion_helpers.neighbours import FILE, clip_file, nearest, read_neighbours
from emotion_helpers.pictures import mel_picture
from emotion_helpers.prediction import as_input, features


@pytest.fixture(scope="module")
def known(demo_network):
    return read_neighbours(demo_network)


def picture_of(clip, demo_corpus):
    return mel_picture(read_clip(next(demo_corpus.rglob(f"{clip}.wav")), 22_050))


def test_they_are_the_clips_that_the_network_heard(known, network, demo_corpus):
    clips = find_clips(demo_corpus)[0].set_index("clip")
    heard = clips[(clips.corpus == "ravdess") & ~clips.speaker.isin(network[1]["strangers"])]
    assert set(known[0]["clip"]) == set(heard.index)
    assert (known[0].emotion == heard.emotion.loc[known[0]["clip"]].to_numpy()).all()


def test_a_training_clip_is_most_like_itself(known, network, demo_corpus):
    row = known[0].iloc[5]
    clip, likeness = nearest(picture_of(row["clip"], demo_corpus), row.emotion, known, *network)
    assert clip == row["clip"] and likeness == pytest.approx(1, abs=0.01)


def test_the_nearest_of_an_emotion_is_the_one_with_the_smallest_angle(known, network, demo_corpus):
    clips, found = known
    stranger = find_clips(demo_corpus)[0].query("speaker == 'Actor_20'")["clip"].iloc[0]
    picture = picture_of(stranger, demo_corpus)
    own, middle = features(as_input(picture, network[1]), network[0]).numpy(), found.mean(axis=0)
    likeness = cosine_similarity(own - middle, found - middle)[0]
    for emotion in ("sad", "angry"):
        mine = np.where(clips.emotion == emotion)[0]
        clip, said = nearest(picture, emotion, known, *network)
        assert clip == clips["clip"][mine[likeness[mine].argmax()]] and said == pytest.approx(likeness[mine].max(), abs=1e-4)


def test_a_model_without_them_has_none(tmp_path):
    assert read_neighbours(tmp_path) is None


def test_a_file_that_is_something_else_is_named_and_not_executed(tmp_path, demo_network):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    def other(features, **metadata):
        save_file({"features": features}, tmp_path / "other", metadata=metadata)
        return (tmp_path / "other").read_bytes()

    whole, one = (demo_network / FILE).read_bytes(), torch.zeros(1, 512)
    clips = json.dumps([("a", "sad")])
    for content in (pickle.dumps(Trap()), whole[:1000], b"", other(one), other(one, clips="[["), other(one, clips="[3]"), other(one, clips="7"),
                    other(torch.zeros(1, 5), clips=clips), other(torch.zeros(2, 512), clips=clips), other(one / 0, clips=clips), other(one[:0], clips="[]"),
                    other(one, clips=json.dumps([("a", "bored")])), other(one, clips=json.dumps([("../a", "sad")]))):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(ValueError, match=f"{FILE}: not the features of training clips"):
            read_neighbours(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_clip_is_looked_for_below_the_corpus_only(tmp_path, monkeypatch, tone):
    monkeypatch.setattr(module, "ROOT", tmp_path)
    tone(tmp_path / "secret.wav")
    there = tone(tmp_path / "data/demo/RAVDESS/Actor_01/03-01-05-01-01-01-01.wav")
    assert clip_file("03-01-05-01-01-01-01", "demo") == there
    for name in ("03-01-05-01-01-01-02", "../../secret", "*"):
        with pytest.raises(FileNotFoundError, match="it is not in .*demo"):
            clip_file(name, "demo")
