"""Splits: nobody who is tested on is in training."""

from collections import Counter

import pandas as pd
import pytest

from emotion_helpers import EmotionHelpersError
from emotion_helpers.clips import parse_name
from emotion_helpers.demo import demo_names
from emotion_helpers.splits import random_split, speaker_folds


@pytest.fixture(scope="module")
def clips():
    """24 actors and two women, as in the real corpora; every tenth clip has a twin."""
    table = pd.DataFrame([parse_name(name) for name in demo_names()])
    twin = table.groupby(["corpus", "emotion"]).cumcount() % 10 == 1
    return table.assign(md5=table.clip_id.where(~twin, table.clip_id.shift()))


@pytest.mark.parametrize("split, sizes", [("emobox", [4] * 6), ("luna", [5, 5, 5, 5, 4])])
def test_every_actor_is_tested_on_once_and_not_trained_on_then(clips, split, sizes):
    speaker = clips.set_index("clip_id").speaker
    folds = speaker_folds(clips, split)
    assert [speaker[list(test)].nunique() for test in folds] == sizes
    for test in folds:
        assert not set(speaker[list(test)]) & set(speaker.drop(list(test)))
    ravdess = clips.clip_id[clips.corpus == "ravdess"]
    assert Counter(clip_id for test in folds for clip_id in test) == Counter(ravdess)


def test_the_folds_are_the_published_ones(clips):
    """EmoBox's second fold is all women; Luna-Jimenez et al. begin with actors 2, 5, 14, 15, 16."""
    by_clip = clips.set_index("clip_id")
    assert set(by_clip.gender[list(speaker_folds(clips, "emobox")[1])]) == {"female"}
    first = by_clip.speaker[list(speaker_folds(clips, "luna")[0])]
    assert set(first) == {f"Actor_{actor:02}" for actor in (2, 5, 14, 15, 16)}


@pytest.mark.parametrize("split, tested", [("tess-oaf-yaf", "YAF"), ("tess-yaf-oaf", "OAF")])
def test_across_tess_one_woman_is_tested_on(clips, split, tested):
    (test,) = speaker_folds(clips, split)
    assert test == set(clips.clip_id[clips.speaker == tested])


def test_random_knows_every_speaker_and_is_the_split_of_notebook_04(clips):
    (test,) = speaker_folds(clips, "random")
    assert test == random_split(clips, seed=42)
    assert set(clips.speaker[~clips.clip_id.isin(test)]) == set(clips.speaker)


def test_another_split_is_an_error_that_names_those_there_are(clips):
    with pytest.raises(EmotionHelpersError, match=r"'emobx'.*random, emobox, luna, tess-oaf-yaf"):
        speaker_folds(clips, "emobx")


# ---- the random split


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_it_takes_the_same_share_of_each_corpus_and_emotion(clips, share):
    once = clips.drop_duplicates("md5")
    valid = once[once.clip_id.isin(random_split(clips, share))]
    keys = ["corpus", "emotion"]
    expected = share * once.groupby(keys).size()
    assert ((valid.groupby(keys).size() - expected).abs() <= 1).all()


def test_it_depends_on_its_seed_only(clips):
    assert random_split(clips, seed=1) == random_split(clips.copy(), seed=1)
    assert random_split(clips, seed=1) != random_split(clips, seed=2)


@pytest.mark.parametrize("seed", range(5))
def test_clips_of_the_same_bytes_are_on_one_side(clips, seed):
    inside = clips.clip_id.isin(random_split(clips, 0.5, seed))
    assert not set(clips.md5[inside]) & set(clips.md5[~inside])
    assert inside.sum() > clips.md5[inside].nunique()  # twins are in it, both of them
