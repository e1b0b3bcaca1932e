"""The notebooks, run as a reader runs them: in order, top to bottom, on the demo corpus, in a project of their own."""
import shutil

import nbformat
import pandas as pd
import pytest
from nbclient.exceptions import CellExecutionError

from emotion_helpers.corpora import ROOT
from emotion_helpers.notebooks import run_notebook, run_tutorial, without_players

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
FEWER = [f"Actor_{i:02}" for i in range(1, 25) if i not in (1, 2, 3, 4, 9, 10, 11, 12)]  # left out, to be quick
QUICK = {"04": dict(EPOCHS_144=1, EPOCHS_288=1, EPOCHS_ARTICLE=1)}  # `make tutorial` trains for longer


@pytest.fixture(scope="module")
def project(tmp_path_factory, demo_corpus):
    """A copy of the package, the notebooks and a third of the demo voices, so that nobody's pictures and models are touched."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "emotion_helpers", folder / "emotion_helpers", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "notebooks").mkdir()
    for path in NOTEBOOKS:
        shutil.copy(path, folder / "notebooks")
    shutil.copytree(demo_corpus, folder / "data" / "demo", ignore=lambda _, names: [n for n in names if n in FEWER])
    return folder


@pytest.mark.parametrize("number, first", [("04", "03"), ("05", "04")])
def test_a_notebook_run_too_early_says_which_one_to_run_first(project, number, first):
    path = next((project / "notebooks").glob(f"{number}-*.ipynb"))
    with pytest.raises(CellExecutionError, match=f"run notebook {first}"):
        run_notebook(path, "demo")


@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_notebook_runs_top_to_bottom_on_the_demo_corpus(project, name):
    notebook = run_notebook(project / "notebooks" / name, "demo", **QUICK.get(name[:2], {}))
    said = [str(output.get("text", "")) + str(output.get("data", {}).get("text/markdown", "")) for cell in notebook.cells
            for output in cell.get("outputs", [])]
    assert any("Nobody speaks in these clips" in text for text in said)  # the banner
    assert not [text for text in said if "Warning" in text]
    nbformat.validate(notebook)


def test_what_the_notebooks_leave_behind(project):
    results = pd.read_csv(project / "models" / "demo" / "results" / "tutorial.csv")
    assert list(results) == ["run", "picture_px", "corpus", "clips", "accuracy", "uar", "epochs"]
    assert set(zip(results.run, results.picture_px)) == {("ours", 144), ("ours", 288), ("control", 144), ("article", 144), ("article", 288)}
    assert set(results.corpus) == {"all", "ravdess", "tess"}
    for model in ("tutorial-144", "tutorial-288"):
        assert {f.name for f in (project / "models" / "demo" / model).iterdir()} == {"model.safetensors", "settings.json"}
    assert len(list((project / "data" / "pictures" / "demo").glob("*/*.png"))) == 8 * 15 + 2 * 7 * 4
    assert not (project / "notebooks" / "results").exists()  # the real results are not the demo's to write


def tiny_tutorial(folder, code):
    """One notebook of two cells in a project of its own, and the results that notebook 04 would have written."""
    cells = [nbformat.v4.new_code_cell('CORPUS = "real"', metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(code)]
    (folder / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebooks" / "01-tiny.ipynb")
    (folder / "models/demo/results").mkdir(parents=True)
    (folder / "models/demo/results/tutorial.csv").write_text("run,picture_px,corpus,clips,accuracy,uar,epochs\nours,288,all,50,87.5,80,2\n")
    return folder / "notebooks"


def test_a_run_leaves_a_page_and_says_where_it_is_and_what_was_reached(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("emotion_helpers.notebooks.ROOT", tmp_path)
    monkeypatch.setattr("emotion_helpers.corpora.ROOT", tmp_path)
    run_tutorial("demo", tiny_tutorial(tmp_path, "print(CORPUS.upper())"))
    said = capsys.readouterr().out
    page = tmp_path / "notebooks/executed/demo/tutorial.html"
    assert "01-tiny  cell 2 of 2" in said and str(page) in said and "288 px: 87.5 % of 50" in said and "CORPUS=real" in said
    assert "DEMO" in page.read_text() and (page.parent / "01-tiny.ipynb").exists()
    assert "DEMO" not in (tmp_path / "notebooks/01-tiny.ipynb").read_text()  # the reader's notebook stays as it was


def test_a_run_that_stops_says_where_and_why(tmp_path, monkeypatch):
    monkeypatch.setattr("emotion_helpers.notebooks.ROOT", tmp_path)
    with pytest.raises(SystemExit, match="01-tiny.ipynb stopped: ZeroDivisionError: division by zero"):
        run_tutorial("demo", tiny_tutorial(tmp_path, "1 / 0"))


def test_players_are_taken_out_and_the_rest_stays():
    html = '<div><b>sad</b>: <audio controls="controls"><source src="data:audio/wav;base64,UklGR" /></audio></div>'
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", {"text/html": html}),
                                              nbformat.v4.new_output("stream", text="kept")])
    outputs = without_players(nbformat.v4.new_notebook(cells=[cell])).cells[0].outputs
    assert "audio" not in str(outputs)
    assert "sad" in outputs[0].data["text/plain"] and "run this cell" in outputs[0].data["text/plain"]
    assert outputs[1].text == "kept"
