"""What several test files need. No test reads the real corpora or leaves this machine."""

import gc
import signal
import socket

import numpy as np
import pytest
import soundfile as sf

collect_ignore_glob = ["benchmark.py", "fuzz_*.py", "study_*.py"]  # run by hand


@pytest.fixture(autouse=True)
def this_machine_only(monkeypatch):
    """A test that tries to reach another machine fails."""
    connect = socket.socket.connect

    def connect_here(self, address):
        families = (socket.AF_INET, socket.AF_INET6)
        if self.family in families and address[0] not in ("127.0.0.1", "::1"):
            raise OSError(f"a test tried to reach {address[0]}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def tone():
    """A function that writes a sine: tone(path, hertz, seconds, rate, channels) -> path."""

    def write(path, hertz=440, seconds=0.5, rate=8_000, channels=1, **container):
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
        sf.write(path, np.stack([samples] * channels, axis=1), rate, **container)
        return path

    return write


SMALL = {
    "sample_rate": 8_000,
    "n_fft": 512,
    "win_lengths": (128, 256, 512),
    "hop_length": 250,
    "width": 32,
    "n_mels": 32,
    "fmax": 4_000.0,
}


@pytest.fixture(scope="session")
def small():
    """Settings for pictures of 32 x 32 pixels that are made in a millisecond."""
    from emotion_helpers.pictures import SpectrogramSettings

    return SpectrogramSettings(**SMALL)


@pytest.fixture(scope="session")
def demo_clips(tmp_path_factory):
    """Forty-odd demo voices: eight actors, two of each fold of EmoBox from 1 to 4, six emotions."""
    from emotion_helpers.clips import EMOTIONS, find_clips
    from emotion_helpers.demo import write_demo_clip

    folder = tmp_path_factory.mktemp("voices")
    for actor in (1, 11, 4, 10, 8, 9, 3, 5):
        for emotion in range(1, 7):
            name = f"03-01-{emotion:02}-01-01-01-{actor:02}.wav"
            write_demo_clip(folder, f"RAVDESS/Actor_{actor:02}/{name}", 0)
    clips, _ = find_clips(folder)
    assert set(clips.emotion) == set(EMOTIONS[:6])
    return clips


@pytest.fixture(scope="session")
def demo_pictures(demo_clips, small, tmp_path_factory):
    """The folder with the small pictures of `demo_clips`."""
    from emotion_helpers.pictures import render

    folder = tmp_path_factory.mktemp("pictures")
    render(demo_clips, folder, small, n_jobs=1)
    return folder


@pytest.fixture(scope="session")
def network():
    """What users get, untrained: the robust recipe, the default pictures, a temperature."""
    import torch

    from emotion_helpers.models import RECIPES, Network, build_network
    from emotion_helpers.pictures import SpectrogramSettings

    torch.manual_seed(0)
    model = build_network(RECIPES["robust"].kernel_scale).eval()
    info = {"temperature": 1.5, "corpus": "demo", "unseen_speakers": ["Actor_01"]}
    return Network(model, SpectrogramSettings(), RECIPES["robust"], info)


@pytest.fixture(scope="session")
def network_folder(network, tmp_path_factory):
    """The same on disk."""
    from emotion_helpers.models import save_model

    folder = tmp_path_factory.mktemp("model")
    return save_model(folder, network.model, network.settings, network.recipe, **network.info)


@pytest.fixture(scope="module")
def shallow(network):
    """Ten layers in place of 34, for tests that are not about the network: a quarter of the weights
    to train, to save and to load. (`network` comes first: it is a whole one.)"""
    from fastai.vision import all as fastai
    from fastai.vision.learner import model_meta
    from torchvision.models.resnet import BasicBlock, ResNet

    from emotion_helpers import models

    def resnet10(*_, **__):
        return ResNet(BasicBlock, [1, 1, 1, 1])

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(model_meta, resnet10, model_meta[fastai.resnet18])
        patched.setattr(fastai, "resnet34", resnet10)
        patched.setattr(models, "resnet34", resnet10)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_core():
    """No GPU, whose sums differ from run to run, and no threads, which wait for each other.

    Ctrl-C reaches the tests of it also where the shell that started them ignores it.
    """
    import torch
    from fastai.torch_core import default_device

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    default_device(False)
    gc.collect()
    gc.freeze()  # what the libraries made stays: `tidy_memory` need not look through it each time
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    default_device(None)
    torch.set_num_threads(threads)
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def tidy_memory():
    """Learners refer to themselves: hundreds of megabytes that would wait to be collected."""
    yield
    gc.collect()


LONG = ("notebooks", "cross_validation", "training", "staircase", "prediction", "app", "chapter_10")


def pytest_collection_modifyitems(items):
    """The longest files first: two processes end at about the same time if short ones are last."""
    order = {f"tests/test_{name}.py": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.nodeid.split("::")[0], len(LONG)))
