"""The notebooks, run as a reader runs them: in order, top to bottom, on the demo voices."""

import base64
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
import soundfile as sf
import torch
from chapters import NOTEBOOKS, code_of, outputs
from joblib import parallel_config
from PIL import Image

from emotion_helpers import EmotionHelpersError, corpora, demo, notebooks
from emotion_helpers.clips import find_clips
from emotion_helpers.models import load_model
from emotion_helpers.notebooks import DEMO, needs, play, run_notebook, run_tutorial
from emotion_helpers.splits import random_split

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "notebooks" / "results"  # of the real voices
# Which demo voices are enough: all of TESS; of the actors whom chapters name one clip per emotion,
# and what they ask about besides. Others cost time.
NAMED = "01|02|03|04|05|09|10|12|14|21|23"
KEPT = rf"TESS/.*|.*/03-01-(01-01|..-02)-..-01-({NAMED})\.wav"
KEPT += r"|.*/03-01-(05-01-..-01-(01|21)|08-01-..-01-21)\.wav"
QUICK = {
    "00": {"EPOCHS": 1},
    "04": {"EPOCHS_144": 1, "EPOCHS_288": 1, "BATCH_SIZE": 2},
    "06": {"EPOCHS": 1},
    "07": {"N_CLIPS": 3},
    "10": {"N_CLIPS": 48, "COPIES": [1, 5]},
}


# ---- all of them, on some of the demo voices


def copy_project(folder):
    """A copy of the package, the notebooks and some demo voices: nobody's pictures are touched.

    The package takes the folder that it lies in, beside a folder of notebooks, for the project.
    """
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "emotion_helpers", folder / "emotion_helpers", ignore=caches)
    shutil.copytree(TABLES, folder / "notebooks" / "results")
    for path in NOTEBOOKS:
        shutil.copy(path, folder / "notebooks")
    kept = [name for name in demo.demo_names() if re.fullmatch(KEPT, name)]
    with pytest.MonkeyPatch.context() as patched, parallel_config("threading"):
        patched.setattr(demo, "demo_names", lambda: kept)
        demo.make_demo(folder / "data" / "demo")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("my own project, für später")
    copy_project(folder)
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patched:  # for the kernels that the tests start
        patched.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        patched.setenv("OMP_NUM_THREADS", "1")  # the other tests run beside them
        yield folder


def run_in(project, name, **parameters):
    """Run a notebook of the project on the demo voices."""
    return run_notebook(project / "notebooks" / name, project / name, "demo", **parameters)


def tables_of(notebook):
    """What a notebook's cells show as text, but for figures."""
    texts = [output.get("data", {}).get("text/plain", "") for output in outputs(notebook)]
    return [text for text in texts if "object>" not in text and "<Figure" not in text]


TOO_EARLY = {"04": "03", "05": "04", "06": "03", "07": "06", "08": "06", "09": "06"}


@pytest.mark.parametrize("number, first", TOO_EARLY.items())
def test_a_chapter_that_is_run_too_early_says_which_one_to_run_first(
    project, monkeypatch, number, first
):
    """Its cells one by one, in this process, where nothing but the clips is there."""
    monkeypatch.setattr(corpora, "ROOT", project)
    monkeypatch.setattr(notebooks, "begin", print)  # no figures
    names, error = {}, pytest.raises(EmotionHelpersError, match=f"run chapter {first}")
    with error, plt.rc_context(), pd.option_context("display.float_format", None):
        for source in code_of(number)[1:]:  # after the one that installs what is missing
            exec(source.replace('CORPUS = "real"', 'CORPUS = "demo"'), names)


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_a_notebook_runs_top_to_bottom_on_the_demo_voices(project, name):
    notebook = run_in(project, name, **QUICK.get(name[:2], {}))
    words = [output.get("text", "") for output in outputs(notebook)]
    words += [str(o.get("data", {}).get("text/markdown", "")) for o in outputs(notebook)]
    assert any("Nobody speaks in these clips" in text for text in words)  # the banner
    assert not [text for text in words if "Warning" in text]
    nbformat.validate(notebook)
    if name[0] == "A":  # it reads the tables of the real voices: were they changed since it ran?
        printed = [tables_of(book) for book in (notebook, nbformat.read(TABLES.parent / name, 4))]
        assert printed[0] == printed[1] and len(printed[0]) >= 10


@pytest.mark.slow
def test_a_notebook_runs_again_in_a_new_kernel_and_from_another_folder(project, tmp_path):
    """Chapter 04, whose training is on disk already: it loads it and ends with the same network."""
    (path,) = (path for path in NOTEBOOKS if path.name.startswith("04"))
    before = load_model(project / "models" / "demo" / "tutorial").model.state_dict()
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"%cd {tmp_path}"))
    nbformat.write(notebook, project / "notebooks" / "04-again.ipynb")
    again = run_in(project, "04-again.ipynb", **QUICK["04"])
    (project / "notebooks" / "04-again.ipynb").unlink()
    text = " ".join(output.get("text", "") for output in outputs(again))
    assert text.count("1 of 1 epochs are done") == 3
    after = load_model(project / "models" / "demo" / "tutorial").model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_no_path_of_ours_takes_more_than_half_of_the_260_characters_of_windows(project):
    paths = [str(path.relative_to(project)) for path in project.rglob("*")]
    assert any(path.endswith("model.safetensors") for path in paths)  # the chapters have run
    assert max(map(len, paths)) < 130, max(paths, key=len)


@pytest.mark.slow
def test_what_the_notebooks_leave_behind(project):
    results = pd.read_csv(project / "models" / "demo" / "results" / "tutorial.csv")
    assert list(results) == ["run", "picture_px", "corpus", "clips", "accuracy", "uar"]
    runs = {("ours", 144), ("ours", 288), ("control", 144)}
    assert set(zip(results["run"], results["picture_px"], strict=True)) == runs
    assert set(results["corpus"]) == {"all", "ravdess", "tess"}
    network = load_model(project / "models" / "demo" / "tutorial")
    assert network.recipe.height == 288
    clips, _ = find_clips(project / "data" / "demo")
    assert network.info["valid"] == sorted(random_split(clips))  # whom chapter 05 asks
    pictures = project / "data" / "pictures"  # of chapters 03 and 00
    assert len([*(pictures / "demo").rglob("*.png")]) == 11 * 8 + 3 + 2 * 28
    assert len([*(pictures / "demo-ravdess").rglob("*.png")]) == 11 * 8 + 3
    for path in (project / "notebooks" / "results").iterdir():  # the real voices' stay
        assert path.read_bytes() == (TABLES / path.name).read_bytes()


# ---- how they are run, on notebooks of two cells


@pytest.fixture
def tutorial(tmp_path, monkeypatch):
    """A function that makes a project of one notebook, and the results of its chapter 4."""
    monkeypatch.setattr(corpora, "ROOT", tmp_path)

    def make(code, corpus="demo"):
        parameters = nbformat.v4.new_code_cell('CORPUS = "real"\nWORD = "spoken"')
        parameters.metadata["tags"] = ["parameters"]
        cells = [parameters, nbformat.v4.new_code_cell(code)]
        path = tmp_path / "notebooks" / "01-tiny.ipynb"
        path.parent.mkdir()
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        results = corpora.results_folder(corpus)
        results.mkdir(parents=True, exist_ok=True)
        header = "run,picture_px,corpus,clips,accuracy,uar"
        (results / "tutorial.csv").write_text(f"{header}\nours,288,all,50,87.5,80\n")
        return path

    return make


def text_of(notebook):
    return "".join(output.get("text", "") for output in outputs(notebook))


def test_a_run_leaves_a_page_and_says_where_it_is_and_what_was_reached(tutorial, capfd):
    path = tutorial("print(CORPUS.upper())")
    before = path.read_text()
    run_tutorial("demo", path.parent)
    printed, progress = capfd.readouterr()
    page = path.parent / "executed/demo/tutorial.html"
    assert "01-tiny" in progress
    assert str(page) in printed
    assert "288 px: 87.5 % of 50" in printed
    assert "CORPUS=real" in printed
    assert "DEMO" in page.read_text()
    assert "<title>Emotions in a voice (demo)</title>" in page.read_text()
    assert (page.parent / "01-tiny.ipynb").exists()
    assert path.read_text() == before  # the reader's notebook stays as it was


def test_the_page_joins_notebooks_whose_cells_have_the_same_ids(tutorial, capfd):
    path = tutorial("print(CORPUS)")
    shutil.copy(path, path.with_name("02-again.ipynb"))
    run_tutorial("demo", path.parent)
    assert "DuplicateCellId" not in capfd.readouterr().err


def test_parameters_are_set_after_the_notebooks_own(tutorial, tmp_path):
    path = tutorial("print(CORPUS, WORD)")
    assert text_of(run_notebook(path, tmp_path / "a.ipynb", "demo", WORD="sung")) == "demo sung\n"
    assert text_of(run_notebook(path, tmp_path / "a.ipynb", "real")) == "real spoken\n"
    assert text_of(nbformat.read(tmp_path / "a.ipynb", as_version=4)) == "real spoken\n"


FIGURES = """
import matplotlib.pyplot as plt
from emotion_helpers.notebooks import begin
begin(CORPUS)
for number in (8, 50):  # a table of numbers, a picture
    plt.figure(figsize=(4, 2))
    plt.imshow([[0] * number] * number)
    plt.show()
"""


@pytest.mark.slow
def test_charts_are_sharp_at_any_size_and_pictures_small_files_on_fine_screens(tutorial, tmp_path):
    notebook = run_notebook(tutorial(FIGURES), tmp_path / "a.ipynb", "real")
    chart, picture = (o for o in notebook.cells[1].outputs if o.output_type == "display_data")
    assert "image/svg+xml" in chart.data
    assert "image/jpeg" not in chart.data
    assert "image/svg+xml" not in picture.data
    pixels = Image.open(io.BytesIO(base64.b64decode(picture.data["image/jpeg"])))
    assert pixels.width == pytest.approx(2 * picture.metadata["image/jpeg"]["width"], abs=1)
    assert pixels.height == pytest.approx(2 * 144, rel=0.15)  # two inches, without margins


def test_what_the_demo_voices_need_are_parameters_of_their_chapters():
    for number, parameters in DEMO.items():
        path = next(path for path in NOTEBOOKS if path.name.startswith(number))
        cells = nbformat.read(path, as_version=4).cells
        cell = next(c for c in cells if "parameters" in c.metadata.get("tags", []))
        names = {}
        exec(cell.source, names)
        assert set(parameters) <= set(names)


@pytest.mark.parametrize(
    "code, reason",
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import os; os._exit(9)", "Kernel died"),  # as where memory runs out
    ],
)
def test_a_run_that_stops_says_where_and_why(tutorial, code, reason):
    path = tutorial(code)
    with pytest.raises(EmotionHelpersError, match=f"^01-tiny.ipynb stopped: {reason}") as error:
        run_tutorial("demo", path.parent)
    assert "run the same command again" in str(error.value)
    assert not list(path.parent.glob("executed/*/*"))


def test_outside_of_a_clone_it_says_where_notebooks_were_looked_for(tmp_path):
    with pytest.raises(EmotionHelpersError, match=r"no notebooks in .*clone"):
        run_tutorial("demo", tmp_path)
    assert not list(tmp_path.iterdir())


PLAYER = """
from IPython.display import Audio, HTML, display
print("before")
display(HTML(f"<div><b>sad</b>: {Audio([0, 1, 0], rate=8000)._repr_html_()}</div>"))
CORPUS
"""


@pytest.mark.parametrize("corpus", ["demo", "real"])
def test_in_place_writes_outputs_but_no_sound_and_no_cell_of_its_own(tutorial, corpus):
    path = tutorial(PLAYER, corpus)
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    run_tutorial(corpus, path.parent, in_place=True)
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.source for cell in notebook.cells] == sources
    stream, player, result = notebook.cells[1].outputs
    assert stream.text == "before\n"
    assert "<b>sad</b>" in player.data["text/html"]
    assert "run this cell to hear" in player.data["text/html"]
    assert result.data["text/plain"] == f"'{corpus}'"
    assert "audio" not in json.dumps(notebook.cells[1].outputs)
    assert str(path.parent) not in path.read_text()
    assert "<audio" in (path.parent / "executed" / corpus / "01-tiny.ipynb").read_text()


def test_notebooks_run_in_the_python_that_runs_the_command(tutorial, tmp_path, monkeypatch):
    kernel = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text('{"argv": ["false"], "display_name": "Other", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    path = tutorial("import sys; print(sys.executable)")
    assert text_of(run_notebook(path, tmp_path / "a.ipynb", "demo")) == f"{sys.executable}\n"


# ---- what their cells call


def test_what_is_missing_names_the_notebook_to_run_first(tmp_path):
    assert needs(str(tmp_path), "03") == tmp_path
    with pytest.raises(EmotionHelpersError, match=r"pictures.* run chapter 03 \(same CORPUS"):
        needs(tmp_path / "pictures", "03")


def test_a_player_holds_the_clip_and_of_a_long_recording_the_first_minute(
    tone, tmp_path, monkeypatch
):
    shown = []
    monkeypatch.setattr(notebooks, "display", shown.append)
    for seconds in (1, 70):
        play(tone(tmp_path / "a.wav", seconds=seconds), "a <b>tone</b>")
        html = shown.pop().data
        assert html.startswith("<div>a <b>tone</b>")
        encoded = re.search('base64,([^"]*)', html)[1]
        sound = sf.info(io.BytesIO(base64.b64decode(encoded)))
        assert sound.duration == pytest.approx(min(seconds, 60))
