"""Training: pictures to batches, a learner, and one-cycle training that can be stopped."""

import inspect
import json
import random
import time
import warnings
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # fastai imports what torch and pandas call deprecated
    from fastai.vision import all as fastai

from . import EmotionHelpersError, atomic_write, config_hash, write_text
from .augmentation import shift_and_stretch, spec_augment
from .clips import EMOTIONS, parse_name
from .models import Recipe, has_bfloat16
from .pictures import picture_files, read_settings, resize

HEAD = {"concat_pool": False, "lin_ftrs": [], "ps": 0}  # of vision_learner: see build_network
MACHINERY = ("TrainEvalCallback", "Recorder", "CastToTensor", "ProgressCallback")
MACHINERY += ("ParamScheduler", "CheckpointEveryEpoch")  # the config has them
MACHINERY += ("BFloat16", "ChannelsLast", "MixedPrecision")  # of this machine, not of the run
INSIDE = ("distrib", "aff_fs", "coord_fs", "fs")  # alpha of MixUp, amounts of aug_transforms


class Augment(fastai.RandTransform):
    """A function of a batch of pictures (see `augmentation`), for training batches alone."""

    order = 20  # on floats from 0 to 1, before Normalize

    def __new__(cls, function, **_options):
        # A class for each function: of two transforms of one class a DataBlock drops the first.
        return super().__new__(type(cls)(function.__name__, (cls,), {}))

    def __init__(self, function, **options):
        super().__init__()
        self.function, self.options = function, options

    def encodes(self, x: fastai.TensorImage):
        return fastai.TensorImage(self.function(x.as_subclass(torch.Tensor), **self.options))


class FewerTess(fastai.TfmdDL):
    """Training batches of all pictures but TESS's, and a fresh eighth of those, per epoch.

    TESS is two thirds of the clips, and two women with one phrase are learnt within two epochs."""

    def __init__(self, dataset=None, shuffle=False, **kwargs):
        super().__init__(dataset, shuffle=shuffle, **kwargs)
        if shuffle:
            items = enumerate(dataset.items)
            self.tess = [i for i, picture in items if parse_name(picture)["corpus"] == "tess"]
            self.others = sorted({*range(len(dataset))} - {*self.tess})
            self.n = len(self.others) + len(self.tess) // 8

    def get_idxs(self) -> list[int]:
        if not self.shuffle:
            return super().get_idxs()
        return self.shuffle_fn(self.others + self.rng.sample(self.tess, len(self.tess) // 8))


def make_loaders(files, valid: set, augmentation, batch_size: int, dl_type=FewerTess, **options):
    """Batches of picture files, those of the clips in `valid` for validation; `augmentation`:
    transforms of training batches; `options`: more of fastai's DataBlock."""
    block = fastai.DataBlock(
        blocks=(fastai.ImageBlock, fastai.CategoryBlock(vocab=EMOTIONS, sort=False)),
        get_y=fastai.parent_label,
        splitter=fastai.FuncSplitter(lambda picture: picture.stem in valid),
        batch_tfms=[*augmentation, fastai.Normalize.from_stats(*fastai.imagenet_stats)],
        **options,
    )
    return block.dataloaders(files, bs=batch_size, num_workers=0, dl_type=dl_type)


def picture_loaders(folder, settings, recipe: Recipe, valid: set, train: set | None = None):
    """Batches of the pictures in `folder`: of the clips (clip_ids) in `valid` for validation, of
    those in `train` (None: all others), augmented, for training; an error if one is missing."""
    files = [f for f in picture_files(folder, settings) if train is None or f.stem in train | valid]
    if train is not None and len(files) < len(train | valid):
        raise EmotionHelpersError(f"{folder}: some pictures are gone: run chapter 03, alone")
    warp = {"shift": recipe.shift, "stretch": recipe.stretch, "pitch": recipe.pitch}
    sized = lru_cache(maxsize=None)(partial(resize, height=recipe.height, width=recipe.width))
    tfms = [Augment(shift_and_stretch, **warp), Augment(spec_augment, mask_size=recipe.mask_size)]
    return make_loaders(files, valid, tfms, recipe.batch_size, get_x=sized)


class MixOrCut(fastai.MixUp):
    """fastai's MixUp, or in half of the batches a random stretch of time from another picture.

    Zhang et al. 2018, arXiv:1710.09412; CutMix along time: Yun et al. 2019, arXiv:1905.04899."""

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


class BFloat16(fastai.Callback):
    """Forward pass in bfloat16 on a CPU, which fastai's MixedPrecision leaves out."""

    def before_fit(self):
        self.after_fit()  # a fit that was interrupted never came to its end
        self.learn.model.forward = torch.autocast("cpu", torch.bfloat16)(self.learn.model.forward)

    def after_pred(self):
        self.learn.pred = self.pred.float()

    def after_fit(self):
        vars(self.learn.model).pop("forward", None)


def speed_callbacks() -> list[fastai.Callback]:
    """The fastai callbacks that make training quick on this machine (none on an Apple GPU)."""
    half = [fastai.MixedPrecision()] if torch.cuda.is_available() else [BFloat16()] * has_bfloat16()
    return [] if torch.backends.mps.is_available() else [*half, fastai.ChannelsLast()]


class CheckpointEveryEpoch(fastai.Callback):
    """Seeds each epoch by its number, and keeps on disk what training needs to go on after it."""

    order = 80  # after MixedPrecision and Recorder

    def __init__(self, runs: Path, config: dict, seed: int):
        self.runs, self.config, self.seed, self.history = runs, config, seed, []

    def before_fit(self):
        if not hasattr(self, "param_scheduler"):  # to ask a learner counts as a fit, too
            raise EmotionHelpersError("in `checkpoints` only fit_one_cycle can be called")
        scheds, wd = self.param_scheduler.scheds, [group.get("wd") for group in self.opt.hypers]
        rates = [scheds["lr"](x).tolist() for x in (0, 0.25, 0.5)]
        moms = [float(scheds["mom"](x)) for x in (0, 0.25, 1) if "mom" in scheds]
        config = self.config | {"epochs": self.n_epoch, "lr": rates, "seed": self.seed}
        folder = self.runs / f"{config.get('name', 'run')}-{config_hash(config)}"
        self.file = folder / "last.pth"
        self.parts = [*describe_learner(self.learn), f"moms={moms}", f"wd={wd}"]
        self.history.clear()
        if self.file.exists():
            self.load()
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "config.json", json.dumps(config, indent=1))
            self.save()  # the first weights: a cell that is stopped and run again begins with them

    def load(self):
        # Not weights_only: fastai's optimisers keep lists of their own. The file is this machine's.
        try:
            state = torch.load(self.file, map_location=self.dls.device, weights_only=False)
        except Exception as error:  # what half a file raises is not documented
            raise EmotionHelpersError(f"{self.file}: {error}; if damaged, delete it") from error
        if self.parts != state["learner"]:
            changed = sorted({*self.parts} ^ {*state["learner"]}) or ["another order or number"]
            problem = f"the run in {self.file.parent} is of another learner ({'; '.join(changed)})"
            raise EmotionHelpersError(f"{problem}: change its config too, or delete the folder")
        self.history += state["history"]
        if self.history and any(isinstance(cb, fastai.SaveModelCallback) for cb in self.learn.cbs):
            problem = "SaveModelCallback cannot go on: the weights of earlier epochs are gone"
            raise EmotionHelpersError(f"{problem}; take it out, or delete {self.file.parent}")
        print(f"{self.file.parent.name}: {len(self.history)} of {self.n_epoch} epochs are done")
        self.model.load_state_dict(state["model"])
        self.opt.load_state_dict(state["opt"])
        if state["scaler"] and hasattr(self.learn, "scaler"):  # of half precision, on a GPU alone
            self.learn.scaler.load_state_dict(state["scaler"])

    def save(self):
        scaler = getattr(self.learn, "scaler", None)
        state = {"model": self.model.state_dict(), "opt": self.opt.state_dict()}
        state |= {"scaler": scaler.state_dict() if scaler else None, "learner": self.parts}
        with atomic_write(self.file) as partial_file, open(partial_file, "wb") as file:
            torch.save(state | {"history": self.history}, file)

    def before_epoch(self):
        if self.epoch < len(self.history):  # it is shown as if it had just been trained
            _, *numbers, seconds = self.history[self.epoch].values()
            self.recorder.log += numbers
            self.recorder.start_epoch = time.time() - seconds
            raise fastai.CancelEpochException
        fastai.set_seed(self.seed + self.epoch)
        self.dls.train.rng = random.Random(self.seed + self.epoch)
        self.recorder.smooth_loss.reset()  # it would remember epochs that a later run has not seen

    def after_epoch(self):
        if self.epoch < len(self.history):  # it was passed over
            return
        names, values = self.recorder.metric_names[1:-1], map(float, self.recorder.log[1:-1])
        row = {"epoch": self.epoch, **dict(zip(names, values, strict=False))}
        self.history.append(row | {"seconds": time.time() - self.recorder.start_epoch})
        self.save()


def describe(part) -> str:
    """What a part of a learner is and what it was made with: the same words in every run."""
    if isinstance(part, partial):
        return f"{describe(part.func)}{part.args}{part.keywords}"
    if inspect.isroutine(part) or inspect.isclass(part):
        return part.__qualname__
    if isinstance(part, tuple | fastai.L):  # of fastai's
        return str([*map(describe, part)])
    if isinstance(part, torch.Tensor) or not hasattr(part, "__dict__"):
        return str(part.tolist() if isinstance(part, torch.Tensor) else part)
    names = [*inspect.signature(type(part)).parameters, *INSIDE]
    options = [f"{name}={describe(getattr(part, name))}" for name in names if hasattr(part, name)]
    return f"{type(part).__qualname__}({', '.join(options)})"


def describe_learner(learn: fastai.Learner) -> list[str]:
    """What a run depends on and its learner shows: who changes it must change the config too."""
    callbacks = [cb for cb in learn.cbs if type(cb).__name__ not in MACHINERY]
    batches, train, valid = learn.dls.train, learn.dls.train_ds, learn.dls.valid_ds
    loss = learn.loss_func.func if isinstance(learn.loss_func, fastai.BaseLoss) else learn.loss_func
    settings = read_settings(train.items[0].parent.parent)
    labels = [[describe(y) for ys in d.tls[d.n_inp :] for y in ys] for d in (train, valid)]
    clips = config_hash([[f.stem for f in d.items] for d in (train, valid)] + labels)
    weights = sum(part.numel() for part in learn.model.parameters() if part.requires_grad)
    parts = (learn.opt_func, loss, *callbacks, type(batches), settings)
    numbers = [f"network={config_hash(repr(learn.model))}", f"bs={learn.dls.bs}", f"clips={clips}"]
    if hasattr(batches, "wgts"):  # fastai's WeightedDL
        numbers.append(f"weights of clips={config_hash(batches.wgts.tolist())}")
    numbers += [f"trained weights={weights}", f"picture size={train[0][0].shape}"]
    return [*map(describe, [*parts, *batches.after_item.fs, *batches.after_batch.fs]), *numbers]


@contextmanager
def checkpoints(learn: fastai.Learner, runs: str | Path, config: dict, seed: int = 42):
    """While this is open, one `learn.fit_one_cycle` keeps its last epoch on disk, and goes on after
    the one that is there; gives the list of finished epochs, a dictionary per epoch.

    The run lies in a folder below `runs` that is named by `config`: what the caller says that it
    depends on, a "name" and anything JSON can hold, with epochs and rates. The same config goes on
    with its run or loads it, another gets a folder of its own; nothing is deleted. Raises
    `EmotionHelpersError` if the learner was changed and the config not, or a file is damaged."""
    loss_func, keep = learn.loss_func, CheckpointEveryEpoch(Path(runs), config, seed)
    learn.create_opt()  # without the momentum of an earlier fit, or its gradients
    learn.model.zero_grad()
    try:
        with fastai.no_random(seed), learn.added_cbs([keep]):
            yield keep.history
    finally:  # MixUp's stays where somebody stops it
        learn.loss_func = loss_func
