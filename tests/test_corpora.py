"""Where the clips come from. A server on this machine stands for those of the corpora."""

import errno
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pooch
import pytest
import soundfile as sf

from emotion_helpers import EmotionHelpersError, corpora
from emotion_helpers.clips import find_clips
from emotion_helpers.corpora import CorpusError, get_corpora, unpack

RAVDESS = ["03-01-01-01-01-01-01.wav", "03-01-06-02-02-01-12.wav", "03-01-08-01-01-02-12.wav"]
TESS = ["OAF_back_fear.wav", "OA_bite_neutral.wav", "YAF_back_sad.wav", "YAF_youth_ps.wav"]
ZENODO = "/records/1/Audio_Speech_Actors_01-24.zip"
MIRROR = "/TESS_Toronto_emotional_speech_set.zip"
LIST, ALL = "/api/datasets/:persistentId/", "/api/access/dataset/:persistentId/"
ONE = "/api/access/datafile/"


def clip(name):
    """The bytes of a wav file; every name has its own."""
    file = io.BytesIO()
    samples = np.random.default_rng(list(name.encode())).uniform(-0.5, 0.5, 1_000)
    sf.write(file, samples, 8_000, format="WAV")
    return file.getvalue()


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    """The bytes of a zip file of {name: content}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def clips(names):
    return {name: clip(name) for name in names}


def without(name):
    return zipped(clips(other for other in TESS if other != name))


def with_broken_bytes(name, compression):
    """A zip file of TESS in which one member's data are damaged."""
    archive = bytearray(zipped(clips(TESS), compression))
    start = archive.index(name.encode()) + len(name)
    archive[start : start + 500] = bytes(500)
    return bytes(archive)


def md5(content):
    return hashlib.md5(content).hexdigest()


RAVDESS_ZIP = zipped({f"Actor_{name[-6:-4]}/{name}": clip(name) for name in RAVDESS})
MIRROR_ZIP = zipped({f"TESS data/{name[:4]}/{name}": clip(name) for name in TESS} | {"a.db": b"?"})
DATAVERSE_ZIP = zipped(clips(TESS) | {"MANIFEST.TXT": b"the files"})
DAMAGED = {
    "truncated": RAVDESS_ZIP[:-100],
    "empty": b"",
    "a letter": b"I am a letter.",
    "damaged": with_broken_bytes(TESS[0], zipfile.ZIP_STORED),
    "damaged where packed": with_broken_bytes(TESS[0], zipfile.ZIP_DEFLATED),
}


class Handler(BaseHTTPRequestHandler):
    """Answers with `server.pages`: path -> bytes, text, status, (length, bytes), a function, or the
    headers that come with a status."""

    def do_GET(self):
        path = self.path.split("?")[0]
        self.server.asked.append(path)
        self.server.agents.add(self.headers["User-Agent"])
        page = self.server.pages.get(path, 404)
        if callable(page):
            page = page()
        length, page = page if isinstance(page, tuple) else (None, page)
        headers = page if isinstance(page, dict) else {}
        page = headers.pop("status") if headers else page
        status = page if isinstance(page, int) else 200
        content = page.encode() if isinstance(page, str) else b"" if status != 200 else page
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        if length and self.server.stall:  # the rest never comes, but the connection stays
            self.wfile.flush()
            self.server.stall.wait(20)

    def log_message(self, *args):
        pass


@pytest.fixture
def web():
    """A web server: what it has (`pages`), what was asked for (`asked`), and by whom (`agents`)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.pages, server.asked, server.agents, server.stall = {}, [], set(), None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield SimpleNamespace(
        url=f"http://127.0.0.1:{server.server_port}",
        pages=server.pages,
        asked=server.asked,
        agents=server.agents,
        server=server,
    )
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def project(tmp_path, monkeypatch, web):
    """An empty project whose sources are the local server, which has everything, whole."""
    folder = tmp_path / "project"
    monkeypatch.setattr(corpora, "ROOT", folder)
    publish(monkeypatch, web.url)
    files = [{"id": i, "filename": name, "md5": md5(clip(name))} for i, name in enumerate(TESS)]
    files.append({"id": 99, "filename": "readme.txt", "md5": "?"})
    web.pages |= {ZENODO: RAVDESS_ZIP, MIRROR: MIRROR_ZIP, ALL: DATAVERSE_ZIP, LIST: listing(files)}
    web.pages |= {f"{ONE}{i}": clip(name) for i, name in enumerate(TESS)}
    return folder


def listing(files):
    files = [{"dataFile": file} for file in files]
    return json.dumps({"data": {"latestVersion": {"files": files}}})


def publish(monkeypatch, url):
    """Let the corpora be published at `url`."""
    urls = {"ravdess": f"{url}{ZENODO}?download=1", "tess": f"{url}{MIRROR}"}
    monkeypatch.setattr(corpora, "URLS", urls)
    monkeypatch.setattr(corpora, "MD5S", {"ravdess": md5(RAVDESS_ZIP), "tess": md5(MIRROR_ZIP)})
    monkeypatch.setattr(corpora, "DATAVERSE", f"{url}/api")
    monkeypatch.setattr(corpora, "EXPECTED", {"ravdess": len(RAVDESS), "tess": len(TESS)})


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def assert_whole(folder):
    """Every published clip is there, with the published bytes, and nothing else, but for what lay
    there before: it has moved aside."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    paths = [path for path in paths if not re.search("(?i)/(ravdess|tess)-[0-9a-f]{8}/", str(path))]
    files = {path.name: path.read_bytes() for path in paths}
    assert files == clips(RAVDESS + TESS)


# ---- downloads


def test_both_corpora_are_downloaded_checked_and_unpacked(project, web):
    assert get_corpora("real") == project / "data/real"
    assert_whole(project / "data/real")
    assert names(project / "data/real/RAVDESS/Actor_12") == RAVDESS[1:]
    assert names(project / "data/real/TESS/OAF") == sorted(TESS[:2])
    assert web.asked == [ZENODO, LIST, ALL]  # the publishers only; no clip singly
    assert names(project / "data/downloads") == ["Audio_Speech_Actors_01-24.zip"]
    # Some servers answer 403 to python-requests/...
    assert web.agents == {"emotion-helpers/2.0"}


def test_every_other_request_has_our_user_agent_too(project, web):
    web.pages |= {ALL: without(TESS[2]), f"{ONE}2": 404}
    get_corpora("real")
    assert {f"{ONE}2", MIRROR} < set(web.asked)
    assert web.agents == {"emotion-helpers/2.0"}


def test_the_second_time_nothing_is_downloaded(project, web):
    get_corpora("real")
    web.asked.clear()
    assert get_corpora("real") == project / "data/real"
    assert web.asked == []


def test_after_a_failure_only_what_is_missing_is_downloaded(project, web):
    web.pages |= {LIST: 500, MIRROR: 500}
    with pytest.raises(CorpusError, match="TESS could not be downloaded"):
        get_corpora("real")
    web.pages |= {MIRROR: MIRROR_ZIP}
    web.asked.clear()
    get_corpora("real")
    assert_whole(project / "data/real")
    assert ZENODO not in web.asked


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (403, "403"),  # what a server says to a program that it does not like
        (404, "404"),
        ({"status": 429, "Retry-After": "3600"}, "429"),
        (500, "500"),
        (503, "503"),
        ({"status": 302, "Location": "/login"}, "hash"),  # which is a web page
        (RAVDESS_ZIP[:2_000], "hash"),
        ((len(RAVDESS_ZIP), RAVDESS_ZIP[:2_000]), "IncompleteRead"),  # the connection breaks
        (b"<html>The site is down for maintenance</html>", "hash"),
    ],
    ids=[
        *("forbidden", "not found", "too many requests", "server error", "unavailable"),
        *("a redirection", "another zip", "broken off", "a web page"),
    ],
)
def test_a_download_that_is_not_what_was_published_is_refused(project, web, page, why):
    web.pages |= {ZENODO: page, "/login": "<html>Who are you?</html>"}
    with pytest.raises(CorpusError, match=why) as error:
        get_corpora("real")
    # From where, and where to put it.
    assert f"{web.url}{ZENODO}" in str(error.value)
    assert str(project / "data/downloads/Audio_Speech_Actors_01-24.zip") in str(error.value)
    assert names(project) == []


def test_without_a_network_the_error_says_where_to_put_which_file(project, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"  # nobody listens there
    publish(monkeypatch, url)
    with pytest.raises(CorpusError, match="With a browser") as error:
        get_corpora("real")
    assert f"get {url}{ZENODO}?download=1 and put" in str(error.value)
    assert str(project / "data/downloads/Audio_Speech_Actors_01-24.zip") in str(error.value)
    assert names(project) == []


@pytest.mark.parametrize("page", [ZENODO, LIST])
def test_a_server_that_stalls_is_given_up(project, web, monkeypatch, page):
    monkeypatch.setattr(corpora, "TIMEOUT", 0.2)
    monkeypatch.delitem(corpora.EXPECTED, "tess" if page == ZENODO else "ravdess")
    over = threading.Event()
    web.pages |= {page: lambda: over.wait(20) and 404, MIRROR: 404}
    start = time.monotonic()
    with pytest.raises(CorpusError, match="timed out"):
        get_corpora("real")
    over.set()
    assert time.monotonic() - start < 5


def test_a_server_that_stalls_in_the_middle_is_given_up(project, web, monkeypatch):
    monkeypatch.setattr(corpora, "TIMEOUT", 0.2)
    web.server.stall = threading.Event()
    web.pages[ZENODO] = (len(RAVDESS_ZIP), RAVDESS_ZIP[:2_000])
    with pytest.raises(CorpusError, match=f"{ZENODO}.*timed out"):
        get_corpora("real")
    web.server.stall.set()
    assert names(project) == []


@pytest.mark.parametrize("place", [0, 1, 29, 2_000, len(RAVDESS_ZIP) // 2, len(RAVDESS_ZIP) - 1])
def test_a_download_that_broke_off_at_any_byte_is_begun_again(project, web, place):
    web.pages[ZENODO] = (len(RAVDESS_ZIP), RAVDESS_ZIP[:place])
    with pytest.raises(CorpusError, match=Path(ZENODO).name):
        get_corpora("real")
    assert names(project) == []
    web.pages[ZENODO] = RAVDESS_ZIP
    assert_whole(get_corpora("real"))


class FullDisk(io.FileIO):
    def write(self, content):
        super().write(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["downloading", "unpacking"])
def test_a_full_disk_is_named_and_leaves_nothing_half(project, monkeypatch, where):
    with monkeypatch.context() as full:
        if where == "downloading":
            full.setattr(pooch.downloaders, "open", FullDisk, raising=False)
        else:
            full.setattr(Path, "write_bytes", lambda path, data: FullDisk(path, "w").write(data))
        with pytest.raises(CorpusError, match=r"(?s)RAVDESS.*No space left on device.*Make room"):
            get_corpora("real")
    assert names(project) == ([] if where == "downloading" else [Path(ZENODO).name])
    assert_whole(get_corpora("real"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this machine cannot fork")
@pytest.mark.parametrize("before", ["nothing", "no clip"])
def test_two_programs_may_download_at_once(project, monkeypatch, before):
    """Neither deletes what the other is unpacking, and both end with all clips."""
    if before == "no clip":
        for corpus in ("RAVDESS", "TESS"):
            (project / "data/real" / corpus).mkdir(parents=True)
            (project / "data/real" / corpus / ".DS_Store").touch()
    read = zipfile.ZipFile.read

    def read_slowly(self, member):
        time.sleep(0.05)
        return read(self, member)

    monkeypatch.setattr(zipfile.ZipFile, "read", read_slowly)
    context = multiprocessing.get_context("fork")
    both, rename = context.Barrier(2), Path.rename

    def rename_at_once(self, target):
        with suppress(threading.BrokenBarrierError):  # the other has nothing to move
            both.wait(timeout=3)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_at_once)
    programs = [context.Process(target=get_corpora, args=("real",)) for _ in range(2)]
    for program in programs:
        program.start()
        time.sleep(0.1)
    for program in programs:
        program.join()
    assert [program.exitcode for program in programs] == [0, 0]
    assert_whole(project / "data/real")
    assert names(project / "data/downloads") == [Path(ZENODO).name]


def test_what_a_killed_download_left_goes_a_day_later(project):
    downloads, real = project / "data/downloads", project / "data/real"
    for name in (".emotion-helpers-xxxx_old", ".emotion-helpers-xxxx_new"):
        (real / name / "RAVDESS").mkdir(parents=True)
    downloads.mkdir()
    for name in ("tmpold12345", "tmpnew12345"):  # half a zip
        (downloads / name).write_bytes(RAVDESS_ZIP[:100])
    for path in (project / "data").glob("*/*old*"):
        os.utime(path, (0, 0))
    get_corpora("real")  # somebody may be at the new ones
    assert {path.name for path in downloads.iterdir()} == {Path(ZENODO).name, "tmpnew12345"}
    assert {path.name for path in real.glob(".*")} == {".emotion-helpers-xxxx_new"}


def test_the_clips_may_lie_on_another_disk(project, tmp_path):
    disk = Path("/dev/shm")
    if not disk.is_dir() or disk.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one disk here")
    with TemporaryDirectory(dir=disk) as elsewhere:
        (project / "data").mkdir(parents=True)
        (project / "data/real").symlink_to(elsewhere)
        assert_whole(get_corpora("real"))


def test_zips_that_the_reader_put_in_downloads_need_no_network(project, web):
    (project / "data/downloads").mkdir(parents=True)
    (project / "data/downloads" / Path(ZENODO).name).write_bytes(RAVDESS_ZIP)
    (project / "data/downloads" / Path(MIRROR).name).write_bytes(MIRROR_ZIP)
    web.pages.clear()
    get_corpora("real")
    assert_whole(project / "data/real")
    assert web.asked == []


def test_another_zip_in_downloads_is_replaced_or_does_without(project, web):
    (project / "data/downloads").mkdir(parents=True)
    (project / "data/downloads" / Path(ZENODO).name).write_bytes(RAVDESS_ZIP[:-100])
    (project / "data/downloads" / Path(MIRROR).name).write_bytes(MIRROR_ZIP[:-100])
    web.pages[MIRROR] = 404
    get_corpora("real")
    assert_whole(project / "data/real")


def test_a_run_that_was_stopped_while_unpacking_leaves_no_half_corpus(project, monkeypatch):
    read = zipfile.ZipFile.read

    def stop(self, member):
        if member.filename.endswith(RAVDESS[1]):
            raise KeyboardInterrupt
        return read(self, member)

    with monkeypatch.context() as stopped:
        stopped.setattr(zipfile.ZipFile, "read", stop)
        with pytest.raises(KeyboardInterrupt):
            get_corpora("real")
    assert names(project) == [Path(ZENODO).name]  # the download
    get_corpora("real")
    assert_whole(project / "data/real")


# ---- TESS has two sources


@pytest.mark.parametrize(
    "archive",
    [
        without(TESS[2]),
        zipped(clips(TESS) | {TESS[2]: clip("another")}),
        with_broken_bytes(TESS[2], zipfile.ZIP_STORED),
        with_broken_bytes(TESS[2], zipfile.ZIP_DEFLATED),
    ],
    ids=["missing", "other bytes", "damaged", "damaged where packed"],
)
def test_a_clip_that_dataverses_zip_lacks_is_fetched_singly(project, web, archive):
    web.pages[ALL] = archive
    get_corpora("real")
    assert_whole(project / "data/real")
    assert f"{ONE}2" in web.asked
    assert f"{ONE}0" not in web.asked
    assert MIRROR not in web.asked


@pytest.mark.parametrize("page", [DATAVERSE_ZIP[:1_000], "<html>Please wait</html>"])
def test_all_clips_are_fetched_singly_where_dataverses_zip_is_none(project, web, page):
    web.pages[ALL] = page
    get_corpora("real")
    assert_whole(project / "data/real")
    assert MIRROR not in web.asked


@pytest.mark.parametrize(
    "pages",
    [
        {LIST: 503},
        {LIST: "<html>maintenance</html>"},
        {LIST: '{"status": "ERROR"}'},
        {LIST: '[{"data": null}]'},
        {LIST: listing([{"filename": None}])},
        {LIST: listing([{"filename": TESS[0], "id": 0}])},
        {LIST: listing([]), ALL: without(TESS[2])},
        {ALL: 503},
        {ALL: without(TESS[2]), f"{ONE}2": 404},
        {ALL: without(TESS[2]), f"{ONE}2": b"other bytes"},
        {ALL: zipped(clips(TESS) | {TESS[2]: clip("another")}), f"{ONE}2": 404},
    ],
)
def test_where_dataverse_fails_the_mirror_is_used(project, web, pages):
    web.pages |= pages
    get_corpora("real")
    assert_whole(project / "data/real")
    assert MIRROR in web.asked


def test_where_both_fail_the_error_names_both(project, web):
    web.pages |= {LIST: '{"status": "ERROR"}', MIRROR: 404}
    with pytest.raises(CorpusError) as error:
        get_corpora("real")
    assert f"{web.url}/api: KeyError: 'data'" in str(error.value)
    assert f"{web.url}{MIRROR}: HTTPError: 404" in str(error.value)
    assert str(project / "data/downloads/TESS_Toronto") in str(error.value)
    assert not (project / "data/real/TESS").exists()


def test_no_list_of_files_can_name_one_elsewhere(project, web):
    name = f"../../../../../{TESS[0]}"
    files = [{"id": i, "filename": name, "md5": md5(clip(name))} for i, name in enumerate(TESS)]
    web.pages |= {LIST: listing([files[0] | {"filename": name}, *files[1:]]), ALL: b""}
    get_corpora("real")
    assert_whole(project / "data/real")


# ---- what is inside a zip is not trusted


def test_no_zip_can_write_outside_its_folder(tmp_path):
    members = {
        "../../evil.wav": b"evil",
        "/evil.wav": b"evil",
        "..\\..\\evil.wav": b"evil",
        "C:\\evil.wav": b"evil",
        "evil.sh": b"evil",
        "CON.wav": b"evil",
        "NUL": b"evil",
        f"{RAVDESS[0]}:hidden.wav": b"evil",
        "../OAF_.._fear.wav": b"evil",
        "YAF_youth_ps.exe": b"evil",
        f"../{RAVDESS[0]}": b"0",
        f"{tmp_path}/outside/{RAVDESS[1]}": b"1",
        f"..\\..\\{RAVDESS[2]}": b"2",
        "OAF_back_fear.wav/../YAF_back_sad.wav": b"3",
    }
    archive = tmp_path / "evil.zip"
    archive.write_bytes(zipped(members))
    unpack(archive, tmp_path / "a/b/c")
    archive.unlink()
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        f"a/b/c/RAVDESS/Actor_01/{RAVDESS[0]}",
        f"a/b/c/RAVDESS/Actor_12/{RAVDESS[1]}",
        f"a/b/c/RAVDESS/Actor_12/{RAVDESS[2]}",
        "a/b/c/TESS/YAF/YAF_back_sad.wav",
    }


def test_a_link_in_a_zip_is_written_as_the_file_it_is(tmp_path):
    link = zipfile.ZipInfo(RAVDESS[0])
    link.external_attr = 0o120777 << 16
    (tmp_path / "evil.zip").write_bytes(zipped({link: "/etc/passwd"}))
    unpack(tmp_path / "evil.zip", tmp_path / "a")
    assert names(tmp_path / "a") == [RAVDESS[0]]
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_songs_and_huge_members_stay_in_the_zip(tmp_path):
    members = clips(RAVDESS[:1])
    members["03-02-01-01-01-01-01.wav"] = b"a song"
    members[RAVDESS[1]] = bytes(corpora.BIGGEST_CLIP + 1)
    members["__MACOSX/._03-01-01-01-01-01-01.zip"] = b"no zip"
    (tmp_path / "a.zip").write_bytes(zipped(members))
    unpack(tmp_path / "a.zip", tmp_path / "a")
    assert names(tmp_path / "a") == [RAVDESS[0]]


def test_what_unpacks_to_hundreds_of_times_its_size_stays_in_the_zip(tmp_path):
    """A thousand such clips in a megabyte would be nineteen gigabytes on disk."""
    members = clips(RAVDESS[:1]) | {RAVDESS[1]: bytes(corpora.BIGGEST_CLIP - 1)}
    (tmp_path / "bomb.zip").write_bytes(zipped(members))
    unpack(tmp_path / "bomb.zip", tmp_path / "a")
    assert names(tmp_path / "a") == [RAVDESS[0]]


def test_nor_is_a_zip_that_does_so_unpacked_from_another(tmp_path):
    """Its clips are stored as they are, nothing but zeros: the outer zip alone is packed."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_STORED) as archive:
        for name in RAVDESS[:2]:
            archive.writestr(name, bytes(2_000_000))
    (tmp_path / "bomb.zip").write_bytes(zipped({"inner.zip": inner.getvalue()}))
    unpack(tmp_path / "bomb.zip", tmp_path / "a")
    assert names(tmp_path) == ["bomb.zip"]


def test_a_member_larger_than_it_says_is_refused(tmp_path):
    """The header promises a hundred bytes, the data go on for a million."""
    archive = bytearray(zipped({RAVDESS[0]: bytes(range(256)) * 4_000}))
    place = archive.index(b"PK\1\2") + 24
    archive[place : place + 4] = (100).to_bytes(4, "little")
    (tmp_path / "lie.zip").write_bytes(archive)
    with pytest.raises(CorpusError, match=r"lie\.zip could not be unpacked"):
        unpack(tmp_path / "lie.zip", tmp_path / "a")
    assert names(tmp_path) == ["lie.zip"]


def test_a_zip_in_zips_without_end_is_opened_once(tmp_path):
    archive = b""
    for _ in range(50):
        archive = zipped({"a.zip": archive})
    (tmp_path / "a.zip").write_bytes(archive)
    unpack(tmp_path / "a.zip", tmp_path / "a")
    assert names(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_zip_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(CorpusError, match=r"a\.zip could not be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "a")


# ---- DATA: the reader has the clips already


def test_data_with_clips_is_used_where_it_is(project, web, tmp_path, tone, capsys):
    tone(tmp_path / "mine/deep/in/a/tree" / RAVDESS[0])
    assert get_corpora("real", tmp_path / "mine") == tmp_path / "mine"
    assert web.asked == []
    # A corpus that is not all there is said to be so; a copy is no second clip.
    tone(tmp_path / "mine/again" / RAVDESS[0])
    get_corpora("real", tmp_path / "mine")
    assert "1 of 3 RAVDESS and 0 of 4 TESS clips" in capsys.readouterr().out


def test_nothing_is_said_of_corpora_that_are_whole(project, capsys):
    get_corpora("real", get_corpora("real"))
    assert capsys.readouterr().out == ""


def test_links_to_folders_are_followed_and_loops_end(project, web, tmp_path, tone):
    tone(tmp_path / "elsewhere" / RAVDESS[0])
    (tmp_path / "mine").mkdir()
    try:
        os.symlink(tmp_path / "elsewhere", tmp_path / "mine/RAVDESS")
        os.symlink(tmp_path / "mine", tmp_path / "elsewhere/loop")
    except OSError:
        pytest.skip("no links on this machine")
    assert get_corpora("real", tmp_path / "mine") == tmp_path / "mine"
    # So are those to folders with zip files.
    (tmp_path / "elsewhere" / RAVDESS[0]).unlink()
    (tmp_path / "elsewhere/both.zip").write_bytes(zipped(clips(RAVDESS + TESS)))
    assert_whole(get_corpora("real", tmp_path / "mine"))
    assert web.asked == []


ZIPS = {"Audio_Speech_Actors_01-24.zip": RAVDESS_ZIP, "dataverse_files.zip": DATAVERSE_ZIP}


@pytest.mark.parametrize(
    ("files", "data"),
    [
        (ZIPS, "mine"),
        ({"deep/down.ZIP": zipped(clips(RAVDESS + TESS))}, "mine/deep/down.ZIP"),
        ({f"{name}?download=1": content for name, content in ZIPS.items()}, "mine"),
        ({"1188976.zip": zipped(ZIPS)}, "mine"),
        ({"1188976.zip": zipped(ZIPS, zipfile.ZIP_STORED)}, "mine/1188976.zip"),
    ],
    ids=[
        "as published",
        "the zip itself",
        "as wget names them",
        "zips in a zip",
        "zips in the zip itself",
    ],
)
def test_zips_in_data_are_unpacked_into_the_project(project, web, tmp_path, files, data):
    for name, content in files.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(content)
    folder = get_corpora("real", str(tmp_path / data))
    assert folder == project / "data/real"
    assert_whole(folder)
    assert len(find_clips(folder)[0]) == len(RAVDESS + TESS)
    times = [path.stat().st_mtime_ns for path in folder.rglob("*.wav")]
    get_corpora("real", str(tmp_path / data))  # as the next notebook does
    assert [path.stat().st_mtime_ns for path in folder.rglob("*.wav")] == times
    assert web.asked == []


def test_a_corpus_that_is_in_no_zip_of_data_is_said_to_be_missing(project, tmp_path, capsys):
    (tmp_path / "RAVDESS.zip").write_bytes(RAVDESS_ZIP)
    get_corpora("real", tmp_path / "RAVDESS.zip")
    assert "3 of 3 RAVDESS and 0 of 4 TESS clips" in capsys.readouterr().out
    get_corpora("real")
    assert_whole(project / "data/real")


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_zip_in_data_is_named_and_leaves_no_half_clip(project, tmp_path, content):
    (tmp_path / "TESS.zip").write_bytes(content)
    (tmp_path / "outer.zip").write_bytes(zipped({"inner.zip": content}))
    for archive in ("TESS.zip", "outer.zip"):
        with pytest.raises(CorpusError, match=archive):
            get_corpora("real", tmp_path / archive)
    get_corpora("real")  # what is missing is downloaded
    assert_whole(project / "data/real")


@pytest.mark.parametrize("kind", ["missing", "missing.zip", "empty", "a file", "photos"])
def test_data_without_clips_is_an_error_that_names_it(project, web, tmp_path, kind):
    data = tmp_path / kind
    if kind == "a file":
        data.write_text("no zip")
    elif not kind.startswith("missing"):
        data.mkdir()
    if kind == "photos":
        (data / "photos.zip").write_bytes(zipped({"cat.jpg": b"miaow"}))
    with pytest.raises(EmotionHelpersError, match=f"{data}.*set DATA|{data}.*get it anew"):
        get_corpora("real", str(data))
    assert web.asked == []


def test_data_whose_files_are_all_something_else_is_told_why(project, web, tmp_path):
    for name in ("03-02-01-01-01-01-01.wav", "03-01-01-01-01-01-01.flac"):  # a song, no wav
        (tmp_path / name).write_bytes(b"RIFF")
    with pytest.raises(EmotionHelpersError, match=r"a song.*not a \.wav|not a \.wav.*song"):
        get_corpora("real", tmp_path)
    assert web.asked == []


@pytest.mark.parametrize("kind", ["missing", "missing.zip", "songs"])
def test_data_that_is_not_there_is_an_error_also_if_the_corpora_are(project, tmp_path, kind):
    get_corpora("real")
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "03-02-01-01-01-01-01.wav").write_bytes(b"RIFF")
    with pytest.raises(EmotionHelpersError, match=str(tmp_path / kind)):
        get_corpora("real", tmp_path / kind)


def test_what_lies_where_a_corpus_goes_is_moved_and_not_deleted(project):
    mine = project / "data/real/RAVDESS" / "my-songs" / "03-02-01-01-01-01-01.wav"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"sung")
    assert_whole(get_corpora("real"))
    (kept,) = (project / "data/real").glob("RAVDESS-*/my-songs/*.wav")
    assert kept.read_bytes() == b"sung"


def test_data_beside_the_notebook_is_found_from_everywhere(project, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    shutil.copytree(get_corpora("real"), tmp_path / "mine", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    assert get_corpora("real", "mine") == tmp_path / "mine"


# ---- the demo, what is neither, and the project's folders


def test_the_demo_corpus_is_made_in_the_project(project, web, monkeypatch):
    monkeypatch.setattr(corpora, "make_demo", Path)  # test_demo.py makes one
    assert get_corpora("demo") == project / "data/demo"
    assert web.asked == []


def test_another_corpus_is_refused(project):
    with pytest.raises(EmotionHelpersError, match=r"'everything'.*'real' or 'demo'"):
        get_corpora("everything")


def test_the_folders_of_a_project(project):
    assert corpora.pictures_folder("demo") == project / "data/pictures/demo"
    assert corpora.pictures_folder("real", "1a2b") == project / "data/pictures/real-1a2b"
    assert corpora.models_folder("real") == project / "models/real"
    assert corpora.results_folder("real") == project / "notebooks/results"
    assert corpora.results_folder("demo") == project / "models/demo/results"
    assert corpora.results_folder("demo").is_dir()


def test_an_installed_package_works_where_it_is_called_and_brings_its_tables(tmp_path):
    """As on Colab: `pip install .`, then a notebook in an empty folder; a clone is its own."""
    assert Path(corpora.__file__).parent.parent == corpora.ROOT
    for name in ("emotion_helpers", "notebooks/results"):
        shutil.copytree(corpora.ROOT / name, tmp_path / "clone" / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(corpora.ROOT / name, tmp_path / "clone")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(tmp_path)]
    subprocess.check_call([sys.executable, "-m", "pip", "wheel", *options, str(tmp_path / "clone")])
    (wheel,) = tmp_path.glob("*.whl")
    (tmp_path / "work").mkdir()
    code = "from emotion_helpers import corpora; print(corpora.__file__, corpora.ROOT)\n"
    code += "print(*sorted(file.name for file in corpora.results_folder('real').iterdir()))"
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command, options = [sys.executable, "-c", code], {"cwd": tmp_path / "work", "text": True}
    where, tables = subprocess.check_output(command, env=environment, **options).splitlines()
    assert where.startswith(str(tmp_path / "site")) and where.endswith(str(tmp_path / "work"))
    assert {"runs.csv", "listeners.csv", "predictions.csv.gz"} <= set(tables.split())
    assert (tmp_path / "work/notebooks/results/runs.csv").exists()
    options["cwd"] = tmp_path / "clone" / "notebooks"  # as its notebooks are run
    where, _ = subprocess.check_output(command, env=environment, **options).splitlines()
    assert where.startswith(str(tmp_path / "site")) and where.endswith(str(tmp_path / "clone"))
