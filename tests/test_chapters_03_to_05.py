"""Chapters 03, 04 and 05: what their cells do is what the package does."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chapters import CHAPTERS, code_of, prose_of, run_cells
from PIL import Image

from emotion_helpers import models
from emotion_helpers.audio import read_audio
from emotion_helpers.augmentation import shift_and_stretch, spec_augment
from emotion_helpers.beyond.cross_validation import make_learner
from emotion_helpers.clips import EMOTIONS
from emotion_helpers.evaluation import predict_clips
from emotion_helpers.models import RECIPES, Network, Recipe, normalize, predict_proba, to_tensor
from emotion_helpers.pictures import SpectrogramSettings, mel_picture, picture_files, render
from emotion_helpers.training import Augment, FewerTess, fastai, picture_loaders


def test_the_loop_of_chapter_03_writes_what_render_writes(
    demo_clips, demo_pictures, small, tmp_path
):
    given = {"twenty": demo_clips[:20], "scratch": tmp_path, "settings": small, "Image": Image}
    run_cells("03", "for clip in twenty", read_audio=read_audio, mel_picture=mel_picture, **given)
    written = list(tmp_path.rglob("*.png"))
    assert len(written) == 20
    for path in written:
        twin = demo_pictures / path.relative_to(tmp_path)
        assert np.array_equal(Image.open(path), Image.open(twin))


def test_chapter_04_shows_the_network_what_the_package_shows_it(demo_clips, tmp_path):
    """At both sizes, and all of a picture, also of one whose shape a reader has changed."""
    settings, few = SpectrogramSettings(n_mels=128), demo_clips[:12]
    render(few, tmp_path, settings, n_jobs=1)
    given = {name: getattr(fastai, name) for name in dir(fastai)} | {"EMOTIONS": EMOTIONS}
    given |= {"Augment": Augment, "shift_and_stretch": shift_and_stretch, "FewerTess": FewerTess}
    given |= {"spec_augment": spec_augment, "picture_files": picture_files, "settings": settings}
    given |= {"PICTURES": tmp_path, "RUNS": tmp_path, "valid": set(few.clip_id[:4])}
    names = run_cells("04", "EPOCHS_288 =", "def get_dls", **given)
    (larger,) = re.findall(r"learn.dls = (get_dls\(.*\))", "\n".join(code_of("04")))
    for loaders, recipe in ((names["dls_144"], "144"), (eval(larger, names), "288")):
        batch, _ = loaders.valid.one_batch()
        files = loaders.valid_ds.items
        ours = torch.cat([normalize(to_tensor(file, RECIPES[recipe])) for file in files])
        assert (batch - ours).abs().max() < 1e-5


def test_what_chapter_04_invites_to_try_is_a_run_of_its_own_and_saved_as_it_was(
    demo_clips, small, tmp_path
):
    """`MASK_SIZE = 0.4` at the top, and nothing else: the run and the recipe in the file say so."""
    text = prose_of(CHAPTERS["04"]).split("## Try it")[1]
    mask_size = float(re.search(r"`MASK_SIZE = (0\.\d)`", text)[1])
    given = run_cells("04", "EPOCHS_288 =") | {"MASK_SIZE": mask_size, "CORPUS": "demo"}
    given |= {"models": models, "replace": replace, "MODELS": tmp_path, "valid": {"b", "a"}}
    given |= {"config_hash": str, "clips": demo_clips, "settings": small}
    given["learn"] = SimpleNamespace(model=models.build_network((4, 2)))
    names = run_cells("04", "run_144 = {", "recipe = replace", **given)
    assert names["run_144"]["augmentation"] == [0.1, 0.1, mask_size]
    recipe = models.load_model(tmp_path / "tutorial").recipe
    assert models.load_model(tmp_path / "tutorial").info["valid"] == ["a", "b"]
    assert recipe.mask_size == recipe.start.mask_size == mask_size
    usual = replace(recipe, mask_size=0.1, start=replace(recipe.start, mask_size=0.1))
    assert usual == RECIPES["288"]


def test_chapter_05_asks_as_a_learner_does(demo_clips, demo_pictures, small):
    recipe = Recipe(height=32, width=32, kernel_scale=(1, 1), batch_size=8)
    valid = set(demo_clips.clip_id[:10])
    learn = make_learner(picture_loaders(demo_pictures, small, recipe, valid), recipe, 1, False)
    with learn.no_bar(), learn.no_logging():
        expected = predict_clips(learn, demo_clips).set_index("clip_id")[list(EMOTIONS)]
    given = {"network": Network(learn.model.eval(), small, recipe, {}), "Image": Image}
    given |= {"PICTURES": demo_pictures, "to_tensor": to_tensor, "predict_proba": predict_proba}
    ask = run_cells("05", "def ask", **given)["ask"]
    for clip in demo_clips[demo_clips.clip_id.isin(valid)].itertuples():
        with torch.inference_mode():
            assert ask(clip) == pytest.approx(list(expected.loc[clip.clip_id]), abs=1e-5)
