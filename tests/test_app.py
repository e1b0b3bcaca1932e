"""App: what the page says, and the page itself in a real browser, with a file for a microphone."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from multiprocessing.pool import ThreadPool
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf
from matplotlib import pyplot as plt
from matplotlib.backend_bases import FigureCanvasBase
from sounds import encode, noise, voice

from emotion_helpers import corpora
from emotion_helpers.beyond import app
from emotion_helpers.beyond.prediction import predict
from emotion_helpers.clips import EMOTIONS
from emotion_helpers.models import save_model
from emotion_helpers.pictures import render

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ["--headless=new", "--no-sandbox", "--use-fake-ui-for-media-stream"]
FLAGS += ["--use-fake-device-for-media-stream"]
MICROPHONE = "--use-file-for-fake-audio-capture="  # and a sound file
SECONDS = re.compile("0:0[2-9]")  # what the page's clock says when two have been recorded
RATE = 48_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Three seconds with something like a voice in them."""
    path = tmp_path_factory.mktemp("clip") / "voice.wav"
    sf.write(path, np.concatenate([voice(2), np.zeros(RATE)]), RATE)
    return str(path)


@pytest.fixture(scope="module")
def trained(network, demo_clips, tmp_path_factory):
    """The network as if it had learnt from a dozen demo voices, which lie in a reader's folder.

    Their pictures are in the project.
    """
    clips = demo_clips[demo_clips.speaker != "Actor_01"].groupby("emotion").head(2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(corpora, "ROOT", tmp_path_factory.mktemp("project"))
        folder = corpora.pictures_folder("demo", network.settings.name)
        render(clips, folder, network.settings, n_jobs=1)
        clips_folder = str(Path(clips.path.iloc[0]).parent.parent)
        yield replace(network, info=network.info | {"clips_folder": clips_folder})


# ---- what it says


def test_an_answer_comes_at_once_and_its_drawings_after_it(clip, network):
    first, *_, last = app.ask(clip, "", network)
    assert first[:2] == last[:2] and first[2:4] == ("", "")
    assert first[0] == app.in_words(predict(clip, network))
    assert tuple(first[1]) == EMOTIONS
    for drawing in last[2:4]:  # with words for those who do not see it
        assert drawing.startswith('<img alt="') and "data:image/png;base64," in drawing


@pytest.mark.parametrize(
    "content, sentence",
    [(b"", "not a recording"), (b"Dear network" * 99, "not a recording"), (None, "Record some")],
    ids=["empty", "letter", "nothing"],
)
def test_a_bad_upload_is_answered_with_a_sentence(tmp_path, network, content, sentence):
    path = tmp_path / "bad.wav"
    path.write_bytes(content or b"")
    (answer,) = app.ask(None if content is None else str(path), "", network)
    assert sentence in answer[0] and str(tmp_path) not in answer[0]
    assert answer[1:4] == (None, "", "")


@pytest.mark.parametrize("error", [ZeroDivisionError, MemoryError, EOFError, KeyError])
def test_whatever_a_decoder_raises_is_answered_with_a_sentence(clip, network, monkeypatch, error):
    def fail(*arguments, **options):
        raise error("a bug")

    monkeypatch.setattr(av, "open", fail)
    (answer,) = app.ask(clip, "", network)
    assert answer[0].startswith("This cannot be answered: ") and "a bug" in answer[0]
    assert answer[1:4] == (None, "", "")


def test_a_recording_that_is_too_long_is_answered_with_the_limit(tmp_path, network):
    sf.write(tmp_path / "long.wav", np.zeros(601 * 8_000, np.int16), 8_000)
    ((answer, *_),) = app.ask(str(tmp_path / "long.wav"), "", network)
    assert "longer than 600 s, which is the limit" in answer


def test_silence_has_no_probabilities(tmp_path, network):
    sf.write(tmp_path / "nothing.wav", np.full(RATE, 0.02), RATE)
    (answer,) = app.ask(str(tmp_path / "nothing.wav"), "happy", network)
    assert answer[:4] == ("No answer: silence", None, "", "")


def test_what_was_left_out_is_told_with_the_answer(tmp_path, network):
    path = encode(tmp_path / "a.m4a", np.concatenate([voice(2), noise(1, peak=1e-3)]), RATE, "aac")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = b"\xff" * 300
    path.write_bytes(content)
    answer, *_ = next(app.ask(str(path), "", network))
    assert "; damaged packets were left out" in answer


def test_an_answer_that_is_not_sure_is_none_but_has_its_drawings(clip, network):
    unsure = replace(network, info=network.info | {"temperature": 50.0})
    *_, last = app.ask(clip, "sad", unsure)
    assert last[0].startswith("No answer: not sure: ") and "You meant" not in last[0]
    assert last[1] and all(last[2:4])


def test_what_was_meant_changes_no_answer_and_is_set_beside_it(clip, trained):
    """Beside it the nearest training clips can be heard, though they are not in the project."""
    prediction = predict(clip, trained)
    first = max(prediction.probabilities, key=prediction.probabilities.get)
    meant = next(emotion for emotion in ("sad", "angry") if emotion != first)
    *_, last = app.ask(clip, meant, trained)
    percent = 100 * prediction.probabilities[meant]
    words = f". You meant {meant}, which it gives {percent:.0f} %."
    assert last[0] == app.in_words(prediction) + words
    assert last[1] == prediction.probabilities
    for player, emotion in zip(last[4:], (first, meant), strict=True):
        assert player.visible and player.value
        assert f"training clip of {emotion}: 03-01-0{1 + EMOTIONS.index(emotion)}" in player.label
    *_, without = app.ask(clip, first, trained)
    assert without[0].endswith(f". You meant {first}.")
    assert without[4].visible and not without[5].visible  # the same clip need not be heard twice


def test_of_an_emotion_that_was_not_heard_there_is_no_player(clip, trained):
    *_, last = app.ask(clip, "disgust", trained)
    assert last[4].visible and not last[5].visible


def test_files_beside_the_clips_are_no_clips(clip, trained, tmp_path):
    """Such as those of a program that marks words, which have the clips' names."""
    folder = shutil.copytree(trained.info["clips_folder"], tmp_path / "clips")
    for path in list(folder.rglob("*.wav")):
        path.with_suffix(".TextGrid").write_text("words")
    moved = replace(trained, info=trained.info | {"clips_folder": folder})
    *_, last = app.ask(clip, "happy", moved)
    assert last[4].visible


def test_without_the_clips_there_is_no_player(clip, trained, tmp_path):
    moved = replace(trained, info=trained.info | {"clips_folder": str(tmp_path)})
    *_, last = app.ask(clip, "happy", moved)
    assert not last[4].visible and last[2] and last[3]


def test_without_the_pictures_there_is_no_player(clip, network, tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "ROOT", tmp_path)
    *_, last = app.ask(clip, "happy", replace(network, info=dict(network.info)))
    assert not last[4].visible and last[2] and last[3]


def test_two_can_ask_at_once_where_windows_belong_to_the_main_thread(clip, network, monkeypatch):
    """As on macOS, where the program would end if another thread made one."""

    def refuse(*arguments):
        raise RuntimeError("a window, and this is not the main thread")

    monkeypatch.setattr(FigureCanvasBase, "new_manager", refuse)
    with ThreadPool(2) as pool:
        answers = pool.map(lambda _: list(app.ask(clip, "", network))[-1], range(2))
    assert answers[0][:4] == answers[1][:4]
    assert answers[0][3].startswith("<img")
    assert plt.get_fignums() == []


# ---- the page


@pytest.fixture(scope="module")
def address(trained, tmp_path_factory):
    """Where the page is served, with a network that heard demo voices."""
    folder = tmp_path_factory.mktemp("final")
    save_model(folder, trained.model, trained.settings, trained.recipe, **trained.info)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(app, "final_model", lambda: folder)
        patched.setenv("GRADIO_TEMP_DIR", "")  # put back afterwards
        page, (_, url, _) = app.serve(block=False)
        yield url
        page.close()


@pytest.fixture(scope="module")
def browser(clip):
    """A headless Chromium whose microphone hears `clip`."""
    if not CHROMIUM:
        pytest.skip("no Chromium here: README says how to install one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, MICROPHONE + clip]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, address):
    """A function that opens the page anew, for another visitor."""
    pages = []

    def open_page(requests=None, **options):
        page = browser.new_page(viewport={"width": 1000, "height": 1500}, **options)
        page.set_default_timeout(120_000)
        pages.append(page)
        if requests is not None:
            page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_selector("#answer")
        # The page's parts come one after the other, these late.
        page.get_by_role("button", name="Record", exact=True).wait_for()
        page.locator("#intended input").wait_for()
        return page

    yield open_page
    for page in pages:
        page.close()


def upload(page, path):
    page.get_by_role("button", name="Upload file").first.click()
    page.locator("#voice input[type=file]").set_input_files(path)


def read_answer(page):
    """What the page says, once it says something."""
    page.wait_for_function("document.querySelector('#answer textarea, #answer input').value")
    return page.locator("#answer").locator("textarea, input").input_value()


@pytest.mark.slow
def test_a_file_is_answered_and_nothing_leaves_this_machine(open_page, address, clip, network):
    assert address.startswith("http://127.0.0.1:")
    requests = []
    page = open_page(requests)
    assert "synthetic demo voices only" in page.inner_text("body")
    assert "Corpus demo, pictures of 144 x 216 pixels" in page.inner_text("body")
    upload(page, clip)
    assert read_answer(page) == app.in_words(predict(clip, network))
    page.wait_for_selector("img[alt^='Waveform']")
    page.wait_for_selector("img[alt^='Spectrogram']")
    page.wait_for_selector("#nearest:has-text('The most similar training clip of')")
    assert requests
    assert all(url.startswith((address, "data:", "blob:")) for url in requests)
    assert all(emotion in page.inner_text("#probabilities") for emotion in EMOTIONS)


@pytest.mark.slow
def test_the_microphone_is_answered(open_page):
    page = open_page()
    page.get_by_role("button", name="Record", exact=True).click()
    page.locator("#voice").get_by_text(SECONDS).wait_for()
    page.get_by_role("button", name="Stop", exact=True).first.click()
    answer = read_answer(page)
    assert answer.split(",")[0] in EMOTIONS or answer.startswith("No answer: ")
    page.wait_for_selector("img[alt^='Waveform']")


@pytest.mark.slow
def test_what_was_meant_can_be_chosen_afterwards(open_page, clip):
    page = open_page()
    upload(page, clip)
    first = read_answer(page)
    page.locator("#intended input").click()
    page.get_by_role("option", name="sad").click()
    page.wait_for_function("document.querySelector('#answer textarea').value.includes('meant sad')")
    assert read_answer(page).startswith(first)
    page.wait_for_selector("#nearest-intended:has-text('training clip of sad')")


@pytest.mark.slow
def test_two_people_get_their_own_answers(open_page, clip, tmp_path):
    sf.write(tmp_path / "nothing.wav", np.zeros(RATE), RATE)
    pages = [open_page() for _ in range(2)]
    upload(pages[0], clip)
    upload(pages[1], tmp_path / "nothing.wav")
    assert read_answer(pages[1]) == "No answer: silence" != read_answer(pages[0])


@pytest.mark.slow
def test_a_letter_in_place_of_sound_is_answered_with_a_sentence(open_page, tmp_path):
    (tmp_path / "letter.wav").write_text("Dear network, how do I sound?")
    page = open_page()
    upload(page, tmp_path / "letter.wav")
    assert read_answer(page).startswith("This cannot be answered: not a recording")
    assert "Traceback" not in page.inner_text("body")


@pytest.mark.slow
def test_everything_can_be_reached_by_keyboard_and_has_a_name(open_page):
    page = open_page()
    names = page.evaluate("""
        [...document.querySelectorAll('#voice button, #voice input, #intended input')]
        .filter(e => e.offsetParent)
        .map(e => (e.ariaLabel || e.innerText || e.labels?.[0]?.innerText || '').trim())""")
    assert len(names) >= 4 and all(names)
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        name = "document.activeElement.ariaLabel || document.activeElement.innerText || ''"
        reached.add(page.evaluate(f"({name}).trim()"))
    assert {"Record", "Upload file"} <= reached
    assert any("emotion did you mean" in name for name in reached)


CONTRASTS = """() => {
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const below = element => {
        for (let e = element; e; e = e.parentElement) {
            const colour = numbers(getComputedStyle(e).backgroundColor);
            if (colour[3] !== 0) return colour;
        }
        return [255, 255, 255];
    };
    const ratio = element => {
        const pair = [light(numbers(getComputedStyle(element).color)), light(below(element))];
        return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    };
    const speaks = e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    return [...document.querySelectorAll('body *')]
        .filter(e => e.offsetParent && speaks(e) || e.matches('textarea'))
        .map(e => [ratio(e), (e.innerText || e.value || '').trim()]);
}"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(open_page, clip, scheme):
    """By at least 4.5 to 1, the Web Content Accessibility Guidelines' level AA."""
    page = open_page(color_scheme=scheme)
    upload(page, clip)
    page.wait_for_selector("#nearest:has-text('The most similar')")
    texts = [(round(ratio, 1), text) for ratio, text in page.evaluate(CONTRASTS) if text]
    assert len(texts) > 15
    assert not [(ratio, text) for ratio, text in texts if ratio < 4.5]


@pytest.mark.slow
def test_sentences_are_recorded_into_a_folder_by_emotion(browser, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    (tmp_path / "neutral-1.wav").write_bytes(b"before")
    page, (_, url, _) = app.record_sentences(tmp_path)
    tab = browser.new_page()
    tab.set_default_timeout(120_000)
    tab.goto(url)
    tab.get_by_role("button", name="Record", exact=True).click()
    tab.locator("#voice").get_by_text(SECONDS).wait_for()
    tab.get_by_role("button", name="Stop", exact=True).first.click()
    recorded = "document.querySelector('#recorded textarea').value"
    tab.wait_for_function(f"{recorded}.startsWith('Recorded: neutral 2, calm 0')")
    tab.close()
    page.close()
    assert sf.info(tmp_path / "neutral-2.wav").duration > 0.5
    assert (tmp_path / "neutral-1.wav").read_bytes() == b"before"


# ---- the server: proxies, and recordings that go when it ends

PROXIES = [
    {"http_proxy": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:1080"},
    {"all_proxy": "socks://127.0.0.1:7890"},
    {"NO_PROXY": "localhost,::1/128", "https_proxy": "http://127.0.0.1:9"},
    {"NO_PROXY": "*"},
]
SERVERS = """
import os, sys
from types import SimpleNamespace
import emotion_helpers.beyond.cross_validation, emotion_helpers.beyond.explanation
from emotion_helpers.models import HALF
import fastapi, httpx, huggingface_hub, uvicorn  # what takes long is imported once

for number, pairs in enumerate(sys.argv[1:]):
    if os.fork() == 0:
        os.environ.update(pair.split("=") for pair in pairs.split())
        from emotion_helpers.beyond import app
        app.final_model = lambda: ""
        app.load_model = lambda folder: SimpleNamespace(info={}, recipe=HALF)
        block = app.gr.Blocks.block_thread

        def tell_and_block(page):
            folder = app.recordings_folder().name
            open(folder + "/voice.wav", "w").close()
            print("served", number, os.getpid(), page.local_url, folder, flush=True)
            block(page)
            if number == 3:  # as at a second Ctrl-C, which does not wait for the threads
                raise KeyboardInterrupt

        app.gr.Blocks.block_thread = tell_and_block
        try:
            app.serve()
        except KeyboardInterrupt:
            os._exit(130)  # as `python -m emotion_helpers` ends then
        sys.exit()
for _ in sys.argv[1:]:
    os.wait()
    print("ended", flush=True)
"""


@pytest.fixture(scope="module")
def servers():
    """A process for each of PROXIES that serves the page: address, process id and folder."""
    if not hasattr(os, "fork"):
        pytest.skip("this machine cannot fork")
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    pairs = [" ".join(f"{k}={v}" for k, v in proxies.items()) for proxies in PROXIES]
    command = [sys.executable, "-c", SERVERS, *pairs]
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    lines = (line.split() for line in run.stdout)
    lines = (line for line in lines if line[:1] in (["served"], ["ended"]))
    rows = [line[1:] for line in islice(lines, len(PROXIES))]
    served = {int(row[0]): (row[2], int(row[1]), Path(row[3])) for row in rows if row}
    yield served
    for _, pid, folder in served.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
    run.communicate(timeout=20)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(PROXIES)), ids=lambda n: " ".join(PROXIES[n]))
def test_the_page_is_served_whatever_proxies_there_are(servers, number):
    """It is on this machine; gradio asks it whether it is there before it says where."""
    url, *_ = servers[number]
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=20) as page:
        assert "Emotions in a voice" in page.read().decode()


ENDS = [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM), signal.SIGINT]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(ENDS)), ids=lambda n: f"{n} {ENDS[n].name}")
def test_recordings_are_in_a_private_folder_that_goes_with_the_server(servers, number):
    _, pid, folder = servers[number]
    assert "emotions-" in folder.name and (folder / "voice.wav").exists()
    assert folder.stat().st_mode & 0o077 == 0  # nobody else may look
    os.kill(pid, ENDS[number])
    for _ in range(200):
        if not folder.exists():
            return
        time.sleep(0.1)
    pytest.fail(f"{folder} is still there")


def test_a_program_may_serve_again_after_a_page_was_stopped(monkeypatch):
    """Recordings went with the first page; the second has a folder of its own."""

    class Page:
        server_port, folders = 1, []

        def queue(self, **_):
            return self

        def launch(self, **_):
            self.folders.append(Path(os.environ["GRADIO_TEMP_DIR"]))

        def block_thread(self):
            assert (self.folders[-1] / "1.port").exists()

    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # to have the old one back
    app.recordings_folder.cache_clear()  # of other tests in this process
    for _ in range(2):
        app.launch(Page, block=True)
    assert len({*Page.folders}) == 2
    assert not any(folder.exists() for folder in Page.folders)
