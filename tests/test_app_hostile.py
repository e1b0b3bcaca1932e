"""The app's server among many, rude and crashed ones: it answers, tells nothing, leaves nothing."""

import concurrent.futures
import io
import json
import os
import pickle
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hostile import quick_network

from emotion_helpers.beyond import app
from emotion_helpers.beyond.prediction import predict

ROOT = Path(__file__).resolve().parent.parent
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The page with a quick network: its address and the folder of its recordings."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GRADIO_TEMP_DIR", "")  # put back afterwards
        patched.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        network = quick_network()
        network = replace(network, info={"corpus": "demo", "unseen_speakers": []})
        crashed = Path(tempfile.gettempdir(), "emotions-crashed")
        crashed.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            (crashed / f"{free.getsockname()[1]}.port").touch()
        app.recordings_folder.cache_clear()  # of other tests in this process
        page, (_, url, _) = app.launch(partial(app.build_page, network))
        yield url, Path(app.recordings_folder().name)
        page.close()
        app.recordings_folder().cleanup()
        app.recordings_folder.cache_clear()


def written(samples, rate=16_000, container="WAV", subtype=None):
    """The bytes of a sound file."""
    file = io.BytesIO()
    sf.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


@pytest.fixture(scope="module")
def clip():
    """The bytes of half a second of silence, to which there is a quick answer without drawings."""
    return written(np.zeros(8_000))


def request(url, data=None, **headers):
    """Status, headers and text of an answer."""
    asked = urllib.request.Request(
        url, data, {key.replace("_", "-"): v for key, v in headers.items()}
    )
    try:
        with DIRECT.open(asked, timeout=60) as answer:
            return answer.status, answer.headers, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode(errors="replace")


def upload(url, content, name="voice.wav", **headers):
    """What the server answers to a file."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
    body = head.encode() + b"Content-Type: audio/wav\r\n\r\n" + content + b"\r\n--x--\r\n"
    kind = "multipart/form-data; boundary=x"
    return request(f"{url}gradio_api/upload", body, Content_Type=kind, **headers)


def ask(url, path, /, **more):
    """The first thing that the page would say about a file that is on the server."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}, **more}
    data = json.dumps({"data": [file, ""]}).encode()
    status, _, text = request(f"{url}gradio_api/call/ask", data, Content_Type="application/json")
    if status != 200:
        return status, text
    return request(f"{url}gradio_api/call/ask/{json.loads(text)['event_id']}")[::2]


def upload_and_ask(url, content, name="voice.wav"):
    status, _, text = upload(url, content, name)
    assert status == 200, text
    return ask(url, json.loads(text)[0])[1]


def files_outside(folder):
    """What lies beside the recordings in the temporary folder."""
    return [path for path in folder.parent.iterdir() if path != folder]


# ---- many at once


def test_fifty_people_at_once_all_get_their_answer(served, clip, monkeypatch):
    """Half of them send something that is no sound; on a slow machine, so that they queue."""
    url, _ = served

    def predict_slowly(*arguments):
        time.sleep(0.15)
        return predict(*arguments)

    monkeypatch.setattr(app, "predict", predict_slowly)
    with concurrent.futures.ThreadPoolExecutor(50) as people:
        contents = [clip if number % 2 else b"Dear network" * 99 for number in range(50)]
        answers = list(people.map(partial(upload_and_ask, url), contents))
    for content, answer in zip(contents, answers, strict=True):
        assert ("No answer: silence" if content == clip else "cannot be answered") in answer
        assert "event: complete" in answer


# ---- rude ones


NO_SPEECH = {  # what is sent, made when it is needed, and what the page says
    "not a number": (lambda: written(np.full(8_000, np.nan), subtype="FLOAT"), "not numbers"),
    "eleven minutes of silence": (
        lambda: written(np.zeros(660 * 8_000), 8_000, "FLAC"),
        "longer than 600",
    ),
    "half a header": (lambda: written(np.zeros(8_000))[:30], "cannot be answered"),
    "a playlist": (lambda: b"#EXTM3U\nfile:///etc/passwd\n", "cannot be answered"),
    "a picture": ((ROOT / "notebooks/results/headline.png").read_bytes, "cannot be answered"),
    "a zip": (lambda: b"PK\5\6" + bytes(18), "cannot be answered"),
    "a pickle": (lambda: pickle.dumps({"weights": [1.0]}), "cannot be answered"),
    "nothing": (bytes, "cannot be answered"),
}


@pytest.mark.parametrize("make, said", NO_SPEECH.values(), ids=NO_SPEECH)
def test_whatever_is_uploaded_gets_a_sentence(served, make, said):
    url, folder = served
    answer = upload_and_ask(url, make())
    assert said in answer and "event: complete" in answer
    assert "root:" not in answer and "Traceback" not in answer
    assert files_outside(folder) == []


@pytest.mark.parametrize(
    "name",
    ["../../evil.wav", "/tmp/evil.wav", "..\\..\\evil.wav", "a" * 300 + ".wav", "CON", "\x01"],
)
def test_no_name_of_an_upload_leads_outside(served, clip, name):
    url, folder = served
    status, _, text = upload(url, clip, name)
    if status == 200:
        assert folder in Path(json.loads(text)[0]).resolve().parents
    assert files_outside(folder) == []
    assert "event: complete" in upload_and_ask(url, clip)  # and it still answers


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{here}", "../../../../etc/passwd", "{folder}/../secret.wav", ""]
)
def test_a_path_in_place_of_an_upload_is_not_read(served, clip, tmp_path, path):
    url, folder = served
    (tmp_path / "secret.wav").write_bytes(clip)
    path = path.format(here=tmp_path / "secret.wav", folder=folder)
    for more in ({}, {"is_stream": True}, {"url": path}):
        _, answer = ask(url, path, **more)
        assert "complete" not in answer or "Record something" in answer
        assert "root:" not in answer
    _, _, text = request(f"{url}gradio_api/file={tmp_path / 'secret.wav'}")
    assert "RIFF" not in text


class Counting(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(404)
        self.end_headers()

    def log_message(self, *args):
        pass


def test_an_address_in_place_of_an_upload_is_not_fetched(served):
    """Else a page elsewhere could let this computer ask others."""
    url, folder = served
    server = HTTPServer(("127.0.0.1", 0), Counting)
    server.asked = []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/voice.wav"
    for more in ({}, {"url": address}, {"is_stream": True}):
        answer = ask(url, address, **more)[1]
        assert "complete" not in answer or "cannot be answered" in answer
    server.shutdown()
    server.server_close()
    assert server.asked == []
    assert files_outside(folder) == []


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"]
)
def test_a_page_of_another_origin_may_not_read_answers(served, clip, origin):
    url, _ = served
    question = json.dumps({"data": [None, ""]}).encode()
    kind = {"Content_Type": "application/json", "Origin": origin}
    _, asked, _ = request(f"{url}gradio_api/call/ask", question, **kind)
    _, uploaded, _ = upload(url, clip, Origin=origin)
    for headers in (asked, uploaded):
        assert headers.get("Access-Control-Allow-Origin") not in ("*", origin)


def test_more_than_fits_is_refused_and_not_kept(served):
    url, folder = served
    before = {path for path in folder.rglob("*") if path.is_file()}
    try:
        status, _, _ = upload(url, bytes(130_000_000))
    except urllib.error.URLError:  # it hung up before all was sent
        status = 413
    assert status == 413
    assert not {path for path in folder.rglob("*") if path.is_file()} - before


def test_one_who_sends_slowly_or_never_ends_keeps_nobody_waiting(served, clip):
    url, _ = served
    host, port = url.split("/")[2].split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(20)]
    head = ["POST /gradio_api/upload HTTP/1.1", "Host: x", "Content-Length: 9999"]
    head += ["Content-Type: multipart/form-data; boundary=x", "", "--x"]
    head += ['Content-Disposition: form-data; name="files"; filename="voice.wav"', "", "RIFF"]
    for connection in slow:
        connection.sendall("\r\n".join(head).encode())
    start = time.monotonic()
    assert "event: complete" in upload_and_ask(url, clip)
    assert time.monotonic() - start < 10
    for connection in slow:
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):  # no answer yet: the server waits for the rest
            connection.recv(1)
        connection.close()


# ---- crashed ones


def test_what_a_killed_server_left_goes_at_the_next_start_but_not_a_living_ones(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with socket.socket() as free, socket.socket() as living:
        for one in (free, living):
            one.bind(("127.0.0.1", 0))
        living.listen()
        dead, alive = (one.getsockname()[1] for one in (free, living))
        for port, name in ((dead, "emotions-dead"), (alive, "emotions-alive")):
            (tmp_path / name / "12ab").mkdir(parents=True)
            (tmp_path / name / f"{port}.port").touch()
            (tmp_path / name / "12ab/voice.wav").write_bytes(b"a person")
        for name in ("99999999.port", "x.port"):  # not ours
            (tmp_path / "emotions-else").mkdir(exist_ok=True)
            (tmp_path / "emotions-else" / name).touch()
        (tmp_path / "emotions-alive" / f"{dead}.port").touch()  # a page that was closed
        app.forget_recordings()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["emotions-alive", "emotions-else"]


def test_what_a_crashed_server_left_went_when_this_one_began(served):
    _, folder = served
    assert not (folder.parent / "emotions-crashed").exists()


def test_a_recording_is_deleted_while_the_app_runs(served, clip, monkeypatch):
    """Every minute those that are ten minutes old; here every second those of three."""
    every, age = app.PRIVATE["delete_cache"]
    assert every + age <= 660  # seconds
    monkeypatch.setitem(app.PRIVATE, "delete_cache", (1, 3))
    page, (_, url, _) = app.launch(partial(app.build_page, quick_network()))
    try:
        path = json.loads(upload(url, clip)[2])[0]
        assert Path(path).exists()
        assert "No answer: silence" in ask(url, path)[1]
        deadline = time.monotonic() + 60
        while Path(path).exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        page.close()
        (served[1] / f"{page.server_port}.port").unlink()


def test_a_second_page_of_the_program_leaves_the_first_its_folder(served):
    """As in chapter 09, which may open two: gradio takes uploads from this folder alone."""
    _, folder = served
    with app.gr.Blocks(**app.PRIVATE) as empty:
        pass
    second, _ = app.launch(lambda: empty)
    second.close()
    (folder / f"{second.server_port}.port").unlink()
    assert os.environ["GRADIO_TEMP_DIR"] == str(folder)


def test_a_server_says_in_its_folder_at_which_port_it_is(served):
    url, folder = served
    assert [path.stem for path in folder.glob("*.port")] == [url.rstrip("/").rsplit(":", 1)[1]]
