"""Learners: a recipe becomes a fastai learner, for voices that it will not have heard."""

from ..models import Recipe, imagenet_weights, scale_kernels
from ..training import HEAD, MixOrCut, fastai, speed_callbacks


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
    learn.model[0][0] = scale_kernels(learn.model[0][0], *recipe.kernel_scale).to(learn.dls.device)
    learn.unfreeze()
    return learn
