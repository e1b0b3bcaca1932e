"""App: speak or drop a file in the browser, see the answer, how sure it is, what it hangs on."""

import base64
import html
import io
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from itertools import count
from pathlib import Path
from unittest.mock import patch

from matplotlib.figure import Figure

from .. import EmotionHelpersError, atomic_write
from ..audio import read_audio
from ..clips import EMOTIONS, clip_path, files_below
from ..models import Network, load_model
from .explanation import class_activation_map, nearest_clips, show_map
from .prediction import Prediction, clearest_picture, final_model, plot_timeline, predict

# The page's loopback address needs no proxy, and gradio fails over those that it does not know.
WITHOUT_PROXIES = patch.dict(os.environ, NO_PROXY="*", no_proxy="*")
with WITHOUT_PROXIES:
    import gradio as gr

MAX_SECONDS, MAX_BYTES = 600, "120mb"  # ten minutes of 48 kHz in stereo
RATE = 22_050  # Hz, of players
PRIVATE = {"analytics_enabled": False, "delete_cache": (60, 600)}  # every minute, ten minutes old
TITLE = """# Emotions in a voice
Speak a sentence, or drop a sound file. Nothing leaves this computer."""
DEMO = """**This network has heard synthetic demo voices only: its answers about people mean
nothing.** `python -m emotion_helpers train` trains one on people."""
WORTH = """The network learnt from actors who were asked to act an emotion. On voices it never heard
it is right for about two clips in three; it hears how you sound, not how you feel."""
recordings_folder = cache(partial(tempfile.TemporaryDirectory, prefix="emotions-"))  # a program's
# gradio's light grey is not readable.
CSS = "#time, #duration, .time, .duration, .playback { color: var(--body-text-color) !important }"


def to_html(figure: Figure, alt: str) -> str:
    """A figure as an image inside the page, with words for those who do not see it."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=144)
    source = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" style="width:100%" src="data:image/png;base64,{source}">'


def in_words(prediction: Prediction, intended: str | None = None) -> str:
    """The emotion and how sure, or why there is none; what was left out, and what was meant."""
    emotion, sure, why = prediction.emotion, prediction.probabilities, prediction.reason
    answer = f"{emotion}, with {100 * sure[emotion]:.0f} %" if emotion else f"No answer: {why}"
    answer = "; ".join([answer, *prediction.recording.notes])
    given = "" if intended == emotion else f", which it gives {100 * sure.get(intended, 0):.0f} %"
    return f"{answer}. You meant {intended}{given}." if emotion and intended else answer


def play_nearest(picture, emotion: str, network: Network) -> gr.Audio:
    """A player with the training clip of `emotion` that is most like a picture; hidden if there is
    none, or if what the network learnt from is not on this machine."""
    try:
        nearest = nearest_clips(picture, network, emotion).clip_id[0]
        files = filter(clip_path, files_below(network.info["clips_folder"]))
        samples = read_audio(next(file for file in files if file.stem == nearest), RATE)
    except (EmotionHelpersError, LookupError, OSError, StopIteration):
        return gr.Audio(visible=False)
    sound = (RATE, (32767 * samples.clip(-1, 1)).astype("int16"))
    label = f"The most similar training clip of {emotion}: {nearest}"
    return gr.Audio(sound, label=label, visible=True)


def ask(path: str | None, intended: str | None, network: Network) -> Iterator[tuple]:
    """What the page shows for a recording: a sentence and probabilities, at once; then a timeline
    and an activation map (HTML); then players with the nearest training clips of the first and of
    the `intended` emotion."""
    hidden, sure = [gr.Audio(visible=False)] * 2, {}
    try:
        prediction = predict(path or "", network, MAX_SECONDS)
        answer, sure = in_words(prediction, intended), prediction.probabilities
    except Exception as error:  # whatever is wrong with a file, the page says it
        answer = f"This cannot be answered: {str(error).removeprefix(f'{path}: ')}."
    answer = answer if path else "Record something or drop a sound file."
    yield answer, sure or None, "", "", *hidden
    if not sure:
        return
    first = max(sure, key=sure.get)
    picture = clearest_picture(prediction, first, network)
    alt = f"Waveform, spectrogram and probabilities over {prediction.recording.seconds:.1f} seconds"
    timeline = to_html(plot_timeline(prediction, network), f"{alt}. {answer}")
    figure = Figure(figsize=(10, 3), layout="constrained")
    values = class_activation_map(picture, network, first)
    ax = show_map(picture, values, figure.subplots(), network.settings)
    ax.set_title(f"orange: speaks for {first}; purple: against it")
    evidence = to_html(figure, f"Spectrogram with the activation map for {first} over it")
    shown = (answer, sure, timeline, evidence)
    yield *shown, *hidden
    second = "" if intended == first else intended  # the same clip need not be heard twice
    yield *shown, *(play_nearest(picture, e, network) if e else hidden[0] for e in (first, second))


def build_page(network: Network) -> gr.Blocks:
    """The page. Recordings are deleted within eleven minutes, and when the app stops."""
    corpus, recipe = network.info.get("corpus"), network.recipe
    size = f"pictures of {recipe.height} x {recipe.width} pixels, {recipe.epochs} epochs"
    warning = f"{DEMO if corpus == 'demo' else WORTH} (Corpus {corpus}, {size}.)"
    choices = [("any", ""), *EMOTIONS]
    meant = "Which emotion did you mean? (it changes no answer)"
    recorder = {"sources": ["microphone", "upload"], "type": "filepath", "elem_id": "voice"}
    bars = {"show_heading": False, "num_top_classes": 8, "elem_id": "probabilities"}
    with gr.Blocks(title="Emotions in a voice", **PRIVATE) as page:
        gr.Markdown(f"{TITLE}\n\n{warning}")
        with gr.Row():
            with gr.Column():
                voice = gr.Audio(label="Your voice (up to 10 minutes)", buttons=[], **recorder)
                intended = gr.Dropdown(choices, value="", label=meant, elem_id="intended")
                answer = gr.Textbox(label="The network says", interactive=False, elem_id="answer")
            outputs = [answer, gr.Label(label="How probable is each emotion?", **bars)]
        outputs += [gr.HTML(), gr.HTML()]
        with gr.Row():
            ids = ("nearest", "nearest-intended")
            outputs += [gr.Audio(visible=False, buttons=[], elem_id=name) for name in ids]
        inputs, options = [voice, intended], {"concurrency_limit": 2, "api_name": "ask"}
        changes = [component.change for component in inputs]
        gr.on(changes, partial(ask, network=network), inputs, outputs, **options)
    return page


def forget_recordings() -> None:
    """Delete what programs that were killed have left: nobody answers at any of their ports."""
    silent, alive = set(), set()
    for mark in Path(tempfile.gettempdir()).glob("emotions-*/*.port"):
        with socket.socket() as asking, suppress(ValueError, OverflowError):
            refused = asking.connect_ex(("127.0.0.1", int(mark.stem)))
            (silent if refused else alive).add(mark.parent)
    for folder in silent - alive:
        shutil.rmtree(folder, ignore_errors=True)


def launch(build, port: int | None = None, block: bool = False):
    """Serve the page that `build` makes on 127.0.0.1, at `port` or the first free one from 7860 on,
    with a folder for recordings, the same for all pages of a program, which goes when it ends, or
    when one that blocks is stopped.
    Returns the page and where it is; gradio shows it below a notebook's cell too."""
    forget_recordings()
    os.environ["GRADIO_TEMP_DIR"] = recordings = recordings_folder().name  # read at each upload
    page = build().queue(max_size=64)
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # on this machine
    look = {"theme": gr.themes.Default(primary_hue="blue", **fonts), "css": CSS, "footer_links": []}
    here = {"server_name": "127.0.0.1", "server_port": port, "share": False, "ssr_mode": False}
    quiet = {"quiet": not block, "show_error": False, "height": 900, "max_file_size": MAX_BYTES}
    with WITHOUT_PROXIES:
        address = page.launch(prevent_thread_lock=True, **here, **look, **quiet)
    Path(recordings, f"{page.server_port}.port").touch()
    if block:
        try:
            page.block_thread()
        finally:  # also at a second Ctrl-C
            recordings_folder().cleanup()
            recordings_folder.cache_clear()
    return page, address


def serve(port: int | None = None, block: bool = True):
    """Serve the page until it is stopped; if no network is there, train one on the demo voices."""
    for name in {"SIGTERM", "SIGHUP"} & {*dir(signal)} if block else ():  # or recordings would stay
        signal.signal(getattr(signal, name), lambda *_: sys.exit())
    try:
        folder = final_model()
    except EmotionHelpersError as error:
        from .cross_validation import train_final  # not above: fastai takes seconds

        print(f"{error}\nTraining on the demo voices now.")
        folder = train_final("demo")
    return launch(partial(build_page, load_model(folder)), port, block)


def record_sentences(folder: Path):
    """Serve a page that records sentences into `folder`, as <emotion>-<number>.wav, for
    `adapt_to_speaker`; returns what `launch` does."""
    folder.mkdir(parents=True, exist_ok=True)

    def keep(path, emotion):
        if path:
            files = (folder / f"{emotion}-{number}.wav" for number in count(1))
            with atomic_write(next(file for file in files if not file.exists())) as new:
                shutil.copy(path, new)
        counts = ", ".join(f"{e} {len(list(folder.glob(f'{e}-*.wav')))}" for e in EMOTIONS)
        return None, f"Recorded: {counts} (in {folder})"

    def build():
        with gr.Blocks(title="Record your sentences", **PRIVATE) as page:
            emotion = gr.Dropdown(EMOTIONS, value=EMOTIONS[0], label="Speak this emotion")
            microphone = {"sources": ["microphone"], "type": "filepath", "format": "wav"}
            voice = gr.Audio(label="One sentence", elem_id="voice", buttons=[], **microphone)
            recorded = gr.Textbox(keep(None, "")[1], label="So far", elem_id="recorded")
            voice.stop_recording(keep, [voice, emotion], [voice, recorded])
        return page

    return launch(build)
