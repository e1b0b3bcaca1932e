"""Chapter 08: what it writes by hand does what the package does, and what it says it does."""

import re
from copy import deepcopy
from functools import partial

import librosa
import numpy as np
import pytest
import torch
from chapters import CHAPTERS, prose_of, run_cells

from emotion_helpers.beyond.adaptation import fit_last_layer
from emotion_helpers.beyond.distillation import corrupt
from emotion_helpers.beyond.robustness import add_at_snr
from emotion_helpers.clips import EMOTIONS
from emotion_helpers.models import NOISE, Recipe, normalize
from emotion_helpers.training import fastai


@pytest.fixture(scope="module")
def voice():
    """Three seconds of a chirp that swells, between two silences of half a second."""
    chirp = librosa.chirp(fmin=200, fmax=4_000, sr=22_050, duration=3.0)
    return np.pad(chirp * np.linspace(0.3, 0.5, chirp.size), 11_025).astype(np.float32)


@pytest.mark.parametrize("snr", [0, 10, 30])
def test_the_noise_by_hand_is_that_of_the_package_and_as_strong_as_it_says(voice, snr):
    add_by_hand = run_cells("08", "def my_add_at_snr", librosa=librosa)["my_add_at_snr"]
    noise = np.random.default_rng(0).normal(size=len(voice))
    noisy = add_by_hand(voice, noise, snr)
    assert np.array_equal(noisy, add_at_snr(voice, noise, snr))
    spoken = voice[11_025:-11_025]
    ratio = 10 * np.log10(np.mean(spoken**2) / np.mean((noisy - voice) ** 2))
    assert ratio == pytest.approx(snr, abs=0.2)  # trimming leaves a little of the silence


def test_the_hum_that_it_invites_to_try_is_a_hum(voice):
    (line,) = re.findall(r"`(noise = np\.sin[^`]+)`", prose_of(CHAPTERS["08"]))
    names = run_cells("08", "def my_add_at_snr", librosa=librosa)
    names |= {"samples": voice, "rate": 22_050, "SNR": 0, "Audio": lambda samples, rate: None}
    names = run_cells("08", "Audio(", change=partial(re.sub, "noise = .*", line), **names)
    spectrum = np.abs(np.fft.rfft(names["noisy"] - voice))
    assert spectrum.argmax() * 22_050 / len(voice) == pytest.approx(100, abs=0.5)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_the_last_layer_fitted_by_hand_is_that_of_the_package(temperature):
    fit = run_cells("08", "def my_fit", cross_entropy=torch.nn.functional.cross_entropy)["my_fit"]
    torch.manual_seed(0)
    weight, features = 0.05 * torch.randn(8, 512), torch.randn(30, 512)
    emotions = [EMOTIONS[i % 8] for i in range(30)]
    truth = torch.tensor([EMOTIONS.index(emotion) for emotion in emotions])
    by_hand = fit(weight, features, truth, temperature)
    expected = fit_last_layer(weight, features, emotions, temperature)
    assert (by_hand - expected).abs().max() < 1e-3
    assert (expected - weight).abs().max() > 0.03  # so it would show


class Ear(torch.nn.Module):
    """It answers by how bright each channel of a picture is."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 8)

    def forward(self, pictures):
        return self.linear(pictures.mean(dim=(2, 3)))


def test_the_student_by_hand_learns_its_teachers_answers_by_the_loss_of_the_package(capsys):
    torch.manual_seed(0)
    teacher, clean = Ear().eval(), torch.rand(8, 3, 16, 32)
    before = deepcopy(teacher.state_dict())
    soft = 3 * torch.eye(8)[torch.arange(8) % 2]  # not what it would say
    names = {"teacher": teacher, "clean": clean, "soft": soft.softmax(dim=1), "STEPS": 40}
    names |= {"second": Recipe(start=Recipe(), **NOISE), "deepcopy": deepcopy}
    after = run_cells("08", "corruption_p", **names, corrupt=corrupt, normalize=normalize)
    assert len(capsys.readouterr().out.split()) == 40  # losses
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    loss_func = fastai.CrossEntropyLossFlat(flatten=False)
    expected = loss_func(after["scores"], after["soft"])
    assert after["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    pupil, first = (
        loss_func(ear(normalize(clean)), after["soft"]) for ear in (after["student"], teacher)
    )
    assert pupil < first - 1e-3
