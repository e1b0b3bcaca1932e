"""Learners: pictures that are mixed, an exam that is not looked at before, the network's shape."""

import gc
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from emotion_helpers.beyond.cross_validation import SkipValidation, make_learner
from emotion_helpers.models import Recipe, build_network
from emotion_helpers.training import MixOrCut, fastai, picture_loaders

TINY = Recipe(height=32, width=32, kernel_scale=(1, 1), batch_size=8)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# ---- mixing


def mixed_batches(number):
    """Batches of eight pictures, the i-th all i and of emotion i: pictures, others, own share."""
    pictures = torch.arange(8.0)[:, None, None, None].expand(8, 3, 4, 20)
    mixing, labels = MixOrCut(0.4), torch.arange(8)
    for _ in range(number):
        mixing.learn = SimpleNamespace(xb=(pictures,), yb=(labels,), x=pictures, y=labels)
        mixing.stack_y = True
        mixing.before_batch()
        yield mixing.learn.xb[0], mixing.yb1[0], mixing.lam.flatten()


def test_the_label_is_shared_as_the_picture_is_whether_blended_or_cut():
    own, cuts = torch.arange(8.0)[:, None], []
    for pictures, others, share in mixed_batches(200):
        row = pictures[:, 0, 0]
        assert (pictures == row[:, None, None]).all()  # full height, all colours
        expected = share * own[:, 0] + (1 - share) * others
        assert row.mean(dim=1) == pytest.approx(expected, abs=1e-4)
        if ((row == own) | (row == others[:, None])).all():  # not blended
            pasted = (row != own) & (row == others[:, None])
            assert pasted.int().diff(dim=1).abs().sum(dim=1).max() <= 2  # in one piece
            cuts.append(1 - float(share[0]))
    assert 70 < len(cuts) < 130  # half of the batches
    assert min(cuts) < 0.1
    assert max(cuts) > 0.9


# ---- what a learner does with it


class Tiny(torch.nn.Sequential):
    """A network that learns in a second, and remembers in which mode it was asked."""

    def __init__(self):
        layers = (torch.nn.Conv2d(3, 8, 4, 4), torch.nn.ReLU(), torch.nn.Flatten())
        super().__init__(*layers, torch.nn.Linear(8 * 64, 8))
        self.modes = []

    def forward(self, pictures):
        self.modes.append("training" if self.training else "evaluation")
        return super().forward(pictures)


def stripes(number):
    """Noisy pictures with a bright row where their label says, and the labels."""
    labels = torch.arange(number) % 8
    pictures = 0.3 * torch.randn(number, 3, 32, 32)
    pictures[torch.arange(number), :, 4 * labels + 2] += 1
    return list(zip(pictures, labels, strict=True))


def tiny_learner(*callbacks):
    loaders = [fastai.DataLoader(stripes(n), bs=16, num_workers=0) for n in (128, 32)]
    loaders, loss = fastai.DataLoaders(*loaders, device="cpu"), fastai.CrossEntropyLossFlat()
    return fastai.Learner(loaders, Tiny(), loss_func=loss, metrics=fastai.accuracy, cbs=callbacks)


def test_a_network_learns_from_mixed_pictures_and_is_examined_on_whole_ones():
    learn = tiny_learner(MixOrCut(0.4))
    loss = learn.loss_func
    before, _ = learn.validate()
    learn.fit(8, 3e-3)
    after, accuracy = learn.validate()
    assert accuracy > 0.9
    assert after < 0.5 * before
    assert learn.loss_func is loss


def test_what_is_tested_on_is_not_looked_at_in_training_and_can_be_asked_about_afterwards():
    learn = tiny_learner(SkipValidation())
    learn.fit(2, 1e-3)
    assert learn.model.modes == 2 * 8 * ["training"]
    answers, labels = learn.get_preds(ds_idx=1)
    assert learn.model.modes[16:] == 2 * ["evaluation"]
    assert answers.shape == (32, 8)
    assert labels.tolist() == [i % 8 for i in range(32)]


# ---- the learner of a recipe


@pytest.fixture(scope="module")
def loaders(demo_clips, demo_pictures, small):
    test = set(demo_clips.clip_id[demo_clips.speaker == "Actor_01"])
    yield picture_loaders(demo_pictures, small, TINY, test)
    gc.collect()  # a learner is 100 MB in a circle of references


def test_its_network_is_the_one_that_is_loaded_from_disk_and_all_of_it_is_trained(loaders):
    model = make_learner(loaders, TINY, seed=1, pretrained=False).model
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert shapes == {name: value.shape for name, value in build_network().state_dict().items()}
    assert all(weights.requires_grad for weights in model.parameters())


def test_its_first_layer_is_as_large_as_the_recipe_has_it(loaders):
    learn = make_learner(loaders, replace(TINY, kernel_scale=(2, 1)), seed=1, pretrained=False)
    assert learn.model[0][0].weight.shape == (64, 3, 14, 7)
    learn.create_opt()  # which has it
    assert any(part is learn.model[0][0].weight for part in learn.opt.all_params().itemgot(0))


def test_the_same_seed_makes_the_same_network(loaders):
    weights = []
    for seed in (1, 1, 2):
        model = make_learner(loaders, TINY, seed, pretrained=False).model
        weights.append(torch.cat([value.flatten().float() for value in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    "recipe, mixing",
    [
        (TINY, [MixOrCut]),
        (Recipe(height=32, width=32, cut=False), [fastai.MixUp]),
        (Recipe(height=32, width=32, mixup=0), []),
    ],
    ids=["mixup and cuts", "mixup", "neither"],
)
def test_pictures_are_mixed_as_the_recipe_has_it(loaders, recipe, mixing):
    learn = make_learner(loaders, recipe, seed=1, pretrained=False)
    assert [type(cb) for cb in learn.cbs if isinstance(cb, fastai.MixUp)] == mixing
