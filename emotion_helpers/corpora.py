"""Where the clips come from: the published corpora, a folder of the reader's, or the demo."""

import shutil
import zipfile
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import pooch
import requests

from . import EmotionHelpersError, move_once, own_folder, remove_leftovers
from .clips import clip_path, files_below, find_clips
from .demo import make_demo

NEAR = Path(__file__).resolve().parent.parent, Path.cwd(), Path.cwd().parent
CLONES = [p for p in NEAR if (p / "notebooks").is_dir() and (p / "emotion_helpers").is_dir()]
ROOT = [*CLONES, Path.cwd()][0]  # data/ and models/ are here
URLS = {  # of RAVDESS's publisher, doi:10.5281/zenodo.1188976, and of a mirror of TESS
    "ravdess": "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1",
    "tess": "https://bj.bcebos.com/paddleaudio/datasets/TESS_Toronto_emotional_speech_set.zip",
}
MD5S = {"ravdess": "bc696df654c87fed845eb13823edef8a", "tess": "1465311b24d1de704c4c63e4ccc470c7"}
DATAVERSE, TESS_DOI = "https://borealisdata.ca/api", "doi:10.5683/SP2/E8H2MF"  # TESS's publisher
HEADERS = {"User-Agent": "emotion-helpers/2.0"}  # servers refuse python-requests/...
TIMEOUT = 60  # seconds, to connect and from packet to packet
EXPECTED = {"ravdess": 1440, "tess": 2800}  # clips as published
BIGGEST_CLIP = 20_000_000  # bytes; the longest one published has 1.3 million


class CorpusError(EmotionHelpersError):
    """A corpus that cannot be had; the message says from where and what to do."""


def pictures_folder(corpus: str, name: str = "") -> Path:
    """Where the pictures of a corpus go; `name` tells those of other settings apart."""
    return ROOT / "data" / "pictures" / (f"{corpus}-{name}" if name else corpus)


def models_folder(corpus: str) -> Path:
    """Where the networks of a corpus go."""
    return ROOT / "models" / corpus


def results_folder(corpus: str) -> Path:
    """Where a run's tables go: those of the real corpora are part of the project."""
    folder = (ROOT / "notebooks" if corpus == "real" else models_folder(corpus)) / "results"
    folder.mkdir(parents=True, exist_ok=True)
    shipped = Path(__file__).with_name("results")  # with the package, where there is no clone
    if corpus == "real" and shipped.is_dir() and not any(folder.iterdir()):
        shutil.copytree(shipped, folder, dirs_exist_ok=True)
    return folder


def count_clips(folder: Path) -> Counter:
    """How many clips of each corpus are below `folder`; copies count once."""
    paths = {clip_path(file.name) for file in files_below(folder)} - {None}
    return Counter(path.parts[0].lower() for path in paths)


def unpack(archive, folder: Path, nested: bool = True) -> None:
    """Write the clips of a zip file, and of zip files in it, to `folder`/CORPUS/speaker: no name
    can lead elsewhere. Raises `CorpusError`."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                path = clip_path(member.filename)
                possible = member.file_size <= 200 * member.compress_size  # no sound is packed so
                if path and possible and member.file_size <= BIGGEST_CLIP:
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_bytes(zipped.read(member))
                elif nested and possible and Path(member.filename.lower()).match("[!.]*.zip"):
                    with zipped.open(member) as inner:
                        unpack(inner, folder, nested=False)
    except Exception as e:  # damaged files raise a dozen kinds
        raise CorpusError(f"{archive} could not be unpacked ({e}); make room or get it anew") from e


@contextmanager
def new_corpora(folder: Path):
    """Give a folder to unpack into; at the end each corpus in it moves to `folder`, whole."""
    with own_folder(folder) as unpacked:  # on the same disk
        yield unpacked
        for corpus in unpacked.iterdir():
            if corpus.name.lower() not in count_clips(folder):
                move_once(corpus, folder / corpus.name, count_clips)


def retrieve(url: str, md5: str | None, path: Path) -> None:
    """Download `url` to `path`, whole or not at all, unless it is there with this md5."""
    download = pooch.HTTPDownloader(progressbar=True, headers=HEADERS, timeout=TIMEOUT)
    pooch.retrieve(url, md5 and f"md5:{md5}", path.name, path.parent, downloader=download)


def fetch_from_dataverse(folder: Path) -> None:
    """TESS from its publisher: a zip made on request, then each clip that it lacks or spoils, as
    Dataverse may leave files out of a zip without an error (its issues 7157 and 5588)."""
    dataset = f":persistentId/?persistentId={TESS_DOI}"
    reply = requests.get(f"{DATAVERSE}/datasets/{dataset}", headers=HEADERS, timeout=TIMEOUT)
    reply.raise_for_status()
    files = [entry["dataFile"] for entry in reply.json()["data"]["latestVersion"]["files"]]
    clips = {path: file for file in files if (path := clip_path(file["filename"]))}
    if len(clips) < EXPECTED["tess"]:
        raise CorpusError(f"a list of {len(clips)} clips instead of {EXPECTED['tess']}")
    archive = folder / "on-request.zip"
    retrieve(f"{DATAVERSE}/access/dataset/{dataset}", None, archive)
    with suppress(CorpusError):
        unpack(archive, folder)
    archive.unlink()  # there is no checksum to know it by
    for path, file in clips.items():  # nothing is downloaded that is there with this md5
        retrieve(f"{DATAVERSE}/access/datafile/{file['id']}", file["md5"], folder / path)


def fetch(corpus: str, folder: Path) -> None:
    """Download, check and unpack one corpus into `folder`/CORPUS. Raises `CorpusError`."""
    url = URLS[corpus]
    archive = ROOT / "data" / "downloads" / Path(url.split("?")[0]).name
    remove_leftovers(archive.parent, "tmp????????", 86_400)  # pooch's
    sources = [DATAVERSE, url] if corpus == "tess" else [url]
    problems = f"{corpus.upper()} could not be downloaded:"
    for source in sources[::-1] if archive.exists() else sources:  # a zip put there goes first
        try:
            with new_corpora(folder) as unpacked:
                if source == DATAVERSE:
                    fetch_from_dataverse(unpacked)
                else:
                    retrieve(url, MD5S[corpus], archive)
                    unpack(archive, unpacked)
            return
        except Exception as error:  # a server may send anything
            problems += f"\n  {source}: {type(error).__name__}: {error}"
    advice = f"Make room, if the disk is full. With a browser, get {url} and put it, unopened, at"
    raise CorpusError(f"{problems}\n{advice} {archive}, or set DATA (--data) to your clips' folder")


def get_corpora(corpus="real", data: str | Path | None = None, parts=tuple(EXPECTED)) -> Path:
    """The folder with the clips of `corpus` ("real" or "demo"), fetched or made if none is there.

    `data`: what the reader has already: a folder of any shape, with clips, or else with zip
    files, or one zip file; zip files are unpacked to data/real. `parts`: which of the real corpora
    are wanted. Raises `CorpusError`, or `ClipError` if `data` has no clip."""
    if corpus == "demo":
        return make_demo(ROOT / "data" / "demo")
    if corpus != "real":
        raise CorpusError(f"CORPUS is {corpus!r}; it can be 'real' or 'demo'")
    folder, data = ROOT / "data" / "real", Path(data).expanduser().absolute() if data else None
    missing = sorted({*parts} - {*count_clips(folder)})
    if data and count_clips(data):
        folder = data
    elif data:
        zips = [f for f in (data, *files_below(data)) if f.suffix.lower().split("?")[0] == ".zip"]
        if missing or not zips or not data.exists():  # else an earlier notebook did it
            with new_corpora(folder) as unpacked:
                for archive in zips:
                    unpack(archive, unpacked)
                if not any(unpacked.iterdir()):
                    find_clips(data)  # an error that says why none of its files is one
    for key in [] if data else missing:
        fetch(key, folder)
    counts = count_clips(folder)
    if any(counts[key] < EXPECTED[key] for key in parts):
        shares = [f"{counts[key]} of {EXPECTED[key]} {key.upper()}" for key in parts]
        place = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
        print(f"{place} holds {' and '.join(shares)} clips; going on with these.")
    return folder
