"""Models: the recipe, the network, its answers about pictures, and its weights on disk."""

import hashlib
import json
import os
import zlib
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torchvision.models import ResNet34_Weights, resnet34

from . import EmotionHelpersError, atomic_write
from .clips import EMOTIONS
from .corpora import TIMEOUT, models_folder
from .pictures import SpectrogramSettings, resize

MEAN, STD = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, from pictures on; the defaults are the series' first stage."""

    height: int = 144  # of the resized picture: half of what is rendered
    width: int = 216
    kernel_scale: tuple[int, int] = (2, 1)  # of the first layer; see `scale_kernels`
    epochs: int = 24
    batch_size: int = 32
    lr: tuple[float, float] = (1e-3, 4e-3)  # lowest and highest layers
    tess: bool = True  # an eighth of TESS per epoch beside all of RAVDESS
    shift: float = 0.1  # see augmentation.shift_and_stretch
    stretch: float = 0.1
    pitch: float = 0.0
    mask_size: float = 0.1  # see augmentation.spec_augment
    mixup: float = 0.4  # alpha; 0: none
    cut: bool = True  # cut and paste in place of mixup in half of the batches
    n_tta: int = 8  # augmented copies behind an evaluated answer
    start: "Recipe | None" = None  # whose network this one goes on from
    corruption_p: float = 0.0  # share of pictures heard in noise; above 0, `start` is the teacher

    def __post_init__(self):
        try:
            if isinstance(self.start, dict):  # from JSON
                object.__setattr__(self, "start", Recipe(**self.start))
            for name in ("lr", "kernel_scale"):  # JSON has lists
                object.__setattr__(self, name, tuple(getattr(self, name)))
            counts = (self.height, self.width, self.epochs, self.batch_size - 1, 1 + self.n_tta)
            counts += self.kernel_scale
            shares = (self.shift, self.stretch, self.pitch, self.mask_size, self.corruption_p)
            possible = all(type(count) is int and 1 <= count <= 4096 for count in counts)
            possible &= all(0 <= share <= 1 for share in shares) and 0 <= self.mixup < 1e3
            possible &= len(self.lr) == 2 and 0 < min(self.lr) <= max(self.lr) < 1e3
            possible &= {self.tess, self.cut} <= {True, False} and max(self.kernel_scale) <= 8
            possible &= isinstance(self.start, Recipe if self.corruption_p else Recipe | None)
            possible &= not (self.corruption_p and self.mixup)  # a teacher's answers are not mixed
            old = getattr(self.start, "kernel_scale", (1, 1))  # which is multiplied
            possible &= all(scale % b == 0 for scale, b in zip(self.kernel_scale, old, strict=True))
        except (TypeError, ValueError):  # something that is no number, or not as many
            possible = False
        if not possible:
            raise EmotionHelpersError(f"{self}: such a recipe cannot be")


HALF = Recipe()
WHOLE = Recipe(height=288, width=432, kernel_scale=(4, 2), start=HALF, epochs=4, lr=(2e-4, 8e-4))
NO_MIXING = {"mask_size": 0.0, "mixup": 0.0, "cut": False}
NOISE = {"corruption_p": 0.9, "epochs": 12, "lr": (7e-4, 7e-4), **NO_MIXING}
RECIPES = {
    "144": HALF,
    "288": WHOLE,
    "robust": replace(HALF, start=HALF, **NOISE),
    "quick": replace(HALF, epochs=3, height=48, width=48, kernel_scale=(1, 1), tess=False, n_tta=0),
}
REPORTED_RECIPE = {"real": "144", "demo": "quick"}  # of each corpus, in the tables of results
DEPLOYED_RECIPE = {"real": "robust", "demo": "quick"}  # of the network that answers


def scale_kernels(conv: nn.Conv2d, rows: int, columns: int) -> nn.Conv2d:
    """The layer for pictures `rows` times as high and `columns` times as wide as `conv` is used to.

    Every weight is repeated and divided, kernel, stride and padding grow: it computes what `conv`
    computed of such a picture averaged to the old size, and can learn from the finer one."""
    weight = conv.weight.detach().repeat_interleave(rows, 2).repeat_interleave(columns, 3)
    stride, padding = ((y * rows, x * columns) for y, x in (conv.stride, conv.padding))
    shape = (conv.in_channels, conv.out_channels, weight.shape[2:], stride, padding)
    scaled = nn.Conv2d(*shape, bias=False, device="meta")  # which draws no random weights
    scaled.weight = nn.Parameter(weight / (rows * columns))
    return scaled


def build_network(kernel_scale: tuple[int, int] = (1, 1)) -> nn.Module:
    """ResNet-34 up to its last maps, their means, batch norm, one linear layer; untrained. What
    fastai's `vision_learner(..., resnet34, **HEAD)` trains, its first layer scaled."""
    body = nn.Sequential(*list(resnet34().children())[:-2])
    body[0] = scale_kernels(body[0], *kernel_scale)
    last = (nn.BatchNorm1d(512), nn.Linear(512, len(EMOTIONS), bias=False))
    return nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *last))


@cache
def imagenet_weights() -> str:
    """Which ResNet-34 ImageNet weights training starts from, in words; fetches them if needed. They
    lie in models/torch unless TORCH_HOME is set; the name of the genuine ones ends as their SHA-256
    begins. Raises `EmotionHelpersError` if they cannot be downloaded, or are damaged."""
    os.environ.setdefault("TORCH_HOME", str(models_folder("torch")))
    weights = ResNet34_Weights.IMAGENET1K_V1
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.split("/")[-1]
    try:
        with patch.object(torch.hub, "urlopen", partial(torch.hub.urlopen, timeout=TIMEOUT)):
            weights.get_state_dict(check_hash=True)
    except Exception as error:  # what half a file raises is not documented
        advice = f"get {weights.url} with a browser, put it at {file}, or train from random weights"
        advice = f"{file} is damaged: delete it, run again" if file.exists() else advice
        raise EmotionHelpersError(f"no ImageNet weights ({error}): {advice}") from error
    digest, name = hashlib.sha256(file.read_bytes()).hexdigest()[:8], file.stem
    return f"torchvision's {name}" if digest in name else f"a stand-in for {name} ({digest})"


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 numbers in hardware."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))


def describe_device() -> str:
    """What this machine trains on, in words."""
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return f"CUDA, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "Apple GPU"
    return f"CPU{' with bfloat16' if has_bfloat16() else ''}, {torch.get_num_threads()} threads"


def to_tensor(picture, recipe: Recipe) -> Tensor:
    """A `mel_picture` (or its file) as the network sees it: 0 to 1, shape (1, 3, height, width)."""
    pixels = np.array(resize(picture, recipe.height, recipe.width), dtype=np.float32)
    return torch.from_numpy(pixels / 255).permute(2, 0, 1)[None]


def normalize(pictures: Tensor) -> Tensor:
    """Pictures, (n, 3, height, width), 0 to 1, as networks get them: by ImageNet's statistics."""
    return (pictures - MEAN.to(pictures)) / STD.to(pictures)


@torch.no_grad()
def predict_proba(model, pictures: Tensor, temperature: float = 1.0) -> Tensor:
    """Probability of each emotion, shape (n, 8), for pictures, (n, 3, height, width), 0 to 1."""
    return (model(normalize(pictures)).float() / temperature).softmax(dim=1)


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network and what is needed to ask it."""

    model: nn.Module  # in evaluation mode, on the CPU
    settings: SpectrogramSettings  # of the pictures it learnt from
    recipe: Recipe
    info: dict  # more about it: corpus, unseen_speakers, temperature, versions, ...

    @property
    def temperature(self) -> float:
        """What its scores are divided by, so that 70 % is right in seven of ten."""
        return self.info.get("temperature", 1.0)


def checksum(config: str, weights: dict[str, Tensor]) -> str:
    """A number for weights and settings, another one if any bit flips; older files have None."""
    crc = zlib.crc32(config.encode())
    for name in sorted(weights):  # one after the other: no second copy of them in memory
        crc = zlib.crc32(weights[name].flatten().view(torch.uint8).numpy(), crc)
    return str(crc)


def save_model(folder: str | Path, model: nn.Module, settings, recipe: Recipe, **info) -> Path:
    """Write folder/model.safetensors: the weights and, in its metadata, the rest of a `Network`."""
    versions = {name: version(name) for name in ("torch", "torchvision", "fastai", "librosa")}
    config = {"emotions": EMOTIONS, "settings": asdict(settings), "recipe": asdict(recipe)}
    text = json.dumps(config | {"info": info | {"versions": versions}})
    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    Path(folder).mkdir(parents=True, exist_ok=True)
    with atomic_write(Path(folder) / "model.safetensors") as new:
        new.write_bytes(save(weights, {"config": text, "checksum": checksum(text, weights)}))
    return Path(folder)


def load_model(folder: str | Path) -> Network:
    """The network that `save_model` wrote; nothing in the file is executed. Raises
    `EmotionHelpersError` naming the file if it is missing, damaged or something else."""
    file = Path(folder) / "model.safetensors"
    make = "run chapter 04 (tutorial), 06 (unseen-speakers) or `python -m emotion_helpers train`"
    if not file.exists():
        raise EmotionHelpersError(f"{file} is missing: {make}")
    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata()
        config, weights = json.loads(metadata["config"]), load_file(file)
        settings, recipe = SpectrogramSettings(**config["settings"]), Recipe(**config["recipe"])
        with torch.device("meta"):  # no random weights first
            model = build_network(recipe.kernel_scale).eval()
        model.to_empty(device="cpu").load_state_dict(weights)
        network = Network(model, settings, recipe, config["info"])
        possible = metadata.get("checksum") in (None, checksum(metadata["config"], weights))
        possible &= all(value.isfinite().all() for value in model.state_dict().values())
        kinds = {"corpus": str, "unseen_speakers": list, "clips_folder": str}
        possible &= all(isinstance(v, kinds.get(k, object)) for k, v in network.info.items())
        possible &= config["emotions"] == [*EMOTIONS] and 0.01 <= network.temperature <= 100
        if not possible:
            raise ValueError("its weights, emotions or info cannot be")
    except Exception as error:  # whatever is in that file
        reason = f"{file} is damaged, or not of this edition ({type(error).__name__}: {error})"
        raise EmotionHelpersError(f"{reason}; move it away, and {make}") from error
    return network
