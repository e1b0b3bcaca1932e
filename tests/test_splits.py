"""Splits: nobody who is tested on is in training."""
from collections import Counter

import pandas as pd
import pytest

from emotion_helpers.clips import find_clips
from emotion_helpers.splits import SPLITS, folds_of, random_split


@pytest.fixture(scope="module")
def clips(demo_corpus):
    """24 actors and two women, as in the real corpora."""
    return find_clips(demo_corpus)[0]


@pytest.mark.parametrize("split, sizes", [("emobox", [4] * 6), ("luna", [5, 5, 5, 5, 4])])
def test_every_actor_is_tested_on_once_and_not_trained_on_then(clips, split, sizes):
    speaker = clips.set_index("clip").speaker
    folds = folds_of(clips, split)
    assert [speaker[list(test)].nunique() for test in folds] == sizes
    for test in folds:
        assert not set(speaker[list(test)]) & set(speaker.drop(list(test)))  # no test speaker in training
    assert Counter(clip for test in folds for clip in test) == Counter(clips["clip"][clips.corpus == "ravdess"])


@pytest.mark.parametrize("split, tested", [("tess-oaf-yaf", "YAF"), ("tess-yaf-oaf", "OAF")])
def test_across_tess_one_woman_is_tested_on(clips, split, tested):
    (test,) = folds_of(clips, split)
    assert test == set(clips["clip"][clips.speaker == tested])


def test_emobox_fold_2_is_all_women_as_published(clips):
    by_clip = clips.set_index("clip")
    assert set(by_clip.loc[list(folds_of(clips, "emobox")[1])].gender) == {"female"}


def test_random_knows_every_speaker_and_is_the_split_of_notebook_04(clips):
    (test,) = folds_of(clips, "random")
    assert test == random_split(clips, seed=42)
    assert set(clips.speaker[clips["clip"].isin(test)]) == set(clips.speaker[~clips["clip"].isin(test)])


def test_no_split_tests_on_a_clip_whose_bytes_it_trains_on(clips):
    md5 = clips.set_index("clip").md5
    for split in SPLITS:
        for test in folds_of(clips, split):
            assert not set(md5[list(test)]) & set(md5.drop(list(test))), split


def test_another_split_is_an_error_that_names_those_there_are():
    with pytest.raises(ValueError, match="no split 'emobx'.*emobox, luna"):
        folds_of(pd.DataFrame({"clip": [], "speaker": []}), "emobx")


# ---- the random split


@pytest.fixture
def table():
    """50 clips of each of two emotions in each corpus; ten pairs of the same bytes."""
    rows = [dict(clip=f"{corpus}-{emotion}-{i}", corpus=corpus, emotion=emotion, md5=f"{corpus}-{emotion}-{i - i % 2 if i < 10 else i}")
            for corpus in ("ravdess", "tess") for emotion in ("happy", "sad") for i in range(50)]
    return pd.DataFrame(rows)


def test_the_split_takes_the_same_share_of_each_corpus_and_emotion(table):
    valid = table[table["clip"].isin(random_split(table, 0.2))]
    assert valid.groupby(["corpus", "emotion"]).md5.nunique().tolist() == [9, 9, 9, 9]  # a fifth of 45 different clips


def test_the_split_depends_on_its_seed_only(table):
    assert random_split(table, seed=1) == random_split(table.copy(), seed=1) != random_split(table, seed=2)


@pytest.mark.parametrize("seed", range(5))
def test_clips_of_the_same_bytes_are_on_one_side(table, seed):
    valid = random_split(table, 0.5, seed)
    inside = table["clip"].isin(valid)
    assert not set(table[inside].md5) & set(table[~inside].md5)
    assert len(valid) > table[inside].md5.nunique()  # pairs are in it, both clips of them
