"""Distillation: what noise, babble, rooms and telephones do to a picture, and who teaches whom."""

import math
from types import SimpleNamespace

import pytest
import torch

from emotion_helpers.augmentation import shift_and_stretch, spec_augment
from emotion_helpers.beyond.cross_validation import begin_stage
from emotion_helpers.beyond.distillation import (
    CORRUPTIONS,
    add_babble,
    add_noise,
    add_reverb,
    band_limit,
    begin_distillation,
    corrupt,
    soft_labels,
)
from emotion_helpers.models import Network, Recipe, build_network, normalize
from emotion_helpers.pictures import SpectrogramSettings
from emotion_helpers.training import fastai


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def decibels(power):
    """Below the loudest that a clean picture can be."""
    return 10 * power.log10()


def power_of(pictures):
    return 10 ** (8 * (pictures - 1))


# ---- what is done to a picture


def test_noise_is_a_floor_35_to_75_db_down_that_leans_by_up_to_10_db():
    floor = (
        decibels(add_noise(power_of(torch.zeros(300, 3, 20, 30)))).median(dim=3).values.flatten(1)
    )
    assert -76 < floor.mean(dim=1).min() < -70
    assert -40 < floor.mean(dim=1).max() < -34
    assert -80 < floor.min() < -77  # the softest noise at its soft end
    assert -30 < floor.max() < -24


def test_the_powers_of_noise_and_voice_add():
    tone = torch.full((300, 3, 20, 30), 0.8)  # -16 dB
    noisy = decibels(add_noise(power_of(tone)))
    assert noisy.min() >= -16.001
    assert noisy.median() == pytest.approx(-16, abs=0.2)


def test_babble_is_the_other_voices_each_softer_than_the_own():
    voices = torch.zeros(8, 3, 10, 40)
    for i in range(8):
        voices[i, :, i] = 1  # each on a row of its own
    mixed = add_babble(power_of(voices))
    for i in range(8):
        others = torch.cat([mixed[i, 0, :i], mixed[i, 0, i + 1 : 8]])
        assert mixed[i, :, i] == pytest.approx(torch.ones(3, 40), rel=1e-4)
        assert 1.5e-8 < others.max() < 1
        silent = mixed[i, :, 8:]
        assert (silent < 1.01 * silent.min() + 5e-8).all()  # nobody speaks there


def test_babble_of_a_batch_of_one_is_that_voice_and_finite():
    mixed = add_babble(power_of(torch.rand(1, 3, 8, 40)))
    assert mixed.shape == (1, 3, 8, 40)
    assert mixed.isfinite().all()


def test_echoes_follow_a_sound_and_die_away():
    click = torch.zeros(20, 3, 5, 60)
    click[..., 10] = 1
    levels = decibels(add_reverb(power_of(click)))
    assert (levels[..., :10] < -76).all()  # nothing before it
    fall = -levels[..., 11:40].diff(dim=3)  # from column to column
    assert (fall > 0).all()
    assert 10 * math.log10(1 / 0.96) - 0.1 < fall[..., 0].min()
    assert fall[..., 0].max() < 10 * math.log10(1 / 0.85) + 0.1


def test_a_telephone_passes_the_middle_of_the_frequencies():
    passed = (band_limit(torch.ones(500, 3, 100, 4)) > 0)[:, 0, :, 0]
    assert passed[:, 45:85].all()
    highest, lowest = passed.byte().argmax(dim=1), 99 - passed.flip(1).byte().argmax(dim=1)
    assert highest.min() <= 1
    assert 40 <= highest.max() <= 45  # up to 45 % are cut at the top, row 0
    assert 84 <= lowest.min() <= 87
    assert (lowest == 99).float().mean() == pytest.approx(0.5, abs=0.08)  # half of the time


@pytest.mark.parametrize("corruption", dict.fromkeys(CORRUPTIONS), ids=lambda one: one.__name__)
def test_a_corruption_leaves_its_input_alone_and_gives_finite_power(corruption):
    power = power_of(torch.rand(8, 3, 16, 40))
    before = power.clone()
    changed = corruption(power)
    assert torch.equal(power, before)
    assert changed.shape == power.shape
    assert changed.isfinite().all()
    assert changed.min() >= 0


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_the_share_asked_for_is_corrupted_and_the_rest_is_as_it_was(share):
    pictures = torch.rand(2000, 3, 20, 8)
    changed = (corrupt(pictures, share) != pictures).flatten(1).any(dim=1).float().mean()
    unseen = share / 6 * 0.06  # a telephone may cut less than a row
    assert changed == pytest.approx(share - unseen, abs=0.03)
    assert torch.equal(corrupt(pictures, 0.0), pictures)


def test_the_loudest_point_stays_white_and_nothing_is_blacker_than_black():
    pictures = torch.rand(500, 3, 8, 12)
    pictures[:, :, 4, 6] = 1
    corrupted = corrupt(pictures, 1.0)
    assert corrupted.amax(dim=(1, 2, 3)) == pytest.approx(torch.ones(500), abs=1e-3)
    assert corrupted.min() >= 0


def test_decibels_are_the_same_whatever_is_black():
    """One sound, in pictures that go down to -80 and to -40 dB."""
    sound = -40 * torch.rand(200, 3, 8, 12)
    sound[:, :, 4, 6] = 0
    levels = []
    for top_db in (80, 40):
        torch.manual_seed(1)
        levels.append(top_db * (corrupt(1 + sound / top_db, 1.0, top_db) - 1))
    assert levels[1] == pytest.approx(levels[0].clamp(min=-40), abs=0.01)
    assert (levels[0] - sound).abs().flatten(1).amax(dim=1).median() > 1  # something was done


def test_silence_stays_black():
    assert torch.equal(corrupt(torch.zeros(200, 3, 8, 12), 1.0), torch.zeros(200, 3, 8, 12))


# ---- who teaches whom


class Ear(torch.nn.Module):
    """It answers by how bright a picture's upper half is, and remembers what it is asked."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 8)
        self.asked = []

    def forward(self, pictures):
        self.asked.append((self.training, pictures.detach().clone()))
        return self.linear(pictures[:, :, :8].mean(dim=(1, 2, 3))[:, None])


CALM, ANGRY = 1, 4
PUPIL = Recipe(start=Recipe(), corruption_p=1.0, mixup=0.0, epochs=1)


@pytest.fixture
def teacher():
    """It says that everything is calm."""
    ear = Ear().eval()
    torch.nn.init.zeros_(ear.linear.weight)
    ear.linear.bias.data = 3.0 * torch.eye(8)[CALM]
    return ear


@pytest.fixture
def learn():
    """A learner whose eight pictures, and the eight that it is examined on, are all angry."""
    pictures = normalize(torch.rand(8, 3, 16, 32))
    labelled = [(picture, torch.tensor(ANGRY)) for picture in pictures]
    loaders = [fastai.DataLoader(labelled, bs=8, num_workers=0) for _ in range(2)]
    loss = fastai.CrossEntropyLossFlat()
    return fastai.Learner(fastai.DataLoaders(*loaders, device="cpu"), Ear(), loss_func=loss)


def clean_pictures(learn):
    return next(iter(learn.dls.train))[0]


def test_the_pupil_begins_as_its_teacher():
    teacher, pupil = build_network((2, 1)), SimpleNamespace(model=build_network((2, 1)))
    pupil.dls, pupil.add_cb = SimpleNamespace(device="cpu"), lambda _: None
    begin_stage(pupil, Network(teacher, SpectrogramSettings(), Recipe(), {}), PUPIL)
    weights = pupil.model.state_dict()
    assert weights
    assert all(torch.equal(weights[name], value) for name, value in teacher.state_dict().items())


def test_the_pupil_learns_what_the_teacher_says_and_not_the_labels(learn, teacher):
    learn.model.load_state_dict(teacher.state_dict())
    begin_distillation(learn, teacher, PUPIL, 80.0)
    learn.model.linear.bias.data.zero_()  # it forgets
    learn.fit(60, 0.1)
    answers = learn.model(clean_pictures(learn)).softmax(dim=1)
    expected = teacher(clean_pictures(learn)).softmax(dim=1)
    assert answers.detach() == pytest.approx(expected.detach(), abs=0.1)
    assert teacher.linear.bias.tolist() == (3.0 * torch.eye(8)[CALM]).tolist()  # who learns nothing


@pytest.mark.parametrize("n_copies", [1, 3])
def test_the_picture_counts_a_quarter_and_copies_of_it_three_quarters(n_copies):
    recipe = Recipe(shift=0.3, stretch=0.2, pitch=0.1, mask_size=0.4)
    torch.manual_seed(0)
    pictures, ear = torch.rand(2, 3, 64, 64), Ear().eval()
    torch.manual_seed(5)
    copies = torch.cat([pictures] * n_copies)
    copies = shift_and_stretch(copies, shift=0.3, stretch=0.2, pitch=0.1)
    copies = spec_augment(copies, mask_size=0.4)
    of_copies = ear(normalize(copies)).softmax(dim=1).reshape(n_copies, 2, 8)
    plain = ear(normalize(pictures)).softmax(dim=1).detach()
    expected = 0.25 * plain + 0.75 * of_copies.mean(dim=0).detach()
    torch.manual_seed(5)
    assert soft_labels(ear, pictures, recipe, n_copies) == pytest.approx(expected)
    assert expected != pytest.approx(plain, abs=1e-3)


def test_the_teacher_is_asked_about_clean_pictures_and_copies_of_them(learn, teacher):
    begin_distillation(learn, teacher, PUPIL, 80.0)
    learn.fit(1, 0.0)
    (_, asked), clean = teacher.asked[0], clean_pictures(learn)
    assert len(asked) == 8 * (1 + 4)
    assert asked[:8] == pytest.approx(clean, abs=1e-4)
    for copy in asked[8:].split(8):
        assert all((copy - clean).abs().amax(dim=(1, 2, 3)) > 0.1)


def test_the_pupil_is_trained_on_corrupted_pictures_and_examined_on_clean_ones(learn, teacher):
    begin_distillation(learn, teacher, PUPIL, 80.0)
    learn.fit(1, 0.0)
    pictures = dict(learn.model.asked)  # by whether it is training
    changed = (pictures[True] - clean_pictures(learn)).abs().amax(dim=(1, 2, 3)) > 0.01
    assert changed.float().mean() > 0.7
    assert torch.equal(pictures[False], clean_pictures(learn))


def test_where_nothing_is_to_be_corrupted_the_pupil_is_trained_on_clean_pictures(learn, teacher):
    begin_distillation(learn, teacher, Recipe(corruption_p=0.0), 80.0)
    learn.fit(1, 0.0)
    (training, batch), *_ = learn.model.asked
    assert training
    assert batch == pytest.approx(clean_pictures(learn), abs=1e-4)
