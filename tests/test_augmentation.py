"""Augmentation: lines whose place after a shift, a stretch or a mask can be said beforehand."""

import pytest
import torch

from emotion_helpers.augmentation import shift_and_stretch, spec_augment

NOTHING = {"shift": 0.0, "stretch": 0.0, "pitch": 0.0}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def vertical_line(column, n=200, size=100):
    pictures = torch.zeros(n, 3, 20, size)
    pictures[:, :, :, column] = 1
    return pictures


def columns(pictures):
    """Centre of what is bright in each picture, in columns."""
    row = pictures[:, 0, 10]
    return (row * torch.arange(row.shape[1])).sum(dim=1) / row.sum(dim=1)


def test_a_shift_moves_a_line_by_up_to_its_share_of_the_width_both_ways():
    moved = columns(shift_and_stretch(vertical_line(50), shift=0.1, stretch=0)) - 50
    assert -10.1 < moved.min() < -9
    assert 9 < moved.max() < 10.1


def test_a_stretch_moves_the_ends_and_not_the_middle():
    middle = (vertical_line(49) + vertical_line(50)) / 2
    assert columns(shift_and_stretch(middle, 0, stretch=0.2)) == pytest.approx(
        torch.full((200,), 49.5), abs=0.1
    )
    quarter = columns(shift_and_stretch(vertical_line(25), 0, stretch=0.2)) - 49.5
    assert quarter.min() == pytest.approx(-24.5 / 0.8, abs=0.7)  # 20 % slower
    assert quarter.max() == pytest.approx(-24.5 / 1.2, abs=0.7)


def test_nothing_moves_in_frequency():
    pictures = torch.zeros(50, 3, 20, 100)
    pictures[:, :, 7] = 1
    moved = shift_and_stretch(pictures)
    assert moved[:, :, 7, 40:60] == pytest.approx(torch.ones(50, 3, 20), abs=1e-4)
    assert moved[:, :, [*range(7), *range(8, 20)]].abs().max() < 1e-4


def test_what_a_shift_uncovers_is_silence():
    moved = shift_and_stretch(torch.ones(50, 3, 20, 100), shift=0.3, stretch=0)
    black = moved[:, 0, 0] == 0
    assert 20 < black.sum(dim=1).max() <= 30
    at_one_end = black[:, 0] ^ black[:, -1]
    assert torch.equal(at_one_end, black.any(dim=1))


def test_another_throat_moves_rows_in_proportion_to_their_height_and_not_the_lowest():
    pictures = torch.zeros(300, 3, 101, 10)
    pictures[:, :, 50] = 1  # half way up
    moved = shift_and_stretch(pictures, 0, 0, pitch=0.1)[:, 0, :, 5]
    rows = (moved * torch.arange(101)).sum(dim=1) / moved.sum(dim=1)
    assert rows.min() == pytest.approx(100.5 - 50.5 / 0.9, abs=0.6)
    assert rows.max() == pytest.approx(100.5 - 50.5 / 1.1, abs=0.6)
    lowest = torch.zeros(50, 3, 101, 10)
    lowest[:, :, 100] = 1
    moved = shift_and_stretch(lowest, 0, 0, pitch=0.1)[:, 0, :, 5]
    assert moved.argmax(dim=1).min() >= 99


def test_masks_are_whole_stripes_of_at_most_their_share():
    masked = spec_augment(torch.ones(300, 3, 50, 100), n_masks=2, mask_size=0.1) == 0
    assert torch.equal(masked, masked[:, :1].expand_as(masked))  # the same in the three colours
    rows, cols = masked[:, 0].all(dim=2), masked[:, 0].all(dim=1)
    assert torch.equal(masked[:, 0], rows[:, :, None] | cols[:, None, :])  # stripes and no more
    assert 5 < rows.sum(dim=1).max() <= 10  # two stripes of a tenth
    assert 10 < cols.sum(dim=1).max() <= 20
    assert rows.any(dim=0).all() and cols.any(dim=0).all()  # anywhere, the edges too
    assert len({tuple(row.tolist()) for row in rows}) > 100  # each picture its own


def test_masks_leave_the_rest_untouched():
    pictures = torch.rand(20, 3, 50, 100) + 0.1
    masked = spec_augment(pictures)
    assert 0 < (masked == 0).sum() < masked.numel() / 2
    assert torch.equal(masked[masked != 0], pictures[masked != 0])


@pytest.mark.parametrize("function", [shift_and_stretch, spec_augment])
def test_the_given_pictures_stay_as_they_are(function):
    pictures = torch.rand(5, 3, 20, 30)
    before = pictures.clone()
    assert not torch.equal(function(pictures), before)
    assert torch.equal(pictures, before)


@pytest.mark.parametrize("function", [shift_and_stretch, spec_augment])
def test_the_seed_decides_all_that_is_random(function):
    pictures, results = torch.rand(5, 3, 20, 30), []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(function(pictures))
    one, two, other = results
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_sizes_of_zero_change_nothing():
    pictures = torch.rand(5, 3, 20, 30)
    assert shift_and_stretch(pictures, **NOTHING) == pytest.approx(pictures, abs=1e-5)
    assert torch.equal(spec_augment(pictures, mask_size=0), pictures)
