"""The recipe, the network, its answers, and its weights on disk: nothing to execute in them."""

import errno
import io
import json
import os
import pickle
import shutil
from dataclasses import asdict, replace
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from emotion_helpers import EmotionHelpersError
from emotion_helpers.clips import EMOTIONS
from emotion_helpers.corpora import TIMEOUT
from emotion_helpers.models import (
    DEPLOYED_RECIPE,
    RECIPES,
    REPORTED_RECIPE,
    Recipe,
    build_network,
    imagenet_weights,
    load_model,
    normalize,
    predict_proba,
    save_model,
    scale_kernels,
    to_tensor,
)
from emotion_helpers.pictures import mel_picture


def random_pictures(n=2, height=64, width=64):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


# ---- recipes


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json_the_one_it_starts_from_too(name):
    copy = Recipe(**json.loads(json.dumps(asdict(RECIPES[name]))))
    assert copy == RECIPES[name]
    assert hash(copy) == hash(RECIPES[name])


def test_recipes_are_there_by_the_names_that_the_corpora_use():
    assert set(REPORTED_RECIPE) == set(DEPLOYED_RECIPE) == {"real", "demo"}
    assert {*REPORTED_RECIPE.values(), *DEPLOYED_RECIPE.values()} <= set(RECIPES)
    assert isinstance(RECIPES["robust"].start, Recipe)


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"width": 64.0},
        {"width": 10**6},
        {"epochs": "3"},
        {"batch_size": None},
        {"batch_size": 1},  # which batch norm cannot
        {"lr": 1e-3},
        {"lr": (1e-3, "high")},
        {"shift": -0.1},
        {"stretch": "far"},
        {"pitch": 1.5},
        {"mask_size": float("nan")},
        {"mixup": -1.0},
        {"n_tta": -1},
        {"n_tta": 10**6},
        {"start": {"height": 0}},
        {"start": {"colour": "red"}},
        {"start": "best"},
        {"corruption_p": 2, "start": {}},
        {"corruption_p": 0.5},
        {"corruption_p": 0.5, "start": {}, "mixup": 0.4},  # its teacher answers about clean ones
        {"kernel_scale": (0, 1)},
        {"kernel_scale": 2},
        {"kernel_scale": (2, 1, 1)},
        {"kernel_scale": (1, 1), "start": {"kernel_scale": (2, 1)}},
    ],
    ids=str,
)
def test_a_recipe_that_cannot_be_is_refused(change):
    with pytest.raises(EmotionHelpersError, match="cannot be"):
        Recipe(**change)


# ---- the network


def test_the_network_is_fastais_layer_by_layer():
    from emotion_helpers.training import HEAD, fastai

    options = {"pretrained": False, **HEAD}
    fastais = fastai.create_vision_model(fastai.resnet34, len(EMOTIONS), **options).eval()
    model = build_network().eval()
    model.load_state_dict(fastais.state_dict())
    kinds = [type(layer).__name__ for layer in model.modules() if not list(layer.children())]
    theirs = [type(layer).__name__ for layer in fastais.modules() if not list(layer.children())]
    assert [kind for kind in theirs if kind not in ("Identity", "AdaptiveConcatPool2d")] == kinds
    with torch.no_grad():
        logits = model(random_pictures())
        assert logits.shape == (2, 8)
        assert torch.equal(logits, fastais(random_pictures()))


def test_a_scaled_layer_computes_of_the_finer_picture_what_the_layer_did_of_its_average():
    conv = build_network()[0][0]
    fine = random_pictures(height=128, width=192)
    for rows, columns in ((1, 1), (2, 1), (4, 2)):
        coarse = torch.nn.functional.avg_pool2d(fine, (rows, columns))
        with torch.no_grad():
            assert scale_kernels(conv, rows, columns)(fine) == pytest.approx(conv(coarse), abs=1e-5)


def test_scaled_twice_is_scaled_once_by_the_product():
    conv = build_network()[0][0]
    once, twice = scale_kernels(conv, 4, 2), scale_kernels(scale_kernels(conv, 2, 1), 2, 2)
    assert torch.equal(once.weight, twice.weight)
    assert (once.stride, once.padding) == (twice.stride, twice.padding)


def test_a_picture_as_a_tensor_is_all_of_it_in_the_recipes_size(small):
    picture = mel_picture(torch.sin(torch.arange(8_000) * 0.5).numpy(), small)
    recipe = Recipe(height=16, width=48)
    tensor = to_tensor(picture, recipe)
    assert tensor.shape == (1, 3, 16, 48)
    assert tensor.dtype == torch.float32
    assert tensor.mean() == pytest.approx(picture.mean() / 255, abs=0.02)
    same = to_tensor(picture, Recipe(height=32, width=32))[0]
    assert torch.equal(same, torch.from_numpy(picture).permute(2, 0, 1) / 255)


def test_normalize_does_what_fastais_normalize_does():
    from emotion_helpers.training import fastai

    transform = fastai.Normalize.from_stats(*fastai.imagenet_stats, cuda=False)
    expected = transform(fastai.TensorImage(random_pictures())).as_subclass(torch.Tensor)
    assert normalize(random_pictures()) == pytest.approx(expected)


# ---- answers


class RedOrBlue(nn.Module):
    """A network that needs no training: the redder the more neutral, the bluer the calmer."""

    def forward(self, pictures):
        colours = pictures.mean(dim=(2, 3))
        return torch.cat([colours, -colours, colours[:, :2] ** 2], dim=1)


def test_an_answer_is_the_softmax_of_the_scores_of_the_normalized_picture():
    expected = RedOrBlue()(normalize(random_pictures())).softmax(dim=1)
    assert torch.equal(predict_proba(RedOrBlue(), random_pictures()), expected)
    assert expected.sum(dim=1) == pytest.approx(torch.ones(2))


# ---- on disk


@pytest.fixture(scope="module")
def saved(small, tmp_path_factory):
    """A network that is not quite new, and the folder that it was saved to."""
    torch.manual_seed(0)
    model = build_network(RECIPES["robust"].kernel_scale)
    with torch.no_grad():
        model(random_pictures())  # moves the batch norms' means, which belong to the model too
    folder = tmp_path_factory.mktemp("saved")
    save_model(folder, model, small, RECIPES["robust"], corpus="demo", temperature=1.5)
    yield model.eval(), folder
    shutil.rmtree(folder)  # 85 MB


def test_a_loaded_network_answers_what_the_saved_one_did(saved, small):
    model, folder = saved
    network = load_model(folder)
    assert not network.model.training
    with torch.no_grad():
        logits = network.model(random_pictures())
        assert torch.equal(logits, model(random_pictures()))
    assert logits.std() > 0.01  # it does say something
    assert network.settings == small  # of the pictures that it learnt from, not the defaults
    assert network.recipe == RECIPES["robust"]
    assert network.temperature == 1.5
    assert network.info["corpus"] == "demo"
    assert network.info["versions"]["torch"].startswith(torch.__version__.split("+")[0])


def test_loading_draws_no_random_numbers(saved):
    before = torch.get_rng_state()
    load_model(saved[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_for_finer_pictures_comes_back_with_its_larger_kernels(small, tmp_path):
    recipe = RECIPES["288"]
    model = build_network(recipe.kernel_scale).eval()
    save_model(tmp_path, model, small, recipe)
    assert load_model(tmp_path).model[0][0].weight.shape == (64, 3, 28, 14)
    assert torch.equal(load_model(tmp_path).model[0][0].weight, model[0][0].weight)
    shutil.rmtree(tmp_path)  # 85 MB


def test_without_a_temperature_it_is_one(network):
    assert replace(network, info={}).temperature == 1


def test_saving_is_whole_or_not_at_all(saved, small, tmp_path, monkeypatch):
    model, _ = saved
    save_model(tmp_path, model, small, Recipe())
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns

    def full_disk(path, content):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match=r"No space.*model\.safetensors"):
        save_model(tmp_path, model, small, RECIPES["quick"])
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before
    shutil.rmtree(tmp_path)


def test_loading_executes_nothing(saved, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("something was unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    load_model(saved[1])


def test_a_missing_model_is_an_error_that_names_it_and_what_makes_one(tmp_path):
    with pytest.raises(EmotionHelpersError, match=r"model.safetensors is missing.*chapter 04"):
        load_model(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def content(saved):
    """The weights and the configuration of the saved model."""
    model, folder = saved
    with safe_open(folder / "model.safetensors", "pt") as opened:
        config = json.loads(opened.metadata()["config"])
    return model.state_dict(), config


@pytest.fixture
def file(tmp_path):
    """Where a damaged model is written to."""
    yield tmp_path / "model.safetensors"
    (tmp_path / "model.safetensors").unlink()


def check_refused(file):
    with pytest.raises(EmotionHelpersError, match=rf"(?s){file} is damaged.*chapter 04"):
        load_model(file.parent)


@pytest.mark.parametrize("size", [0, 7, 1_000_000, -1], ids="{} bytes".format)
def test_a_truncated_model_is_refused(saved, file, size):
    shutil.copy(saved[1] / "model.safetensors", file)
    os.truncate(file, size % file.stat().st_size)
    check_refused(file)


def flip(file, place, bit):
    """Turn one bit of a file round."""
    with open(file, "r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ 1 << bit]))


# In the length of the header, in the header, in its end, in the weights' last bits.
@pytest.mark.parametrize("share", [0, 3e-8, 1e-6, 1e-4, 0.1, 0.5, 0.99], ids="at {:g}".format)
def test_a_flipped_bit_is_refused(saved, file, share):
    shutil.copy(saved[1] / "model.safetensors", file)
    flip(file, int(share * file.stat().st_size), bit=1)
    check_refused(file)


def test_a_network_of_before_there_were_checksums_is_loaded(content, file):
    weights, config = content
    save_file(weights, file, {"config": json.dumps(config)})
    assert torch.equal(load_model(file.parent).model[1][3].weight, weights["1.3.weight"])


class Burglar:
    def __reduce__(self):
        return os.makedirs, ("burgled",)


@pytest.mark.parametrize("save", [torch.save, pickle.dump])
def test_a_pickle_under_its_name_is_refused_and_not_executed(file, monkeypatch, save):
    monkeypatch.chdir(file.parent)
    with open(file, "wb") as opened:
        save(Burglar(), opened)
    check_refused(file)
    assert not (file.parent / "burgled").exists()


def one_column(weights):
    return {name: value[..., :1].contiguous() for name, value in weights.items() if value.ndim}


def not_all(weights):
    return {name: value for name, value in weights.items() if name != "1.3.weight"}


def not_numbers(weights):
    return weights | {"1.3.weight": torch.full_like(weights["1.3.weight"], float("nan"))}


@pytest.mark.parametrize("spoil", [one_column, not_all, not_numbers])
def test_weights_that_cannot_be_are_refused(content, file, spoil):
    weights, config = content
    save_file(spoil(weights), file, {"config": json.dumps(config)})
    check_refused(file)


@pytest.mark.parametrize(
    "change",
    [
        {"emotions": sorted(EMOTIONS)},
        {"settings": {"win_lengths": [1, 2]}},
        {"settings": {"colour": "red"}},
        {"recipe": {"height": 10**6}},
        {"recipe": []},
        {"info": {"temperature": 0}},
        {"info": {"temperature": "hot"}},
        {"info": {"temperature": None}},
        {"info": None},
        {"info": ["corpus"]},
        {"info": {"corpus": 5}},
        {"info": {"unseen_speakers": "Actor_01"}},
        {"info": {"clips_folder": None}},
        {"emotions": 8},
        {"settings": None},
        {"recipe": {"lr": {"low": 1}}},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_refused(content, file, change):
    weights, config = content
    save_file(weights, file, {"config": json.dumps(config | change)})
    check_refused(file)


@pytest.mark.parametrize("metadata", [None, {"config": "[]"}], ids=str)
def test_missing_metadata_is_refused(content, file, metadata):
    save_file(content[0], file, metadata)
    check_refused(file)


# ---- ImageNet's weights


@pytest.fixture
def imagenet_file(tmp_path, monkeypatch):
    """Where torchvision looks for the weights; no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    imagenet_weights.cache_clear()
    yield tmp_path / "hub/checkpoints/resnet34-b627a593.pth"
    imagenet_weights.cache_clear()


def test_without_a_network_the_error_names_the_address_the_place_and_what_to_do(imagenet_file):
    with pytest.raises(EmotionHelpersError) as error:
        imagenet_weights()
    for words in ("https://download.pytorch.org/", str(imagenet_file), "random weights"):
        assert words in str(error.value)
    assert not list(imagenet_file.parent.iterdir())


def test_a_server_of_weights_that_stalls_is_given_up(imagenet_file, monkeypatch):
    asked = []

    def stall(request, timeout=None):
        asked.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(torch.hub, "urlopen", stall)
    with pytest.raises(EmotionHelpersError, match=r"timed out.*with a browser"):
        imagenet_weights()
    assert asked == [TIMEOUT]


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_server_that_has_no_weights_is_an_error_and_leaves_nothing(
    imagenet_file, monkeypatch, status
):
    def refuse(request, timeout=None):
        raise HTTPError(request.full_url, status, "no", {}, None)

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    with pytest.raises(EmotionHelpersError, match=rf"(?s){status}.*{imagenet_file}"):
        imagenet_weights()
    assert not list(imagenet_file.parent.iterdir())


def test_weights_that_are_not_those_that_were_published_are_refused_and_not_kept(
    imagenet_file, monkeypatch
):
    """As where a page to log in comes in their place."""

    class Page(io.BytesIO):
        def info(self):
            return Message()

    monkeypatch.setattr(torch.hub, "urlopen", lambda *_, **__: Page(b"<html>Who are you?</html>"))
    with pytest.raises(EmotionHelpersError, match=r"(?s)hash.*with a browser"):
        imagenet_weights()
    assert not list(imagenet_file.parent.iterdir())


@pytest.mark.parametrize("size", [0, 100, 10_000])
def test_a_truncated_file_is_named_and_to_be_deleted(imagenet_file, size):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, imagenet_file)
    os.truncate(imagenet_file, size)
    with pytest.raises(EmotionHelpersError, match=rf"{imagenet_file} is damaged.*delete it"):
        imagenet_weights()


def test_other_weights_in_their_place_are_called_a_stand_in(imagenet_file):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, imagenet_file)
    assert imagenet_weights().startswith("a stand-in for resnet34-b627a593 (")
