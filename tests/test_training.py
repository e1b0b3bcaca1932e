"""The split, the batches, the augmentations, runs that survive being stopped, models on disk."""
import json
import pickle
import shutil
from collections import Counter
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from fastai.vision.all import (CategoryBlock, CrossEntropyLossFlat, DataBlock, ImageBlock, Learner, MixUp, TensorImage, accuracy, parent_label,
                               resnet34, set_seed, vision_learner)
from safetensors.torch import save_file
from torch import nn

from emotion_helpers.clips import EMOTIONS, find_clips
from emotion_helpers.pictures import PictureSettings, picture_files, render
from emotion_helpers.training import (HEAD, RECIPES, BFloat16, FewerTess, MixOrCut, Recipe, ShiftAndStretch, SpecAugment,
                                      fit, load_model, save_model, settings_of, split_by_clip, write_model)

SMALL = PictureSettings(sample_rate=8_000, n_fft=512, win_lengths=(128, 256, 512), hop_length=250, width=32, n_mels=32, fmax=4_000.0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 44 pictures, 16 of them RAVDESS: tones, a pitch an emotion, so that they can be learnt."""
    folder, rng = tmp_path_factory.mktemp("tones"), np.random.default_rng(0)
    tess = {"happy": "happy", "sad": "sad", "angry": "angry", "fear": "fearful"}
    names = [f"03-01-{EMOTIONS.index(e) + 1:02}-01-01-01-{actor:02}" for e in tess.values() for actor in (1, 2, 3, 4)]
    names += [f"OAF_{word}_{e}" for e in tess for word in ("back", "bar", "base", "bean", "dog", "food", "pad")]
    for i, name in enumerate(names):
        hertz = 250 * 2 ** (i // 4 if i < 16 else (i - 16) // 7)
        sine = 0.3 * np.sin(2 * np.pi * hertz * np.arange(4_000) / 8_000) + rng.normal(0, 0.02, 4_000)
        sf.write(folder / f"{name}.wav", sine, 8_000)
    render(find_clips(folder)[0], folder / "pictures", SMALL, n_jobs=1)
    return folder / "pictures"


VALID = {f"03-01-{e:02}-01-01-01-04" for e in (3, 4, 5, 6)} | {f"OAF_pad_{e}" for e in ("happy", "sad", "angry", "fear")}


def load(pictures, batch_tfms=(), valid=VALID):
    """Batches of the pictures, labelled by folder: 36 for training (of TESS's 24 an eighth an epoch: three batches of 5), 8 for validation."""
    block = DataBlock(blocks=(ImageBlock, CategoryBlock(vocab=list(EMOTIONS), sort=False)), get_items=lambda p: picture_files(p, SMALL),
                      splitter=split_by_clip(valid), get_y=parent_label, batch_tfms=list(batch_tfms))
    return block.dataloaders(pictures, bs=5, dl_type=FewerTess, num_workers=0, device="cpu")


def tiny_network():
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(8 * 49, len(EMOTIONS)))


def learner(pictures, folder, batch_tfms=None, **kwargs):
    """The same learner every time, with everything that is random switched on."""
    set_seed(7)
    tfms = [ShiftAndStretch(), SpecAugment()] if batch_tfms is None else batch_tfms
    learn = Learner(kwargs.pop("dls", None) or load(pictures, tfms), tiny_network(), loss_func=kwargs.pop("loss_func", CrossEntropyLossFlat()),
                    metrics=accuracy, path=folder, cbs=kwargs.pop("cbs", [MixUp(0.2)]), **kwargs)
    learn.remove_cb(learn.progress)
    return learn


def weights(learn):
    return {name: value.clone() for name, value in learn.model.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# ---- batches


def test_no_picture_is_in_training_and_in_validation(pictures):
    dls = load(pictures)
    train, valid = {p.stem for p in dls.train_ds.items}, {p.stem for p in dls.valid_ds.items}
    assert valid == VALID and not train & valid and len(train | valid) == 44


def numbered(ravdess, tess, **kwargs):
    """A `FewerTess` of items that are their own numbers, so that a batch tells which ones are in it."""
    class Numbers(list):
        items = [SimpleNamespace(stem=f"03-01-{i}") for i in range(ravdess)] + [SimpleNamespace(stem=f"OAF_{i}") for i in range(tess)]
    return FewerTess(Numbers(range(ravdess + tess)), bs=4, num_workers=0, **kwargs)


def seen(batches):
    return [int(i) for batch in batches for i in batch]


def test_an_epoch_has_all_of_ravdess_and_a_fresh_eighth_of_tess():
    batches = numbered(ravdess=10, tess=80, shuffle=True)
    epochs = [seen(batches) for _ in range(4)]
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == 20
        assert set(range(10)) < set(epoch) and sum(i >= 10 for i in epoch) == 10
        assert epoch != sorted(epoch)
    assert len({frozenset(epoch) for epoch in epochs}) == 4
    assert len(set().union(*epochs)) > 30  # and in time all of it


def test_what_is_not_shuffled_is_seen_whole_and_in_order():
    assert seen(numbered(ravdess=10, tess=40)) == list(range(50))
    assert seen(numbered(ravdess=10, tess=40, shuffle=True).new(shuffle=False)) == list(range(50))


@pytest.mark.parametrize("kwargs", [dict(shuffle=True), dict(shuffle=False), dict(shuffle=True, drop_last=True)], ids=str)
def test_the_length_is_the_number_of_batches(kwargs):
    batches = numbered(ravdess=10, tess=45, **kwargs)
    assert len(batches) == len(list(batches))


def test_training_batches_hold_the_pictures_that_their_labels_say(pictures):
    dls = load(pictures)
    labels = [dls.vocab[i] for _, y in dls.train for i in y]
    assert len(labels) == 12 + 24 // 8
    assert Counter(labels) >= Counter(happy=3, sad=3, angry=3, fearful=3)  # RAVDESS's part
    assert Counter(dls.vocab[i] for _, y in dls.valid for i in y) == dict(happy=2, sad=2, angry=2, fearful=2)


# ---- augmentations


def vertical_line(column, n=200, size=100):
    x = torch.zeros(n, 3, 20, size)
    x[:, :, :, column] = 1
    return x


def places(x):
    """Centre of what is bright in each picture of a batch, in columns."""
    row = x[:, 0, 10]
    return (row * torch.arange(row.shape[1])).sum(1) / row.sum(1)


def augment(transform, x, split_idx=0):
    torch.manual_seed(0)
    return transform(TensorImage(x), split_idx=split_idx)


def test_a_shift_moves_a_line_by_up_to_its_share_of_the_width_both_ways():
    moved = places(augment(ShiftAndStretch(shift=0.1, stretch=0), vertical_line(50))) - 50
    assert -10.1 < moved.min() < -9 and 9 < moved.max() < 10.1


def test_a_stretch_moves_the_ends_and_not_the_middle():
    stretch = ShiftAndStretch(shift=0, stretch=0.2)
    both = augment(stretch, (vertical_line(49) + vertical_line(50)) / 2)  # the middle lies between them
    assert places(both) == pytest.approx(torch.full((200,), 49.5), abs=0.1)
    quarter = places(augment(stretch, vertical_line(25))) - 49.5  # at -24.5 from the middle; 20 % slower: 24.5 / 0.8
    assert quarter.min() == pytest.approx(-24.5 / 0.8, abs=0.7) and quarter.max() == pytest.approx(-24.5 / 1.2, abs=0.7)


def test_nothing_moves_in_frequency():
    x = torch.zeros(50, 3, 20, 100)
    x[:, :, 7] = 1
    moved = augment(ShiftAndStretch(), x)
    assert moved[:, :, 7, 40:60] == pytest.approx(torch.ones(50, 3, 20), abs=1e-4)
    assert moved[:, :, [*range(7), *range(8, 20)]].abs().max() < 1e-4


def test_what_a_shift_uncovers_is_silence():
    x = torch.ones(50, 3, 20, 100)
    moved = augment(ShiftAndStretch(shift=0.3, stretch=0), x)
    black = (moved[:, 0, 0] == 0).sum(1)
    assert black.max() > 20  # of at most 30 columns
    assert ((moved[:, :, :, 0] == 0) | (moved[:, :, :, -1] == 0)).all(dim=(1, 2))[black > 0].all()  # at an end


def test_masks_are_whole_stripes_of_at_most_their_share():
    masked = augment(SpecAugment(bands=2, size=0.1), torch.ones(300, 3, 50, 100)) == 0
    assert (masked == masked[:, :1]).all()  # the same in the three colours
    rows, columns = masked[:, 0].all(dim=2), masked[:, 0].all(dim=1)
    assert torch.equal(masked[:, 0], rows[:, :, None] | columns[:, None, :])  # stripes and nothing else
    assert 5 < rows.sum(1).max() <= 10 and 10 < columns.sum(1).max() <= 20  # two stripes of a tenth
    assert rows.any(dim=0).all() and columns.any(dim=0).all()  # anywhere, the edges too
    assert len({tuple(row.tolist()) for row in rows}) > 100  # each picture its own


def test_masks_leave_the_rest_untouched_bit_for_bit_and_the_input_too():
    x = torch.rand(20, 3, 50, 100) + 0.1
    before = x.clone()
    masked = augment(SpecAugment(), x)
    assert torch.equal(x, before)
    assert 0 < (masked == 0).sum() < masked.numel() / 2 and torch.equal(masked[masked != 0], x[masked != 0])


def test_another_throat_moves_rows_in_proportion_to_their_height_and_not_the_lowest():
    x = torch.zeros(300, 3, 101, 10)
    x[:, :, 50] = 1  # half way up
    rows = (augment(ShiftAndStretch(shift=0, stretch=0, pitch=0.1), x)[:, 0, :, 5] * torch.arange(101)).sum(1)
    rows = rows / augment(ShiftAndStretch(shift=0, stretch=0, pitch=0.1), x)[:, 0, :, 5].sum(1)
    assert rows.min() == pytest.approx(100.5 - 50.5 / 0.9, abs=0.6) and rows.max() == pytest.approx(100.5 - 50.5 / 1.1, abs=0.6)
    x = torch.zeros(50, 3, 101, 10)
    x[:, :, 100] = 1
    assert augment(ShiftAndStretch(shift=0, stretch=0, pitch=0.1), x)[:, 0, :, 5].argmax(1).min() >= 99


@pytest.mark.parametrize("transform", [ShiftAndStretch(), SpecAugment()], ids=["shift", "masks"])
def test_validation_pictures_are_not_augmented(transform):
    x = torch.rand(5, 3, 20, 30)
    assert torch.equal(augment(transform, x, split_idx=1), x) and not torch.equal(augment(transform, x, split_idx=0), x)


def test_in_a_training_batch_they_are_applied_and_in_a_validation_batch_not(pictures):
    black = load(pictures, [SpecAugment(bands=20, size=1.0)])
    assert black.train.one_batch()[0].mean() < 0.5 * load(pictures).train.one_batch()[0].mean()
    assert torch.equal(black.valid.one_batch()[0], load(pictures).valid.one_batch()[0])


# ---- mixing


def mixed_batches(number: int):
    """Batches of eight pictures, the i-th all i and of emotion i, as MixOrCut shows them: pictures, and each clip's share."""
    x = torch.arange(8.0)[:, None, None, None].expand(8, 3, 4, 20)
    mix, y = MixOrCut(0.4), torch.arange(8)
    for _ in range(number):
        mix.learn = SimpleNamespace(xb=(x,), yb=(y,), x=x, y=y)
        mix.stack_y = True
        mix.before_batch()
        yield mix.learn.xb[0], mix.yb1[0], mix.lam


def test_cut_and_paste_fills_one_stretch_of_time_and_its_share_of_the_label():
    torch.manual_seed(0)
    own, cuts = torch.arange(8.0)[:, None], []
    for pictures, others, share in mixed_batches(200):
        row = pictures[:, 0, 0]
        assert (pictures == row[:, None, None]).all()  # full height, all colours
        assert row.mean(1) == pytest.approx(share * own[:, 0] + (1 - share) * others, abs=1e-4)  # so the loss is weighted as the picture is
        if (((row == own) | (row == others[:, None])).all()):  # not blended
            pasted = (row != own) & (row == others[:, None])
            assert pasted.int().diff(dim=1).abs().sum(1).max() <= 2  # in one piece
            cuts.append(1 - float(share[0]))
    assert 70 < len(cuts) < 130 and min(cuts) < 0.1 and max(cuts) > 0.9


def test_training_with_mixing_learns_and_leaves_validation_and_the_loss_alone(pictures, tmp_path):
    torch.manual_seed(0)
    learn = learner(pictures, tmp_path, [], cbs=MixOrCut(0.4))
    loss = learn.loss_func
    history = fit(learn, 12, 0.02, tmp_path / "mixed")
    assert learn.loss_func is loss
    assert history.valid_loss.iloc[-1] < 0.7 * history.valid_loss.iloc[0]


def test_a_recipe_s_settings_leave_out_what_is_switched_off():
    assert settings_of(Recipe(mixup=0, cut=False, views=0)) == {"px": 64, "width": 224, "epochs": 24, "batch_size": 32, "lr": [1e-3, 4e-3],
                                                                "shift": 0.1, "stretch": 0.1, "masks": 0.1}
    assert len({json.dumps(settings_of(recipe)) for recipe in RECIPES.values()}) == len(RECIPES)  # no two are the same


# ---- training


def test_training_lowers_the_loss(pictures, tmp_path):
    history = fit(learner(pictures, tmp_path, batch_tfms=[], cbs=[]), 4, 1e-2, tmp_path / "run")
    assert list(history.epoch) == [0, 1, 2, 3]
    assert history.train_loss.iloc[-1] < 0.7 * history.train_loss.iloc[0]
    assert history.valid_loss.iloc[-1] < history.valid_loss.iloc[0] and history.accuracy.iloc[-1] > 0.5


def test_a_finished_run_is_loaded_and_not_trained_again(pictures, tmp_path):
    first = learner(pictures, tmp_path)
    history = fit(first, 2, 1e-2, tmp_path / "run")
    second = learner(pictures, tmp_path)
    second.model.register_forward_hook(interrupt_at(0))  # one forward pass would raise
    pd.testing.assert_frame_equal(fit(second, 2, 1e-2, tmp_path / "run"), history, rtol=1e-12)
    assert same(weights(first), weights(second))


def interrupt_at(batch):
    """A hook for a network: Ctrl-C in the given training batch."""
    count = iter(range(10_000))

    def hook(model, *_):
        if model.training and next(count) == batch:
            raise KeyboardInterrupt
    return hook


@pytest.mark.parametrize("batch", [1, 3, 7], ids=["in epoch 1", "at the start of epoch 2", "in epoch 3"])  # three batches an epoch
def test_a_run_that_was_stopped_and_continued_gives_exactly_the_weights_of_one_that_was_not(pictures, tmp_path, batch):
    whole = learner(pictures, tmp_path)
    history = fit(whole, 3, slice(1e-3, 1e-2), tmp_path / "whole")
    stopped = learner(pictures, tmp_path)
    stopped.model.register_forward_hook(interrupt_at(batch))
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, 3, slice(1e-3, 1e-2), tmp_path / "run")
    continued = learner(pictures, tmp_path)
    continued_history = fit(continued, 3, slice(1e-3, 1e-2), tmp_path / "run")
    assert same(weights(continued), weights(whole))
    pd.testing.assert_frame_equal(continued_history.drop(columns="seconds"), history.drop(columns="seconds"), rtol=1e-12)


def test_only_the_epochs_that_are_missing_are_trained(pictures, tmp_path):
    stopped, continued = learner(pictures, tmp_path), learner(pictures, tmp_path)
    stopped.model.register_forward_hook(interrupt_at(4))
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, 3, 1e-2, tmp_path / "run")
    trained = []
    continued.model.register_forward_hook(lambda model, *_: trained.append(1) if model.training else None)
    fit(continued, 3, 1e-2, tmp_path / "run")
    assert len(trained) == 2 * len(continued.dls.train) == 6


def test_a_cell_that_was_stopped_and_is_run_again_continues(pictures, tmp_path, capsys):
    whole = learner(pictures, tmp_path, cbs=[])
    fit(whole, 3, 1e-2, tmp_path / "whole")
    learn = learner(pictures, tmp_path, cbs=[])  # the same learner both times, as in a notebook: its weights are no longer the first ones
    learn.model.register_forward_hook(interrupt_at(4))
    with pytest.raises(KeyboardInterrupt):
        fit(learn, 3, 1e-2, tmp_path / "run")
    fit(learn, 3, 1e-2, tmp_path / "run")
    assert "1 of 3 epochs are done already" in capsys.readouterr().out
    assert same(weights(learn), weights(whole))


@pytest.mark.parametrize("change", [dict(lr=2e-2), dict(lr=slice(1e-3, 1e-2)), dict(epochs=2), dict(seed=1)], ids=str)
def test_a_run_with_other_arguments_starts_anew(pictures, tmp_path, capsys, change):
    recipe = dict(epochs=1, lr=1e-2, seed=42)
    fit(learner(pictures, tmp_path), folder=tmp_path / "run", **recipe)
    capsys.readouterr()
    fit(learner(pictures, tmp_path), folder=tmp_path / "run", **(recipe | change))
    assert "starts anew" in capsys.readouterr().out


@pytest.mark.parametrize("change", [
    lambda learn: setattr(learn, "loss_func", CrossEntropyLossFlat(label_smoothing=0.1)),
    lambda learn: setattr(learn, "wd", 0.3),
    lambda learn: (learn.remove_cb(MixUp), learn.add_cb(MixUp(0.4))),
    lambda learn: learn.remove_cb(MixUp),
    lambda learn: learn.model[0].requires_grad_(False),
    lambda learn: nn.init.ones_(learn.model[-1].bias),
], ids=["loss", "weight decay", "mixup", "no mixup", "frozen layers", "first weights"])
def test_a_run_with_another_learner_starts_anew(pictures, tmp_path, capsys, change):
    fit(learner(pictures, tmp_path), 1, 1e-2, tmp_path / "run")
    capsys.readouterr()
    learn = learner(pictures, tmp_path)
    change(learn)
    fit(learn, 1, 1e-2, tmp_path / "run")
    assert "starts anew" in capsys.readouterr().out


@pytest.mark.parametrize("tfms, valid", [
    ([ShiftAndStretch(shift=0.3), SpecAugment()], VALID),
    ([ShiftAndStretch(), SpecAugment()], VALID - {"OAF_pad_sad"}),
    ([ShiftAndStretch(), SpecAugment()], VALID - {"OAF_pad_sad"} | {"OAF_dog_sad"}),  # as many pictures, not the same ones
], ids=["transforms", "number of pictures", "split"])
def test_a_run_with_other_data_starts_anew(pictures, tmp_path, capsys, tfms, valid):
    fit(learner(pictures, tmp_path), 1, 1e-2, tmp_path / "run")
    capsys.readouterr()
    fit(learner(pictures, tmp_path, dls=load(pictures, tfms, valid)), 1, 1e-2, tmp_path / "run")
    assert "starts anew" in capsys.readouterr().out


def test_the_run_before_is_kept_beside_the_new_one(pictures, tmp_path):
    fit(learner(pictures, tmp_path), 1, 1e-2, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    fit(learner(pictures, tmp_path), 1, 2e-2, tmp_path / "run")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run-before").iterdir()} == before


def test_a_folder_that_holds_no_run_is_not_deleted(pictures, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter 1.txt").write_text("precious")
    try:
        fit(learner(pictures, tmp_path), 1, 1e-2, tmp_path / "thesis")
    except FileExistsError as error:
        assert "thesis" in str(error)
    assert (tmp_path / "thesis/chapter 1.txt").read_text() == "precious"


@pytest.mark.filterwarnings("ignore:In CPU autocast")
def test_bfloat16_ends_with_its_batch_even_where_that_was_stopped(pictures, tmp_path):
    kinds = []
    learn = learner(pictures, tmp_path, cbs=[BFloat16()], loss_func=lambda pred, y: (kinds.append(pred.dtype), nn.functional.cross_entropy(pred, y))[1])
    learn.model[0].register_forward_hook(lambda model, x, y: kinds.append(y.dtype))
    stop = learn.model.register_forward_hook(interrupt_at(1))
    try:
        with pytest.raises(KeyboardInterrupt):
            learn.fit(1)
        stop.remove()
        learn.fit(1)
        assert kinds[-2:] == [torch.bfloat16, torch.float32]  # inside the network, and what comes out
        assert not torch.is_autocast_enabled("cpu")
    finally:
        torch.set_autocast_enabled("cpu", False)


# ---- models on disk


@pytest.fixture(scope="module")
def resnet(pictures, tmp_path_factory):
    """A ResNet-34 that has seen the tones, the folder it was saved to, and what it says of them."""
    folder = tmp_path_factory.mktemp("model")
    set_seed(0)
    learn = vision_learner(load(pictures), resnet34, pretrained=False, path=folder, **HEAD)
    x = torch.cat([x for x, _ in learn.dls.valid]).as_subclass(torch.Tensor)
    with torch.no_grad():
        learn.model.train()(x)  # fills the batch norms' running means, which belong to the model too
        save_model(learn, folder / "tones", picture_px=32, corpora=["ravdess", "tess"])
        yield SimpleNamespace(folder=folder / "tones", pictures=x, predictions=learn.model.eval()(x))
    shutil.rmtree(folder)  # 85 MB


@pytest.fixture
def model(resnet, tmp_path):
    """A copy of the saved model that a test may spoil."""
    (tmp_path / "tones").mkdir()
    shutil.copy(resnet.folder / "settings.json", tmp_path / "tones")
    (tmp_path / "tones/model.safetensors").symlink_to(resnet.folder / "model.safetensors")
    return tmp_path / "tones"


def test_a_loaded_model_predicts_what_the_saved_one_did(resnet):
    network, settings = load_model(resnet.folder)
    with torch.no_grad():
        assert torch.equal(network(resnet.pictures), resnet.predictions)
    assert resnet.predictions.std() > 0.01  # it does say something
    assert settings["emotions"] == list(EMOTIONS) and settings["picture_px"] == 32 and settings["corpora"] == ["ravdess", "tess"]
    assert settings["spectrogram"] == json.loads(json.dumps(asdict(SMALL)))  # of the pictures it learnt from, not the defaults
    assert settings["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert sorted(path.name for path in resnet.folder.iterdir()) == ["model.safetensors", "settings.json"]


def test_loading_a_model_unpickles_nothing(resnet, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something was unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load"), (torch.serialization, "load")):
        monkeypatch.setattr(module, name, refuse)
    load_model(resnet.folder)


@pytest.mark.parametrize("name", ["settings.json", "model.safetensors"])
def test_a_missing_file_is_an_error_that_names_it_and_the_notebook(model, name):
    (model / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"tones/{name} is missing: run notebook 04"):
        load_model(model)


@pytest.mark.parametrize("settings", [b"", b"I am a letter.", b"{}", b"[]", b"null", b'{"emotions": 8}', b'{"emotions": ["happy"]}', b"\xff\xfe\x00"],
                         ids=repr)
def test_settings_that_are_none_are_an_error_that_names_the_folder(model, settings):
    (model / "settings.json").write_bytes(settings)
    with pytest.raises(ValueError, match="(?s)tones: not a model of this tutorial.*notebook 04"):
        load_model(model)


@pytest.mark.parametrize("size", [0, 7, 1_000, 1_000_000], ids=lambda n: f"{n} bytes")
def test_truncated_weights_are_an_error_that_names_the_folder(model, size):
    with open(model / "model.safetensors", "rb") as file:
        beginning = file.read(size)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").write_bytes(beginning)
    with pytest.raises(ValueError, match="tones: not a model of this tutorial.*damaged.*notebook 04"):
        load_model(model)


def test_weights_of_another_network_are_an_error_that_names_the_folder(model):
    (model / "model.safetensors").unlink()
    save_file(tiny_network().state_dict(), model / "model.safetensors")
    with pytest.raises(ValueError, match="tones: not a model of this tutorial"):
        load_model(model)


def test_weights_that_are_not_numbers_are_refused(resnet, tmp_path):
    network, settings = load_model(resnet.folder)
    network[1][-1].weight.data[0, 0] = float("nan")
    write_model(tmp_path / "odd", network, settings)
    with pytest.raises(ValueError, match="odd: not a model of this tutorial.*not all numbers"):
        load_model(tmp_path / "odd")


@pytest.mark.parametrize("wrong", [{"picture_px": "64"}, {"picture_px": 10**6}, {"picture_width": -1}, {"temperature": 0}, {"recipe": {"views": 10**6}}, {"recipe": []}, {"corpus": "../.."}, {"corpus": []}, {"recipe": {"shift": "far"}}, {"recipe": {"views": -5}}, {"spectrogram": {"win_lengths": [1, 2]}},
                                   {"spectrogram": {"hop_length": 0}}, {"spectrogram": {"width": "x"}}, {"spectrogram": {"colour": "red"}}, {"spectrogram": {"fmin": 5000.0, "fmax": 4000.0}},
                                   {"spectrogram": {"fmax": 1e6}}, {"spectrogram": {"top_db": 0}}, {"spectrogram": {"trim_db": None}}], ids=str)
def test_settings_that_no_answer_can_be_had_with_are_refused(resnet, tmp_path, wrong):
    network, settings = load_model(resnet.folder)
    write_model(tmp_path / "odd", network, settings | wrong)
    with pytest.raises(ValueError, match="odd: not a model of this tutorial"):
        load_model(tmp_path / "odd")


def test_settings_that_are_not_those_the_weights_were_saved_with_are_refused_with_both_named(model):
    settings = json.loads((model / "settings.json").read_text())
    (model / "settings.json").write_text(json.dumps(settings | {"picture_px": 33}))
    with pytest.raises(ValueError, match="picture_px 33 instead of 32"):
        load_model(model)


def test_settings_are_plain_json(resnet):
    assert json.loads((resnet.folder / "settings.json").read_text())["arch"] == "resnet34"
