"""Splits: which clips are for training and which are for testing, by name."""
import pandas as pd
from sklearn.model_selection import train_test_split

# RAVDESS actors of each test fold; all other actors are for training. EmoBox: github.com/emo-box/EmoBox, data/ravdess/fold_N.
# Luna: Luna-Jimenez et al. 2021, doi:10.3390/s21227665, and 2022, doi:10.3390/app12010327.
ACTORS = {
    "emobox": ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22)),
    "luna": ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22)),
}
SPLITS = ("random", *ACTORS, "tess-oaf-yaf", "tess-yaf-oaf")


def random_split(clips: pd.DataFrame, valid_share: float = 0.2, seed: int = 42) -> set[str]:
    """Names (`clip`) of a random validation set, stratified by corpus and emotion; it knows all the speakers.

    Clips whose bytes are the same fall on one side together, or validation would be in training.
    """
    once = clips.drop_duplicates("md5")
    _, valid = train_test_split(once.md5, test_size=valid_share, random_state=seed, stratify=once.corpus + once.emotion)
    return set(clips.loc[clips.md5.isin(valid), "clip"])


def folds_of(clips: pd.DataFrame, split: str) -> list[set[str]]:
    """The clips (names) that each fold of a split tests on; a fold trains on all others.

    "random": one fold, speakers known. "emobox" (six) and "luna" (five): RAVDESS actors never heard; TESS is for training.
    "tess-oaf-yaf": train on OAF (and RAVDESS), test on YAF; "tess-yaf-oaf": the other way. Raises ValueError for another.
    """
    if split == "random":
        return [random_split(clips)]
    if split in ACTORS:
        speakers = [[f"Actor_{actor:02}" for actor in fold] for fold in ACTORS[split]]
    elif split in SPLITS:
        speakers = [[split[-3:].upper()]]
    else:
        raise ValueError(f"there is no split {split!r}; there are {', '.join(SPLITS)}")
    return [set(clips.loc[clips.speaker.isin(fold), "clip"]) for fold in speakers]
