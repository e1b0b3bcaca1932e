"""What ideas for speed bring, one by one, beside what had been predicted of them (of the first four
when quick trials of them had been seen).

    .venv/bin/python -W ignore tests/study_ideas.py

times each in turns with what is done without it, prints a table and writes it into
notebooks/results/ideas.csv. `ratio`: how many times as fast the thing in `what` is with the idea.
Takes some minutes, needs a C++ compiler (for torch.compile), and wants to be alone.
"""

import io
import sys
import zlib
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.fft
import torch
from benchmark import CORES, RECIPE, SETTINGS, on_one_core, times_as_fast
from numpy.random import default_rng
from PIL import Image
from torch import nn

from emotion_helpers import models, write_text
from emotion_helpers.audio import read_audio
from emotion_helpers.augmentation import shift_and_stretch, spec_augment
from emotion_helpers.beyond.distillation import soft_labels
from emotion_helpers.beyond.robustness import add_at_snr
from emotion_helpers.clips import EMOTIONS, find_clips
from emotion_helpers.corpora import get_corpora, models_folder, results_folder
from emotion_helpers.models import build_network, has_bfloat16, load_model, normalize, predict_proba
from emotion_helpers.pictures import centre_voice, mel_picture, resize

COLUMNS = ["idea", "what", "predicted", "ratio", "ratio_min", "ratio_max", "kept", "why"]


def compare(idea, what, predicted, kept, why, with_it, without) -> dict:
    """A row of the table."""
    ratios = times_as_fast(with_it, without)
    numbers = [round(float(f(ratios)), 2) for f in (np.median, np.min, np.max)]
    row = dict(zip(COLUMNS, [idea, what, predicted, *numbers, kept, why], strict=True))
    print(f"{idea}: {numbers[0]:.2f} ({predicted} predicted), {what}", flush=True)
    return row


# ---- sound to picture, one core


def fourier(samples: list[np.ndarray]):
    """The transforms of three windows of each clip, as now, all at once, and by torch."""
    frames = []
    for one in samples:
        voice = centre_voice(one, SETTINGS)
        for size in SETTINGS.win_lengths:
            windows = np.lib.stride_tricks.sliding_window_view(voice, size)
            frames.append(windows[:: SETTINGS.hop_length] * np.hanning(size).astype(np.float32))
    parts = [part for block in frames for part in np.array_split(block, 1 + len(block) // 48)]

    def now():
        for part in parts:
            scipy.fft.rfft(part, n=SETTINGS.n_fft)

    def at_once():
        for i in range(0, len(frames), 3):
            padded = np.zeros((sum(map(len, frames[i : i + 3])), SETTINGS.n_fft), np.float32)
            row = 0
            for block in frames[i : i + 3]:
                padded[row : row + len(block), : block.shape[1]] = block
                row += len(block)
            scipy.fft.rfft(padded)

    def by_torch():
        for part in parts:
            torch.fft.rfft(torch.from_numpy(part), n=SETTINGS.n_fft)

    what = "the transforms of a clip's three windows"
    yield compare(
        "frames of all three windows in one call", what, 1.1, False, "slower", at_once, now
    )
    why = "a millisecond per clip; each worker would import torch, which takes seconds"
    yield compare("torch's transform (MKL) for scipy's", what, 2.0, False, why, by_torch, now)


def own_png(picture: np.ndarray) -> bytes:
    """What is large in a PNG: rows, each less its left neighbour, as runs of equal bytes."""
    rows, columns, _ = picture.shape
    lines = np.ones((rows, 1 + 3 * columns), np.uint8)
    lines[:, 1:] = picture.reshape(rows, -1)
    lines[:, 4:] -= picture.reshape(rows, -1)[:, :-3]
    coder = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    return coder.compress(lines.tobytes()) + coder.flush()


def png(pictures: list[np.ndarray]):
    def save(**options):
        for picture in pictures:
            Image.fromarray(picture).save(io.BytesIO(), format="PNG", **options)

    what, now = "writing a picture", partial(save, compress_level=1, compress_type=3)
    why = "about as small, and one argument"
    yield compare("PNG as runs of equal bytes", what, 2.0, True, why, now, save)
    why = "3 ms per clip, once; fifteen lines of our own in place of Pillow's, and larger files"

    def own():
        for picture in pictures:
            own_png(picture)

    yield compare("one PNG filter for all rows, by hand", what, 1.2, False, why, own, now)


# ---- training


def batches(pictures: list[np.ndarray]):
    """Batches for the network from pictures in memory: Pillow's images, and one tensor."""
    images = [resize(picture, RECIPE.height, RECIPE.width) for picture in pictures]
    everything = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    everything = everything.permute(0, 3, 1, 2).contiguous()
    size = RECIPE.batch_size

    def from_images():
        for i in range(0, len(images), size):
            arrays = [torch.from_numpy(np.array(image)) for image in images[i : i + size]]
            normalize(torch.stack([array.permute(2, 0, 1) for array in arrays]).float() / 255)

    def from_tensor():
        for i in range(0, len(images), size):
            normalize(everything[i : i + size].float() / 255)

    why = "little beside the step that follows; fastai's DataBlock is what the reader types"
    idea = "pictures as one uint8 tensor, converted once per batch"
    yield compare(
        idea, "making batches of pictures in memory", 3.0, False, why, from_tensor, from_images
    )


def step(model: nn.Module, optimizer, batch, truth, half=True):
    """One step of training; returns its loss."""
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half and has_bfloat16()):
        loss = nn.functional.cross_entropy(model(batch), truth)
    loss.backward()
    optimizer.step()
    return loss.item()


def training(network: nn.Module):
    def learner(fused=False, last=True):
        model = deepcopy(network).train()
        model = model.to(memory_format=torch.channels_last if last else torch.contiguous_format)
        return model, torch.optim.Adam(model.parameters(), 1e-4, fused=fused)

    what, size = "a training step", RECIPE.batch_size
    raw = torch.rand(size, 3, RECIPE.height, RECIPE.width)
    truth = torch.arange(size) % 8
    batch = normalize(raw).to(memory_format=torch.channels_last)
    now = partial(step, *learner(), batch, truth)
    yield compare(
        "bfloat16 where the processor multiplies it",
        *(what, 2.5, True, "a callback of a few lines"),
        *(now, partial(step, *learner(), batch, truth, half=False)),
    )
    why = "two lines"
    contiguous = partial(step, *learner(last=False), normalize(raw), truth)
    yield compare("channels last", what, 1.2, True, why, now, contiguous)
    yield compare(
        "a fused optimiser",
        *(what, 1.05, False, "fastai's own optimiser is what its rates and layer groups mean"),
        *(partial(step, *learner(fused=True), batch, truth), now),
    )
    model, optimizer = learner()
    compiled = partial(step, torch.compile(model), optimizer, batch, truth)
    why = "it needs a compiler that readers may not have"
    yield compare("torch.compile", what, 1.1, False, why, compiled, now)

    def on_one_thread():
        return on_one_core(now)

    why = "torch's default; a third thread would need a third core"
    yield compare(f"{CORES} threads", what, 0.95 * CORES, True, why, now, on_one_thread)

    def with_augmentation():
        changed = spec_augment(shift_and_stretch(raw))
        step(*learners, normalize(changed).to(memory_format=torch.channels_last), truth)

    learners = learner()
    why = "it is what must differ from batch to batch"
    idea = "random masks and grids made once (here: none at all, the most it can bring)"
    yield compare(idea, what, 1.02, False, why, now, with_augmentation)
    body, head = deepcopy(network).train()
    for weight in body.parameters():
        weight.requires_grad = False
    features, optimizer = body(batch).detach(), torch.optim.Adam(head.parameters(), 1e-3)
    frozen = partial(step, nn.Sequential(body, head), optimizer, batch, truth)
    cached = partial(step, head, optimizer, features, truth)
    why = "only without augmentation, and the series' recipe has no frozen epoch"
    what = "a step of the article's frozen epochs"
    yield compare("features of the frozen body kept", what, 100.0, False, why, cached, frozen)


# ---- answers


def answers(network: nn.Module, pictures: list[np.ndarray]):
    model = deepcopy(network).eval()
    last = deepcopy(model).to(memory_format=torch.channels_last)
    windows = [models.to_tensor(picture, RECIPE) for picture in pictures[:12]]

    def one_by_one(network):
        for window in windows:
            predict_proba(network, window)

    def together():
        predict_proba(model, torch.cat(windows))

    def in_half():
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            now()

    what, now = "an answer about a window of a recording", partial(one_by_one, model)
    why = "nothing gained"
    yield compare(
        "channels last when a model is loaded",
        what,
        1.2,
        False,
        why,
        partial(one_by_one, last),
        now,
    )
    why = "one loop less to read as it is; memory grows with the recording"
    yield compare("all windows in one batch", what, 1.2, False, why, together, now)
    why = "probabilities would differ from machine to machine"
    yield compare("answers in bfloat16", what, 2.0, False, why, in_half, now)


def fewer_copies(network: nn.Module, pictures: list[np.ndarray]):
    """No augmented copies behind an answer, or two, in place of four: quicker, and as right? Asked
    of chapter 06's network of the real voices about the four actors it has not heard, in the studio
    and in white noise of 10 dB; means of three draws of the copies, seeds 0 to 2."""
    folder = models_folder("real") / "unseen-speakers"
    trained = load_model(folder) if folder.exists() else None
    if not trained or not Path(trained.info["clips_folder"]).exists():
        return
    clips, _ = find_clips(trained.info["clips_folder"])
    unseen, rng = clips[clips.speaker.isin(trained.info["unseen_speakers"])], default_rng(0)
    settings, recipe = trained.settings, trained.recipe
    studio = [read_audio(path, settings.sample_rate) for path in unseen.path]
    noisy = [add_at_snr(voice, rng.normal(size=len(voice)), 10) for voice in studio]
    inputs = []
    for voices in (studio, noisy):
        tensors = [models.to_tensor(mel_picture(voice, settings), recipe) for voice in voices]
        inputs.append(torch.cat(tensors))

    def ask(model, batch, copies):
        return soft_labels(model, batch, recipe, copies) if copies else predict_proba(model, batch)

    def right(copies: int) -> str:
        """Percent of the clips, in the studio and in noise, in words."""
        shares = []
        for seed in range(3 if copies else 1):
            torch.manual_seed(seed)
            for pictures in inputs:
                parts = [ask(trained.model, batch, copies) for batch in pictures.split(24)]
                answers = np.array(EMOTIONS)[torch.cat(parts).argmax(dim=1)]
                shares.append(100 * (answers == unseen.emotion).mean())
        in_studio, in_noise = np.reshape(shares, (-1, 2)).mean(axis=0)
        return f"{in_studio:.1f} % right, in noise {in_noise:.1f} %"

    window, four = models.to_tensor(pictures[0], recipe), right(4)
    for copies, predicted, kept in ((2, 1.5, False), (0, 5.0, True)):
        why = f"{right(copies)}; with four {four} (chapter 06's network, {len(unseen)} clips)"
        idea = f"{copies or 'no'} augmented copies in place of 4"
        calls = (partial(ask, network.eval(), window, n) for n in (copies, 4))
        yield compare(idea, "an answer about a window of a recording", predicted, kept, why, *calls)


def study() -> pd.DataFrame:
    clips, _ = find_clips(get_corpora(sys.argv[1] if len(sys.argv) > 1 else "real"))
    few = clips.iloc[:: len(clips) // 64].path
    samples = [read_audio(path, SETTINGS.sample_rate) for path in few]
    pictures = [mel_picture(one, SETTINGS) for one in samples]
    torch.manual_seed(1)
    network = build_network(RECIPE.kernel_scale)
    rows = on_one_core(lambda: [*fourier(samples), *png(pictures)])
    rows += [*batches(pictures), *training(network), *answers(network, pictures)]
    rows += fewer_copies(network, pictures)
    machine = f"{models.describe_device()}, {CORES} cores"
    return pd.DataFrame(rows).assign(machine=machine)


if __name__ == "__main__":
    table, file = study(), results_folder("real") / "ideas.csv"
    write_text(file, table.to_csv(index=False))
    print(table.drop(columns=["why", "machine"]).to_string(index=False))
