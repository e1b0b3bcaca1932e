"""Sturdiness: a second stage of training, in which a network learns to hear in noise what it heard in the studio."""
import torch
from fastai.vision.all import Callback, CrossEntropyLossFlat, Learner

from .device import find_device
from .training import MEAN, STD, answers, in_views, normalised

# ---- what happens to a picture away from the studio: powers add. Pictures are a batch, (n, 3, height, width), 0 (-80 dB) to 1


def power(x: torch.Tensor) -> torch.Tensor:
    """Pixels from 0 to 1 as power, from 1 to 1e8."""
    return 10**(8 * x)


def draw(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """A random number for each picture, shape (n, 1, 1, 1)."""
    return torch.empty(len(x), 1, 1, 1, device=x.device).uniform_(low, high)


def height(x: torch.Tensor) -> torch.Tensor:
    """Where each row is, from 0 (the lowest frequencies, at the bottom) to 1; shape (height, 1)."""
    return torch.linspace(1, 0, x.shape[2], device=x.device)[:, None]


def in_noise(x: torch.Tensor) -> torch.Tensor:
    """Power with a steady floor 35 to 75 dB below the loudest point, up to 10 dB louder towards one end of the frequencies."""
    decibels = draw(x, -75, -35) + draw(x, -20, 20) * (height(x) - 0.5) + 3 * torch.randn(len(x), 1, *x.shape[2:], device=x.device)
    return power(x) + 10**(8 + (decibels + torch.randn_like(x)) / 10)


def in_a_crowd(x: torch.Tensor, voices: int = 6) -> torch.Tensor:
    """Power with so many voices of other pictures of the batch at once, 3 to 35 dB softer; of each the middle, repeated."""
    own, width, crowd = power(x), x.shape[3], 0
    for other in (1 + torch.randperm(max(1, len(x) - 1)))[:voices].tolist():
        middle = own.roll(other, dims=0)[..., width // 4:][..., :width // 2].repeat(1, 1, 1, 3)[..., :width]
        crowd = crowd + middle.roll(int(torch.randint(width, (1,))), dims=3)
    loudness = own.mean((1, 2, 3), keepdim=True) * 1.6  # without the black at both ends
    return own + crowd / crowd.mean((1, 2, 3), keepdim=True) * loudness * 10**(draw(x, -35, -3) / 10)


def in_a_room(x: torch.Tensor) -> torch.Tensor:
    """Power with echoes that die away by a factor of 0.85 to 0.96 from column to column."""
    own, fall, echo, echoes = power(x), draw(x, 0.85, 0.96)[..., 0], 0, []
    for column in own.unbind(dim=3):
        echo = fall * echo + (1 - fall) * column
        echoes.append(echo)
    return own + torch.stack(echoes, dim=3) * draw(x, 0.3, 1.2)


def on_the_telephone(x: torch.Tensor) -> torch.Tensor:
    """Power without up to 45 % of the rows at the top and, in half of the pictures, up to 15 % at the bottom."""
    inside = (height(x) < 1 - draw(x, 0, 0.45)) & (height(x) >= draw(x, -0.15, 0.15))
    return power(torch.where(inside, x, 0))


WAYS = (in_noise, in_noise, in_a_crowd, in_a_crowd, in_a_room, on_the_telephone)


def away_from_the_studio(x: torch.Tensor, share: float) -> torch.Tensor:
    """The pictures, a `share` of them spoilt in one way each: a third by noise, a third by a crowd, a sixth by a room, a sixth by a telephone."""
    way, hit, out = torch.randint(len(WAYS), (len(x),)), torch.rand(len(x)) < share, x.clone()
    for i, spoilt in enumerate(WAYS):
        if (chosen := (way == i) & hit).any():
            loud = spoilt(x)[chosen] if spoilt is in_a_crowd else spoilt(x[chosen])  # a crowd needs the others
            loud = 1e8 * loud / loud.amax((1, 2, 3), keepdim=True)  # as mel_picture does: the loudest point is white
            out[chosen] = loud.clamp(min=1).log10() / 8
    return out


# ---- the second stage


class Distil(Callback):
    """Training pictures (augmented already) are spoilt, and their labels are the `answers` that the `teacher` gave before they were.

    It has learnt these very clips by heart, so its answers about several views of them, as `recipe` (the pupil's) makes them, say more.
    After Xie et al. 2020 (Noisy Student), arXiv:1911.04252; Radosavovic et al. 2018 (views), arXiv:1712.04440.
    """
    def __init__(self, teacher: torch.nn.Module, recipe: dict):
        self.teacher, self.recipe = teacher, recipe

    def before_batch(self):
        if not self.training:
            return
        pixels = (self.x.as_subclass(torch.Tensor) * STD.to(self.x.device) + MEAN.to(self.x.device)).clamp(0, 1)
        with torch.no_grad(), torch.autocast(self.x.device.type, enabled=find_device()[0] in ("bf16", "cuda")):
            said = answers(self.teacher, in_views(pixels, self.recipe), len(pixels))
        self.learn.xb, self.learn.yb = (normalised(away_from_the_studio(pixels, self.recipe.get("spoilt", 0))),), (said,)


def begin_second_stage(learn: Learner, teacher: torch.nn.Module, recipe: dict) -> None:
    """Make a learner of a `recipe` (as in a model's settings) go on from the `teacher` (in evaluation mode), which it is taught by."""
    learn.model.load_state_dict(teacher.state_dict())
    learn.loss_func = CrossEntropyLossFlat(flatten=False)  # it takes probabilities for labels too
    learn.add_cb(Distil(teacher.to(learn.dls.device, memory_format=torch.channels_last), recipe))
