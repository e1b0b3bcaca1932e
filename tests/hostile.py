"""What any sound file has to end in, for tests and fuzz_audio.py: a picture or our error."""

import time
import warnings
from dataclasses import replace

import numpy as np
import torch

from emotion_helpers import EmotionHelpersError
from emotion_helpers.audio import read_audio
from emotion_helpers.beyond.prediction import predict
from emotion_helpers.models import RECIPES, Network, build_network
from emotion_helpers.pictures import SpectrogramSettings, mel_picture

# How long a file may take: so many seconds, and so many per second of sound and megabyte of file.
SECONDS, PER_SECOND, PER_MEGABYTE = 5.0, 0.05, 1.0
RATE = SpectrogramSettings.sample_rate


def quick_network():
    """An untrained network that answers in some milliseconds."""
    torch.manual_seed(0)
    recipe = replace(RECIPES["quick"], height=32, width=32, n_tta=0)
    return Network(build_network().eval(), SpectrogramSettings(), recipe, {})


def check_file(path, network=None):
    """What becomes of a file: "picture" or "refused". Anything else than a whole picture, finite
    probabilities or an error of ours is an AssertionError or what went wrong itself."""
    outcome, started, sound = "refused", time.process_time(), 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            samples = read_audio(path, RATE)
            sound = len(samples) / RATE
            picture = mel_picture(samples)
            assert picture.shape == (288, 432, 3) and picture.dtype == np.uint8
            outcome = "picture"
        except EmotionHelpersError as error:
            assert len(str(error)) > 20
        try:
            answer = predict(path, network) if network else None
            assert not answer or np.isfinite([*answer.probabilities.values()]).all()
        except EmotionHelpersError as error:
            assert len(str(error)) > 20
    allowed = SECONDS + PER_SECOND * sound + PER_MEGABYTE * path.stat().st_size / 1e6
    assert time.process_time() - started < allowed
    return outcome
