"""Batches, and runs that survive being stopped: exactly the weights of one that was not."""

import json
import os
import random
import shutil
from dataclasses import asdict, replace
from functools import cache, partial
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from emotion_helpers import EmotionHelpersError
from emotion_helpers.audio import read_audio
from emotion_helpers.augmentation import spec_augment
from emotion_helpers.clips import EMOTIONS
from emotion_helpers.evaluation import predict_clips
from emotion_helpers.models import Recipe, load_model, predict_proba, save_model, to_tensor
from emotion_helpers.pictures import mel_picture, render
from emotion_helpers.training import (
    HEAD,
    Augment,
    BFloat16,
    FewerTess,
    checkpoints,
    describe_learner,
    fastai,
    make_loaders,
    picture_loaders,
    speed_callbacks,
)

RECIPE = Recipe(height=16, width=24, kernel_scale=(1, 1), batch_size=8)
PLAIN = replace(RECIPE, shift=0.0, stretch=0.0, mask_size=0.0)
CONFIG = {"name": "tiny", "top_db": 80}
TRAINED = {"Actor_01", "Actor_11", "Actor_04"}


@pytest.fixture(scope="module")
def load(demo_clips, demo_pictures, small):
    """A function that gives the batches of six actors' pictures; two of them are for validation."""

    @cache  # they are the same before every fit, which seeds them
    def loaders(recipe=RECIPE, tested=("Actor_08", "Actor_09"), train=None, folder=demo_pictures):
        valid = set(demo_clips.clip_id[demo_clips.speaker.isin(tested)])
        return picture_loaders(folder, small, recipe, valid, train)

    return loaders


def tiny_network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(8 * 16, len(EMOTIONS)),
    )


@pytest.fixture(scope="module")
def learner(load):
    """A function that makes the same learner every time, with everything random switched on."""

    def make(loaders=None, cbs=(), alpha=0.2, seed=7, **options):
        fastai.set_seed(seed)
        options.setdefault("loss_func", fastai.CrossEntropyLossFlat())
        mixing = [fastai.MixUp(alpha)] if alpha else []
        learn = fastai.Learner(
            loaders or load(),
            tiny_network(),
            metrics=fastai.accuracy,
            cbs=[*mixing, *cbs],
            **options,
        )
        learn.remove_cb(fastai.ProgressCallback)
        return learn

    return make


def fit(learn, epochs, lr, runs, config, seed=42):
    """As the notebooks do it; a table with a row per epoch."""
    with checkpoints(learn, runs, config, seed) as history:
        learn.fit_one_cycle(epochs, lr)
    return pd.DataFrame(history)


def weights(learn):
    return {name: value.clone() for name, value in learn.model.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def files(folder):
    """Every file below a folder with its bytes and its time."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


# ---- batches


def test_no_picture_is_in_training_and_in_validation(load, demo_clips):
    loaders = load()
    train = {picture.stem for picture in loaders.train_ds.items}
    valid = {picture.stem for picture in loaders.valid_ds.items}
    tested = demo_clips.speaker.isin(["Actor_08", "Actor_09"])
    assert valid == set(demo_clips.clip_id[tested])
    assert train == set(demo_clips.clip_id[~tested])
    assert list(loaders.vocab) == list(EMOTIONS)


def test_what_is_in_neither_set_is_not_seen(load, demo_clips):
    train = frozenset(demo_clips.clip_id[demo_clips.speaker.isin(TRAINED)])
    loaders = load(train=train)
    assert {picture.stem for picture in loaders.train_ds.items} == train
    assert len(loaders.valid_ds) == 12


def test_a_picture_that_is_not_there_is_an_error_and_not_left_out(load):
    """Another program may be making the pictures of other clips into the same folder."""
    with pytest.raises(EmotionHelpersError, match="some pictures are gone"):
        load(train=frozenset(["03-01-02-01-01-01-24"]))


def test_batches_hold_the_pictures_in_the_recipes_size_and_their_folders_emotions(load):
    loaders = load(PLAIN)
    pictures, labels = loaders.valid.one_batch()
    assert pictures.shape == (8, 3, 16, 24)
    emotions = [loaders.vocab[label] for label in labels]
    assert emotions == [item.parent.name for item in loaders.valid_ds.items[:8]]
    everything = torch.cat([pictures for pictures, _ in loaders.train])
    assert everything.mean(dim=(0, 2, 3)).abs().max() < 2.5  # normalized


def test_pictures_of_other_settings_are_an_error(demo_pictures, small):
    with pytest.raises(EmotionHelpersError, match="chapter 03"):
        picture_loaders(demo_pictures, replace(small, top_db=60.0), RECIPE, set())


@pytest.mark.parametrize("change", [{"shift": 1.0}, {"stretch": 0.9}, {"mask_size": 1.0}], ids=str)
def test_training_pictures_are_augmented_and_validation_pictures_not(load, change):
    """A picture looks different from epoch to epoch."""
    for batches, differ in zip(load(replace(PLAIN, **change)), (True, False), strict=True):
        in_order = batches.new(shuffle=False)
        one, two = (in_order.one_batch()[0] for _ in range(2))
        assert ((one - two).abs().mean() > 0.1) == differ


def test_augment_takes_any_function_of_a_batch_and_its_options():
    transform = Augment(spec_augment, mask_size=1.0, n_masks=9)
    pictures = fastai.TensorImage(torch.ones(4, 3, 16, 16))
    assert transform(pictures, split_idx=0).mean() < 0.3
    assert torch.equal(transform(pictures, split_idx=1), pictures)


WORDS = ["".join(letters) for letters in product("abcdefghij", repeat=2)]


class Dataset(list):
    """It has `items`, as fastai's have."""


def numbered(ravdess, tess, **options):
    """A `FewerTess` whose items are their own numbers, so that a batch tells which are in it."""

    numbers = Dataset(range(ravdess + tess))
    numbers.items = [f"03-01-03-01-01-01-{1 + i:02}.png" for i in range(ravdess)]
    numbers.items += [f"OAF_{word}_sad.png" for word in WORDS[:tess]]
    return FewerTess(numbers, bs=4, num_workers=0, **options)


def seen(batches):
    return [int(i) for batch in batches for i in batch]


def test_an_epoch_has_all_of_ravdess_and_a_fresh_eighth_of_tess():
    batches = numbered(ravdess=10, tess=80, shuffle=True)
    epochs = [seen(batches) for _ in range(4)]
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == 20
        assert set(range(10)) < set(epoch)
        assert epoch != sorted(epoch)
    assert len({frozenset(epoch) for epoch in epochs}) == 4
    assert len(set().union(*epochs)) > 30  # and in time all of it


def test_what_is_not_shuffled_is_seen_whole_and_in_order():
    assert seen(numbered(ravdess=10, tess=40)) == list(range(50))
    assert seen(numbered(ravdess=10, tess=40, shuffle=True).new(shuffle=False)) == list(range(50))


@pytest.mark.parametrize("options", [{}, {"drop_last": True}], ids=str)
def test_the_length_is_the_number_of_batches(options):
    batches = numbered(ravdess=10, tess=45, shuffle=True, **options)
    assert len(batches) == len(list(batches))


@pytest.mark.parametrize("name", ["DC_a01.png", "1001_DFA_ANG_XX.png"])
def test_clips_of_another_corpus_are_refused_by_name_and_not_thinned(name):
    pictures = Dataset(range(2))
    pictures.items = ["OAF_back_sad.png", name]
    with pytest.raises(EmotionHelpersError, match=name):
        FewerTess(pictures, bs=2, shuffle=True, num_workers=0)


# ---- training


def test_training_lowers_the_loss(load, learner, tmp_path):
    history = fit(learner(load(PLAIN), alpha=0), 8, 0.02, tmp_path, CONFIG)
    assert list(history.epoch) == list(range(8))
    assert history.train_loss.iloc[-1] < 0.7 * history.train_loss.iloc[0]
    assert history.valid_loss.iloc[-1] < history.valid_loss.iloc[0]
    assert history.accuracy.between(0, 1).all()
    assert (history.seconds > 0).all()


def forbid(model, *_):
    raise AssertionError("it was asked or trained")


def test_a_finished_run_is_loaded_and_not_trained_again(learner, tmp_path):
    first = learner()
    history = fit(first, 2, 1e-2, tmp_path, CONFIG)
    before = files(tmp_path)
    second = learner(seed=1)
    second.model.register_forward_hook(forbid)
    again = fit(second, 2, 1e-2, tmp_path, CONFIG)
    pd.testing.assert_frame_equal(again, history)
    assert same(weights(first), weights(second))
    assert files(tmp_path) == before


def interrupt_at(batch):
    """A hook for a network: Ctrl-C in the given training batch."""
    count = iter(range(10_000))

    def hook(model, *_):
        if model.training and next(count) == batch:
            raise KeyboardInterrupt

    return hook


def interrupted(learn, batch, *arguments):
    """Begin a fit, and press Ctrl-C."""
    hook = learn.model.register_forward_hook(interrupt_at(batch))
    with pytest.raises(KeyboardInterrupt):
        fit(learn, *arguments)
    hook.remove()


@pytest.fixture(scope="module")
def arguments():
    return 3, slice(1e-3, 1e-2)


@pytest.fixture(scope="module")
def undisturbed(learner, arguments, tmp_path_factory):
    """Weights and history of a run that nobody stopped."""
    learn = learner()
    history = fit(learn, *arguments, tmp_path_factory.mktemp("undisturbed"), CONFIG)
    return weights(learn), history


STOPS = {"in epoch 1": 1, "where epoch 2 begins": 4, "in epoch 3": 10}  # four batches an epoch


@pytest.mark.parametrize("batch", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("who", ["another learner", "the same learner"])
def test_a_run_that_was_stopped_gives_exactly_the_weights_of_one_that_was_not(
    learner, tmp_path, arguments, batch, who, undisturbed
):
    expected, history = undisturbed
    stopped = learner()
    interrupted(stopped, batch, *arguments, tmp_path, CONFIG)
    learn = stopped if who == "the same learner" else learner()
    continued = fit(learn, *arguments, tmp_path, CONFIG)
    assert same(weights(learn), expected)
    seconds = {"columns": "seconds"}
    pd.testing.assert_frame_equal(continued.drop(**seconds), history.drop(**seconds), rtol=1e-12)


def test_only_the_epochs_that_are_missing_are_trained(learner, tmp_path, arguments, capsys):
    interrupted(learner(), 5, *arguments, tmp_path, CONFIG)
    learn, trained = learner(), []
    hook = learn.model.register_forward_hook(lambda model, *_: trained.append(model.training))
    capsys.readouterr()
    fit(learn, *arguments, tmp_path, CONFIG)
    hook.remove()
    assert sum(trained) == 2 * len(learn.dls.train) == 8
    assert "1 of 3 epochs are done" in capsys.readouterr().out


class KilledError(BaseException):
    """The computer is switched off."""


def test_a_checkpoint_is_whole_or_absent(learner, tmp_path, arguments, monkeypatch, undisturbed):
    save, times = torch.save, iter(range(100))

    def killed_in_the_second(state, file):
        save(state, file)
        if next(times) == 1:
            file.truncate(5_000)
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", killed_in_the_second)
        with pytest.raises(KilledError):
            fit(learner(), *arguments, tmp_path, CONFIG)
    for path in tmp_path.rglob("*.pth*"):
        torch.load(path, weights_only=False)
    learn = learner()
    fit(learn, *arguments, tmp_path, CONFIG)
    assert same(weights(learn), undisturbed[0])


def test_a_checkpoint_that_is_damaged_all_the_same_is_named(learner, tmp_path, arguments):
    fit(learner(), *arguments, tmp_path, CONFIG)
    (file,) = tmp_path.rglob("last.pth")
    for size in (0, 100, file.stat().st_size // 2):  # as after a power cut
        os.truncate(file, size)
        with pytest.raises(EmotionHelpersError, match=rf"{file}.*delete it"):
            fit(learner(), *arguments, tmp_path, CONFIG)


class Scaling(fastai.Callback):
    """What MixedPrecision does on a GPU: a scale for the loss that training itself finds."""

    def before_fit(self):
        self.learn.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)

    def after_loss(self):
        if self.training:
            self.learn.scaler.scale(self.learn.loss.detach())

    def after_batch(self):
        if self.training:
            self.learn.scaler.update(2 * self.learn.scaler.get_scale())


def test_half_precisions_scale_goes_on_where_it_was(learner, tmp_path, arguments):
    interrupted(learner(cbs=[Scaling()]), 9, *arguments, tmp_path, CONFIG)
    learn = learner(cbs=[Scaling()])
    fit(learn, *arguments, tmp_path, CONFIG)
    assert learn.scaler.get_scale() == 2 ** (3 * len(learn.dls.train))


class MixedPrecision(Scaling):
    """By the name of what a GPU has and a CPU has not."""


def test_a_run_that_began_on_a_gpu_goes_on_without_one(learner, tmp_path, arguments):
    interrupted(learner(cbs=[MixedPrecision()]), 9, *arguments, tmp_path, CONFIG)
    history = fit(learner(), *arguments, tmp_path, CONFIG)
    assert list(history["epoch"]) == [0, 1, 2]


def random_states():
    state = np.random.get_state()  # noqa: NPY002
    return random.getstate(), state[1].tolist(), state[2:], torch.get_rng_state().tolist()


def test_the_global_random_numbers_are_as_if_nobody_had_trained(learner, tmp_path):
    learn = learner()
    fastai.set_seed(99)
    before = random_states()
    for _ in range(2):  # trained, and loaded
        fit(learn, 1, 1e-2, tmp_path, CONFIG)
        assert random_states() == before
    interrupted(learn, 1, 2, 1e-2, tmp_path, CONFIG)
    assert random_states() == before


# ---- what a run is known by


def class_weights(**change):
    return torch.tensor([change.get(emotion, 1.0) for emotion in EMOTIONS])


SGD = partial(fastai.OptimWrapper, opt=torch.optim.SGD)
TAUGHT = "Actor_10", "Actor_09"

# What a reader tries first, and what the error has to name.
CHANGES = {
    "optimiser": ({"opt_func": fastai.SGD}, "SGD"),
    "torch's optimiser": ({"opt_func": SGD}, "SGD"),
    "moms": ({"moms": (0.8, 0.7, 0.8)}, "moms.*0.7"),
    "weight decay": ({"wd": 0.3}, "wd.*0.3"),
    "class weights": (
        {"loss_func": fastai.CrossEntropyLossFlat(weight=class_weights(calm=3.0))},
        "weight=.*3.0",
    ),
    "label smoothing": (
        {"loss_func": fastai.CrossEntropyLossFlat(label_smoothing=0.25)},
        "label_smoothing=0.25",
    ),
    "MixUp's alpha": ({"alpha": 0.4}, "MixUp.*0.4"),
    "no MixUp": ({"alpha": 0}, "MixUp"),
    "a clip for gradients": ({"cbs": [fastai.GradientClip(1.0)]}, "GradientClip.*1.0"),
}
BATCHES = {
    "batch size": ({"recipe": replace(RECIPE, batch_size=4)}, "bs.*4"),
    "shift": ({"recipe": replace(RECIPE, shift=0.3)}, "shift_and_stretch.*0.3"),
    "masks": ({"recipe": replace(RECIPE, mask_size=0.3)}, "spec_augment.*0.3"),
    "picture size": ({"recipe": replace(RECIPE, height=20)}, "20"),
    "speakers": ({"tested": TAUGHT}, "clips"),
}


@pytest.fixture(scope="module")
def first_run(learner, tmp_path_factory):
    """One epoch with a callback: its folder, weights and history."""
    folder, learn = tmp_path_factory.mktemp("first"), learner(cbs=[fastai.GradientClip(0.1)])
    history = fit(learn, 1, 1e-2, folder, CONFIG)
    return folder, weights(learn), history


def train_changed(learner, first_run, tmp_path, changed, words):
    """A run, another learner under its config, another config, and the first run again."""
    folder, first, history = first_run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = files(tmp_path)
    with pytest.raises(EmotionHelpersError, match=f"(?s)tiny-.*{words}"):
        fit(changed(), 1, 1e-2, tmp_path, CONFIG)
    assert files(tmp_path) == before
    other = changed()
    fit(other, 1, 1e-2, tmp_path, CONFIG | {"changed": True})
    assert not same(first, weights(other))
    assert len(list(tmp_path.iterdir())) == 2
    again = learner(cbs=[fastai.GradientClip(0.1)], seed=1)
    again.model.register_forward_hook(forbid)
    pd.testing.assert_frame_equal(fit(again, 1, 1e-2, tmp_path, CONFIG), history)
    assert same(first, weights(again))
    assert files(tmp_path).items() >= before.items()


@pytest.mark.parametrize("change, words", CHANGES.values(), ids=CHANGES)
def test_another_learner_never_gets_the_run_and_the_run_stays(
    learner, first_run, tmp_path, change, words
):
    def changed():
        return learner(**{"cbs": [fastai.GradientClip(0.1)], **change})

    train_changed(learner, first_run, tmp_path, changed, words)


@pytest.mark.parametrize("change, words", BATCHES.values(), ids=BATCHES)
def test_other_batches_never_get_the_run(learner, load, first_run, tmp_path, change, words):
    def changed():
        return learner(load(**change), cbs=[fastai.GradientClip(0.1)])

    train_changed(learner, first_run, tmp_path, changed, words)


def test_augmentation_in_another_order_never_gets_the_run(learner, load, first_run, tmp_path):
    """It is other pictures: masks are stretched, or not."""

    def changed():
        loaders = load.__wrapped__()  # of its own
        tfms = loaders.train.after_batch.fs
        one, other = (i for i, tfm in enumerate(tfms) if isinstance(tfm, Augment))
        tfms[one], tfms[other] = tfms[other], tfms[one]
        return learner(loaders, cbs=[fastai.GradientClip(0.1)])

    train_changed(learner, first_run, tmp_path, changed, "another order")


def test_to_ask_the_learner_where_it_is_to_be_fitted_is_a_sentence(learner, tmp_path):
    learn = learner()
    problem = pytest.raises(EmotionHelpersError, match="only fit_one_cycle")
    with problem, checkpoints(learn, tmp_path, CONFIG):
        learn.get_preds()
    assert not list(tmp_path.iterdir())


FITS = {
    "momentum": ({"moms": (0.8, 0.7, 0.8)}, r"moms=\[0.8, 0.7"),
    "momentum at the end": ({"moms": (0.95, 0.85, 0.5)}, r"moms=\[0.95, 0.85, 0.5\]"),
    "decay": ({"wd": 0.3}, r"wd=\[0.3"),
}


@pytest.mark.parametrize("options, words", FITS.values(), ids=FITS)
def test_what_the_fit_itself_is_given_is_part_of_the_run(learner, tmp_path, options, words):
    fit(learner(), 1, 1e-2, tmp_path, CONFIG)
    other = learner()
    with pytest.raises(EmotionHelpersError, match=words), checkpoints(other, tmp_path, CONFIG):
        other.fit_one_cycle(1, 1e-2, **options)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.Identity()], ids=str)
def test_another_network_of_the_same_weights_never_gets_the_run(learner, tmp_path, layer):
    fit(learner(), 1, 1e-2, tmp_path, CONFIG)
    other = learner()
    other.model[3] = layer
    with pytest.raises(EmotionHelpersError, match="network="):
        fit(other, 1, 1e-2, tmp_path, CONFIG)


AMOUNTS = {
    "max_rotate": (10, 40),
    "max_zoom": (1.1, 1.4),
    "max_warp": (0.2, 0.4),
    "max_lighting": (0.2, 0.4),
}


@pytest.mark.parametrize("amount", AMOUNTS)
def test_other_amounts_of_fastais_augmentation_never_get_the_run(
    learner, demo_pictures, demo_clips, tmp_path, amount
):
    """It makes one transform of several, and keeps their amounts inside."""
    files, valid = sorted(demo_pictures.glob("*/*.png")), set(demo_clips.clip_id[:8])

    def changed(value):
        tfms = fastai.aug_transforms(**{amount: value})
        options = {"dl_type": fastai.TfmdDL, "item_tfms": fastai.Resize(16)}
        return learner(make_loaders(files, valid, tfms, 8, **options))

    small, large = AMOUNTS[amount]
    fit(changed(small), 1, 1e-2, tmp_path, CONFIG)
    again = changed(small)
    again.model.register_forward_hook(forbid)
    fit(again, 1, 1e-2, tmp_path, CONFIG)  # the same words: it is loaded
    with pytest.raises(EmotionHelpersError, match=rf"(?s)\b{small}\b.*\b{large}\b"):
        fit(changed(large), 1, 1e-2, tmp_path, CONFIG)


def test_another_sampler_never_gets_the_run(learner, load, tmp_path):
    """All of TESS in place of an eighth."""
    fit(learner(), 1, 1e-2, tmp_path, CONFIG)
    everything = load().train.new(cls=fastai.TfmdDL)
    other = learner(fastai.DataLoaders(everything, load().valid))
    with pytest.raises(EmotionHelpersError, match=r"FewerTess.*TfmdDL"):
        fit(other, 1, 1e-2, tmp_path, CONFIG)


def test_a_sampler_with_other_weights_never_gets_the_run(
    learner, demo_pictures, demo_clips, tmp_path
):
    """fastai's WeightedDL, which draws some clips more often."""
    files, valid = sorted(demo_pictures.glob("*/*.png")), set(demo_clips.clip_id[:8])

    def weighted(first):
        loaders = make_loaders(files, valid, [], 8, fastai.TfmdDL, item_tfms=fastai.Resize(16))
        wgts = [first] + [1.0] * (len(loaders.train_ds) - 1)
        train = fastai.WeightedDL(loaders.train_ds, bs=8, wgts=wgts, after_item=fastai.ToTensor)
        train.after_batch = loaders.train.after_batch
        return learner(fastai.DataLoaders(train, loaders.valid))

    fit(weighted(1.0), 1, 1e-2, tmp_path, CONFIG)
    with pytest.raises(EmotionHelpersError, match="weights of clips"):
        fit(weighted(9.0), 1, 1e-2, tmp_path, CONFIG)


def test_pictures_made_with_other_settings_never_get_the_run(
    learner, load, tmp_path, demo_clips, small
):
    other = replace(small, top_db=60.0)
    render(demo_clips, tmp_path / "pictures", other, n_jobs=1)
    fit(learner(), 1, 1e-2, tmp_path / "runs", CONFIG)
    valid = {picture.stem for picture in load().valid_ds.items}
    loaders = picture_loaders(tmp_path / "pictures", other, RECIPE, valid)
    with pytest.raises(EmotionHelpersError, match="pictures"):
        fit(learner(loaders), 1, 1e-2, tmp_path / "runs", CONFIG)


def test_the_arguments_of_a_loss_function_count(learner, tmp_path):
    loss_func = nn.functional.cross_entropy
    fit(learner(alpha=0, loss_func=loss_func), 1, 1e-2, tmp_path, CONFIG)
    with pytest.raises(EmotionHelpersError, match=r"label_smoothing.*0.25"):
        other = learner(alpha=0, loss_func=partial(loss_func, label_smoothing=0.25))
        fit(other, 1, 1e-2, tmp_path, CONFIG)


def without_calm(picture):
    return fastai.parent_label(picture).replace("calm", "neutral")


LABELS = {
    "in the order of the alphabet": {"blocks": (fastai.ImageBlock, fastai.CategoryBlock)},
    "two emotions in one": {"get_y": without_calm},
}


@pytest.mark.parametrize("change", LABELS.values(), ids=LABELS)
def test_other_labels_of_the_same_clips_never_get_the_run(
    demo_pictures, demo_clips, learner, tmp_path, change
):
    valid = set(demo_clips.clip_id[demo_clips.speaker == "Actor_08"])

    def loaders(**change):
        options = {
            "blocks": (fastai.ImageBlock, fastai.CategoryBlock(vocab=EMOTIONS, sort=False)),
            "get_y": fastai.parent_label,
            "splitter": fastai.FuncSplitter(lambda picture: picture.stem in valid),
            "item_tfms": fastai.Resize((16, 24)),
        }
        block = fastai.DataBlock(**options | change)
        return block.dataloaders(sorted(demo_pictures.glob("*/*.png")), bs=8, num_workers=0)

    fit(learner(loaders()), 1, 1e-2, tmp_path, CONFIG)
    with pytest.raises(EmotionHelpersError, match="clips="):
        fit(learner(loaders(**change)), 1, 1e-2, tmp_path, CONFIG)


def test_another_size_of_the_same_pictures_never_gets_the_run(
    demo_pictures, demo_clips, learner, tmp_path
):
    valid = set(demo_clips.clip_id[demo_clips.speaker == "Actor_08"])

    def loaders(size):
        files = sorted(demo_pictures.glob("*/*.png"))
        return make_loaders(files, valid, [], 8, item_tfms=fastai.Resize(size))

    fit(learner(loaders((16, 24))), 1, 1e-2, tmp_path, CONFIG)
    with pytest.raises(EmotionHelpersError, match=r"Resize\("):
        fit(learner(loaders((12, 18))), 1, 1e-2, tmp_path, CONFIG)


def test_a_run_that_goes_on_shows_the_epochs_that_are_there_as_if_it_had_just_trained_them(
    learner, tmp_path, capsys
):
    fit(learner(), 3, 1e-2, tmp_path, CONFIG)
    trained = capsys.readouterr().out.splitlines()
    fit(learner(), 3, 1e-2, tmp_path, CONFIG)
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.endswith("3 of 3 epochs are done")
    numbers = [row.rsplit(",", 1)[0] for row in trained]
    assert [row.rsplit(",", 1)[0] for row in rows] == numbers
    assert len(rows) == 3


def test_gradients_from_before_are_forgotten(learner, tmp_path):
    """Such as those of a layer that was exchanged before `lr_find`."""
    first, other = learner(), learner()
    for weights_of in other.model.parameters():
        weights_of.grad = torch.full_like(weights_of, 1e3)
    fit(first, 1, 1e-2, tmp_path / "a", CONFIG)
    fit(other, 1, 1e-2, tmp_path / "b", CONFIG)
    assert same(weights(first), weights(other))


def test_frozen_layers_never_get_the_run(learner, tmp_path):
    fit(learner(), 1, 1e-2, tmp_path, CONFIG)
    frozen = learner()
    frozen.model[0].requires_grad_(False)
    with pytest.raises(EmotionHelpersError, match="weights"):
        fit(frozen, 1, 1e-2, tmp_path, CONFIG)


@pytest.mark.parametrize(
    "change", [{"lr": 2e-2}, {"lr": slice(2e-2)}, {"epochs": 2}, {"seed": 1}], ids=str
)
def test_other_arguments_are_another_run(learner, tmp_path, change):
    arguments = {"epochs": 1, "lr": 1e-2, "runs": tmp_path, "config": CONFIG}
    first, other = learner(), learner()
    fit(first, **arguments)
    before = files(tmp_path)
    fit(other, **(arguments | change))
    assert len(list(tmp_path.iterdir())) == 2
    assert files(tmp_path).items() >= before.items()
    assert not same(weights(first), weights(other))


def test_a_run_says_what_it_is(learner, tmp_path):
    fit(learner(), 1, 1e-2, tmp_path, CONFIG)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("tiny-")
    assert json.loads((folder / "config.json").read_text()).items() >= CONFIG.items()


def test_this_machines_speed_is_no_part_of_a_run(learner):
    plain, quick = learner(), learner(cbs=speed_callbacks())
    assert describe_learner(plain) == describe_learner(quick)


@pytest.mark.filterwarnings("ignore:In CPU autocast")
def test_bfloat16_ends_with_its_fit_even_where_that_was_stopped(learner):
    kinds = []

    def loss(predictions, labels):
        kinds.append(predictions.dtype)
        return nn.functional.cross_entropy(predictions, labels)

    learn = learner(cbs=[BFloat16()], alpha=0, loss_func=loss)
    learn.model[0].register_forward_hook(lambda model, x, y: kinds.append(y.dtype))
    stop = learn.model.register_forward_hook(interrupt_at(1))
    with pytest.raises(KeyboardInterrupt):
        learn.fit(1)
    stop.remove()
    learn.fit(1)
    assert kinds[-2:] == [torch.bfloat16, torch.float32]  # inside the network, and what comes out
    assert not torch.is_autocast_enabled("cpu")
    assert learn.model(torch.zeros(2, 3, 16, 24)).dtype == torch.float32


# ---- the whole way


@pytest.mark.slow
def test_other_settings_and_another_recipe_go_from_the_clips_to_the_answers(
    demo_clips, small, tmp_path
):
    settings = replace(small, top_db=60.0, n_mels=24)
    recipe = replace(RECIPE, n_tta=2, mixup=0.0)
    render(demo_clips, tmp_path / "pictures", settings, n_jobs=1)
    valid = set(demo_clips.clip_id[demo_clips.speaker == "Actor_08"])
    loaders = picture_loaders(tmp_path / "pictures", settings, recipe, valid)
    options = {"pretrained": False, "loss_func": fastai.CrossEntropyLossFlat(), **HEAD}
    learn = fastai.vision_learner(loaders, fastai.resnet34, cbs=fastai.ChannelsLast(), **options)
    learn.remove_cb(fastai.ProgressCallback)
    learn.freeze()  # the last layer alone is trained: quicker
    config = {"settings": asdict(settings), "recipe": asdict(recipe)}
    history = fit(learn, 1, 1e-3, tmp_path / "runs", config)
    assert len(history) == 1
    save_model(tmp_path / "model", learn.model, settings, recipe, corpus="demo")
    del learn
    network = load_model(tmp_path / "model")
    assert (network.settings, network.recipe) == (settings, recipe)
    loaders = picture_loaders(tmp_path / "pictures", network.settings, network.recipe, valid)
    asked = fastai.Learner(loaders, network.model, loss_func=fastai.CrossEntropyLossFlat())
    with asked.no_bar():
        table = predict_clips(asked, demo_clips)
    assert set(table.clip_id) == valid
    row = table.iloc[0]
    path = demo_clips.set_index("clip_id").path[row.clip_id]
    picture = mel_picture(read_audio(path, settings.sample_rate), network.settings)
    answer = predict_proba(network.model, to_tensor(picture, network.recipe))
    assert answer[0].tolist() == pytest.approx(row[list(EMOTIONS)].tolist(), abs=1e-4)
    shutil.rmtree(tmp_path)  # 0.2 GB
