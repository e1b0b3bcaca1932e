"""Predictions as a table, and the scores that can be read off it; scikit-learn is the oracle."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from torch import nn

from emotion_helpers import EmotionHelpersError
from emotion_helpers.clips import EMOTIONS, parse_name
from emotion_helpers.evaluation import calibrate, fit_temperature, predict_clips, scores
from emotion_helpers.training import Augment, fastai

NAMES = list(EMOTIONS)


# ---- predictions


class RedReader(nn.Module):
    """A network that needs no training: the n-th emotion is the answer where red is n / 8."""

    def __init__(self):
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(10.0))

    def forward(self, pictures):
        red = pictures[:, 0].mean(dim=(1, 2)).as_subclass(torch.Tensor)
        return -self.sharpness * (red[:, None] - torch.arange(8) / 8).abs()


@pytest.fixture
def clips(tmp_path):
    """Pictures whose red is the number of their emotion; the table of their clips is shuffled."""
    rows = []
    for actor in (1, 2, 3):
        for i, emotion in enumerate(EMOTIONS):
            row = parse_name(f"03-01-{i + 1:02}-01-01-01-{actor:02}.png")
            rows.append(row)
            (tmp_path / emotion).mkdir(exist_ok=True)
            image = Image.new("RGB", (8, 8), (i * 32, 0, 0))
            image.save(tmp_path / emotion / f"{row['clip_id']}.png")
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


@pytest.fixture
def learner(clips, tmp_path):
    """A function that makes a learner for two actors' pictures and the emotions in any order."""
    valid = set(clips.clip_id[clips.speaker != "Actor_01"])

    def make(vocab=NAMES, batch_tfms=()):
        block = fastai.DataBlock(
            blocks=(fastai.ImageBlock, fastai.CategoryBlock(vocab=vocab, sort=False)),
            get_items=fastai.get_image_files,
            get_y=fastai.parent_label,
            splitter=fastai.FuncSplitter(lambda picture: picture.stem in valid),
            batch_tfms=list(batch_tfms),
        )
        loaders = block.dataloaders(tmp_path, bs=5, num_workers=0, device="cpu")
        learn = fastai.Learner(loaders, RedReader(), loss_func=fastai.CrossEntropyLossFlat())
        learn.remove_cb(fastai.ProgressCallback)
        return learn

    return make


def test_each_clip_gets_its_own_prediction(clips, learner):
    table = predict_clips(learner(), clips)
    assert list(table) == ["clip_id", "corpus", "speaker", "truth", "predicted", *EMOTIONS]
    assert sorted(table.clip_id) == sorted(clips.clip_id[clips.speaker != "Actor_01"])
    names = pd.DataFrame(map(parse_name, table.clip_id))  # the file's name says what is true
    assert list(table.truth) == list(table.predicted) == list(names.emotion)
    assert list(table.speaker) == list(names.speaker)
    assert set(table.corpus) == {"ravdess"}
    assert table[NAMES].sum(axis=1).to_numpy() == pytest.approx(np.ones(16), abs=1e-5)


def test_the_columns_go_by_the_learners_own_order_of_emotions(clips, learner):
    vocab = sorted(EMOTIONS)  # fastai's own order: red of 1/8 is now calm, not neutral
    table = predict_clips(learner(vocab), clips)
    numbers = [int(clip_id[6:8]) - 1 for clip_id in table.clip_id]
    assert list(table.predicted) == [vocab[number] for number in numbers]


def test_a_network_whose_training_diverged_is_called_so(learner):
    learn = learner()
    learn.model.sharpness.data.fill_(float("nan"))
    with pytest.raises(EmotionHelpersError, match=r"no numbers.*lower rates"):
        predict_clips(learn, None)


def darker(pictures):
    return 0.5 * pictures


def test_augmented_copies_count_three_quarters_and_the_picture_as_it_is_one(clips, learner):
    """As in `distillation.soft_labels`."""
    table = predict_clips(learner(batch_tfms=[Augment(darker)]), clips, n_tta=3)
    red = torch.tensor([32 * NAMES.index(emotion) / 255 for emotion in table.truth])
    plain, copies = (
        RedReader()(colour[:, None, None, None]).softmax(dim=1) for colour in (red, darker(red))
    )
    expected = 0.25 * plain + 0.75 * copies
    assert table[NAMES].to_numpy() == pytest.approx(expected.detach().numpy(), abs=1e-5)
    assert list(table.predicted) == [NAMES[i] for i in expected.argmax(dim=1)]


# ---- scores


@pytest.fixture(scope="module")
def table():
    """500 predictions, mostly right; TESS has no calm clips but some are called so."""
    rng = np.random.default_rng(0)
    corpus = rng.choice(["ravdess", "tess"], 500)
    truth = rng.choice([name for name in EMOTIONS if name != "calm"], 500)
    truth = np.where(corpus == "tess", truth, rng.choice(EMOTIONS, 500))
    predicted = np.where(rng.random(500) < 0.6, truth, rng.choice(EMOTIONS, 500))
    return pd.DataFrame({"corpus": corpus, "truth": truth, "predicted": predicted})


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_scores_are_scikit_learns_accuracy_and_balanced_accuracy(table):
    result = scores(table)
    assert list(result.index) == ["all", "ravdess", "tess"]
    for corpus, row in result.iterrows():
        part = table if corpus == "all" else table[table.corpus == corpus]
        answers = part.truth, part.predicted
        assert row.clips == len(part)
        assert row.accuracy == pytest.approx(100 * accuracy_score(*answers))
        assert row.uar == pytest.approx(100 * balanced_accuracy_score(*answers))


def test_a_corpus_that_is_not_there_has_no_scores(table):
    assert list(scores(table[table.corpus == "tess"]).index) == ["all", "tess"]


# ---- calibration


@pytest.fixture(scope="module")
def bold():
    """2,000 answers, right as often as a network says, then made three times bolder than that."""
    rng = np.random.default_rng(1)
    logits = pd.DataFrame(rng.normal(0, 1.2, (2000, 8)), columns=NAMES)
    right = np.exp(logits).div(np.exp(logits).sum(axis=1), axis=0)
    truth = [rng.choice(NAMES, p=row) for row in right.to_numpy()]
    table = np.exp(3 * logits).div(np.exp(3 * logits).sum(axis=1), axis=0)
    return table.assign(truth=truth, predicted=table.idxmax(axis=1))


def test_the_temperature_says_how_much_too_bold_a_network_is(bold):
    assert fit_temperature(bold) == pytest.approx(3, abs=0.2)
    assert fit_temperature(calibrate(bold, 3)) == pytest.approx(1, abs=0.07)


def test_the_temperature_lowers_the_log_loss_and_leaves_the_answers(bold):
    after = calibrate(bold, fit_temperature(bold))
    names = sorted(EMOTIONS)
    losses = [log_loss(part.truth, part[names], labels=names) for part in (bold, after)]
    assert losses[1] < 0.8 * losses[0]
    assert (after[NAMES].idxmax(axis=1) == bold.predicted).all()
    assert after[NAMES].sum(axis=1).to_numpy() == pytest.approx(np.ones(2000))


def test_each_row_may_have_its_own_temperature_and_it_can_be_undone(bold):
    temperatures = np.linspace(0.5, 3, 2000)[:, None]
    after = calibrate(bold, temperatures)
    assert after.iloc[-1][NAMES].tolist() == pytest.approx(
        calibrate(bold.tail(1), 3).iloc[0][NAMES].tolist()
    )
    again = calibrate(after, 1 / temperatures)
    assert again[NAMES].to_numpy() == pytest.approx(bold[NAMES].to_numpy(), abs=1e-5)


def test_an_answer_without_doubt_can_be_calibrated():
    table = pd.DataFrame([dict.fromkeys(EMOTIONS, 0.0) | {"sad": 1.0}])
    assert calibrate(table, 2.0).sad[0] == pytest.approx(1, abs=1e-4)
