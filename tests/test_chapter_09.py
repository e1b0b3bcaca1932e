"""Chapter 09: what it writes by hand does what the package does, and its exercise works."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from chapters import run_cells
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from emotion_helpers import corpora
from emotion_helpers.audio import read_audio
from emotion_helpers.beyond.adaptation import adapt_to_speaker
from emotion_helpers.beyond.explanation import extract_features, nearest_clips
from emotion_helpers.beyond.prediction import predict, probabilities
from emotion_helpers.clips import EMOTIONS
from emotion_helpers.pictures import mel_picture, render

GIVEN = {"names": list(EMOTIONS), "mel_picture": mel_picture, "predict": predict, "Path": Path}


def test_the_windows_by_hand_are_answered_as_the_package_answers_about_each(network, demo_clips):
    sound = read_audio(demo_clips.path.iloc[0], 22_050)
    talk = np.tile(sound, 3)
    starts = np.arange(0, len(talk) - 3 * 22_050, 22_050)
    given = GIVEN | {"talk": talk, "size": 3 * 22_050, "starts": starts, "rows": []}
    given |= {"settings": network.settings, "network": network, "probabilities": probabilities}
    rows = run_cells("09", "for at in starts", **given)["rows"]
    assert len(rows) == len(starts) >= 2
    assert np.sum(rows, axis=1) == pytest.approx(1)


def test_the_nearest_clips_by_hand_are_those_of_the_package(
    network, demo_clips, tmp_path, monkeypatch
):
    monkeypatch.setattr(corpora, "ROOT", tmp_path)
    folder = corpora.pictures_folder("demo", network.settings.name)
    render(demo_clips, folder, network.settings, n_jobs=1)
    own = read_audio(demo_clips.path.iloc[0], network.settings.sample_rate)
    given = {"clips": demo_clips, "unseen": network.info["unseen_speakers"], "CORPUS": "demo"}
    given |= {"network": network, "settings": network.settings, "own": own, "Image": Image}
    given |= {"extract_features": extract_features, "cosine_similarity": cosine_similarity}
    given |= {"pictures_folder": corpora.pictures_folder}
    texts = ("features = extract_features(", "alike = cosine_similarity(")
    by_hand = run_cells("09", *texts, **GIVEN, **given)
    expected = nearest_clips(mel_picture(own, network.settings), network)
    assert list(by_hand["ranked"].clip_id) == list(expected.clip_id)
    nearest = by_hand["nearest"]
    assert nearest["rank"].iloc[0] == 1 and nearest.emotion.is_unique
    assert list(expected.clip_id[nearest["rank"] - 1]) == list(nearest.clip_id)


@pytest.mark.parametrize("sentences", [0, 1, 3])
def test_what_it_invites_to_try_works_as_written(network, demo_clips, tmp_path, capsys, sentences):
    """A folder that is not there, one sentence of each emotion, three of each."""
    for emotion, spoken in demo_clips[demo_clips.emotion.isin(["sad", "angry"])].groupby("emotion"):
        for number, path in enumerate(spoken.path[:sentences]):
            (tmp_path / "voice").mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / "voice" / f"{emotion}-{number + 1}.wav")
    given = {"FOLDER": tmp_path / "voice", "network": network}
    made = run_cells("09", "count_right(", adapt_to_speaker=adapt_to_speaker, **GIVEN, **given)
    assert len(made["lesson"]) == (4 if sentences == 3 else 0)
    printed = capsys.readouterr().out
    assert ("after, of 2" in printed) == (sentences == 3)
