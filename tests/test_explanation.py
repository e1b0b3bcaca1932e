"""Explanation: the maps against an independent implementation and against what is known of a network made by hand."""
import cv2
import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from emotion_helpers.clips import EMOTIONS, find_clips, read_clip
from emotion_helpers.explanation import activations, occlusion_map
from emotion_helpers.pictures import mel_picture
from emotion_helpers.prediction import as_input


@pytest.fixture(scope="module")
def picture(demo_corpus):
    """A picture of a synthetic voice."""
    return mel_picture(read_clip(find_clips(demo_corpus)[0].path.iloc[50], 22_050))


@pytest.mark.parametrize("emotion", ["happy", "sad", "surprised"])
def test_the_activation_map_is_that_of_pytorch_grad_cam(picture, network, emotion):
    model, settings = network[0], network[1] | {"picture_px": 96, "picture_width": 224}  # for a larger map
    with GradCAM(model, target_layers=[model[0]]) as cam:
        (theirs,) = cam(as_input(picture, settings), targets=[ClassifierOutputTarget(EMOTIONS.index(emotion))])
    ours = activations(picture, model, settings, emotion).clip(min=0)  # Grad-CAM keeps what speaks for the emotion only
    assert ours.shape == (3, 7) and ours.max() > ours.min()
    assert cv2.resize((ours - ours.min()) / (ours.max() - ours.min()), (224, 96)) == pytest.approx(theirs, abs=0.03)


def test_the_maps_mean_is_the_score_but_for_a_constant(demo_corpus, network):
    model, settings = network
    pictures = [mel_picture(read_clip(path, 22_050)) for path in find_clips(demo_corpus)[0].path.iloc[::100]]
    with torch.inference_mode():
        scores = [model(as_input(picture, settings))[0, EMOTIONS.index("angry")].item() for picture in pictures]
    means = [activations(picture, model, settings, "angry").mean() for picture in pictures]
    assert np.ptp(np.subtract(scores, means)) == pytest.approx(0, abs=0.02) and np.ptp(scores) > 0.1


def test_occlusion_finds_the_only_place_that_a_network_looks_at():
    class UpperRight(torch.nn.Module):
        """Says "happy" if the upper right quarter of the picture is bright."""
        def forward(self, x):
            score = torch.zeros(len(x), 8)
            score[:, EMOTIONS.index("happy")] = x[:, :, :x.shape[2] // 2, x.shape[3] // 2:].mean(dim=(1, 2, 3))
            return score

    lost = occlusion_map(np.full((288, 432, 3), 255, np.uint8), UpperRight(), {"picture_px": 64}, "happy", rows=4, columns=6)
    assert lost.shape == (4, 6) and (lost[:2, 3:] > 0.005).all()
    assert lost[3:].max() < 1e-6 and lost[:, :2].max() < 1e-6  # where it does not look


def test_occlusion_of_what_is_black_already_loses_nothing(network):
    black = np.zeros((288, 432, 3), np.uint8)
    assert np.abs(occlusion_map(black, *network, "sad", rows=2, columns=2)).max() < 1e-6
