"""Evaluation: predictions as a table with a row per clip, scores, calibration."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import accuracy_score, log_loss, recall_score

from . import EmotionHelpersError
from .clips import EMOTIONS


def predict_clips(learn, clips: pd.DataFrame, n_tta: int = 0) -> pd.DataFrame:
    """A fastai learner's answers about its validation set: a row per clip.

    Columns: clip_id, corpus, speaker, truth, predicted, the probability of each emotion. `n_tta`:
    three quarters are the mean of so many augmented copies. NaN raises `EmotionHelpersError`."""
    predictions, _ = learn.tta(ds_idx=1, n=n_tta) if n_tta else learn.get_preds(ds_idx=1)
    if not predictions.isfinite().all():
        raise EmotionHelpersError(
            "training diverged, answers are no numbers: train anew, at lower rates"
        )
    clip_ids = [picture.stem for picture in learn.dls.valid_ds.items]
    table = clips.set_index("clip_id").loc[clip_ids, ["corpus", "speaker", "emotion"]]
    table = table.rename(columns={"emotion": "truth"}).reset_index()
    probabilities = pd.DataFrame(predictions.numpy(), columns=learn.dls.vocab)[list(EMOTIONS)]
    return table.assign(predicted=probabilities.idxmax(axis=1)).join(probabilities)


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Clips, accuracy [%] and UAR [%], for all clips and for each corpus that is there.

    UAR, unweighted average recall: the mean over the emotions of the share that was recognised."""
    rows = {}
    for corpus, part in (("all", table), *table.groupby("corpus")):
        answers, labels = (part.truth, part.predicted), sorted(set(part.truth))
        uar = 100 * recall_score(*answers, labels=labels, average="macro")
        rows[corpus] = {"clips": len(part), "accuracy": 100 * accuracy_score(*answers), "uar": uar}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("corpus")


def calibrate(table: pd.DataFrame, temperature) -> pd.DataFrame:
    """The same table with softer (temperature above 1) or sharper probabilities (below);
    `temperature`: one, or one per row, shape (n, 1)."""
    logits = np.log(table[list(EMOTIONS)].to_numpy(float).clip(1e-12)) / temperature
    return table.assign(**dict(zip(EMOTIONS, softmax(logits, axis=1).T, strict=True)))


def fit_temperature(table: pd.DataFrame) -> float:
    """The temperature whose `calibrate` gives these predictions the lowest log loss;
    Guo et al. 2017, arXiv:1706.04599."""
    names = sorted(EMOTIONS)  # scikit-learn's order

    def loss(log_temperature):
        return log_loss(table.truth, calibrate(table, np.exp(log_temperature))[names], labels=names)

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x))
