"""The chapters as they are committed: what their cells say, and what these do when they run."""

from functools import cache
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import torch

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
CHAPTERS = {path.name[:2]: path for path in NOTEBOOKS if path.name[0] != "A"}


@cache
def read(path):
    """A notebook; nobody changes it."""
    return nbformat.read(path, as_version=4)


def outputs(notebook):
    """What the cells of a notebook show."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def code_of(number):
    """The source of each code cell of a chapter."""
    return [cell.source for cell in read(CHAPTERS[number]).cells if cell.cell_type == "code"]


def prose_of(path):
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def run_cells(number, *texts, change=str, **names):
    """Run the chapter's only code cell with each text, one after the other, its source changed by
    `change`; returns the names that it knows afterwards."""
    names |= {"np": np, "pd": pd, "torch": torch}
    for text in texts:
        (source,) = (source for source in code_of(number) if text in source)
        exec(change(source), names)
    return names
