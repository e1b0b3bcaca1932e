"""Learners: a recipe becomes a fastai learner, for voices that it will not have heard."""

import torch

from ..models import Recipe, imagenet_weights
from ..training import HEAD, fastai, speed_callbacks


class MixOrCut(fastai.MixUp):
    """fastai's MixUp, or in half of the batches a random stretch of time from another picture.

    Zhang et al. 2018, arXiv:1710.09412; CutMix along time: Yun et al. 2019, arXiv:1905.04899.
    """

    def before_batch(self):
        if torch.rand(1) < 0.5:
            super().before_batch()
            return
        width, shuffle = self.x.shape[-1], torch.randperm(len(self.y), device=self.x.device)
        size = int(torch.randint(width + 1, (1,)))
        start = int(torch.randint(width - size + 1, (1,)))
        mixed = self.x.clone()
        mixed[..., start : start + size] = self.x[shuffle][..., start : start + size]
        self.learn.xb, self.yb1 = (mixed,), (self.y[shuffle],)
        self.lam = torch.full((len(self.y),), 1 - size / width, device=self.x.device)


class SkipValidation(fastai.Callback):
    """Leaves validation out of the epochs: what is tested on is looked at once, afterwards."""

    def before_validate(self):
        if not hasattr(self.learn, "gather_preds"):  # which get_preds has
            raise fastai.CancelValidException


def make_learner(loaders, recipe: Recipe, seed: int, pretrained: bool, cbs=()) -> fastai.Learner:
    """ResNet-34 with one linear layer on top, all layers trained, with the recipe's mixing."""
    if pretrained:
        imagenet_weights()  # or an error that says what to do
    mixing = [(MixOrCut if recipe.cut else fastai.MixUp)(recipe.mixup)] if recipe.mixup else []
    options = HEAD | {"pretrained": pretrained, "cbs": [*speed_callbacks(), *mixing, *cbs]}
    options |= {"loss_func": fastai.LabelSmoothingCrossEntropy(), "metrics": fastai.accuracy}
    fastai.set_seed(seed)
    learn = fastai.vision_learner(loaders, fastai.resnet34, **options)
    learn.unfreeze()
    return learn
