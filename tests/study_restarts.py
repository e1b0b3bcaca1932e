"""Every chapter, by a reader who restarts the kernel half-way, and by one who runs all cells twice.

    .venv/bin/python -W ignore tests/study_restarts.py [n_mels=128, top_db=60.0]

copies the package, the notebooks and some demo voices into a folder of its own, runs there the
first half of each chapter's cells, then, in a new kernel, all of them, and all of them again in the
same one. Prints a line per chapter; it ends with an error if a cell failed. With settings, each
chapter has them in its line `settings = SpectrogramSettings()`, as "Try it" suggests.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from chapters import NOTEBOOKS
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.parameterize import parameterize_notebook
from test_notebooks import QUICK, copy_project

from emotion_helpers.notebooks import DEMO, ThisPython


def run(notebook, cells: list[int], folder: Path) -> None:
    """Run cells, by number, in one new kernel."""
    resources = {"metadata": {"path": str(folder)}}
    options = {"timeout": 900, "kernel_manager_class": ThisPython, "resources": resources}
    client = NotebookClient(notebook, **options)
    with client.setup_kernel():
        for number in cells:
            client.execute_cell(notebook.cells[number], number)


def main() -> None:
    """Go through the chapters, in order."""
    failed, settings = 0, " ".join(sys.argv[1:])
    with TemporaryDirectory(prefix="twice and half-way, für ") as temporary:
        folder = Path(temporary)
        copy_project(folder)
        os.environ["PYTHONPATH"] = os.pathsep.join([temporary, os.environ.get("PYTHONPATH", "")])
        for path in NOTEBOOKS:
            notebook = nbformat.read(path, as_version=4)
            notebook.metadata["papermill"] = {}
            for cell in notebook.cells:
                cell.metadata.setdefault("tags", [])
                line = "settings = SpectrogramSettings("
                cell.source = cell.source.replace(f"{line})", f"{line}{settings})")
            number = path.name[:2]
            parameters = {"CORPUS": "demo", **DEMO.get(number, {}), **QUICK.get(number, {})}
            notebook = parameterize_notebook(notebook, parameters)
            code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
            try:
                run(notebook, code[: len(code) // 2], folder / "notebooks")
                run(notebook, code + code, folder / "notebooks")
                print(f"{path.name}: half, then all, then all again", flush=True)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                failed += 1
                print(f"{path.name}: {error}", flush=True)
    sys.exit(f"{failed} chapters failed" if failed else 0)


if __name__ == "__main__":
    main()
