"""Distillation: a second stage of training, in which a network learns to hear in noise.

What happens to a voice away from the studio is done to its picture: a batch, (n, 3, height, width),
from 0 (black; -80 dB, as the default settings have it) to 1 (white). Powers add, so the corruptions
return power: 10 ** (8 * pixel).
"""

import torch
from torch import Tensor, nn

from ..augmentation import uniform
from ..models import N_TTA, Recipe, denormalize, normalize, predict_proba
from ..training import fastai


def draw(pictures: Tensor, low: float, high: float) -> Tensor:
    """One random number per picture, shape (n, 1, 1, 1)."""
    return uniform(pictures, low, high)[:, :, None, None]


def add_noise(pictures: Tensor) -> Tensor:
    """A steady floor 35 to 75 dB below the loudest point, up to 10 dB louder towards one end."""
    heights = torch.linspace(0.5, -0.5, pictures.shape[2], device=pictures.device)[:, None]
    slope = draw(pictures, -20, 20) * heights
    grain = 3 * torch.randn_like(pictures[:, :1])
    decibels = draw(pictures, -75, -35) + slope + grain + torch.randn_like(pictures)
    return 10 ** (8 * pictures) + 10 ** (8 + decibels / 10)


def add_babble(pictures: Tensor, n_voices: int = 6) -> Tensor:
    """Up to `n_voices` other pictures of the batch at once, 3 to 35 dB below the own voice."""
    own, width, babble = 10 ** (8 * pictures), pictures.shape[3], 0
    for other in (1 + torch.randperm(max(1, len(pictures) - 1)))[:n_voices].tolist():
        middle = own.roll(other, dims=0)[..., width // 4 :][..., : width // 2]  # where voices are
        endless = middle.repeat(1, 1, 1, 3)[..., :width]
        babble = babble + endless.roll(int(torch.randint(width, (1,))), dims=3)
    ratio = own.mean((1, 2, 3), keepdim=True) / babble.mean((1, 2, 3), keepdim=True)
    ratio = 1.6 * ratio * 10 ** (draw(pictures, -35, -3) / 10)  # own: without the black at its ends
    return own + ratio * babble


def add_reverb(pictures: Tensor) -> Tensor:
    """Echoes that die away by a factor of 0.85 to 0.96 from column to column."""
    own, decay, echo, echoes = 10 ** (8 * pictures), draw(pictures, 0.85, 0.96)[..., 0], 0, []
    for column in own.unbind(dim=3):
        echo = decay * echo + (1 - decay) * column
        echoes.append(echo)
    return own + torch.stack(echoes, dim=3) * draw(pictures, 0.3, 1.2)


def band_limit(pictures: Tensor) -> Tensor:
    """Without up to 45 % of the rows at the top and, half of the time, 15 % at the bottom."""
    heights = torch.linspace(1, 0, pictures.shape[2], device=pictures.device)[:, None]
    low, high = draw(pictures, -0.15, 0.15), 1 - draw(pictures, 0, 0.45)
    return 10 ** (8 * pictures * ((heights >= low) & (heights < high)))


CORRUPTIONS = (add_noise, add_noise, add_babble, add_babble, add_reverb, band_limit)  # by frequency


def corrupt(pictures: Tensor, corruption_p: float) -> Tensor:
    """The pictures, a share of `corruption_p` of them with one of CORRUPTIONS each."""
    which = torch.randint(len(CORRUPTIONS), (len(pictures),))
    which[torch.rand(len(pictures)) >= corruption_p] = -1  # these stay as they are
    which[pictures.amax((1, 2, 3)).cpu() == 0] = -1  # as does silence, whose loudest is not white
    result = pictures.clone()
    for i, change in enumerate(CORRUPTIONS):
        rows = which == i
        if rows.any():  # babble needs the other pictures of the batch
            power = change(pictures)[rows] if change is add_babble else change(pictures[rows])
            power = power / power.amax((1, 2, 3), keepdim=True)  # the loudest point is white
            result[rows] = (1 + power.log10() / 8).clamp(min=0)
    return result


class Distil(fastai.Callback):
    """Corrupts training pictures; their labels are what the `teacher` says of the clean ones. It
    knows these very clips by heart, so it is asked about several augmented copies of each. After
    Xie et al. 2020 (Noisy Student), arXiv:1911.04252; Radosavovic et al. 2018, arXiv:1712.04440."""

    def __init__(self, teacher: nn.Module, recipe: Recipe):
        self.teacher, self.recipe = teacher, recipe

    def before_batch(self):
        if not self.training:
            return
        pictures = denormalize(self.x.as_subclass(Tensor))
        half = any(type(cb).__name__ in ("BFloat16", "MixedPrecision") for cb in self.learn.cbs)
        with torch.no_grad(), torch.autocast(pictures.device.type, enabled=half):
            self.learn.yb = (predict_proba(self.teacher, pictures, self.recipe, N_TTA),)
        self.learn.xb = (normalize(corrupt(pictures, self.recipe.corruption_p)),)


def begin_distillation(learn: fastai.Learner, teacher: nn.Module, recipe: Recipe) -> None:
    """Make a learner go on from the `teacher` (in evaluation mode), and be taught by it."""
    learn.model.load_state_dict(teacher.state_dict())
    learn.loss_func = fastai.CrossEntropyLossFlat(flatten=False)  # takes probabilities for labels
    learn.add_cb(Distil(teacher.to(learn.dls.device, memory_format=torch.channels_last), recipe))
