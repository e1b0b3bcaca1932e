"""Predictions as a table, and the scores that can be read off it."""
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.vision.all import CategoryBlock, CrossEntropyLossFlat, DataBlock, ImageBlock, Learner, get_image_files, parent_label
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from torch import nn

from emotion_helpers.clips import EMOTIONS
from emotion_helpers.evaluation import (calibrate, calibration_error, confusion, fit_temperature, most_confused, most_wrong,
                                        predict_clips, recall_by_corpus, reliability, scores)
from emotion_helpers.training import split_by_clip


@pytest.fixture(scope="module")
def table():
    """500 predictions, mostly right; TESS has no calm clips but some are called so."""
    rng = np.random.default_rng(0)
    corpus = rng.choice(["ravdess", "tess"], 500)
    truth = np.where(corpus == "tess", rng.choice([e for e in EMOTIONS if e != "calm"], 500), rng.choice(EMOTIONS, 500))
    return pd.DataFrame(dict(corpus=corpus, truth=truth, predicted=np.where(rng.random(500) < 0.6, truth, rng.choice(EMOTIONS, 500))))


def called(*rows):
    """A table of predictions by hand: rows of clip, truth, and the probabilities of some emotions."""
    table = pd.DataFrame([dict(clip=clip, truth=truth, **{e: given.get(e, 0.0) for e in EMOTIONS}) for clip, truth, given in rows])
    return table.assign(predicted=table[list(EMOTIONS)].idxmax(axis=1))


# ---- predictions


class ColourReader(nn.Module):
    """A network that needs no training: an emotion is as probable as the picture is red to 1/8, 2/8 ..."""
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        red = x[:, 0].mean(dim=(1, 2)).as_subclass(torch.Tensor)
        return -100 * (red[:, None] - torch.arange(8) / 8).abs() + self.unused


@pytest.fixture
def coloured(tmp_path):
    """Pictures whose redness is the number of their emotion, the table of their clips in another order, and the reader."""
    rows = []
    for actor in (1, 2, 3):
        for i, emotion in enumerate(EMOTIONS):
            rows.append(dict(clip=f"03-01-{i + 1:02}-01-01-01-{actor:02}", corpus="ravdess", speaker=f"Actor_{actor:02}", emotion=emotion))
            (tmp_path / emotion).mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (i * 32, 0, 0)).save(tmp_path / emotion / f"{rows[-1]['clip']}.png")
    clips = pd.DataFrame(rows).sample(frac=1, random_state=0)

    def learner(vocab):
        block = DataBlock(blocks=(ImageBlock, CategoryBlock(vocab=vocab, sort=False)), get_items=get_image_files, get_y=parent_label,
                          splitter=split_by_clip(set(clips["clip"][clips.speaker != "Actor_01"])))
        dls = block.dataloaders(tmp_path, bs=5, num_workers=0, device="cpu")
        return Learner(dls, ColourReader(), loss_func=CrossEntropyLossFlat())
    return clips, learner


def test_each_clip_gets_its_own_prediction(coloured):
    clips, learner = coloured
    table = predict_clips(learner(list(EMOTIONS)), clips)
    assert sorted(table["clip"]) == sorted(clips["clip"][clips.speaker != "Actor_01"])
    assert list(table.columns) == ["clip", "corpus", "speaker", "truth", "predicted", *EMOTIONS]
    code = table["clip"].str[6:8].astype(int) - 1  # the file's name says what is true
    assert list(table.truth) == list(table.predicted) == [EMOTIONS[i] for i in code]
    assert list(table.speaker) == ["Actor_" + clip[-2:] for clip in table["clip"]]
    assert table[list(EMOTIONS)].sum(axis=1).to_numpy() == pytest.approx(np.ones(16), abs=1e-5)  # probabilities


def test_the_columns_are_named_by_the_learners_own_order_of_emotions(coloured):
    clips, learner = coloured
    table = predict_clips(learner(sorted(EMOTIONS)), clips)  # fastai's own order: the reader's 1/8 is now "calm", not "neutral"
    reddest = table["clip"].str[6:8].astype(int) - 1
    assert list(table.predicted) == [sorted(EMOTIONS)[i] for i in reddest]


# ---- scores


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_scores_are_scikit_learns_accuracy_and_balanced_accuracy(table):
    found = scores(table)
    assert list(found.index) == ["all", "ravdess", "tess"]
    for corpus, row in found.iterrows():
        part = table if corpus == "all" else table[table.corpus == corpus]
        assert row.clips == len(part)
        assert row.accuracy == pytest.approx(100 * accuracy_score(part.truth, part.predicted))
        assert row.uar == pytest.approx(100 * balanced_accuracy_score(part.truth, part.predicted))


def test_a_corpus_that_is_not_there_has_no_scores(table):
    assert list(scores(table[table.corpus == "tess"]).index) == ["all", "tess"]


def test_confusion_counts_every_clip_once(table):
    counts = confusion(table)
    assert list(counts.index) == list(counts.columns) == list(EMOTIONS)
    assert counts.sum(axis=1).to_dict() == {e: (table.truth == e).sum() for e in EMOTIONS}
    assert counts.sum(axis=0).to_dict() == {e: (table.predicted == e).sum() for e in EMOTIONS}
    assert counts.loc["sad", "calm"] == ((table.truth == "sad") & (table.predicted == "calm")).sum()


def test_recall_is_the_share_of_an_emotions_clips_that_was_recognised(table):
    recall = recall_by_corpus(table)
    assert list(recall.index) == list(EMOTIONS) and set(recall.columns) == {"ravdess", "tess"}
    assert np.isnan(recall.loc["calm", "tess"]) and recall.isna().sum().sum() == 1
    sad = table[(table.corpus == "tess") & (table.truth == "sad")]
    assert recall.loc["sad", "tess"] == pytest.approx(100 * (sad.predicted == "sad").mean())
    assert recall.mean().to_dict() == pytest.approx(scores(table).uar[["ravdess", "tess"]].to_dict())  # its mean is the uar


def test_an_emotion_that_no_clip_has_is_still_in_the_tables(table):
    happy = table[table.truth == "happy"]
    assert len(confusion(happy)) == len(recall_by_corpus(happy)) == 8


# ---- where it errs


def test_pairs_are_sorted_by_how_often_they_were_confused():
    table = called(("a", "sad", {"calm": 1.0}), ("b", "calm", {"sad": 1.0}), ("c", "sad", {"calm": 1.0}), ("d", "sad", {"sad": 1.0}),
                   ("e", "happy", {"angry": 1.0}), ("f", "sad", {"calm": 1.0}), ("g", "happy", {"angry": 1.0}))
    assert most_confused(table).values.tolist() == [["sad", "calm", 3], ["happy", "angry", 2], ["calm", "sad", 1]]


def test_the_most_wrong_clip_is_the_one_whose_truth_was_least_believed():
    table = called(("doubtful", "sad", {"sad": 0.4, "calm": 0.6}), ("right", "sad", {"sad": 0.9, "calm": 0.1}),
                   ("quite wrong", "happy", {"happy": 0.01, "angry": 0.99}), ("wrong", "calm", {"calm": 0.2, "neutral": 0.8}))
    wrong = most_wrong(table)
    assert list(wrong["clip"]) == ["quite wrong", "wrong", "doubtful"]
    assert list(wrong.probability_of_truth) == [0.01, 0.2, 0.4]


def test_without_an_error_there_is_nothing_to_list():
    table = called(("right", "sad", {"sad": 1.0}))
    assert len(most_confused(table)) == len(most_wrong(table)) == 0


# ---- calibration


@pytest.fixture(scope="module")
def bold():
    """2,000 predictions that are right as often as a network says, made three times bolder than that."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.2, (2000, 8))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = [EMOTIONS[rng.choice(8, p=p)] for p in honest]
    table = pd.DataFrame(np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True), columns=EMOTIONS)
    return table.assign(clip=range(2000), truth=truth, predicted=table.idxmax(axis=1))


def test_the_temperature_finds_how_much_too_bold_a_network_is(bold):
    assert fit_temperature(bold) == pytest.approx(3, abs=0.2)
    assert fit_temperature(calibrate(bold, 3)) == pytest.approx(1, abs=0.07)


def test_the_temperature_lowers_the_log_loss_and_leaves_the_answers(bold):
    after = calibrate(bold, fit_temperature(bold))
    columns = sorted(EMOTIONS)
    assert log_loss(bold.truth, after[columns], labels=columns) < log_loss(bold.truth, bold[columns], labels=columns)
    assert (after[list(EMOTIONS)].idxmax(axis=1) == bold.predicted).all()
    assert after[list(EMOTIONS)].sum(axis=1).to_numpy() == pytest.approx(np.ones(2000))
    assert calibration_error(after) < calibration_error(bold) / 5


def test_a_temperature_can_be_undone(bold):
    again = calibrate(calibrate(bold, 2.5), 1 / 2.5)
    assert again[list(EMOTIONS)].to_numpy() == pytest.approx(bold[list(EMOTIONS)].to_numpy(), abs=1e-6)


def test_reliability_by_hand():
    table = called(("a", "sad", {"sad": 0.95, "calm": 0.05}), ("b", "sad", {"sad": 0.05, "calm": 0.95}), ("c", "sad", {"sad": 0.75, "calm": 0.25}),
                   ("d", "sad", {"sad": 1.0}))
    bins = reliability(table)
    assert bins.clips.to_dict() == {7: 1, 9: 3}
    assert bins.accuracy.to_dict() == {7: 100, 9: pytest.approx(200 / 3)}
    assert calibration_error(table) == pytest.approx((25 + 3 * (290 / 3 - 200 / 3)) / 4)


def test_an_answer_without_doubt_can_be_calibrated():
    assert calibrate(called(("a", "sad", {"sad": 1.0})), 2.0).sad[0] == pytest.approx(1, abs=1e-4)
