"""Training: what fastai lacks for pictures of sound, and runs and models that live on disk."""
import hashlib
import json
import os
import random
import shutil
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from fastai.vision.all import (Callback, CancelValidException, CategoryBlock, ChannelsLast, DataBlock, FuncSplitter, ImageBlock,
                               LabelSmoothingCrossEntropy, Learner, MixedPrecision, MixUp, Normalize, RandTransform,
                               TensorImage, TfmdDL, accuracy, create_vision_model, imagenet_stats, parent_label, resnet34,
                               set_seed, store_attr, vision_learner)
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from .clips import EMOTIONS
from .device import find_device
from .pictures import PictureSettings, made_with, picture_files, squeezed

# ---- which pictures are for training


def split_by_clip(valid: set[str]) -> FuncSplitter:
    """fastai splitter: a picture is for validation if its clip is in `valid`."""
    return FuncSplitter(lambda picture: picture.stem in valid)


class FewerTess(TfmdDL):
    """Training batches of every RAVDESS picture but only a fresh eighth of the TESS pictures an epoch.

    TESS is two thirds of the clips, and two women with one carrier phrase are learnt within an epoch or two.
    """
    def __init__(self, dataset=None, shuffle=False, **kwargs):
        super().__init__(dataset, shuffle=shuffle, **kwargs)
        if shuffle:
            self.ravdess = [i for i, picture in enumerate(dataset.items) if picture.stem[0].isdigit()]
            self.tess = sorted(set(range(len(dataset))) - set(self.ravdess))
            self.n = len(self.ravdess) + len(self.tess) // 8

    def get_idxs(self) -> list[int]:
        if not self.shuffle:
            return super().get_idxs()
        return self.shuffle_fn(self.ravdess + self.rng.sample(self.tess, len(self.tess) // 8))


# ---- augmentation: what may change in a spectrogram without changing the emotion


class ShiftAndStretch(RandTransform):
    """Plays each picture up to `stretch` slower or faster, moves it in time by up to `shift` of that width, and scales its
    frequency axis by up to `pitch` from the bottom, as if another throat spoke.

    Black (silence) fills what is uncovered. Pictures are a batch, shape (n, 3, height, width), from 0 to 1.
    """
    order = 20  # on floats from 0 to 1, before Normalize

    def __init__(self, shift: float = 0.1, stretch: float = 0.15, pitch: float = 0.0):
        super().__init__()
        store_attr()

    def encodes(self, x: TensorImage):
        grid = torch.zeros(len(x), 2, 3, device=x.device)
        grid[:, 0, 0] = 1 + self.stretch * (2 * torch.rand(len(x), device=x.device) - 1)
        grid[:, 0, 2] = 2 * self.shift * (2 * torch.rand(len(x), device=x.device) - 1)
        grid[:, 1, 1] = 1
        if self.pitch:
            grid[:, 1, 1] += self.pitch * (2 * torch.rand(len(x), device=x.device) - 1)
            grid[:, 1, 2] = 1 - grid[:, 1, 1]  # the bottom row (y = 1) stays where it is
        points = torch.nn.functional.affine_grid(grid, list(x.shape), align_corners=False)
        return TensorImage(torch.nn.functional.grid_sample(x.as_subclass(torch.Tensor), points, align_corners=False))


class SpecAugment(RandTransform):
    """Blackens `bands` random stripes of up to `size` of the height and as many of up to `size` of the width.

    Park et al. 2019, doi:10.21437/Interspeech.2019-2680. Pictures as in `ShiftAndStretch`.
    """
    order = 21

    def __init__(self, bands: int = 2, size: float = 0.1):
        super().__init__()
        store_attr()

    def encodes(self, x: TensorImage):
        x = x.clone()
        for axis in (2, 3):
            place = (torch.arange(x.shape[axis], device=x.device) + 0.5) / x.shape[axis]  # the middle of each row or column
            for _ in range(self.bands):
                width = self.size * torch.rand(len(x), 1, device=x.device)
                start = torch.rand(len(x), 1, device=x.device) * (1 - width)
                hidden = (place >= start) & (place < start + width)
                x.masked_fill_(hidden[:, None, None, :] if axis == 3 else hidden[:, None, :, None], 0)
        return x


class MixOrCut(MixUp):
    """fastai's MixUp for half of the batches; in the others a random stretch of time is another clip's (CutMix along time).

    Zhang et al. 2018, arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899.
    """
    def before_batch(self):
        if torch.rand(1) < 0.5:
            return super().before_batch()
        width = self.x.shape[-1]
        cut = int(torch.randint(width + 1, (1,)))
        start = int(torch.randint(width - cut + 1, (1,)))
        shuffle = torch.randperm(len(self.y), device=self.x.device)
        mixed = self.x.clone()
        mixed[..., start:start + cut] = self.x[shuffle][..., start:start + cut]
        self.learn.xb, self.yb1 = (mixed,), (self.y[shuffle],)
        self.lam = torch.full((len(self.y),), 1 - cut / width, device=self.x.device)


# ---- the recipe


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The defaults are the series' recipe; others are in `RECIPES`."""
    px: int = 64  # rows of the squeezed picture
    width: int = 224  # its columns: time is worth more of them than pitch
    epochs: int = 24
    batch_size: int = 32
    lr: tuple[float, float] = (1e-3, 4e-3)  # lowest and highest layers
    tess: bool = False  # an eighth of TESS an epoch beside RAVDESS
    shift: float = 0.1
    stretch: float = 0.1
    pitch: float = 0.0
    masks: float = 0.1
    mixup: float = 0.4  # alpha
    cut: bool = True  # cut and paste in time in half of the batches
    views: int = 8  # augmented ones to answer from
    after: str = ""  # the recipe whose network this one, its second stage, goes on from; see `sturdiness`
    spoilt: float = 0.0  # share of the second stage's pictures that are heard away from the studio


BEST = Recipe()
STURDY = replace(BEST, after="best", spoilt=0.9, epochs=12, lr=(7e-4, 7e-4), masks=0.0, mixup=0.0, cut=False)
RECIPES = {  # the best one, its second stage, and others to try, each a change to the best one
    "best": BEST,
    "sturdy": STURDY,
    "sturdy-6-epochs": replace(STURDY, epochs=6),
    "no-cut": replace(BEST, cut=False),
    "no-mixing": replace(BEST, mixup=0.0, cut=False),
    "96-px-square": replace(BEST, px=96, width=96),
    "96-px": replace(BEST, px=96),
    "32-px": replace(BEST, px=32),
    "384-wide": replace(BEST, width=384),
    "12-epochs": replace(BEST, epochs=12),
    "48-epochs": replace(BEST, epochs=48),
    "slow": replace(BEST, lr=(2.5e-4, 1e-3)),
    "tess": replace(BEST, tess=True),
    "masks": replace(BEST, masks=0.2),
    "stretch": replace(BEST, stretch=0.2),
    "pitch": replace(BEST, pitch=0.1),
    "one-view": replace(BEST, views=0),
    "quick": replace(BEST, px=48, width=48, epochs=3, views=0),
}
FINAL = {"real": "best", "demo": "quick"}  # whose results notebook 06 shows, for each corpus
ANSWERS = {"real": "sturdy", "demo": "quick"}  # whose network answers about recordings, in notebooks 07 and 08 and in the app


def settings_of(recipe: Recipe) -> dict:
    """A recipe as JSON has it, its first stage's settings for that one's name, and without what is switched off: a new field must
    not make old runs those of another recipe."""
    first = {"after": settings_of(RECIPES[recipe.after])} if recipe.after else {}
    return json.loads(json.dumps({name: value for name, value in asdict(recipe).items() if value} | first))


# ---- answers

MEAN, STD = (torch.tensor(values)[:, None, None] for values in imagenet_stats)
VIEWS = 4  # half of evaluation's: an answer takes half the time


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels from 0 to 1 as the networks get them."""
    return (pixels - MEAN.to(pixels.device)) / STD.to(pixels.device)


def in_views(pixels: torch.Tensor, recipe: dict) -> torch.Tensor:
    """Pictures of shape (n, 3, height, width), pixels from 0 to 1, and after them, if the `recipe` (as in a model's settings) has
    views, VIEWS augmented views of each, drawn from torch's random numbers; shape ((1 + VIEWS) n, 3, height, width)."""
    if not recipe.get("views"):  # the networks of notebook 04
        return pixels
    views = TensorImage(pixels.repeat(VIEWS, 1, 1, 1))
    for augment in (ShiftAndStretch(*(recipe.get(name, 0) for name in ("shift", "stretch", "pitch"))), SpecAugment(size=recipe.get("masks", 0))):
        views = augment.encodes(views)
    return torch.cat([pixels, views.as_subclass(torch.Tensor)])


def answers(model: torch.nn.Module, pictures: torch.Tensor, n: int) -> torch.Tensor:
    """Probabilities of the emotions, shape (n, 8), for the `n` pictures and their views that `in_views` returned, weighed as in
    `evaluation.predict_clips`."""
    each = model(normalised(pictures)).float().softmax(dim=1).unflatten(0, (-1, n))
    return 0.25 * each[0] + 0.75 * each[1:].mean(dim=0) if len(each) > 1 else each[0]


# ---- learners


class NoPeeking(Callback):
    """Leaves validation out of the epochs: what is tested on is looked at once, when training is over."""
    def before_validate(self):
        if not hasattr(self.learn, "gather_preds"):  # get_preds, afterwards
            raise CancelValidException


def learner_for(recipe: Recipe, pictures: Path, train: set[str], test: set[str], seed: int, pretrained: bool,
                peek: bool = False) -> Learner:
    """A fastai learner for the `pictures` of the clips (names) in `train`; its validation set, asked each epoch only if
    `peek`, is `test`."""
    def items(folder):
        return [picture for picture in picture_files(folder) if picture.stem in train | test]

    block = DataBlock(blocks=(ImageBlock, CategoryBlock(vocab=EMOTIONS, sort=False)), get_items=items, get_y=parent_label,
                      get_x=lru_cache(maxsize=None)(partial(squeezed, px=recipe.px, width=recipe.width)), splitter=split_by_clip(test),
                      batch_tfms=[ShiftAndStretch(recipe.shift, recipe.stretch, recipe.pitch), SpecAugment(size=recipe.masks),
                                  Normalize.from_stats(*imagenet_stats)])
    dls = block.dataloaders(pictures, bs=recipe.batch_size, num_workers=0, dl_type=FewerTess)
    set_seed(seed)
    mixing = [(MixOrCut if recipe.cut else MixUp)(recipe.mixup)] if recipe.mixup else []
    learn = vision_learner(dls, resnet34, pretrained=pretrained, loss_func=LabelSmoothingCrossEntropy(), metrics=accuracy,
                           cbs=[*speed_callbacks(), *([] if peek else [NoPeeking()]), *mixing], **HEAD)
    learn.unfreeze()
    return learn


# ---- speed


class BFloat16(Callback):
    """Forward pass in bfloat16 on a CPU, which fastai's `MixedPrecision` leaves out. Pays where the CPU multiplies bfloat16 in hardware."""
    def before_fit(self):
        self.after_fit()  # a fit that was interrupted never came to its end
        self.learn.model.forward = torch.autocast("cpu", torch.bfloat16)(self.learn.model.forward)

    def after_pred(self):
        self.learn.pred = self.pred.float()

    def after_fit(self):
        vars(self.learn.model).pop("forward", None)


def speed_callbacks() -> list[Callback]:
    """The fastai callbacks that make training quick on the device that was found (none are needed on Apple's)."""
    return {"cuda": [MixedPrecision(), ChannelsLast()], "bf16": [BFloat16(), ChannelsLast()], "cpu": [ChannelsLast()]}.get(find_device()[0], [])


# ---- runs that survive being stopped


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


class EachEpochOnDisk(Callback):
    """Seeds every epoch by its number and keeps the weights, the optimizer and the history of the last finished one."""
    order = 80  # after the Recorder, and after SkipToEpoch

    def __init__(self, folder: Path, seed: int, history: list[dict]):
        self.folder, self.seed, self.history = folder, seed, history

    def before_epoch(self):
        set_seed(self.seed + self.epoch)
        self.dls.train.rng = random.Random(self.seed + self.epoch)
        self.recorder.smooth_loss.reset()  # or the training loss would remember epochs that a continued run has not seen
        self.started = time.time()

    def after_epoch(self):
        if self.epoch < len(self.history):  # an epoch that SkipToEpoch passes over
            return
        values = dict(zip(self.recorder.metric_names[1:-1], map(float, self.recorder.log[1:-1])))
        self.history.append({"epoch": self.epoch, **values, "seconds": time.time() - self.started})
        partial = self.learn.save(self.folder / "partial", with_opt=True)
        os.replace(partial, self.folder / f"epoch-{self.epoch}.pth")
        write_text(self.folder / "history.csv", pd.DataFrame(self.history).to_csv(index=False))
        (self.folder / f"epoch-{self.epoch - 1}.pth").unlink(missing_ok=True)


def recipe_of(learn: Learner, epochs: int, lr: float | slice, seed: int) -> dict:
    """All that a run's result depends on, but the weights it starts from."""
    loss, train, valid = getattr(learn.loss_func, "func", learn.loss_func), learn.dls.train_ds.items, learn.dls.valid_ds.items
    names = "\n".join(picture.stem for picture in [*train, *valid])
    return {
        "epochs": epochs, "lr": str(lr), "seed": seed, "batch_size": learn.dls.bs, "weight_decay": learn.wd,
        "trained_parameters": sum(p.numel() for p in learn.model.parameters() if p.requires_grad),
        "pictures": [len(train), len(valid), hashlib.sha256(names.encode()).hexdigest()], "one_picture": {**made_with(train[0]), "size": list(learn.dls.train_ds[0][0].size)},
        "transforms": [str(learn.dls.train.after_item), str(learn.dls.train.after_batch)],
        "loss": [str(learn.loss_func), {k: v for k, v in vars(loss).items() if isinstance(v, (bool, float, str))} if hasattr(loss, "__dict__") else {}],
        "callbacks": [str(cb) + (f" {float(cb.distrib.concentration1):g}" if hasattr(cb, "distrib") else "") for cb in learn.cbs],
    }


def fit(learn: Learner, epochs: int, lr: float | slice, folder: str | Path, seed: int = 42) -> pd.DataFrame:
    """`learn.fit_one_cycle` that continues after its last finished epoch if it was stopped; returns a row an epoch.

    The state is in `folder`. It is used only if the run began from the same weights, with the same data, transforms and
    settings; otherwise training starts anew. A finished run is loaded, not trained again.
    """
    folder = Path(folder).resolve()
    learn.model_dir = folder  # or every save would leave an empty folder `models` where one stands
    began = vars(learn).setdefault("began", {})  # folder -> the weights its run began from, for a cell that is run again
    weights = hashlib.sha256(b"".join(v.detach().cpu().numpy().tobytes() for v in learn.model.state_dict().values())).hexdigest()
    recipe = recipe_of(learn, epochs, lr, seed)
    kept = json.loads((folder / "recipe.json").read_text()) if (folder / "recipe.json").exists() else None
    if kept != {"first_weights": began.get(folder, weights), **recipe}:
        began.pop(folder, None)
        if kept:
            before = folder.with_name(f"{folder.name}-before")
            print(f"{folder.name}: the run that is here has other settings; training starts anew, the old run is kept as {before.name}")
            if (before / "recipe.json").exists():
                shutil.rmtree(before)
            os.replace(folder, before)
        elif folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} holds something else than a run: name another folder")
    recipe = {"first_weights": began.setdefault(folder, weights), **recipe}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "recipe.json", json.dumps(recipe, indent=1))
    history = pd.read_csv(folder / "history.csv").to_dict("records") if (folder / "history.csv").exists() else []
    if history:
        print(f"{folder.name}: {len(history)} of {epochs} epochs are done already")
        learn.create_opt()
        learn.load(folder / f"epoch-{len(history) - 1}", with_opt=True)
    if len(history) < epochs:
        learn.fit_one_cycle(epochs, lr, start_epoch=len(history), reset_opt=not history,
                            cbs=EachEpochOnDisk(folder, seed, history))
    return pd.DataFrame(history)


# ---- models: weights and settings, nothing to execute

HEAD = {"concat_pool": False, "lin_ftrs": [], "ps": 0}  # for vision_learner: the mean over the picture and one linear layer


def imagenet_weights() -> str:
    """Which ResNet-34 ImageNet weights lie in the torch cache: torchvision names the file by its SHA-256."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / "resnet34-b627a593.pth"
    if not file.exists():
        return "torchvision's resnet34-b627a593 (will be downloaded)"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    return f"torchvision's {file.stem}" if digest == "b627a593" else f"a stand-in for {file.stem} (sha256 {digest})"


def write_model(folder: Path, model: torch.nn.Module, settings: dict) -> Path:
    """Write `model.safetensors` and `settings.json` into `folder`, each whole or not at all; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    partial, weights = folder / "model.safetensors.part", {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, partial, metadata={"settings": json.dumps(settings)})  # so that weights and settings cannot be mixed up
    os.replace(partial, folder / "model.safetensors")
    write_text(folder / "settings.json", json.dumps(settings, indent=1))
    return folder


def save_model(learn: Learner, folder: str | Path, **settings) -> Path:
    """Write `model.safetensors` and `settings.json`: all that is needed to use the network, nothing to execute.

    `settings` must hold picture_px and may hold anything JSON can; emotions, spectrogram and versions are added.
    """
    versions = {name: version(name) for name in ("torch", "torchvision", "fastai", "librosa")}
    spectrogram = made_with(learn.dls.train_ds.items[0])  # what the pictures it learnt from say of themselves
    spectrogram.pop("clip_md5", None)
    settings = {"arch": "resnet34", "emotions": EMOTIONS, "spectrogram": spectrogram, **settings, "versions": versions}
    return write_model(Path(folder), learn.model, settings)


def check_settings(settings: dict) -> None:
    """Raises an error for settings with which no answer can be had: what is missing, of another kind or out of all bounds."""
    made, recipe = PictureSettings(**settings["spectrogram"]), settings.get("recipe", {})
    sizes = [settings["picture_px"], settings.get("picture_width") or 1, made.width, made.n_mels, made.hop_length, made.n_fft, made.sample_rate, *made.win_lengths]
    if not all(type(number) is int and 1 <= number <= 200_000 for number in sizes) or max(sizes[:4]) > 4096 or len(made.win_lengths) != 3 or max(made.win_lengths) > made.n_fft:
        raise ValueError(f"sizes that cannot be: {sizes}")
    if not 0 <= made.fmin < made.fmax <= made.sample_rate / 2 or not (0 < made.top_db <= 200 and 0 < made.trim_db <= 200):
        raise ValueError(f"fmin {made.fmin}, fmax {made.fmax}, top_db {made.top_db}, trim_db {made.trim_db}: that cannot be")
    shares = [recipe.get(name, 0) for name in ("shift", "stretch", "pitch", "masks")]
    if not 0.01 <= settings.get("temperature", 1) <= 100 or not 0 <= recipe.get("views", 0) <= 100 or not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"temperature {settings.get('temperature')}, {recipe}: that cannot be")
    if settings.get("corpus", "demo") not in ANSWERS:
        raise ValueError(f"corpus {settings['corpus']!r}: it is one of {', '.join(ANSWERS)}")


def load_model(folder: str | Path) -> tuple[torch.nn.Module, dict]:
    """The network (in evaluation mode, on the CPU) and the settings that `save_model` wrote.

    Raises FileNotFoundError naming the file that is missing and ValueError for one that is damaged, does not fit, or was made
    with other settings than stand beside it.
    """
    folder = Path(folder)
    for file in (folder / "settings.json", folder / "model.safetensors"):
        if not file.exists():
            raise FileNotFoundError(f"{file} is missing: run notebook 04 or `python -m emotion_helpers train`, which train a network and write it")
    try:
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        with safe_open(folder / "model.safetensors", "pt") as file:
            inside = json.loads((file.metadata() or {}).get("settings", "{}"))
        expected = inside | {"arch": "resnet34", "emotions": list(EMOTIONS)}
        if other := [f"{name} {settings.get(name)} instead of {expected.get(name)}" for name in sorted({*expected, *settings})
                     if settings.get(name) != expected.get(name)]:
            raise ValueError(f"settings.json has {'; '.join(other)}")
        check_settings(settings)
        model = create_vision_model(resnet34, len(EMOTIONS), pretrained=False, **HEAD)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        if not all(weights.isfinite().all() for weights in model.state_dict().values()):
            raise ValueError("its weights are not all numbers")
    except (SafetensorError, RuntimeError, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise ValueError(f"{folder}: not a model of this tutorial, or damaged ({error}). Run notebook 04 again, or `python -m emotion_helpers train`") from error
    return model.eval(), settings
