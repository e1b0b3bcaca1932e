"""Distillation: a second stage of training, in which a network learns to hear in noise.

What happens to a voice away from the studio is done to a batch of pictures, (n, 3, height, width),
as power, which adds up: 1 where a picture is white, 10 ** (-top_db / 10) where it is black."""

import torch
from torch import Tensor, nn

from ..augmentation import shift_and_stretch, spec_augment, uniform
from ..models import MEAN, STD, Recipe, normalize, predict_proba
from ..training import fastai


def add_noise(power: Tensor) -> Tensor:
    """A steady floor 35 to 75 dB below the loudest point, up to 10 dB louder towards one end."""
    heights = torch.linspace(0.5, -0.5, power.shape[2], device=power.device)[:, None]
    slope = uniform(power, -20, 20) * heights
    grain = 3 * torch.randn_like(power[:, :1])
    decibels = uniform(power, -75, -35) + slope + grain + torch.randn_like(power)
    return power + 10 ** (decibels / 10)


def add_babble(power: Tensor, n_voices: int = 6) -> Tensor:
    """Up to `n_voices` other pictures of the batch at once, 3 to 35 dB below the own voice."""
    width, babble = power.shape[3], 0
    for other in (1 + torch.randperm(max(1, len(power) - 1)))[:n_voices].tolist():
        middle = power.roll(other, dims=0)[..., width // 4 :][..., : width // 2]  # where voices are
        endless = middle.repeat(1, 1, 1, 3)[..., :width]
        babble = babble + endless.roll(int(torch.randint(width, (1,))), dims=3)
    ratio = power.mean((1, 2, 3), keepdim=True) / babble.mean((1, 2, 3), keepdim=True)
    ratio = 1.6 * ratio * 10 ** (uniform(power, -35, -3) / 10)  # 1.6: for the black at both ends
    return power + ratio * babble


def add_reverb(power: Tensor) -> Tensor:
    """Echoes that die away by a factor of 0.85 to 0.96 from column to column."""
    decay, echo, echoes = uniform(power, 0.85, 0.96)[..., 0], 0, []
    for column in power.unbind(dim=3):
        echo = decay * echo + (1 - decay) * column
        echoes.append(echo)
    return power + torch.stack(echoes, dim=3) * uniform(power, 0.3, 1.2)


def band_limit(power: Tensor) -> Tensor:
    """Without up to 45 % of the rows at the top and, half of the time, 15 % at the bottom."""
    heights = torch.linspace(1, 0, power.shape[2], device=power.device)[:, None]
    low, high = uniform(power, -0.15, 0.15), 1 - uniform(power, 0, 0.45)
    return power * ((heights >= low) & (heights < high))


CORRUPTIONS = (add_noise, add_noise, add_babble, add_babble, add_reverb, band_limit)  # by frequency


def corrupt(pictures: Tensor, corruption_p: float, top_db: float = 80.0) -> Tensor:
    """The pictures, 0 (black, -top_db) to 1, a share of them with one of CORRUPTIONS each."""
    which = torch.randint(len(CORRUPTIONS), (len(pictures),))
    which[torch.rand(len(pictures)) >= corruption_p] = -1  # these stay as they are
    which[pictures.amax((1, 2, 3)).cpu() == 0] = -1  # as does silence, whose loudest is not white
    power, result = 10 ** (top_db / 10 * (pictures - 1)), pictures.clone()
    for i, change in enumerate(CORRUPTIONS):
        rows = which == i
        if rows.any():  # babble needs the other pictures of the batch
            changed = change(power)[rows] if change is add_babble else change(power[rows])
            changed = changed / changed.amax((1, 2, 3), keepdim=True)  # the loudest point is white
            result[rows] = (1 + 10 * changed.log10() / top_db).clamp(min=0)
    return result


def soft_labels(teacher: nn.Module, pictures: Tensor, recipe: Recipe, n_copies=4) -> Tensor:
    """What a teacher says of clean pictures: probabilities, (n, 8). It has learnt from these very
    clips and may be too sure, so that copies, augmented as in training, count three quarters (as
    in fastai's `learn.tta`). After Radosavovic et al. 2018, arXiv:1712.04440."""
    warp = (recipe.shift, recipe.stretch, recipe.pitch)
    copies = shift_and_stretch(pictures.repeat(n_copies, 1, 1, 1), *warp)
    batch = torch.cat([pictures, spec_augment(copies, mask_size=recipe.mask_size)])
    first, *others = predict_proba(teacher, batch).split(len(pictures))
    return 0.25 * first + 0.75 * torch.stack(others).mean(dim=0)


class Distil(fastai.Callback):
    """Corrupts training pictures; their labels are what the `teacher` says of the clean ones.
    After Xie et al. 2020 (Noisy Student), arXiv:1911.04252."""

    def __init__(self, teacher: nn.Module, recipe: Recipe, top_db: float):
        self.teacher, self.recipe, self.top_db = teacher, recipe, top_db

    def before_batch(self):
        if not self.training:
            return
        pictures = self.x.as_subclass(Tensor)
        pictures = (pictures * STD.to(pictures) + MEAN.to(pictures)).clamp(0, 1)
        half = any(type(cb).__name__ in ("BFloat16", "MixedPrecision") for cb in self.learn.cbs)
        with torch.autocast(pictures.device.type, enabled=half):
            self.learn.yb = (soft_labels(self.teacher, pictures, self.recipe),)
        self.learn.xb = (normalize(corrupt(pictures, self.recipe.corruption_p, self.top_db)),)


def begin_distillation(learn, teacher: nn.Module, recipe: Recipe, top_db: float) -> None:
    """Make a learner be taught by the `teacher` (in evaluation mode)."""
    learn.loss_func = fastai.CrossEntropyLossFlat(flatten=False)  # takes probabilities for labels
    teacher = teacher.to(learn.dls.device, memory_format=torch.channels_last)
    learn.add_cb(Distil(teacher, recipe, top_db))
