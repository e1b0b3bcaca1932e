"""The project as a whole: one list of versions for both roads, arrows one way, notebooks fit to publish."""
import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from nbclient import NotebookClient
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import emotion_helpers
from emotion_helpers.experiments import results_of

ROOT = Path(__file__).resolve().parent.parent
MODULES = ["device", "clips", "demo", "corpora", "pictures", "splits", "training", "sturdiness", "evaluation", "plots", "recordings", "prediction", "neighbours", "experiments", "explanation", "adaptation", "robustness", "app", "notebooks", "__main__"]  # the steps
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


# ---- versions


def pins():
    """Every line of requirements.txt that is not a comment."""
    return [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]


def environment():
    """environment.yml: its conda packages, its pip lines."""
    *conda, by_pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    return conda, by_pip["pip"]


def closure(names):
    """The packages `names` and all that these need here, by what the installed ones say of themselves."""
    todo, seen = [Requirement(name) for name in names], set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                needed = [Requirement(line) for line in requires(name) or []]
                todo += [r for r in needed if r.marker is None and not extra or r.marker and r.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def test_every_package_is_pinned_to_one_version_once():
    names = [canonicalize_name(pin.name) for pin in pins()]
    assert len(names) == len(set(names)) > 100
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pins())


def test_environment_yml_takes_its_versions_from_requirements_txt():
    _, by_pip = environment()
    assert by_pip[0] == "-c requirements.txt"
    names = [Requirement(line) for line in by_pip[1:]]
    assert not any(str(name.specifier) for name in names)  # no second place for versions
    assert {canonicalize_name(name.name) for name in names} <= {canonicalize_name(pin.name) for pin in pins()}


def test_both_roads_install_the_same_packages():
    _, by_pip = environment()
    here = {canonicalize_name(pin.name) for pin in pins() if pin.marker is None or pin.marker.evaluate()}
    assert closure(by_pip[1:]) == here


def test_what_is_installed_here_is_what_is_pinned():
    here = [pin for pin in pins() if pin.marker is None or pin.marker.evaluate()]
    assert {pin.name: version(pin.name).split("+")[0] for pin in here} == {pin.name: str(pin.specifier)[2:] for pin in here}


def test_the_python_of_environment_yml_is_one_that_the_package_allows():
    conda, _ = environment()
    wanted = next(line for line in conda if line.startswith("python="))
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"] == ">=3.11,<3.13"
    assert wanted.removeprefix("python=") in SpecifierSet(">=3.11,<3.13")


def test_every_package_in_environment_yml_has_its_reason():
    lines = [line for line in (ROOT / "environment.yml").read_text().splitlines() if re.match(r" +- (?!pip:)", line)]
    assert len(lines) > 20 and all(re.search(r"  # \S", line) for line in lines)


@pytest.mark.parametrize("name", ["requirements.txt", "environment.yml", "Makefile", "pyproject.toml"])
def test_no_file_names_a_registry(name):
    assert not re.search(r"https?:|--(extra-)?index-url|--find-links", (ROOT / name).read_text())


# ---- the package


def test_every_module_uses_only_earlier_ones():
    assert {path.stem for path in (ROOT / "emotion_helpers").glob("*.py")} == {*MODULES, "__init__"}
    assert re.findall(r"`(\w+)`", emotion_helpers.__doc__)[:len(MODULES) - 1] == MODULES[:-1]  # what the package says of itself
    for i, module in enumerate(MODULES):
        tree = ast.parse((ROOT / f"emotion_helpers/{module}.py").read_text())
        used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1}
        assert used <= set(MODULES[:i]), module


def test_the_steps_before_training_load_no_torch():
    code = ("import sys, emotion_helpers, emotion_helpers.clips, emotion_helpers.demo, emotion_helpers.corpora, emotion_helpers.pictures;"
            "print(*sorted({'torch', 'torchvision', 'fastai'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "\n"


# ---- the notebooks as they are committed


def read(path):
    return nbformat.read(path, as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook):
    """All that the outputs say in words."""
    said = [output.get("text", "") for output in outputs(notebook)]
    said += [str(content) for output in outputs(notebook) for kind, content in output.get("data", {}).items() if not kind.startswith("image/")]
    return "\n".join(said)


def test_there_are_eight_notebooks():
    assert [path.name[:3] for path in NOTEBOOKS] == ["01-", "02-", "03-", "04-", "05-", "06-", "07-", "08-"]


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
def test_a_notebook_is_valid_and_below_a_megabyte(path):
    nbformat.validate(read(path))
    assert path.stat().st_size < 1_000_000


@each_notebook
def test_a_notebook_has_one_parameters_cell_set_to_the_real_corpora(path):
    cells = [cell for cell in read(path).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1 and re.search('^CORPUS = "real"', cells[0].source, re.MULTILINE)


@each_notebook
def test_a_notebook_was_run_from_top_to_bottom_without_an_error_or_a_warning(path):
    notebook = read(path)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert not any(output.output_type == "error" for output in outputs(notebook))
    assert "Warning" not in printed(notebook) and "Traceback" not in printed(notebook)


@each_notebook
def test_a_notebooks_code_cells_are_short(path):
    lines = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in read(path).cells if cell.cell_type == "code"]
    assert max(lines) <= 20


@each_notebook
def test_a_notebook_holds_no_sound(path):
    text = path.read_text()
    assert "data:audio" not in text and "<audio" not in text
    assert not any(kind.startswith("audio/") for output in outputs(read(path)) for kind in output.get("data", {}))


@each_notebook
def test_a_notebook_names_no_machines_folders(path):
    text = "\n".join([printed(read(path)), *(cell.source for cell in read(path).cells)])
    assert not re.search(r"(?<![\w.])/(work|root|home|Users|tmp|usr|opt|mnt)/|site-packages|[A-Z]:\\", text)


# ---- the figures


def test_readme_quotes_the_results_that_notebook_04_wrote():
    results = pd.read_csv(ROOT / "notebooks/results/tutorial.csv")
    assert list(results) == ["run", "picture_px", "corpus", "clips", "accuracy", "uar", "epochs"]
    wide = results.pivot(index=["run", "picture_px", "epochs"], columns="corpus", values="accuracy")
    assert len(wide) == 5 and not wide.isna().any(axis=None)
    for (run, px, epochs), row in wide.iterrows():
        assert f"| {run} | {px} | {epochs} | {row['all']:.1f} | {row.ravdess:.1f} | {row.tess:.1f} |" in (ROOT / "README.md").read_text()


def test_readme_quotes_what_was_measured_away_from_the_studio():
    table = pd.read_csv(ROOT / "notebooks/results/robustness.csv").pivot(index="condition", columns="recipe", values="accuracy")
    readme = (ROOT / "README.md").read_text()
    quoted = [name for name in table.index if f"| {name} |" in readme]
    assert len(quoted) >= 8 and all(f"| {name} | {table.best[name]:.1f} | {table.sturdy[name]:.1f} |" in readme for name in quoted)
    best, sturdy = (pd.read_csv(results_of(recipe, "real") / "runs.csv").query("split == 'emobox' and seed == 1").groupby("fold").accuracy.mean().mean() for recipe in ("best", "sturdy"))
    assert f"{sturdy:.1f} % with `sturdy` and {best:.1f} % with `best`" in readme


def test_readme_quotes_the_strangers_of_the_tables():
    runs = pd.read_csv(ROOT / "notebooks/results/runs.csv")
    for split, part in runs.groupby("split"):
        folds = part.groupby("fold")[["accuracy", "uar"]].mean()
        figures = f"{folds.accuracy.mean():.1f} | {folds.uar.mean():.1f} | {folds.accuracy.min():.1f} to {folds.accuracy.max():.1f}"
        assert f"| {split} | {len(folds)} | {part.seed.nunique()} | {figures} |" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("recipe", ["best", "sturdy"])
def test_every_run_in_the_tables_has_an_answer_for_each_of_its_clips_and_the_accuracy_that_it_says(recipe):
    runs, table = (pd.read_csv(results_of(recipe, "real") / name) for name in ("runs.csv", "predictions.csv.gz"))
    assert set(runs.recipe) == {recipe}
    emotions = [name for name in table if name not in ("split", "fold", "seed", "clip", "speaker", "truth")]
    right = 100 * (table[emotions].idxmax(axis=1) == table.truth)
    measured = right.groupby([table.split, table.fold, table.seed]).agg(["size", "mean"])
    said = runs.set_index(["split", "fold", "seed"])
    assert list(measured.index) == list(said.index) and list(measured["size"]) == list(said.clips)
    assert measured["mean"].to_numpy() == pytest.approx(said.accuracy.to_numpy(), abs=1e-3)


def test_the_tables_reproduce_every_number_printed_in_notebook_06():
    committed, fresh = read(NOTEBOOKS[5]), read(NOTEBOOKS[5])
    for notebook in (committed, fresh):  # without the cell that plays clips: they are not in the repository
        notebook.cells = [cell for cell in notebook.cells if "play(row.path" not in cell.source]
    NotebookClient(fresh, timeout=300, kernel_name="python3", coalesce_streams=True, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()

    def said(notebook):
        texts = [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs(notebook)]
        return [line for text in texts for line in text.splitlines() if not line.startswith("Device:")]

    assert said(fresh) == said(committed) and len(said(fresh)) > 50  # lines
