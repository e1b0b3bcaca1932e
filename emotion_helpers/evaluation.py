"""Evaluation: predictions as a table, one row a clip, and the scores that can be read off it."""
import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, recall_score

from .clips import CORPORA, EMOTIONS

# What listeners recognised on the same audio-only clips [%]; neutral and calm were accepted for each other.
# Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391, ratings S1 to S4.
LISTENERS = {"all": 62.4, "normal": 58.0, "strong": 67.4, "neutral": 81.7, "calm": 81.7, "happy": 36.6, "sad": 47.9, "angry": 74.6,
             "fearful": 66.2, "disgust": 51.9, "surprised": 67.9}

# Accuracy on RAVDESS's eight emotions [%], strangers, as their authors give it.
EMOBOX_SOURCE, LUNA_SOURCE = "EmoBox's folds, frozen, arXiv:2406.07162", "Luna-Jimenez et al. 2021, their folds, doi:10.3390/s21227665"
PUBLISHED = (
    ("wav2vec2-XLSR-53, fine-tuned", 81.8, "Luna-Jimenez et al. 2022, their folds, epoch chosen on the test fold, doi:10.3390/app12010327"),
    ("PANNs CNN14 (AudioSet)", 76.6, LUNA_SOURCE),
    ("Whisper large v3", 75.9, EMOBOX_SOURCE),
    ("WavLM large", 72.2, EMOBOX_SOURCE),
    ("HuBERT large", 70.3, EMOBOX_SOURCE),
    ("HuBERT base", 66.2, EMOBOX_SOURCE),
    ("WavLM base", 62.1, EMOBOX_SOURCE),
    ("ImageNet AlexNet on spectrograms", 61.7, LUNA_SOURCE),
    ("wav2vec 2.0 base", 55.4, EMOBOX_SOURCE),
    ("chance", 12.5, ""),
)


def predict_clips(learn, clips: pd.DataFrame, views: int = 0) -> pd.DataFrame:
    """One prediction of a fastai learner's whole validation set: a row a clip with clip, corpus, speaker, truth, predicted
    and a probability for each emotion: three quarters of the mean over so many augmented `views` of its picture and one
    quarter of the picture as it is (0 views: the picture as it is)."""
    probabilities, _ = learn.tta(ds_idx=1, n=views) if views else learn.get_preds(ds_idx=1)
    names = [picture.stem for picture in learn.dls.valid_ds.items]
    known = clips.set_index("clip").loc[names, ["corpus", "speaker", "emotion"]].rename(columns={"emotion": "truth"})
    table = known.reset_index().join(pd.DataFrame(probabilities.numpy(), columns=list(learn.dls.vocab))[list(EMOTIONS)])
    table.insert(4, "predicted", table[list(EMOTIONS)].idxmax(axis=1))
    return table


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Clips, accuracy and uar (mean recall of the emotions present), each in %, for all clips and for each corpus."""
    rows = []
    for corpus in ("all", *CORPORA):
        part = table if corpus == "all" else table[table.corpus == corpus]
        if len(part):
            uar = recall_score(part.truth, part.predicted, labels=sorted(set(part.truth)), average="macro")
            rows.append((corpus, len(part), 100 * accuracy_score(part.truth, part.predicted), 100 * uar))
    return pd.DataFrame(rows, columns=["corpus", "clips", "accuracy", "uar"]).set_index("corpus")


def confusion(table: pd.DataFrame) -> pd.DataFrame:
    """How often each emotion (rows) was called which (columns), in clips."""
    counts = confusion_matrix(table.truth, table.predicted, labels=EMOTIONS)
    return pd.DataFrame(counts, index=pd.Index(EMOTIONS, name="truth"), columns=pd.Index(EMOTIONS, name="predicted"))


def recall_by_corpus(table: pd.DataFrame) -> pd.DataFrame:
    """Share of each emotion's clips that was recognised [%], a column a corpus; NaN where a corpus lacks the emotion."""
    right = (table.truth == table.predicted).groupby([table.truth, table.corpus]).mean().unstack()
    return 100 * right.reindex(EMOTIONS)


def most_confused(table: pd.DataFrame) -> pd.DataFrame:
    """Pairs of emotions by how many clips of the first were called the second, most first."""
    wrong = table[table.truth != table.predicted]
    return wrong.groupby(["truth", "predicted"]).size().sort_values(ascending=False, kind="stable").rename("clips").reset_index()


def most_wrong(table: pd.DataFrame) -> pd.DataFrame:
    """Wrongly named clips, those first whose true emotion was given the least probability."""
    wrong = table[table.truth != table.predicted]
    given = np.take_along_axis(wrong[list(EMOTIONS)].to_numpy(), wrong.truth.map(EMOTIONS.index).to_numpy(int)[:, None], 1)
    return wrong.assign(probability_of_truth=given[:, 0]).sort_values("probability_of_truth", ignore_index=True)


# ---- calibration: does 70 % mean right in seven of ten?


def calibrate(table: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """The same predictions with their probabilities made softer (temperature above 1) or sharper (below)."""
    logits = np.log(table[list(EMOTIONS)].to_numpy().clip(1e-12)) / temperature
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    return table.assign(**dict(zip(EMOTIONS, (scaled / scaled.sum(axis=1, keepdims=True)).T)))


def clip_log_loss(table: pd.DataFrame) -> float:
    """Mean of -log(probability given to the truth), natural logarithm."""
    columns = sorted(EMOTIONS)  # scikit-learn's order
    return log_loss(table.truth, table[columns].to_numpy(), labels=columns)


def fit_temperature(table: pd.DataFrame) -> float:
    """The temperature whose `calibrate` gives these predictions the lowest log loss (Guo et al. 2017, arXiv:1706.04599)."""
    found = minimize_scalar(lambda t: clip_log_loss(calibrate(table, np.exp(t))), bounds=(-2, 2), method="bounded")
    return float(np.exp(found.x))


def reliability(table: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """For each tenth of the top probability that occurs: clips, mean top probability and accuracy, both in %."""
    top = table[list(EMOTIONS)].max(axis=1)
    said = table[list(EMOTIONS)].idxmax(axis=1)
    grouped = pd.DataFrame({"confidence": 100 * top, "accuracy": 100 * (said == table.truth)}).groupby(np.minimum((top * bins).astype(int), bins - 1))
    return grouped.mean().assign(clips=grouped.size()).rename_axis("bin")


def calibration_error(table: pd.DataFrame) -> float:
    """Expected calibration error [%]: mean distance of confidence and accuracy over the bins of `reliability`, by clips."""
    bins = reliability(table)
    return float(np.average((bins.confidence - bins.accuracy).abs(), weights=bins.clips))
