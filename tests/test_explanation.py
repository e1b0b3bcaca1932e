"""Explanation: maps and neighbours against other ways to compute them."""

import shutil
from copy import deepcopy
from dataclasses import replace

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from chapters import run_cells
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from sklearn.metrics.pairwise import cosine_similarity

from emotion_helpers import EmotionHelpersError, corpora
from emotion_helpers.audio import read_audio
from emotion_helpers.beyond import explanation
from emotion_helpers.beyond.explanation import (
    class_activation_map,
    extract_features,
    nearest_clips,
    occlusion_map,
    show_map,
    training_features,
)
from emotion_helpers.clips import EMOTIONS
from emotion_helpers.models import Network, Recipe, normalize, to_tensor
from emotion_helpers.pictures import SpectrogramSettings, mel_picture
from emotion_helpers.plots import title


@pytest.fixture(scope="module")
def network(network):
    """The same, with statistics in its last layers as training leaves them: not 0 and 1."""
    model, generator = deepcopy(network.model), torch.Generator().manual_seed(0)
    norm = model[1][2]
    for values in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        values.copy_(torch.rand(512, generator=generator) + 0.5)
    return replace(network, model=model)


@pytest.fixture(scope="module")
def pictures(demo_clips):
    """Pictures of four synthetic voices, in the default size."""
    rate = SpectrogramSettings().sample_rate
    return [mel_picture(read_audio(path, rate)) for path in demo_clips.path[::13]]


def scores_of(picture, network):
    with torch.inference_mode():
        return network.model(normalize(to_tensor(picture, network.recipe)))[0].numpy()


# ---- class activation maps


@pytest.mark.parametrize("emotion", ["happy", "sad"])
def test_the_activation_map_is_that_of_pytorch_grad_cam(pictures, network, emotion):
    target = ClassifierOutputTarget(EMOTIONS.index(emotion))
    network = replace(network, recipe=Recipe(height=192, width=128))
    inputs = normalize(to_tensor(pictures[0], network.recipe))
    with GradCAM(network.model, target_layers=[network.model[0]]) as cam:
        (theirs,) = cam(inputs, targets=[target])
    ours = class_activation_map(pictures[0], network, emotion).clip(min=0)  # as Grad-CAM has it
    assert ours.shape == (3, 4)
    assert ours.max() > ours.min()
    ours = (ours - ours.min()) / (ours.max() - ours.min())
    assert cv2.resize(ours, (128, 192)) == pytest.approx(theirs, abs=0.03)


def test_a_place_of_the_map_is_what_the_last_layers_make_of_that_place_alone(pictures, network):
    body, head = network.model
    with torch.inference_mode():
        (maps,) = body(normalize(to_tensor(pictures[1], network.recipe)))
        nothing = head[2:](torch.zeros(1, 512))[0]
        places = head[2:](maps.flatten(1).T) - nothing  # (places, 8)
    for i, emotion in enumerate(EMOTIONS):
        values = class_activation_map(pictures[1], network, emotion)
        assert values.shape == (3, 7)
        assert values.flatten() == pytest.approx(places[:, i].numpy(), rel=1e-3, abs=1e-3)


def test_the_maps_mean_is_the_score_but_for_a_constant(pictures, network):
    scores = [scores_of(picture, network)[EMOTIONS.index("angry")] for picture in pictures]
    means = [class_activation_map(picture, network, "angry").mean() for picture in pictures]
    assert np.ptp(scores) > 1e-2
    assert np.ptp(np.subtract(scores, means)) < 1e-3 * np.ptp(scores)


def test_a_map_leaves_the_network_as_it_was(pictures, network):
    before = scores_of(pictures[0], network)
    class_activation_map(pictures[0], network, "sad")
    assert not network.model.training
    assert np.array_equal(scores_of(pictures[0], network), before)


@pytest.fixture(scope="module")
def tall(network):
    """A hot one, for what is not trained is sure of what it says, which no part of a picture would
    change. As in chapter 06 its first layer is scaled to pictures of more rows."""
    info = network.info | {"temperature": 30.0}
    return replace(network, recipe=Recipe(height=96, width=160), info=info)


@pytest.mark.parametrize("emotion", ["angry", "neutral"])
def test_the_activation_map_is_grad_cam_by_autograd(pictures, tall, emotion):
    """As Selvaraju et al. 2017 define it, with what is below 0, and sums instead of means."""
    body, head = tall.model
    maps = body(normalize(to_tensor(pictures[2], tall.recipe))).detach().requires_grad_()
    head(maps)[0, EMOTIONS.index(emotion)].backward()
    with torch.inference_mode():
        (theirs,) = (maps.grad.sum(dim=(2, 3), keepdim=True) * maps).sum(dim=1).numpy()
    ours = class_activation_map(pictures[2], tall, emotion)
    assert ours.shape == (2, 5)
    assert ours == pytest.approx(theirs, abs=1e-4 * float(np.ptp(theirs)))


# ---- chapter 07 writes in its cells what it then imports


@pytest.fixture(scope="module")
def chapter(tall):
    """What chapter 07 defines in its cells, for a network without training."""
    given = {"network": tall, "EMOTIONS": EMOTIONS, "normalize": normalize, "to_tensor": to_tensor}
    texts = ("def ask(", "def activation_map(", "def occlusion(")
    return run_cells("07", *texts, **given)


def test_chapter_07_asks_for_calibrated_probabilities(pictures, tall, chapter):
    answers = chapter["ask"](pictures)
    assert list(answers) == list(EMOTIONS)
    for picture, answer in zip(pictures, answers.to_numpy(), strict=True):
        scores = torch.tensor(scores_of(picture, tall)) / tall.temperature
        assert answer == pytest.approx(scores.softmax(dim=0).numpy(), abs=1e-5)


@pytest.mark.parametrize("emotion", ["angry", "happy"])
def test_the_activation_map_that_chapter_07_writes_is_the_imported_one(
    pictures, tall, chapter, emotion
):
    imported = class_activation_map(pictures[0], tall, emotion)
    assert np.ptp(imported) > 1e-3
    written = chapter["activation_map"](pictures[0], emotion)
    assert written == pytest.approx(imported, abs=1e-5 * float(np.ptp(imported)))


@pytest.mark.parametrize("shape", [(), (5, 7)])
def test_the_occlusion_that_chapter_07_writes_is_the_imported_one(pictures, tall, chapter, shape):
    imported = occlusion_map(pictures[0], tall, "angry", *shape)
    assert imported.shape == (shape or (6, 12))
    assert np.ptp(imported) > 1e-5
    written = chapter["occlusion"](pictures[0], "angry", *shape)
    assert written == pytest.approx(imported, abs=1e-3 * float(np.ptp(imported)))


# ---- occlusion


class UpperRight(torch.nn.Module):
    """Says "happy" if the upper right quarter of the picture is bright, and sees nothing else."""

    def forward(self, pictures):
        height, width = pictures.shape[2:]
        scores = torch.zeros(len(pictures), 8)
        quarter = pictures[:, :, : height // 2, width // 2 :]
        scores[:, EMOTIONS.index("happy")] = quarter.mean(dim=(1, 2, 3))
        return scores


@pytest.fixture
def upper_right(network):
    return Network(UpperRight(), network.settings, Recipe(height=64, width=64), {})


def test_occlusion_finds_the_only_place_that_a_network_looks_at(upper_right):
    white = np.full((288, 432, 3), 255, np.uint8)
    lost = occlusion_map(white, upper_right, "happy", rows=4, columns=6)
    assert lost.shape == (4, 6)
    assert (lost[:2, 3:] > 0.005).all()
    assert np.abs(lost[3:]).max() < 1e-6  # where it does not look
    assert np.abs(lost[:, :2]).max() < 1e-6
    others = occlusion_map(white, upper_right, "sad", rows=4, columns=6)
    assert (others[:2, 3:] < -0.0005).all()  # what is happy's loss is their gain
    assert (white == 255).all()


def test_what_is_lost_is_a_difference_of_calibrated_probabilities(upper_right):
    white, black = np.full((288, 432, 3), 255, np.uint8), np.zeros((288, 432, 3), np.uint8)
    for temperature in (1.0, 3.0):
        network = replace(upper_right, info={"temperature": temperature})
        probabilities = []
        for picture in (white, black):
            scores = torch.tensor(scores_of(picture, network)) / temperature
            probabilities.append(scores.softmax(dim=0)[EMOTIONS.index("happy")])
        ((lost,),) = occlusion_map(white, network, "happy", rows=1, columns=1)
        assert lost == pytest.approx(float(probabilities[0] - probabilities[1]), abs=1e-5)


def test_occlusion_of_what_is_black_already_loses_nothing(network):
    black = np.zeros((288, 432, 3), np.uint8)
    assert np.abs(occlusion_map(black, network, "sad", rows=2, columns=2)).max() < 1e-6


def test_a_map_is_drawn_below_the_sound_and_orange_is_what_speaks_for_the_emotion(pictures):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert show_map(pictures[0], np.array([[1.0, -1.0]]), ax) is ax
    ink, values = ax.images
    assert ink.zorder > values.zorder
    assert not ink.get_array()[..., :3].any()  # black
    density = ink.get_array()[..., 3]
    assert density[pictures[0][..., 1] == 255].min() == 1
    assert density[pictures[0][..., 1] == 0].max() == 0
    assert values.colorbar.ax.get_ylim() == (-1, 1)
    red, _, blue, _ = values.cmap(values.norm(1.0))
    assert red > blue
    red, _, blue, _ = values.cmap(values.norm(-1.0))
    assert red < blue
    assert ink.get_extent() == values.get_extent()


# ---- features and neighbours


def test_features_of_many_pictures_are_those_of_each_and_what_the_last_layer_gets(
    pictures, network
):
    network = replace(network, recipe=Recipe(height=32, width=64))
    many = [pictures[i % 4] for i in range(35)]
    features = extract_features(many, network)
    assert features.shape == (35, 512)
    each = torch.cat([extract_features([picture], network) for picture in pictures])
    for i in range(35):
        assert features[i] == pytest.approx(each[i % 4], rel=1e-3, abs=1e-3)
    scores = [scores_of(picture, network) for picture in pictures]
    with torch.inference_mode():
        assert network.model[1][-1](each).numpy() == pytest.approx(np.stack(scores), abs=1e-3)


@pytest.fixture(scope="module")
def trained(network, demo_clips, demo_pictures, small, tmp_path_factory):
    """A network that, as its notes say, learnt from the demo's pictures but for Actor_01's."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(corpora, "ROOT", tmp_path_factory.mktemp("root"))
        folder = corpora.pictures_folder("demo", small.name)
        folder.parent.mkdir(parents=True)
        folder.symlink_to(demo_pictures)
        yield replace(network, settings=small, recipe=Recipe(height=32, width=32))


@pytest.fixture(scope="module")
def small_pictures(demo_clips, small):
    """The small picture of each clip, by clip_id."""
    rows = zip(demo_clips.clip_id, demo_clips.path, strict=True)
    rate = small.sample_rate
    return {clip_id: mel_picture(read_audio(path, rate), small) for clip_id, path in rows}


def test_the_neighbours_are_all_clips_of_the_speakers_that_the_network_learnt_from(
    trained, demo_clips, small_pictures
):
    table = nearest_clips(small_pictures[demo_clips.clip_id[0]], trained)
    learnt = demo_clips[demo_clips.speaker != "Actor_01"].set_index("clip_id")
    assert sorted(table.clip_id) == sorted(learnt.index)
    assert list(table.emotion) == list(learnt.emotion[table.clip_id])
    sad = nearest_clips(small_pictures[demo_clips.clip_id[0]], trained, "sad")
    assert sorted(sad.clip_id) == sorted(learnt.index[learnt.emotion == "sad"])
    with pytest.raises(EmotionHelpersError, match="no clip of RAVDESS surprised"):
        nearest_clips(small_pictures[demo_clips.clip_id[0]], trained, "surprised")


def test_similarity_is_the_cosine_of_the_features_less_their_mean(
    trained, demo_clips, small_pictures
):
    unseen = demo_clips.clip_id[demo_clips.speaker == "Actor_01"].iloc[3]
    table = nearest_clips(small_pictures[unseen], trained).set_index("clip_id")
    features = extract_features([small_pictures[clip_id] for clip_id in table.index], trained)
    own = extract_features([small_pictures[unseen]], trained)
    mean = features.numpy().mean(axis=0)
    expected = cosine_similarity(own.numpy() - mean, features.numpy() - mean)[0]
    assert table.similarity.to_numpy() == pytest.approx(expected, abs=1e-3)
    assert table.similarity.is_monotonic_decreasing
    assert table.similarity.iloc[0] > table.similarity.iloc[-1] + 0.1


def test_a_training_clip_is_most_like_itself(trained, demo_clips, small_pictures):
    clip_id = demo_clips.clip_id[demo_clips.speaker == "Actor_05"].iloc[2]
    first = nearest_clips(small_pictures[clip_id], trained).iloc[0]
    assert first.clip_id == clip_id
    assert first.similarity == pytest.approx(1, abs=1e-4)


def test_pictures_that_are_not_here_are_an_error_that_says_what_to_do(network):
    elsewhere = replace(network, info=network.info | {"corpus": "elsewhere"})
    with pytest.raises(EmotionHelpersError, match=r"elsewhere.*chapter 03"):
        training_features(elsewhere)


def test_a_damaged_picture_among_the_nearest_is_an_error_of_ours(trained, tmp_path, monkeypatch):
    """The page catches it, and shows no player."""
    pictures = explanation.pictures_folder("demo", trained.settings.name)
    shutil.copytree(pictures, tmp_path / "pictures")
    damaged = next((tmp_path / "pictures").glob("*/*-05.png"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    monkeypatch.setattr(explanation, "pictures_folder", lambda *_: tmp_path / "pictures")
    with pytest.raises(EmotionHelpersError, match=f"{damaged.name} is damaged"):
        training_features(replace(trained))


@pytest.mark.parametrize("emotion", ["fearful", "happy"])
def test_the_difference_of_maps_that_chapter_07_invites_to_try_is_drawn(pictures, chapter, emotion):
    evidence = chapter["activation_map"](pictures[2], "angry")
    given = {**chapter, "picture": pictures[2], "evidence": evidence, "CORPUS": "demo"}
    given |= {"show_map": show_map, "title": title, "settings": SpectrogramSettings()}
    with plt.rc_context():
        plt.figure()
        run_cells(
            "07", "difference of two", change=lambda s: s.replace("fearful", emotion), **given
        )
        _, paper = plt.gcf().axes[0].images
        plt.close("all")
    difference = evidence - chapter["activation_map"](pictures[2], emotion)
    np.testing.assert_allclose(np.asarray(paper.get_array()), difference, atol=1e-6)
