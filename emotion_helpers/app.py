"""App: speak or drop a file in the browser, and see the answer, how sure it is, and what it hangs on."""
import base64
import html
import io
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: nothing leaves this machine
RECORDINGS = tempfile.TemporaryDirectory(prefix="emotions-")  # for this run alone: it goes when the program ends
os.environ["GRADIO_TEMP_DIR"] = RECORDINGS.name
import gradio as gr
import matplotlib.pyplot as plt
import torch

from .clips import EMOTIONS, ClipError, read_clip
from .experiments import train_final
from .explanation import activations
from .neighbours import Neighbours, clip_file, nearest, read_neighbours
from .plots import show_map
from .prediction import Answer, clearest_window, final_model, plot_timeline, predict
from .training import load_model

LONGEST = 600  # s
BIGGEST = "120mb"  # ten minutes of 48 kHz in stereo
WORTH = ("The network learnt from actors who were asked to act an emotion. On voices it never heard it is right for about seven clips in "
         "ten; it hears how you sound, not how you feel.")
READABLE = "#time, #duration, .time, .duration, .playback { color: var(--body-text-color) !important }"  # gradio's light grey is not
DRAWING = threading.Lock()  # pyplot is one for all users


def as_html(figure, alt: str) -> str:
    """A figure as an image inside the page, with words for those who do not see it."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    plt.close(figure)
    return f'<img alt="{html.escape(alt)}" style="width:100%" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def in_words(answer: Answer) -> str:
    """One sentence: the emotion and how sure, or why there is none."""
    if answer.emotion:
        return f"{answer.emotion}, with {100 * answer.probabilities[answer.emotion]:.0f} %"
    return f"No answer: {answer.reason}"


def most_like(picture, emotion: str, neighbours: Neighbours | None, model: torch.nn.Module, settings: dict) -> gr.Audio:
    """A player with the training clip of `emotion` that is heard as most like a picture; hidden if there is none to compare with."""
    if not (neighbours and emotion in set(neighbours[0].emotion)):
        return gr.Audio(visible=False)
    clip, likeness = nearest(picture, emotion, neighbours, model, settings)
    said, rate = f"The most similar training clip of {emotion}: {clip}, likeness {likeness:.2f}", settings["spectrogram"]["sample_rate"]
    try:
        samples = read_clip(clip_file(clip, settings.get("corpus", "demo")), rate)
    except (ClipError, OSError) as error:
        return gr.Audio(None, label=f"{said}; {error}", visible=True)
    return gr.Audio((rate, (32767 * samples.clip(-1, 1)).astype("int16")), label=said, visible=True)


def ask(path: str | None, intended: str | None, model: torch.nn.Module, settings: dict, neighbours: Neighbours | None = None) -> Iterator[tuple]:
    """What the page shows for a recording: a sentence, the probabilities, the timeline and the activation map (as HTML), and players
    with the most similar training clips of the emotion that comes first and of the `intended` one.

    The first two come at once, the rest when it is done.
    """
    nothing = ("", "", gr.Audio(visible=False), gr.Audio(visible=False))
    if not path:
        yield "Record something or drop a sound file.", None, *nothing
        return
    try:
        answer = predict(path, model, settings, longest=LONGEST)
    except (ClipError, OSError) as error:
        yield f"This cannot be answered: {str(error).removeprefix(path + ': ')}.", None, *nothing
        return
    said, sure = in_words(answer), answer.probabilities or None
    if intended and answer.emotion:
        said += f". You meant {intended}" + ("." if intended == answer.emotion else f", which it gives {100 * sure[intended]:.0f} %.")
    yield said, sure, *nothing
    if sure:
        first = max(sure, key=sure.get)
        picture, pictures = clearest_window(path, first, answer, settings)
        with DRAWING:
            over_time = as_html(plot_timeline(answer, settings), f"Waveform, spectrogram and probabilities over {answer.seconds:.1f} seconds. {said}")
            figure = plt.figure(figsize=(10, 3))
            show_map(picture, activations(picture, model, settings, first), settings=pictures).set_title(f"orange: speaks for {first}; purple: against it")
            seen = as_html(figure, f"Spectrogram with the activation map for {first} over it")
        yield said, sure, over_time, seen, *(most_like(picture, emotion, neighbours, model, settings) for emotion in (first, "" if intended == first else intended))


def build(model: torch.nn.Module, settings: dict, neighbours: Neighbours | None = None) -> gr.Blocks:
    """The page. Recordings stay in a folder of this run's and are deleted after ten minutes, and when the app stops."""
    with gr.Blocks(title="Emotions in a voice", analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.Markdown("# Emotions in a voice\nSpeak a sentence, or drop a sound file. Nothing leaves this computer.")
        if settings.get("corpus") == "demo":
            gr.Markdown("**This network has heard synthetic demo voices only: its answers about people mean nothing.** `python -m emotion_helpers train` trains one on people.")
        sound = gr.Audio(sources=["microphone", "upload"], type="filepath", label=f"Your voice (up to {LONGEST // 60} minutes)", elem_id="voice", buttons=[])
        intended = gr.Dropdown([("does not matter", ""), *EMOTIONS], value="", label="Which emotion did you mean? (it changes no answer)", elem_id="intended")
        said = gr.Textbox(label="The network says", interactive=False, elem_id="said")
        sure = gr.Label(label="How probable is each emotion?", show_heading=False, num_top_classes=len(EMOTIONS), elem_id="probabilities")
        timeline, seen = gr.HTML(label="Over time"), gr.HTML(label="What it hangs on")
        players = [gr.Audio(visible=False, interactive=False, buttons=[], elem_id=name) for name in ("like-first", "like-intended")]
        if settings.get("corpus") != "demo":
            gr.Markdown(WORTH)
        gr.on([sound.change, intended.change], partial(ask, model=model, settings=settings, neighbours=neighbours), [sound, intended],
              [said, sure, timeline, seen, *players], concurrency_limit=2, api_name="ask")
    return page.queue(max_size=32)


def launch(page: gr.Blocks, port: int | None = None, block: bool = False):
    """Serve a page on 127.0.0.1, at `port` or the first free one from 7860 on; returns the page and what gradio says about where it is."""
    plain = gr.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"])  # its own fonts come from elsewhere
    return page, page.launch(server_name="127.0.0.1", server_port=port, max_file_size=BIGGEST, theme=plain, css=READABLE, ssr_mode=False, share=False, prevent_thread_lock=not block,
                             footer_links=[], show_error=False, quiet=not block)


def serve(port: int | None = None, block: bool = True):
    """Serve the page as `launch` does, until it is stopped; without a trained network one of the demo voices is trained first."""
    for name in ("SIGTERM", "SIGHUP") if block else ():  # a shutdown, a closed terminal (not on Windows): an orderly end, or the recordings would stay
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: sys.exit())
    try:
        folder = final_model()
    except FileNotFoundError as error:
        print(f"{error}\nTraining on the demo voices now.")
        folder = train_final("demo")
    return launch(build(*load_model(folder), read_neighbours(folder)), port, block)


# ---- sentences of your own, for `adaptation`


def keep(path: str | None, emotion: str, folder: Path) -> tuple[None, str]:
    """Copy a recording into `folder` as <emotion>-<number>.wav; clears the recorder and says what is there."""
    if path:
        shutil.copy(path, next(file for n in count(1) if not (file := folder / f"{emotion}-{n}.wav").exists()))
    return None, "Recorded: " + ", ".join(f"{e} {len(list(folder.glob(f'{e}-*.wav')))}" for e in EMOTIONS) + f" (in {folder})"


def recorder(folder: Path):
    """Serve a page that records sentences whose emotion the speaker names into `folder`, and returns what `launch` does."""
    folder.mkdir(parents=True, exist_ok=True)
    with gr.Blocks(title="Record your sentences", analytics_enabled=False, delete_cache=(60, 600)) as page:
        emotion = gr.Dropdown(EMOTIONS, value=EMOTIONS[0], label="Speak this emotion", elem_id="emotion")
        sound = gr.Audio(sources=["microphone"], type="filepath", format="wav", label="One sentence", elem_id="voice", buttons=[])
        kept = gr.Textbox(keep(None, "", folder)[1], label="So far", interactive=False, elem_id="kept")
        sound.stop_recording(partial(keep, folder=folder), [sound, emotion], [sound, kept])
    return launch(page)
