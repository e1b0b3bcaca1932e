"""For the notebooks: how each begins, how a clip is played, and how all of them are run."""

import re
import sys
from io import BytesIO
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Audio, Markdown, display
from jupyter_client import AsyncKernelManager, kernelspec
from PIL import Image

from . import EmotionHelpersError, corpora, write_text
from .audio import read_recording

SYNTHETIC = """> **Synthetic demo voices.** Nobody speaks in these clips: a program made them.
Every figure and number below says that the code works, and nothing about people."""
NO_SOUND = "(run this cell to hear the clip)"
INJECTED = "injected-parameters"  # papermill's tag
RATE = 24_000  # Hz, of players
# What the demo voices need: they are few, and learnt from random weights.
DEMO = {
    "00": {"EPOCHS": 1},
    "04": {"EPOCHS_144": 3, "EPOCHS_288": 1, "BATCH_SIZE": 8},
    "06": {"EPOCHS": 2, "BATCH_SIZE": 16, "LR": [2e-3, 2e-3]},
    "07": {"N_CLIPS": 12},
    "08": {"STEPS": 2, "BATCH_SIZE": 8},
    "10": {"N_CLIPS": 96, "COPIES": [1, 5, 25]},
}
DEMO["04"] |= {"LR_144": [2e-3, 2e-3], "LR_288": [3e-5, 3e-5]}


def begin(corpus: str) -> None:
    """First call of a notebook: device, a warning where voices are synthetic, figures in one style:
    charts as SVG, sharp at any size, those with pictures as JPEG. Your own format comes beside."""
    from IPython import get_ipython
    from IPython.core.pylabtools import print_figure
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    from .models import describe_device  # not above: to run the notebooks needs no torch
    from .plots import set_style

    def as_svg_or_jpeg(figure):  # as SVG or PNG, spectrograms would make notebooks of megabytes
        sizes = [max(image.get_size()) for ax in figure.axes for image in ax.images]
        meshes = any(isinstance(part, QuadMesh) for ax in figure.axes for part in ax.collections)
        if not meshes and max(sizes, default=0) <= 16:
            return {"image/svg+xml": print_figure(figure, "svg") or ""}
        data = print_figure(figure, "jpeg", pil_kwargs={"quality": 80})
        width, height = Image.open(BytesIO(data)).size
        return {"image/jpeg": data}, {"image/jpeg": {"width": width // 2, "height": height // 2}}

    set_style()
    set_matplotlib_formats()  # none beside ours
    get_ipython().display_formatter.mimebundle_formatter.for_type(Figure, as_svg_or_jpeg)
    print(f"Device: {describe_device()}")
    if corpus == "demo":
        display(Markdown(SYNTHETIC))


def play(path: str | Path, note: str = "") -> None:
    """Show a player for one clip (of a long one: its first minute) after a line of text."""
    player = Audio(read_recording(path, RATE).samples[: 60 * RATE], rate=RATE)
    display(HTML(f"<div>{note} {player._repr_html_()}</div>"))


def needs(path: str | Path, notebook: str) -> Path:
    """`path` if it exists; otherwise an error that names the notebook to run first."""
    if Path(path).exists():
        return Path(path)
    raise EmotionHelpersError(f"{path} is missing: run chapter {notebook} (same CORPUS, settings)")


class ThisPython(AsyncKernelManager):
    """Starts kernels of the Python that runs this, whichever is installed as "python3"."""

    @property
    def kernel_spec(self):
        launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return kernelspec.KernelSpec(argv=[*launch, "--IPKernelApp.log_level=CRITICAL"])


def run_notebook(path: Path, output: Path, corpus: str, **parameters):
    """Run a notebook in a new kernel with these parameters; write and return it with its outputs.
    Raises `EmotionHelpersError` with the error of the cell that fails, and then writes nothing."""
    import nbformat  # not above: where cells run (Colab) these need not be installed
    import papermill
    from nbclient.exceptions import DeadKernelError

    if corpus != "real":  # which is what the notebooks say themselves
        parameters = {"CORPUS": corpus, **DEMO.get(path.name[:2], {}), **parameters}
    options = {"kernel_name": "python3", "language": "python", "kernel_manager_class": ThisPython}
    options |= {"cwd": path.parent, "progress_bar": {"desc": path.stem}, "coalesce_streams": True}
    options |= {"iopub_timeout": 60, "start_timeout": 600}  # seconds: machines may be busy
    try:
        notebook = nbformat.read(path, as_version=4)
        notebook = papermill.execute_notebook(notebook, None, parameters, **options)
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        reason = f"{error.ename}: {error.evalue}" if hasattr(error, "ename") else error
        again = "What is finished is kept; run the same command again."
        raise EmotionHelpersError(f"{path.name} stopped: {reason}\n{again}") from error
    for part in (notebook, *notebook.cells):
        del part.metadata["papermill"]  # times, and the notebook once more
    write_text(output, nbformat.writes(notebook))
    return notebook


def run_tutorial(corpus: str = "demo", folder: Path | None = None, in_place: bool = False) -> None:
    """Run all notebooks in order; leave executed copies and a page in notebooks/executed/<corpus>.
    `in_place` writes the outputs into the notebooks too, but no sound: it may not be passed on."""
    import nbformat
    from nbconvert import HTMLExporter

    folder = Path(folder or corpora.ROOT / "notebooks")
    paths = sorted([*folder.glob("[0-9][0-9]-*.ipynb"), *folder.glob("A-*.ipynb")])
    if not paths:
        raise EmotionHelpersError(f"no notebooks in {folder}: run this in a clone of the project")
    executed = folder / "executed" / corpus
    executed.mkdir(parents=True, exist_ok=True)
    together = nbformat.v4.new_notebook(metadata={"title": f"Emotions in a voice ({corpus})"})
    for path in paths:
        notebook = run_notebook(path, executed / path.name, corpus)
        for number, cell in enumerate(notebook.cells):  # ids of cells are unique in a notebook only
            together.cells.append(nbformat.from_dict(cell | {"id": f"{path.stem[:2]}-{number}"}))
        if in_place:
            notebook.cells = [c for c in notebook.cells if INJECTED not in c.metadata["tags"]]
            text = nbformat.writes(notebook)
            write_text(path, re.sub("<audio.*?</audio>", NO_SOUND, text, flags=re.DOTALL))
    page = executed / "tutorial.html"
    write_text(page, HTMLExporter().from_notebook_node(together)[0])
    print(f"\n{len(paths)} notebooks have run. Open {page}")
    results = pd.read_csv(corpora.results_folder(corpus) / "tutorial.csv")
    for row in results.query("run == 'ours' and corpus == 'all'").itertuples():
        print(f"Accuracy at {row.picture_px} px: {row.accuracy:.1f} % of {row.clips} clips")
    if corpus == "demo":
        print("Synthetic voices: this says that it works, no more. Now: make tutorial CORPUS=real")
