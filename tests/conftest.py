"""Small things that several test files need. No test reads the real corpora or leaves this machine."""
import socket

import numpy as np
import pytest
import soundfile as sf

from emotion_helpers.demo import make_demo


@pytest.fixture(autouse=True)
def this_machine_only(monkeypatch):
    """A test that tries to reach another machine fails."""
    connect = socket.socket.connect

    def connect_here(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
            raise OSError(f"a test tried to reach {address[0]}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def tone():
    """A function that writes a sine as a wav file: tone(path, hertz, seconds, rate, channels); returns the path."""
    def write(path, hertz=440, seconds=0.5, rate=8_000, channels=1, **format):
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
        sf.write(path, np.stack([samples] * channels, axis=1), rate, **format)
        return path
    return write


@pytest.fixture(scope="session")
def demo_corpus(tmp_path_factory):
    """The whole demo corpus, made once."""
    return make_demo(tmp_path_factory.mktemp("data") / "demo")


@pytest.fixture(scope="session")
def demo_network(demo_corpus, tmp_path_factory):
    """Folder of the small network that `train --corpus demo` makes, trained once."""
    from emotion_helpers import experiments  # not above: most tests need no torch
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(experiments, "ROOT", root)
        patched.setattr(experiments, "get_corpora", lambda corpus, data: demo_corpus)
        patched.setattr(experiments, "results_folder", lambda corpus: root)
        folder = experiments.train_final("demo")
    return folder


@pytest.fixture(scope="session")
def network(demo_network):
    """The same network, loaded, and its settings."""
    from emotion_helpers.training import load_model
    return load_model(demo_network)
