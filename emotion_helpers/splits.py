"""Splits: which clips are for training and which are for testing, by clip_id."""

import pandas as pd

from . import EmotionHelpersError

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


def random_split(clips: pd.DataFrame, valid_share: float = 0.2, seed: int = 42) -> set[str]:
    """A random validation set, stratified by corpus and emotion; it knows all the speakers. Clips
    whose bytes are the same fall on one side, or validation would be in training."""
    from sklearn.model_selection import train_test_split  # not above: it takes a second

    once = clips.drop_duplicates("md5")
    strata = once.corpus + once.emotion
    valid = train_test_split(once.md5, test_size=valid_share, random_state=seed, stratify=strata)[1]
    return set(clips.clip_id[clips.md5.isin(valid)])


def speaker_folds(clips: pd.DataFrame, split: str) -> list[set[str]]:
    """The clips that each fold of a split tests on; a fold trains on others.

    "random": one fold, speakers known. "emobox" (six) and "luna" (five): RAVDESS actors who are
    never heard in training. "tess-oaf-yaf": train on OAF (and RAVDESS), test on YAF;
    "tess-yaf-oaf": the other way round. Raises `EmotionHelpersError` for another name.
    """
    if split == "random":
        return [random_split(clips)]
    folds = ACTORS | {"tess-oaf-yaf": [["YAF"]], "tess-yaf-oaf": [["OAF"]]}
    if split not in folds:
        raise EmotionHelpersError(f"there is no split {split!r}, but random, {', '.join(folds)}")
    return [set(clips.clip_id[clips.speaker.isin(fold)]) for fold in folds[split]]
