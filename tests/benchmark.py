"""How long a reader waits: each thing timed beside another, in turns; `make benchmark` runs it.

Prints a table and writes its rows into notebooks/results/benchmarks.csv (of the demo voices:
models/demo/results), where those of other machines stay. A ratio is of two times that were taken
one after the other, so that what else the machine does slows both. Takes some minutes, on Linux or
macOS, and wants to be alone.
"""

import os
import shutil
import subprocess
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import librosa
import matplotlib
import numpy as np
import pandas as pd
import scipy.fft
import torch
from fastai.vision import all as fastai
from joblib import Parallel, delayed
from PIL import Image
from threadpoolctl import threadpool_limits
from torch.utils.flop_counter import FlopCounterMode

from emotion_helpers import models, write_text
from emotion_helpers.audio import read_audio
from emotion_helpers.beyond.cross_validation import make_learner, update_table
from emotion_helpers.beyond.prediction import map_in_threads, predict
from emotion_helpers.clips import find_clips
from emotion_helpers.corpora import get_corpora, results_folder
from emotion_helpers.models import RECIPES, build_network, load_model, predict_proba, save_model
from emotion_helpers.pictures import SpectrogramSettings, picture_files, render
from emotion_helpers.training import picture_loaders

matplotlib.use("agg")
SETTINGS, RECIPE = SpectrogramSettings(), RECIPES["144"]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def timed(function) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def in_turns(ours, beside, repeats=5) -> list[tuple[float, float]]:
    """Seconds of both, after a first call of each that does not count."""
    ours(), beside()
    return [(timed(ours), timed(beside)) for _ in range(repeats)]


def times_as_fast(*calls, **options):
    return [beside / ours for ours, beside in in_turns(*calls, **options)]


def times_as_long(*calls, **options):
    return [ours / beside for ours, beside in in_turns(*calls, **options)]


def on_one_core(function, *arguments, **options):
    """What a function gives while each library in this process has one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return function(*arguments, **options)
    finally:
        torch.set_num_threads(threads)


# ---- rendering


def render_as_usual(row: dict, folder: Path):
    """One window, as many mel bands and columns as ours, drawn by matplotlib."""
    from matplotlib import pyplot as plt

    samples, rate = librosa.load(row["path"], sr=SETTINGS.sample_rate)
    options = {"n_fft": SETTINGS.n_fft, "hop_length": SETTINGS.hop_length}
    mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_mels=SETTINGS.n_mels, **options)
    figure = plt.figure(figsize=(6, 4), dpi=72)
    librosa.display.specshow(librosa.power_to_db(mel, ref=np.max), sr=rate, y_axis="mel")
    figure.savefig(folder / f"{row['clip_id']}.png")
    plt.close(figure)


def render_floor(row: dict, folder: Path):
    """What cannot be left out: decoding, the transforms, writing a picture of so many bytes."""
    samples = read_audio(row["path"], SETTINGS.sample_rate)
    frames = np.lib.stride_tricks.sliding_window_view(samples, max(SETTINGS.win_lengths))
    frames = frames[:: SETTINGS.hop_length][: SETTINGS.width]
    for _ in SETTINGS.win_lengths:
        for part in np.array_split(frames, 1 + len(frames) // 48):
            scipy.fft.rfft(part, n=SETTINGS.n_fft)
    options = {"compress_level": 1, "compress_type": 3}  # as `render_clip` does
    Image.fromarray(np.load(row["array"])).save(folder / f"{row['clip_id']}.png", **options)


def rendering(clips: pd.DataFrame, folder: Path):
    rows, number = clips.to_dict("records"), count()
    few = clips[:: max(1, len(clips) // 40)][:40]

    def usual():
        for row in few.to_dict("records"):
            render_as_usual(row, folder)

    def ours():
        render(few, folder / f"{next(number)}", n_jobs=1)

    yield (
        "render one clip to its PNG, one core",
        "librosa.load, melspectrogram, specshow, savefig at 432 x 288",
        ">= 6 times as fast",
        "three windows instead of one, then writing the PNG",
        on_one_core(times_as_fast, ours, usual),
    )
    render(clips, folder / "pictures")
    for row in rows:
        picture = folder / "pictures" / row["emotion"] / f"{row['clip_id']}.png"
        row["array"] = folder / f"{row['clip_id']}.npy"
        np.save(row["array"], np.asarray(Image.open(picture)))

    def floor():
        Parallel(n_jobs=-1, batch_size=16)(delayed(render_floor)(row, folder) for row in rows)

    yield (
        "render many clips, all cores",
        "decoding, transforms and writing alone",
        "<= 1.5 times as long",
        "mel bands, decibels, the high-pass",
        times_as_long(lambda: render(clips, folder / f"{next(number)}"), floor, repeats=3),
    )


# ---- training


def training(clips: pd.DataFrame, folder: Path):
    files = picture_files(folder / "pictures", SETTINGS)
    valid = {file.stem for file in files[::10]}
    learn = make_learner(
        picture_loaders(folder / "pictures", SETTINGS, RECIPE, valid), RECIPE, 1, False
    )
    options = {"item_tfms": fastai.Resize(144), "batch_tfms": fastai.aug_transforms(), "bs": 64}
    loaders = fastai.ImageDataLoaders.from_folder(
        folder / "pictures", valid_pct=0.1, seed=1, **options
    )
    article = fastai.vision_learner(loaders, fastai.resnet34, pretrained=False)
    article.unfreeze()
    ours_n, article_n = (len(loader.train) * loader.train.bs for loader in (learn.dls, loaders))

    def epoch(learner):
        with learner.no_bar(), learner.no_logging():
            learner.fit(1, 1e-4)

    seconds = in_turns(lambda: epoch(learn), lambda: epoch(article), repeats=3)
    half = models.has_bfloat16() or torch.cuda.is_available()
    yield (
        "one training epoch at 144 x 216, per picture",
        "from_folder(Resize(144)), vision_learner, all layers, float32; the first epochs left out",
        f">= {5 if half else 1.5} times as fast",
        "arithmetic of the network",
        [(beside / article_n) / (ours / ours_n) for ours, beside in seconds],
    )
    batch = torch.rand(RECIPE.batch_size, 3, RECIPE.height, RECIPE.width)
    with FlopCounterMode(display=False) as counter:
        learn.model(batch.to(learn.dls.device)).sum().backward()
    per_picture = counter.get_total_flops() / len(batch)
    size, kind = 4096, torch.bfloat16 if models.has_bfloat16() else torch.float32
    kind = torch.float16 if torch.cuda.is_available() else kind
    matrix = torch.rand(size, size, device=learn.dls.device).to(kind)

    def product():
        return (matrix @ matrix)[0, 0].item()  # which waits for a GPU

    seconds_of_product = min(timed(product) for _ in range(5))
    peak = 2 * size**3 / seconds_of_product
    yield (
        "arithmetic of that epoch",
        f"a product of {size} x {size} matrices in {str(kind)[6:]}",
        ">= 0.6 of it",
        "what is no matrix product: batch norm, the optimiser, augmentation",
        [per_picture * ours_n / ours / peak for ours, _ in seconds],
    )


MEMORY = """
import sys
from pathlib import Path
import psutil
from emotion_helpers.models import RECIPES
from emotion_helpers.pictures import SpectrogramSettings, picture_files
from emotion_helpers.training import picture_loaders
folder, n, before = Path(sys.argv[1]), int(sys.argv[2]), psutil.Process().memory_info().rss
stems = [file.stem for file in picture_files(folder)][:n]
loaders = picture_loaders(folder, SpectrogramSettings(), RECIPES["144"], {stems[0]}, {*stems})
for i in range(len(loaders.train_ds)): loaders.train_ds[i]
print(psutil.Process().memory_info().rss - before)
"""


def memory(folder: Path):
    """How much training holds per picture: what many take more than few, all of them seen."""
    pictures, n = folder / "pictures", len(picture_files(folder / "pictures"))
    few, ratios = n // 4, []
    for _ in range(3):
        command = [sys.executable, "-W", "ignore", "-c", MEMORY, pictures]
        sizes = (int(subprocess.check_output([*command, str(size)])) for size in (few, n))
        ratios.append(-np.subtract(*sizes) / (n - few) / (RECIPE.height * RECIPE.width * 3))
    yield (
        "memory of training, per picture",
        "the picture as an 8-bit array of 144 x 216",
        "<= 1.5 times as much",
        "Pillow keeps four bytes for a pixel's three",
        ratios,
    )


# ---- answers


def answers(clips: pd.DataFrame, model: Path):
    network, path = load_model(model), clips.path.iloc[0]
    picture = torch.rand(1, 3, RECIPE.height, RECIPE.width)

    forward = partial(predict_proba, network.model, picture)
    yield (
        "from a 3 s clip to its answer, warm",
        "one plain forward pass of the same network",
        "<= 3 times as long",
        "the network, then rendering its picture",
        times_as_long(lambda: predict(path, network), forward, repeats=15),
    )
    paths = [*clips.path[:100]]

    def one_after_the_other():
        for path in paths:
            predict(path, network)

    def all_cores():
        list(map_in_threads(lambda path: predict(path, network), paths, disable=True))

    shares = []
    for _ in range(3):
        serial = on_one_core(timed, one_after_the_other)
        shares.append(serial / CORES / timed(all_cores))
    yield (
        "a folder of 100 recordings, all cores",
        "one after the other on one core, over the number of cores",
        ">= 0.9 of it",
        "Python between the calls, which is done by one thread at a time",
        shares,
    )


PEAK = """
import resource, sys
from emotion_helpers.beyond.prediction import predict_files
predict_files([sys.argv[1]], model=sys.argv[2], csv=sys.argv[1] + ".csv")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def many_answers(clips: pd.DataFrame, folder: Path, model: Path):
    """Whether memory grows with the number of recordings in a folder."""
    peaks = {}
    for n in (100, 1_000):
        (folder / f"{n}").mkdir()
        for i in range(n):
            shutil.copy(clips.path[i % len(clips)], folder / f"{n}" / f"{i}.wav")
        command = [sys.executable, "-W", "ignore", "-c", PEAK, folder / f"{n}", model]
        options = {"stderr": subprocess.DEVNULL, "text": True}
        outputs = (subprocess.check_output(command, **options) for _ in range(2))
        peaks[n] = [int(output.split()[-1]) for output in outputs]
    yield (
        "peak memory of answering a folder of 1,000 recordings",
        "that of 100",
        "<= 1.1 times as much",
        "the answers, which are kept for the table",
        np.divide(peaks[1_000], peaks[100]),
    )


def cpu_seconds(*arguments) -> float:
    """Seconds of CPU time that a new Python takes for something."""
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)  # of this process alone
    assert status == 0, command
    return usage.ru_utime + usage.ru_stime


def commands(clips: pd.DataFrame, model: Path):
    question = ("-m", "emotion_helpers", "predict", clips.path.iloc[0], "--model", model)
    torch_alone = ("-c", "import torch, torchvision")
    pairs = [(cpu_seconds(*question), cpu_seconds(*torch_alone)) for _ in range(6)][1:]
    yield (
        "`predict clip.wav`, cold, CPU time",
        "importing torch and torchvision alone",
        "<= 1.5 times as long",
        "importing librosa, scipy and pandas",
        [ours / beside for ours, beside in pairs],
    )
    helps = [timed(lambda: cpu_seconds("-m", "emotion_helpers", "--help")) for _ in range(6)][1:]
    yield "`python -m emotion_helpers --help`", "a second", "<= 0.3 s", "starting Python", helps


def benchmark(corpus: str) -> pd.DataFrame:
    """All rows, as a table, and in benchmarks.csv."""
    clips, _ = find_clips(get_corpora(corpus))
    clips = clips.groupby(["corpus", "emotion"]).head(30).reset_index(drop=True)
    machine = f"{models.describe_device()}, {CORES} cores"
    rows = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        torch.manual_seed(1)
        model = save_model(folder / "model", build_network(RECIPE.kernel_scale), SETTINGS, RECIPE)
        for group in (
            rendering(clips, folder),
            training(clips, folder),
            memory(folder),
            answers(clips, model),
            many_answers(clips, folder, model),
            commands(clips, model),
        ):
            for what, beside, aim, limit, ratios in group:
                numbers = {f"ratio_{f.__name__}": f(ratios) for f in (np.median, np.min, np.max)}
                row = {
                    "what": what,
                    "beside": beside,
                    **numbers,
                    "aim": aim,
                    "machine": machine,
                    "limit": limit,
                }
                rows.append(row)
                print(f"{what}: {row['ratio_median']:.2f} ({aim}), {beside}", flush=True)
    return pd.DataFrame(rows).round(3)


if __name__ == "__main__":
    corpus = sys.argv[1] if len(sys.argv) > 1 else "demo"
    table = benchmark(corpus)
    file = results_folder(corpus) / "benchmarks.csv"
    rows = update_table(file, table.drop(columns="limit"), ["machine", "what"], ["machine"])
    write_text(file, rows.to_csv(index=False))
    print(f"{table.machine[0]}, the {corpus} voices; in {file}:")
    print(table.drop(columns=["beside", "machine"]).to_string(index=False))
