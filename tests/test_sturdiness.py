"""Sturdiness: pictures as they would look away from the studio, and the second stage of training."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emotion_helpers.sturdiness import Distil, away_from_the_studio, in_a_crowd, in_a_room, in_noise, on_the_telephone
from emotion_helpers.training import normalised


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def decibels(power):
    """Below the loudest that a clean picture can be."""
    return 10 * power.log10() - 80


def test_noise_and_voice_add_as_powers():
    silence, tone = torch.zeros(300, 3, 20, 30), torch.full((300, 3, 20, 30), 0.8)
    floor = decibels(in_noise(silence)).median(dim=3).values.flatten(1)
    assert -80 < floor.min() < -77 and -30 < floor.max() < -24  # 35 to 75 dB below, and up to 10 more or less at an end
    assert -76 < floor.mean(1).min() < -70 and -40 < floor.mean(1).max() < -34
    assert (in_noise(tone) >= 10 ** (8 * 0.8)).all() and decibels(in_noise(tone)).min() >= -16.001


def test_a_crowd_is_the_other_voices_and_softer_than_the_own():
    voices = torch.zeros(8, 3, 10, 40)
    for i in range(8):
        voices[i, :, i] = 1  # each on a row of its own
    heard = in_a_crowd(voices)
    for i in range(8):
        crowd = torch.cat([heard[i, 0, :i], heard[i, 0, i + 1:8]])
        assert ((0.9999e8 < heard[i, 0, i]) & (heard[i, 0, i] < 1.0001e8)).all() and 1.5 < crowd.max() < 1e8  # its own voice is not in the crowd
        assert (heard[i, :, 8:] < 1.01 * heard[i, :, 8:].amin() + 5).all()  # nobody speaks there


def test_echoes_follow_a_sound_and_die_away():
    click = torch.zeros(20, 3, 5, 60)
    click[..., 10] = 1
    after = decibels(in_a_room(click))[..., 11:40]
    assert (decibels(in_a_room(click))[..., :10] < -76).all()  # nothing before it
    fall = after[..., :-1] - after[..., 1:]
    assert (fall > 0).all() and 10 * np.log10(1 / 0.96) - 0.1 < fall[..., 0].min() and fall[..., 0].max() < 10 * np.log10(1 / 0.85) + 0.1


def test_a_telephone_passes_the_middle_of_the_frequencies():
    passed = (on_the_telephone(torch.ones(500, 3, 100, 4)) > 1)[:, 0, :, 0]
    assert passed[:, 45:85].all()
    top, bottom = 100 - passed.flip(1).byte().argmax(1) - 1, passed.byte().argmax(1)
    assert 40 <= (bottom.max()) <= 45 and bottom.min() <= 1  # counted from the top: up to 45 % of the rows are cut
    assert 84 <= top.min() <= 87 and (top == 99).float().mean() == pytest.approx(0.5, abs=0.08)


def test_the_share_is_spoilt_and_the_loudest_point_stays_white():
    x = torch.rand(1000, 3, 8, 12)
    x[:, :, 4, 6] = 1
    spoilt = away_from_the_studio(x, 0.7)
    changed = (spoilt != x).flatten(1).any(1).float().mean()
    assert 0.6 < changed < 0.75  # a telephone that cuts less than a row changes nothing
    assert spoilt.amax((1, 2, 3)).min() > 0.999 and spoilt.min() >= 0
    assert torch.equal(away_from_the_studio(x, 0.0), x)


def test_the_teacher_hears_the_studio_in_several_views_and_the_pupil_what_is_spoilt():
    heard, pixels = [], torch.rand(6, 3, 16, 32)

    def teacher(pictures):  # sure that the pictures themselves are neutral, and that views of them are calm
        heard.append(pictures)
        return torch.cat([torch.eye(8)[:1].repeat(6, 1), torch.eye(8)[1:2].repeat(len(pictures) - 6, 1)]) * 100

    distil = Distil(teacher, {"views": 8, "shift": 0.1, "stretch": 0.1, "spoilt": 1.0})
    distil.learn = SimpleNamespace(x=normalised(pixels), training=True)
    distil.before_batch()
    assert heard[0][:6].allclose(normalised(pixels), atol=1e-5) and len(heard[0]) == 30
    assert all(not torch.allclose(view, normalised(pixels), atol=0.1) for view in heard[0][6:].split(6))
    assert not torch.allclose(distil.learn.xb[0], normalised(pixels), atol=0.1)
    assert distil.learn.yb[0].allclose(torch.tensor([0.25, 0.75, 0, 0, 0, 0, 0, 0]).repeat(6, 1), atol=1e-6)


def test_validation_pictures_are_heard_as_they_are():
    distil = Distil(None, {"spoilt": 1.0})
    distil.learn = SimpleNamespace(x=torch.rand(2, 3, 4, 5), training=False)
    distil.before_batch()
    assert not hasattr(distil.learn, "xb")
