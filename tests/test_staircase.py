"""The staircase: the article's kind of picture, steps that add up, and a table that goes on."""

from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import study_staircase as rooms
from joblib import parallel_config
from PIL import Image
from study_staircase import Step, draw_as_the_article, staircase, study_staircase

from emotion_helpers import EmotionHelpersError, corpora


@pytest.fixture(autouse=True)
def one_process():
    """No new processes for a handful of clips."""
    with parallel_config("sequential"):
        yield


def test_the_articles_pictures_are_the_default_figure_of_its_time(demo_clips, tmp_path):
    """432 x 288 pixels, of which the axes hold 58.5 %: 54 to 389 across, 36 to 253 down."""
    row = demo_clips.iloc[0].to_dict()
    draw_as_the_article(row, tmp_path)
    (file,) = tmp_path.rglob("*.png")
    assert file.relative_to(tmp_path).as_posix() == f"{row['emotion']}/{row['clip_id']}.png"
    picture = np.asarray(Image.open(file).convert("RGB"))
    assert picture.shape == (288, 432, 3)
    assert (picture[:30] == 255).all()  # the margin above
    assert (picture[:, 395:] == 255).all()  # and to the right
    assert not (picture[40:245, 60:385] == 255).all(axis=2).any()


def test_the_articles_pictures_of_other_clips_are_in_another_folder(
    demo_clips, tmp_path, monkeypatch
):
    monkeypatch.setattr(corpora, "ROOT", tmp_path)
    step, changed = staircase()["article"], demo_clips[:2].assign(md5="another")
    folders = [
        rooms.prepare(step, clips, "demo") for clips in (demo_clips[:2], demo_clips[:2], changed)
    ]
    assert folders[0] == folders[1] != folders[2]
    assert len([*folders[2].glob("*/*.png")]) == 2


def test_each_step_keeps_what_the_steps_before_it_changed():
    steps = list(staircase().values())
    assert steps[0] == Step("the article's recipe")
    for before, after in pairwise(steps):
        changed = {k for k, v in asdict(after).items() if asdict(before)[k] != v} - {"change"}
        assert 1 <= len(changed) <= 3
    last = steps[-1]
    assert (last.crop, last.photographs, last.head, last.all_of_tess) == (False,) * 4
    assert last.ours


def test_a_step_that_is_not_there_is_named_before_anything_is_done():
    with pytest.raises(EmotionHelpersError, match="no step 'middle'; there are article, pictures"):
        study_staircase("demo", steps=["article", "middle"])


@pytest.mark.slow
def test_a_study_brings_its_table_up_to_date_step_by_step(
    demo_clips, tmp_path, monkeypatch, shallow
):
    monkeypatch.setattr(corpora, "ROOT", tmp_path)
    monkeypatch.setattr(rooms, "get_corpora", lambda *_: None)
    few = demo_clips[::2]
    monkeypatch.setattr(rooms, "find_clips", lambda _: (few, None))
    short = {name: replace(step, epochs=(1, 0)) for name, step in staircase().items()}
    monkeypatch.setattr(rooms, "staircase", lambda: short)
    for steps in (["whole"], ["article"], ["article"]):  # the last time it is read from disk
        study_staircase("demo", steps=steps)
    runs = tmp_path / "models" / "demo" / "staircase"
    assert len([*runs.glob("whole-*")]) == 1
    other = few.assign(md5=few.md5[::-1].to_numpy())  # other recordings, same names
    monkeypatch.setattr(rooms, "find_clips", lambda _: (other, None))
    study_staircase("demo", steps=["whole"])
    assert len([*runs.glob("whole-*")]) == 2
    table = pd.read_csv(tmp_path / "models" / "demo" / "results" / "staircase.csv")
    columns = ["step", "change", "picture_px", "epochs", "seed", "minutes"]
    assert list(table) == [*columns, "corpus", "accuracy", "uar"]
    runs = table[table.corpus == "all"]
    assert list(zip(runs.step, runs.picture_px, runs.epochs, strict=True)) == [
        ("article", 144, 1),
        ("article", 288, 2),
        ("article", 288, 2),
        ("whole", 144, 1),
    ]
    assert table.accuracy.between(0, 100).all()
    assert [change.endswith("drawn again") for change in runs.change] == [False, False, True, False]
