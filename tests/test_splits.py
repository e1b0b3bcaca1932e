"""Splits: nobody who is tested on is in training."""

from collections import Counter

import pandas as pd
import pytest

from emotion_helpers import EmotionHelpersError
from emotion_helpers.clips import parse_name
from emotion_helpers.demo import demo_names
from emotion_helpers.splits import count_folds, random_split, speaker_folds


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
    assert [speaker[list(test)].nunique() for _, test in folds] == sizes
    for train, test in folds:
        assert not set(speaker[list(test)]) & set(speaker[list(train)])
        assert train | test == set(clips.clip_id)
    ravdess = clips.clip_id[clips.corpus == "ravdess"]
    assert Counter(clip_id for _, test in folds for clip_id in test) == Counter(ravdess)


def test_the_folds_are_the_published_ones(clips):
    """EmoBox's second fold is all women; Luna-Jimenez et al. begin with actors 2, 5, 14, 15, 16."""
    by_clip = clips.set_index("clip_id")
    assert set(by_clip.gender[list(speaker_folds(clips, "emobox")[1][1])]) == {"female"}
    first = by_clip.speaker[list(speaker_folds(clips, "luna")[0][1])]
    assert set(first) == {f"Actor_{actor:02}" for actor in (2, 5, 14, 15, 16)}


@pytest.mark.parametrize("split, tested", [("tess-oaf-yaf", "YAF"), ("tess-yaf-oaf", "OAF")])
def test_across_tess_one_woman_is_tested_on(clips, split, tested):
    ((train, test),) = speaker_folds(clips, split)
    assert test == set(clips.clip_id[clips.speaker == tested])
    assert train == set(clips.clip_id[clips.speaker != tested])


def test_random_knows_every_speaker_and_is_the_split_of_notebook_04(clips):
    ((train, test),) = speaker_folds(clips, "random")
    assert test == random_split(clips, seed=42)
    assert train == set(clips.clip_id) - test
    assert set(clips.speaker[clips.clip_id.isin(train)]) == set(clips.speaker)


def seen(clips, clip_ids, column):
    return set(clips[column][clips.clip_id.isin(clip_ids)])


def test_a_network_is_asked_about_the_sentence_that_it_never_heard(clips):
    """By speakers whom it knows; then by speakers whom it does not."""
    ((train, test),) = speaker_folds(clips, "statement")
    assert seen(clips, test, "text") == {"Dogs are sitting by the door"}
    assert train == set(clips.clip_id) - test
    assert seen(clips, test, "speaker") <= seen(clips, train, "speaker")
    asked = []
    for train, test in speaker_folds(clips, "statement-emobox"):
        asked += test
        for column in ("text", "speaker"):
            assert not seen(clips, train, column) & seen(clips, test, column)
        assert seen(clips, train, "corpus") == {"ravdess", "tess"}
    assert len(asked) == len(set(asked)) == (clips.text == "Dogs are sitting by the door").sum()


def test_women_are_trained_on_and_men_tested_on_and_the_other_way_round(clips):
    men, women = speaker_folds(clips, "gender")
    for (train, test), tested in ((men, "male"), (women, "female")):
        assert seen(clips, test, "gender") == {tested}
        assert seen(clips, train, "gender") == {"female", "male"} - {tested}
        assert seen(clips, test, "corpus") == {"ravdess"}
        assert seen(clips, test, "speaker") == set(
            clips.speaker[(clips.gender == tested) & (clips.corpus == "ravdess")]
        )


def test_a_few_clips_are_enough_for_a_split_by_speaker(clips):
    few = clips[clips.speaker.isin(["Actor_01", "Actor_02"])].drop_duplicates("emotion")
    assert len(speaker_folds(few, "emobox")) == 6


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


@pytest.mark.parametrize("share", [0.2, 0.8])
@pytest.mark.parametrize("number", [1, 10, 30])
def test_too_few_clips_for_some_of_each_emotion_are_an_error(clips, number, share):
    with pytest.raises(EmotionHelpersError, match=rf"too few clips \({number}\)"):
        random_split(clips.drop_duplicates("md5")[:number], share)


def test_an_emotion_with_one_clip_is_an_error(clips):
    angry = clips.index[(clips.emotion == "angry") & (clips.corpus == "ravdess")]
    with pytest.raises(EmotionHelpersError, match="too few clips"):
        random_split(clips.drop(angry[1:]))


@pytest.mark.parametrize("seed", range(5))
def test_clips_of_the_same_bytes_are_on_one_side(clips, seed):
    inside = clips.clip_id.isin(random_split(clips, 0.5, seed))
    assert not set(clips.md5[inside]) & set(clips.md5[~inside])
    assert inside.sum() > clips.md5[inside].nunique()  # twins are in it, both of them


def test_the_number_of_folds_is_known_before_there_are_clips(clips):
    with pytest.raises(EmotionHelpersError) as error:
        speaker_folds(clips, "?")
    splits = str(error.value).partition("but ")[2].split(", ")  # those that there are
    assert len(splits) == 8
    for split in splits:
        assert count_folds(split) == len(speaker_folds(clips, split))
