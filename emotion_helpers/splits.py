"""Splits: which clips are for training and which are for testing, by clip_id."""

import pandas as pd
from sklearn.model_selection import train_test_split

from . import EmotionHelpersError
from .clips import STATEMENTS

# RAVDESS actors of each test fold; all others are for training. emobox: github.com/emo-box/EmoBox;
# luna: Luna-Jimenez et al. 2021, doi:10.3390/s21227665, and 2022, doi:10.3390/app12010327.
FOLDS = {
    "emobox": "01 11 20 21, 04 10 12 14, 08 09 19 23, 03 05 07 24, 02 15 16 18, 06 13 17 22",
    "luna": "02 05 14 15 16, 03 06 07 13 18, 10 11 12 19 20, 08 17 21 23 24, 01 04 09 22",
}
ACTORS = {
    split: [[f"Actor_{actor}" for actor in fold.split()] for fold in folds.split(",")]
    for split, folds in FOLDS.items()
}
DOGS = STATEMENTS[1]


def random_split(clips: pd.DataFrame, valid_share: float = 0.2, seed: int = 42) -> set[str]:
    """A random validation set, stratified by corpus and emotion; it knows all the speakers. Clips
    whose bytes are the same fall on one side, or validation would be in training."""
    once = clips.drop_duplicates("md5")
    strata, share = once.corpus + once.emotion, min(valid_share, 1 - valid_share)
    if share * len(once) < strata.nunique() or strata.value_counts().min() < 2:
        raise EmotionHelpersError(f"too few clips ({len(once)}) for each emotion on both sides")
    valid = train_test_split(once.md5, test_size=valid_share, random_state=seed, stratify=strata)[1]
    return set(clips.clip_id[clips.md5.isin(valid)])


def count_folds(split: str) -> int:
    """How many folds a split has."""
    return 2 if split == "gender" else len(ACTORS.get(split.removeprefix("statement-"), "1"))


def speaker_folds(clips: pd.DataFrame, split: str) -> list[tuple[set[str], set[str]]]:
    """The clips (clip_ids) to train on and to test on, for each fold of a split.

    "random": one fold, speakers known. "emobox" (six) and "luna" (five): RAVDESS actors who are
    never heard in training. "tess-oaf-yaf": train on OAF (and RAVDESS), test on YAF;
    "tess-yaf-oaf": the other way round. "statement": train on one sentence ("Kids are ..."), test
    on the other ("Dogs are ..."), speakers known; "statement-emobox": neither speakers nor sentence
    known. "gender": test on RAVDESS's men, then its women. Others raise `EmotionHelpersError`."""
    if split == "random":
        test = random_split(clips)
        return [(set(clips.clip_id) - test, test)]
    actors = {name: [clips.speaker.isin(fold) for fold in folds] for name, folds in ACTORS.items()}
    acted, male, dogs = clips.corpus == "ravdess", clips.gender == "male", clips.text == DOGS
    splits = {
        **actors,
        "tess-oaf-yaf": [clips.speaker == "YAF"],
        "tess-yaf-oaf": [clips.speaker == "OAF"],
        "statement": [dogs],
        "statement-emobox": [(~dogs & ~fold, dogs & fold) for fold in actors["emobox"]],
        "gender": [(~male, male), (male, acted & ~male)],
    }
    if split not in splits:
        raise EmotionHelpersError(f"there is no split {split!r}, but random, {', '.join(splits)}")
    folds = [fold if isinstance(fold, tuple) else (~fold, fold) for fold in splits[split]]
    return [(set(clips.clip_id[train]), set(clips.clip_id[test])) for train, test in folds]
