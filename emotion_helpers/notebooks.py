"""For the notebooks: how each begins, how a clip is played, and how all of them are run in order."""
import os
import re
import time
from pathlib import Path

import nbformat
import pandas as pd
from IPython.display import HTML, Audio, Markdown, display
from matplotlib_inline.backend_inline import set_matplotlib_formats
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

from .corpora import ROOT, results_folder
from .recordings import mono_blocks, pieces

SYNTHETIC = ("**Synthetic demo voices.** Nobody speaks in these clips: a program made them. Every figure and number below says that "
             "the code works, and nothing about people.")
PLAYER = "(run this cell to hear the clip)"
NUMBERED = "[0-9][0-9]-*.ipynb"


def begin(corpus: str) -> None:
    """First call of every notebook: says which device was found, and warns where the voices are synthetic."""
    os.environ.setdefault("TORCH_HOME", str(ROOT / "models" / "torch"))  # ImageNet weights lie beside our own
    from .device import find_device  # not above: reading the notebooks' names needs no torch
    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 75})  # spectrograms as PNG make notebooks of megabytes
    print(f"Device: {find_device()[1]}")
    if corpus == "demo":
        display(Markdown(f"> {SYNTHETIC}"))


def play(path: str | Path, note: str = "") -> None:
    """Show a player for one clip (of a long recording: its first minute), with a line of text before it."""
    audio = Audio(next(pieces(mono_blocks(path, 24_000), [(0, 60 * 24_000)])), rate=24_000)
    display(HTML(f"<div>{note} {audio._repr_html_()}</div>"))


def needs(path: str | Path, notebook: str) -> Path:
    """`path` if it exists; otherwise FileNotFoundError that names the notebook to run first."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} is not there yet: run notebook {notebook} first, with the same CORPUS")
    return Path(path)


def run_notebook(path: Path, corpus: str, **parameters) -> nbformat.NotebookNode:
    """Run one notebook top to bottom in a fresh kernel, telling which cell it is in; returns it with its outputs.

    Its CORPUS is set to `corpus`, and other `parameters` after it: what a reader would type into the parameters cell.
    """
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cell = next(cell for cell in code if "parameters" in cell.metadata.get("tags", []))
    cell.source = re.sub(r'^CORPUS = "\w+"', f'CORPUS = "{corpus}"', cell.source, count=1, flags=re.MULTILINE)
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())

    def tell(cell, cell_index):
        if cell.cell_type == "code":
            first = cell.source.strip().split("\n")[0][:60]
            print(f"{time.strftime('%H:%M:%S')}  {path.stem}  cell {code.index(cell) + 1} of {len(code)}: {first}", flush=True)

    NotebookClient(notebook, timeout=None, kernel_name="python3", coalesce_streams=True, on_cell_start=tell,
                   extra_arguments=["--IPKernelApp.log_level=ERROR"],  # else a line about TCP for every notebook
                   resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


def without_players(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take the sound out of the outputs: the recordings may be heard by whoever downloads them, not redistributed."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "<audio" in (page := output.get("data", {}).get("text/html", "")):
                output.data = {"text/plain": re.sub(r"<audio.*</audio>|<[^>]*>", "", page, flags=re.DOTALL).strip() + f" {PLAYER}"}
    return notebook


def run_tutorial(corpus: str = "demo", folder: Path = ROOT / "notebooks", in_place: bool = False) -> None:
    """Run all numbered notebooks in order; leaves executed copies and one HTML page in notebooks/executed/<corpus>.

    `in_place` writes the outputs into the notebooks themselves too, without the players. Raises SystemExit with the
    error of the first cell that failed.
    """
    executed = folder / "executed" / corpus
    executed.mkdir(parents=True, exist_ok=True)
    began, together = time.time(), nbformat.v4.new_notebook()
    for path in sorted(folder.glob(NUMBERED)):
        try:
            notebook = run_notebook(path, corpus)
        except CellExecutionError as error:
            raise SystemExit(f"{path.name} stopped: {error.ename}: {error.evalue}\nWhat is finished is kept; run the same command again.") from None
        nbformat.write(notebook, executed / path.name)
        together.cells += notebook.cells
        if in_place:
            nbformat.write(without_players(notebook), path)
    page, _ = HTMLExporter().from_notebook_node(together, resources={"metadata": {"name": f"Emotions in a voice ({corpus})"}})
    (executed / "tutorial.html").write_text(page, encoding="utf-8")
    results = pd.read_csv(results_folder(corpus) / "tutorial.csv").query("run == 'ours' and corpus == 'all'")
    print(f"\n{len(list(executed.glob(NUMBERED)))} notebooks in {(time.time() - began) / 60:.1f} minutes. Open {executed / 'tutorial.html'}")
    for row in results.itertuples():
        print(f"Accuracy at {row.picture_px} px: {row.accuracy:.1f} % of {row.clips} validation clips"
              + (" (synthetic voices: this says that it works, no more)" if corpus == "demo" else ""))
    if corpus == "demo":
        print("On the real voices: make tutorial CORPUS=real (downloads RAVDESS and TESS, trains for hours on a laptop's CPU)")
