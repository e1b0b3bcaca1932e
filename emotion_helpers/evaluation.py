"""Step 4, evaluation: predictions as a table, one row a clip, and the scores that can be read off it."""
import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from .clips import CORPORA, EMOTIONS

# What listeners recognised on the same audio-only clips [%]; neutral and calm were accepted for each other.
# Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391, ratings S1 to S4.
LISTENERS = {"all": 62.4, "normal": 58.0, "strong": 67.4, "neutral": 81.7, "calm": 81.7, "happy": 36.6, "sad": 47.9, "angry": 74.6,
             "fearful": 66.2, "disgust": 51.9, "surprised": 67.9}


def predict_clips(learn, clips: pd.DataFrame) -> pd.DataFrame:
    """One prediction of a fastai learner's whole validation set: a row a clip with clip, corpus, speaker, truth, predicted
    and a probability for each emotion."""
    probabilities, _ = learn.get_preds(ds_idx=1)
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
