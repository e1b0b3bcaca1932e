"""Where the clips come from. A server on this machine stands for Zenodo, Dataverse and the mirror."""
import hashlib
import io
import shutil
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf

from emotion_helpers import corpora
from emotion_helpers.clips import find_clips
from emotion_helpers.corpora import CorpusError, get_corpora, unpack

RAVDESS = ["03-01-01-01-01-01-01.wav", "03-01-06-02-02-01-12.wav", "03-01-08-01-01-02-12.wav"]
TESS = ["OAF_back_fear.wav", "OA_bite_neutral.wav", "YAF_back_sad.wav", "YAF_youth_ps.wav"]
LIST, ALL, ONE = "/api/datasets/:persistentId/", "/api/access/dataset/:persistentId/", "/api/access/datafile/"
ZENODO, MIRROR = "/records/1/Audio_Speech_Actors_01-24.zip", "/TESS_Toronto_emotional_speech_set.zip"


def clip(name):
    """The bytes of a wav file; every name has its own."""
    file = io.BytesIO()
    sf.write(file, np.random.default_rng(list(name.encode())).uniform(-0.5, 0.5, 1_000), 8_000, format="WAV")
    return file.getvalue()


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    """The bytes of a zip file: of {name: content}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def md5(content):
    return hashlib.md5(content).hexdigest()


RAVDESS_ZIP = zipped({f"Actor_{name[-6:-4]}/{name}": clip(name) for name in RAVDESS})
MIRROR_ZIP = zipped({f"TESS Toronto emotional speech set data/{name[:4]}/{name}": clip(name) for name in TESS} | {"Thumbs.db": b"?"})
DATAVERSE_ZIP = zipped({name: clip(name) for name in TESS} | {"MANIFEST.TXT": b"the files"})


@pytest.fixture
def web():
    """A web server: `pages` maps a path to its content (bytes, JSON text, or a status code); `asked` logs the paths."""
    pages, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.split("?")[0]
            asked.append(path)
            page = pages.get(path, 404)
            length, page = page if isinstance(page, tuple) else (None, page)
            content = b"" if isinstance(page, int) else page.encode() if isinstance(page, str) else page
            self.send_response(page if isinstance(page, int) else 200)
            self.send_header("Content-Length", str(length or len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", pages=pages, asked=asked)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def project(tmp_path, monkeypatch, web):
    """An empty project whose sources are the local server, which has everything, whole."""
    folder = tmp_path / "project"
    monkeypatch.setattr(corpora, "ROOT", folder)
    publish(monkeypatch, web.url)
    listed = [{"dataFile": {"id": i, "filename": name, "md5": md5(clip(name))}} for i, name in enumerate(TESS)]
    listed.append({"dataFile": {"id": 99, "filename": "readme.txt", "md5": "?"}})
    web.pages |= {ZENODO: RAVDESS_ZIP, MIRROR: MIRROR_ZIP, ALL: DATAVERSE_ZIP,
                  LIST: str({"data": {"latestVersion": {"files": listed}}}).replace("'", '"'),
                  **{f"{ONE}{i}": clip(name) for i, name in enumerate(TESS)}}
    return folder


def publish(monkeypatch, url):
    """Let the corpora be published at `url`."""
    monkeypatch.setitem(corpora.SOURCES, "ravdess", (f"{url}{ZENODO}?download=1", f"md5:{md5(RAVDESS_ZIP)}"))
    monkeypatch.setitem(corpora.SOURCES, "tess", (f"{url}{MIRROR}", f"md5:{md5(MIRROR_ZIP)}"))
    monkeypatch.setitem(corpora.SOURCES, "tess_dataverse", f"{url}/api")
    monkeypatch.setitem(corpora.EXPECTED, "ravdess", len(RAVDESS))
    monkeypatch.setitem(corpora.EXPECTED, "tess", len(TESS))


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def assert_whole(folder):
    """Every published clip is there, with the published bytes, and nothing else."""
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == {name: clip(name) for name in RAVDESS + TESS}


# ---- downloads


def test_both_corpora_are_downloaded_checked_and_unpacked(project, web):
    assert get_corpora("real") == project / "data/real"
    assert_whole(project / "data/real")
    assert names(project / "data/real/RAVDESS/Actor_12") == RAVDESS[1:]
    assert names(project / "data/real/TESS/OAF") == sorted(TESS[:2])
    assert web.asked == [ZENODO, LIST, ALL]  # the publishers only; no clip singly


def test_the_second_time_nothing_is_downloaded(project, web):
    get_corpora("real")
    web.asked.clear()
    assert get_corpora("real") == project / "data/real" and web.asked == []


def test_after_a_failure_only_what_is_missing_is_downloaded(project, web):
    web.pages |= {LIST: 500, MIRROR: 500}
    with pytest.raises(CorpusError, match="TESS could not be downloaded"):
        get_corpora("real")
    web.pages |= {MIRROR: MIRROR_ZIP}
    web.asked.clear()
    get_corpora("real")
    assert_whole(project / "data/real")
    assert ZENODO not in web.asked


@pytest.mark.parametrize("page, why", [
    (404, "404"),
    (RAVDESS_ZIP[:2_000], "hash"),
    ((len(RAVDESS_ZIP), RAVDESS_ZIP[:2_000]), "IncompleteRead"),  # the connection breaks
    (zipped({name: clip(name) for name in RAVDESS[:2]}), "hash"),
    (b"<html>The site is down for maintenance</html>", "hash"),
], ids=["not found", "truncated", "broken off", "another zip", "a web page"])
def test_a_download_that_is_not_what_was_published_is_refused(project, web, page, why):
    web.pages[ZENODO] = page
    with pytest.raises(CorpusError, match=why) as error:
        get_corpora("real")
    assert f"{web.url}{ZENODO}" in str(error.value)  # from where
    assert str(project / "data/downloads/Audio_Speech_Actors_01-24.zip") in str(error.value)  # and where to put it
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


@pytest.mark.parametrize("members, compression", [
    ({name: clip(name) for name in RAVDESS[:2]}, zipfile.ZIP_DEFLATED),
    ({name: clip(name) for name in TESS}, zipfile.ZIP_DEFLATED),
    ({}, zipfile.ZIP_STORED),
], ids=["a clip missing", "another corpus", "empty"])
def test_a_zip_that_lacks_clips_is_refused_although_its_md5_is_right(project, web, monkeypatch, members, compression):
    archive = zipped(members, compression)
    web.pages[ZENODO] = archive
    monkeypatch.setitem(corpora.SOURCES, "ravdess", (f"{web.url}{ZENODO}?download=1", f"md5:{md5(archive)}"))
    with pytest.raises(CorpusError, match="instead of 3"):
        get_corpora("real")
    assert names(project) == ["Audio_Speech_Actors_01-24.zip"]  # nothing of what was in it


def test_zips_that_the_reader_put_in_downloads_need_no_network(project, web):
    (project / "data/downloads").mkdir(parents=True)
    (project / "data/downloads" / ZENODO.split("/")[-1]).write_bytes(RAVDESS_ZIP)
    (project / "data/downloads" / MIRROR.split("/")[-1]).write_bytes(MIRROR_ZIP)
    web.pages.clear()
    get_corpora("real")
    assert_whole(project / "data/real")
    assert web.asked == []


def test_a_run_that_was_killed_while_unpacking_starts_the_corpus_anew(project, monkeypatch):
    with monkeypatch.context() as killed:  # between two clips, and nobody tidies up
        killed.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        killed.setattr(corpora, "open", lambda path, mode: stop() if str(path).endswith(RAVDESS[1]) else open(path, mode), raising=False)
        with pytest.raises(KeyboardInterrupt):
            get_corpora("real")
    get_corpora("real")
    assert_whole(project / "data/real")


def stop():
    raise KeyboardInterrupt


# ---- TESS has two sources


def without(name):
    return zipped({other: clip(other) for other in TESS if other != name})


def with_other_bytes(name):
    return zipped({other: clip(other if other != name else "another") for other in TESS})


def with_broken_bytes(name, compression):
    """A zip of which one member's data are damaged."""
    archive = bytearray(zipped({other: clip(other) for other in TESS}, compression))
    start = archive.index(name.encode()) + len(name)
    archive[start:start + 500] = bytes(500)
    return bytes(archive)


@pytest.mark.parametrize("archive", [
    without("YAF_back_sad.wav"),
    with_other_bytes("YAF_back_sad.wav"),
    with_broken_bytes("YAF_back_sad.wav", zipfile.ZIP_STORED),
    with_broken_bytes("YAF_back_sad.wav", zipfile.ZIP_DEFLATED),
], ids=["missing", "other bytes", "damaged", "damaged where packed"])
def test_a_clip_that_dataverses_zip_lacks_is_fetched_singly(project, web, archive):
    web.pages[ALL] = archive
    get_corpora("real")
    assert_whole(project / "data/real")
    assert f"{ONE}2" in web.asked and f"{ONE}0" not in web.asked and MIRROR not in web.asked


def test_all_clips_are_fetched_singly_where_dataverses_zip_is_none(project, web):
    web.pages[ALL] = DATAVERSE_ZIP[:1_000]
    get_corpora("real")
    assert_whole(project / "data/real")
    assert MIRROR not in web.asked


@pytest.mark.parametrize("pages", [
    {LIST: 503},
    {LIST: "<html>maintenance</html>"},
    {LIST: '{"status": "ERROR"}'},
    {ALL: 503},
    {ALL: without("YAF_back_sad.wav"), f"{ONE}2": 404},
    {ALL: without("YAF_back_sad.wav"), f"{ONE}2": b"other bytes"},
    {LIST: '{"data": {"latestVersion": {"files": []}}}', ALL: without("YAF_back_sad.wav")},
], ids=["down", "a web page", "an error", "no zip", "a clip not found", "a clip of other bytes", "an empty list"])
def test_where_dataverse_fails_the_mirror_is_used(project, web, pages):
    web.pages |= pages
    get_corpora("real")
    assert_whole(project / "data/real")
    assert MIRROR in web.asked


def test_where_both_fail_the_error_names_both(project, web):
    web.pages |= {LIST: 503, MIRROR: 404}
    with pytest.raises(CorpusError) as error:
        get_corpora("real")
    assert f"{web.url}/api: 503" in str(error.value) and f"{web.url}{MIRROR}: 404" in str(error.value)
    assert not (project / "data/real/TESS").exists()


# ---- what is inside a zip is not trusted


def test_no_zip_can_write_outside_its_folder(tmp_path):
    (tmp_path / "evil.zip").write_bytes(zipped({
        "../../evil.wav": b"evil", "/evil.wav": b"evil", "..\\..\\evil.wav": b"evil", "C:\\evil.wav": b"evil", "evil.sh": b"evil",
        f"../{RAVDESS[0]}": b"0", f"{tmp_path}/outside/{RAVDESS[1]}": b"1", f"..\\..\\{RAVDESS[2]}": b"2",
        "../../OAF_back_fear.wav/": b"", "../OAF_.._fear.wav": b"evil", "OAF_back_fear.wav/../YAF_back_sad.wav": b"3",
        "YAF_youth_ps.exe": b"evil"}))
    unpack(tmp_path / "evil.zip", tmp_path / "a/b/c")
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} - {"a/b/c/TESS/OAF/OAF_back_fear.wav"} == {
        "evil.zip", "a/b/c/RAVDESS/Actor_01/" + RAVDESS[0], "a/b/c/RAVDESS/Actor_12/" + RAVDESS[1],
        "a/b/c/RAVDESS/Actor_12/" + RAVDESS[2], "a/b/c/TESS/YAF/YAF_back_sad.wav"}


def test_a_link_in_a_zip_is_written_as_the_file_it_is(tmp_path):
    link = zipfile.ZipInfo(RAVDESS[0])
    link.external_attr = 0o120777 << 16
    (tmp_path / "evil.zip").write_bytes(zipped({link: "/etc/passwd"}))
    unpack(tmp_path / "evil.zip", tmp_path / "a")
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_songs_and_huge_members_stay_in_the_zip(tmp_path):
    members = {RAVDESS[0]: clip(RAVDESS[0]), "03-02-01-01-01-01-01.wav": b"a song", RAVDESS[1]: bytes(corpora.BIGGEST_CLIP + 1)}
    (tmp_path / "a.zip").write_bytes(zipped(members))
    unpack(tmp_path / "a.zip", tmp_path / "a")
    assert names(tmp_path / "a") == [RAVDESS[0]]


@pytest.mark.parametrize("content", [RAVDESS_ZIP[:-100], b"", b"I am a letter.", with_broken_bytes(TESS[0], zipfile.ZIP_DEFLATED),
                                     with_broken_bytes(TESS[0], zipfile.ZIP_STORED)],
                         ids=["truncated", "empty", "a letter", "damaged where packed", "damaged"])
def test_a_damaged_zip_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(CorpusError, match="a.zip is not a whole zip file"):
        unpack(tmp_path / "a.zip", tmp_path / "a")


# ---- DATA: the reader has the clips already


def test_data_with_clips_is_used_where_it_is(project, web, tmp_path, tone):
    tone(tmp_path / "mine/deep/in/a/tree" / RAVDESS[0])
    assert get_corpora("real", tmp_path / "mine") == tmp_path / "mine" and web.asked == []


def test_data_with_the_zips_as_published_is_unpacked_into_the_project(project, web, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/Audio_Speech_Actors_01-24.zip").write_bytes(RAVDESS_ZIP)
    (tmp_path / "mine/dataverse_files.zip").write_bytes(DATAVERSE_ZIP)
    folder = get_corpora("real", tmp_path / "mine")
    assert_whole(folder)
    assert folder == project / "data/real" and web.asked == []
    assert len(find_clips(folder)[0]) == len(RAVDESS + TESS)
    (folder / "unpacked once").touch()
    assert get_corpora("real", tmp_path / "mine") == folder and (folder / "unpacked once").exists()


def test_a_damaged_zip_in_data_leaves_no_half_corpus(project, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/TESS.zip").write_bytes(with_broken_bytes(TESS[3], zipfile.ZIP_STORED))
    with pytest.raises(CorpusError, match="TESS.zip"):
        get_corpora("real", tmp_path / "mine")
    get_corpora("real")  # the download is not kept from what is missing
    assert_whole(project / "data/real")


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.mkdir(), lambda folder: folder.write_text("a file"),
                                  lambda folder: (folder.mkdir(), (folder / "photos.zip").write_bytes(zipped({"cat.jpg": b"miaow"})))],
                         ids=["missing", "empty", "a file", "a zip of photos"])
def test_data_without_clips_is_an_error_that_names_it(project, web, tmp_path, make):
    make(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match="DATA is .*mine"):
        get_corpora("real", str(tmp_path / "mine"))
    assert web.asked == []


# ---- the demo, and what is neither


def test_the_demo_corpus_is_made_in_the_project(project, web, monkeypatch):
    monkeypatch.setattr(corpora, "make_demo", lambda folder: folder)  # test_demo.py makes one
    assert get_corpora("demo") == project / "data/demo" and web.asked == []


def test_another_corpus_is_refused(project):
    with pytest.raises(ValueError, match="'everything'.*'real' or 'demo'"):
        get_corpora("everything")
