"""App: what the page says, and the page itself in a real browser, with a file for a microphone."""
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from emotion_helpers import app
from emotion_helpers.clips import EMOTIONS, find_clips, read_clip
from emotion_helpers.corpora import ROOT
from emotion_helpers.prediction import predict

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def clip(demo_corpus, tmp_path_factory):
    """Three seconds with a synthetic voice in them."""
    path = tmp_path_factory.mktemp("clip") / "voice.wav"
    samples = read_clip(find_clips(demo_corpus)[0].path.iloc[40], 48_000)
    sf.write(path, np.concatenate([samples, np.zeros(144_000)])[:144_000], 48_000)
    return str(path)


# ---- what it says


def test_an_answer_comes_at_once_and_its_drawings_after_it(clip, network):
    first, last = app.ask(clip, "", *network)
    assert first[:2] == last[:2] and first[2:4] == ("", "") and list(first[1]) == list(EMOTIONS)
    assert first[0] == app.in_words(predict(clip, *network))
    for drawing in last[2:4]:
        assert drawing.startswith('<img alt="') and "data:image/png;base64," in drawing  # words for those who do not see it


@pytest.mark.parametrize("content, said", [(b"", "not a recording"), (b"Dear network" * 99, "not a recording"), (None, "Record something")])
def test_a_bad_upload_is_answered_with_a_sentence(tmp_path, network, content, said):
    path = tmp_path / "bad.wav"
    path.write_bytes(content or b"")
    (answer,) = app.ask(None if content is None else str(path), "", *network)
    assert said in answer[0] and answer[1:4] == (None, "", "") and str(tmp_path) not in answer[0]


def test_a_recording_that_is_too_long_is_answered_with_the_limit(tmp_path, network):
    sf.write(tmp_path / "long.wav", np.zeros(601 * 8_000, np.int16), 8_000)
    ((said, *_),) = app.ask(str(tmp_path / "long.wav"), "", *network)
    assert "longer than 600 s, which is the limit" in said


def test_silence_has_no_probabilities(tmp_path, network):
    sf.write(tmp_path / "nothing.wav", np.zeros(48_000), 48_000)
    assert [answer[:4] for answer in app.ask(str(tmp_path / "nothing.wav"), "", *network)] == [("No answer: silence", None, "", "")]


def test_what_was_meant_changes_no_answer_and_is_set_beside_it(clip, network, demo_network, demo_corpus, monkeypatch):
    monkeypatch.setattr(app, "clip_file", lambda name, corpus: next(demo_corpus.rglob(f"{name}.wav")))
    neighbours = app.read_neighbours(demo_network)
    answer = predict(clip, *network)
    first = max(answer.probabilities, key=answer.probabilities.get)
    meant = next(emotion for emotion in ("sad", "angry") if emotion != first)
    *_, last = app.ask(clip, meant, *network, neighbours)
    assert last[0].startswith(app.in_words(answer)) and last[1] == answer.probabilities
    for player, emotion in zip(last[4:], (first, meant)):
        assert player.visible and f"training clip of {emotion}: 0" in player.label and player.value
    *_, without = app.ask(clip, first, *network, neighbours)
    assert without[4].visible and not without[5].visible  # the same clip need not be heard twice


# ---- the page


@pytest.fixture(scope="module")
def address(demo_network):
    """Where the page is served, with the demo network."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(app, "final_model", lambda: demo_network)
        page, (_, url, _) = app.serve(block=False)
        yield url
        page.close()


@pytest.fixture
def browser(clip):
    """A headless Chromium whose microphone hears `clip`, and the addresses that it asked for."""
    if not CHROMIUM:
        pytest.skip("no Chromium here: README says how to install one")
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        flags = ["--headless=new", "--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={clip}"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


def opened(browser, address, asked=None):
    page = browser.new_page(viewport={"width": 1000, "height": 1500})
    page.on("request", lambda request: (asked if asked is not None else []).append(request.url))
    page.goto(address)
    page.wait_for_selector("#said")
    page.get_by_role("button", name="Record", exact=True).wait_for()  # the page's parts come one after the other, this one late
    return page


def upload(page, path):
    page.get_by_role("button", name="Upload file").first.click()
    page.locator("#voice input[type=file]").set_input_files(path)


def said(page, seconds=30):
    """What the page says, once it says something."""
    page.wait_for_function("document.querySelector('#said textarea, #said input').value", timeout=1000 * seconds)
    return page.locator("#said").locator("textarea, input").input_value()


def test_a_file_is_answered_and_nothing_leaves_this_machine(browser, address, clip, network, tmp_path):
    asked = []
    page = opened(browser, address, asked)
    assert "synthetic demo voices only" in page.inner_text("body")
    upload(page, clip)
    assert said(page) == app.in_words(predict(clip, *network))
    page.wait_for_selector("img[alt^='Waveform']")
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert asked and all(url.startswith((address, "data:", "blob:")) for url in asked)
    assert all(emotion in page.inner_text("#probabilities") for emotion in EMOTIONS)


def test_the_microphone_is_answered(browser, address):
    page = opened(browser, address)
    page.get_by_role("button", name="Record", exact=True).click()
    time.sleep(3.2)
    page.get_by_role("button", name="Stop", exact=True).first.click()
    assert said(page).split(",")[0] in EMOTIONS or said(page).startswith("No answer: ")
    page.wait_for_selector("img[alt^='Waveform']")


def test_the_most_similar_training_clip_can_be_heard(browser, address, clip):
    page = opened(browser, address)
    upload(page, clip)
    page.wait_for_selector("#like-first:has-text('The most similar training clip of')")


def test_two_people_get_their_own_answers(browser, address, clip, tmp_path):
    sf.write(tmp_path / "nothing.wav", np.zeros(48_000), 48_000)
    pages = [opened(browser, address) for _ in range(2)]
    upload(pages[0], clip)
    upload(pages[1], tmp_path / "nothing.wav")
    assert said(pages[1]) == "No answer: silence" != said(pages[0])


def test_a_letter_in_place_of_sound_is_answered_with_a_sentence(browser, address, tmp_path):
    (tmp_path / "letter.wav").write_text("Dear network, how do I sound?")
    page = opened(browser, address)
    upload(page, tmp_path / "letter.wav")
    assert said(page).startswith("This cannot be answered: not a recording") and "Traceback" not in page.inner_text("body")


def test_everything_can_be_reached_by_keyboard_and_has_a_name(browser, address):
    page = opened(browser, address)
    named = page.evaluate("""[...document.querySelectorAll('#voice button, #voice input')].filter(e => e.offsetParent)
        .map(e => (e.ariaLabel || e.innerText || e.labels?.[0]?.innerText || '').trim())""")
    assert len(named) >= 3 and all(named)
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("(document.activeElement.ariaLabel || document.activeElement.innerText || '').trim()"))
    assert {"Record", "Upload file"} <= reached


CONTRASTS = """() => {
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const below = e => { for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c; } return [255, 255, 255]; };
    return [...document.querySelectorAll('body *')].filter(e => e.offsetParent && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.matches('textarea'))
        .map(e => { const [a, b] = [light(numbers(getComputedStyle(e).color)), light(below(e))]; return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.innerText || e.value]; });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(browser, address, clip, scheme):
    """By at least 4.5 to 1, the Web Content Accessibility Guidelines' level AA."""
    page = browser.new_page(color_scheme=scheme)
    page.goto(address)
    upload(page, clip)
    page.wait_for_selector("#like-first:has-text('The most similar')")
    found = [(ratio, text) for ratio, text in page.evaluate(CONTRASTS) if text and text.strip()]
    assert len(found) > 15 and not [(round(ratio, 1), text) for ratio, text in found if ratio < 4.5]


def test_sentences_are_recorded_into_a_folder_by_emotion(browser, tmp_path):
    (tmp_path / "neutral-1.wav").write_bytes(b"before")
    page, (_, address, _) = app.recorder(tmp_path)
    tab = browser.new_page()
    tab.goto(address)
    tab.get_by_role("button", name="Record", exact=True).click()
    time.sleep(1.5)
    tab.get_by_role("button", name="Stop", exact=True).first.click()
    tab.wait_for_function("document.querySelector('#kept textarea').value.startsWith('Recorded: neutral 2, calm 0')")
    page.close()
    assert sf.info(tmp_path / "neutral-2.wav").duration > 0.5 and (tmp_path / "neutral-1.wav").read_bytes() == b"before"


def test_it_listens_on_this_machine_only(address):
    assert address.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda end: end.name)
def test_recordings_are_in_a_folder_of_this_run_that_goes_with_it(end):
    folder = Path(app.RECORDINGS.name)
    assert folder.is_dir() and folder.stat().st_mode & 0o077 == 0  # nobody else may look
    code = """
import time
from emotion_helpers import app
app.final_model = app.load_model = app.read_neighbours = lambda *_: ""
app.build = lambda *_: None
def launch(*_):
    open(app.RECORDINGS.name + "/voice.wav", "w")
    print(app.RECORDINGS.name, flush=True)
    time.sleep(60)
app.launch = launch
app.serve()
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        gone = Path(run.stdout.readline().strip())
        assert "emotions-" in gone.name and (gone / "voice.wav").exists()
        run.send_signal(end)
    assert not gone.exists()
