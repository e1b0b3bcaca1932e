"""Where the clips come from: the two published corpora, a folder the reader has already, or the synthetic demo."""
import hashlib
import os
import shutil
import zipfile
import zlib
from pathlib import Path

import pooch
import requests

from .clips import CORPORA, ClipError, parse_name
from .demo import make_demo

ROOT = Path(__file__).resolve().parent.parent  # the project: data/ and models/ are here
EXPECTED = {"ravdess": 1440, "tess": 2800}  # clips as published
SOURCES = {
    "ravdess": ("https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1",
                "md5:bc696df654c87fed845eb13823edef8a"),  # doi:10.5281/zenodo.1188976
    "tess": ("https://bj.bcebos.com/paddleaudio/datasets/TESS_Toronto_emotional_speech_set.zip",
             "md5:1465311b24d1de704c4c63e4ccc470c7"),  # a mirror: the publisher's zip is made on request, with no checksum
    "tess_dataverse": "https://borealisdata.ca/api",  # the publisher
}
TESS_DOI = "doi:10.5683/SP2/E8H2MF"
BIGGEST_CLIP = 20_000_000  # bytes; the longest published one has 1.3 million


class CorpusError(RuntimeError):
    """A corpus that could not be had whole; the message says from where and what to do."""


def unpack(archive: Path, folder: Path) -> None:
    """Write the speech clips in a zip below `folder`, under names of our own making; everything else is left inside.

    Only the last part of a member's name counts, and only if `parse_name` knows it, so no archive can write elsewhere.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                name = Path(member.filename.replace("\\", "/")).name
                try:
                    clip = parse_name(name)
                except ClipError:
                    continue
                if Path(name).suffix.lower() != ".wav" or member.file_size > BIGGEST_CLIP:
                    continue
                target = folder / clip["corpus"].upper() / clip["speaker"] / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(member) as source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file)
    except OSError as error:
        raise OSError(error.errno, f"cannot write clips to {folder}: {error.strerror}. Make room, then run again") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise CorpusError(f"{archive} is not a whole zip file ({error}): if it is RAVDESS or TESS, download it again, else move it elsewhere") from error


def put_in_place(partial: Path, folder: Path) -> None:
    """Move each unpacked corpus in `partial` to `folder`, in place of what was there."""
    for unpacked in partial.iterdir():
        shutil.rmtree(folder / unpacked.name, ignore_errors=True)
        os.replace(unpacked, folder / unpacked.name)


def retrieve(url: str, md5: str | None, path: Path) -> Path:
    """Download `url` to `path` unless it is there with this md5; nothing is left under that name if it fails."""
    return Path(pooch.retrieve(url, md5, fname=path.name, path=path.parent, progressbar=True))


def fetch_from_dataverse(api: str, downloads: Path, folder: Path) -> None:
    """TESS from its publisher: the zip made on request, each clip checked by md5, the missing ones fetched one by one.

    Dataverse may leave files out of such a zip without an error (IQSS/dataverse issues 7157 and 5588).
    """
    reply = requests.get(f"{api}/datasets/:persistentId/", params={"persistentId": TESS_DOI}, timeout=60)
    reply.raise_for_status()
    files = [entry["dataFile"] for entry in reply.json()["data"]["latestVersion"]["files"]]
    archive = downloads / "TESS-from-dataverse.zip"
    try:
        unpack(retrieve(f"{api}/access/dataset/:persistentId/?persistentId={TESS_DOI}", None, archive), folder)
    except CorpusError as error:
        print(f"{error}; fetching its files one by one instead")
    archive.unlink(missing_ok=True)  # it has no checksum to keep it by
    for file in files:
        if not file["filename"].lower().endswith(".wav"):
            continue
        target = folder / "TESS" / parse_name(file["filename"])["speaker"] / Path(file["filename"]).name
        if not target.exists() or hashlib.md5(target.read_bytes()).hexdigest() != file["md5"]:
            retrieve(f"{api}/access/datafile/{file['id']}", f"md5:{file['md5']}", target)


def fetch(corpus: str, folder: Path, downloads: Path) -> None:
    """Download, check and unpack one corpus into `folder`/RAVDESS or `folder`/TESS. Raises `CorpusError`."""
    url, md5 = SOURCES[corpus]
    archive = downloads / url.split("/")[-1].split("?")[0]
    ways = {url: lambda part: unpack(retrieve(url, md5, archive), part)}
    if corpus == "tess" and not archive.exists():  # a zip the reader put there saves the download
        ways = {SOURCES["tess_dataverse"]: lambda part: fetch_from_dataverse(SOURCES["tess_dataverse"], downloads, part)} | ways
    partial, problems = downloads / f"{corpus}.part", []
    for source, way in ways.items():
        shutil.rmtree(partial, ignore_errors=True)
        try:
            way(partial)
            if (found := len(list(partial.rglob("*.wav")))) != EXPECTED[corpus]:
                raise CorpusError(f"{found} clips instead of {EXPECTED[corpus]}")
            return put_in_place(partial, folder)
        except (requests.RequestException, CorpusError, ValueError, KeyError) as error:
            problems.append(f"  {source}: {error}")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    raise CorpusError(f"{corpus.upper()} could not be downloaded:\n" + "\n".join(problems) + f"\nWith a browser, get {url} and put the "
                      f"file, unopened, at {archive}; then run this again. Or set DATA to the folder that holds your clips. Or set "
                      'CORPUS = "demo" to try the tutorial on synthetic voices.')


def corpora_in(folder: Path) -> set[str]:
    """Which of the corpora have at least one speech clip below `folder`, by the file names."""
    found = set()
    for path in folder.rglob("*"):
        if path.suffix.lower() == ".wav":
            try:
                found.add(parse_name(path.name)["corpus"])
            except ClipError:
                pass
    return found


def get_corpora(corpus: str = "real", data: str | Path | None = None) -> Path:
    """The folder with the clips of `corpus` ("real" or "demo"); what is missing is fetched or made first.

    `data`: a folder that the reader has already, in any shape: unpacked, nested, doubled, or with the zips as published
    (these are unpacked into the project's data/real). Raises `CorpusError` or FileNotFoundError.
    """
    if corpus == "demo":
        return make_demo(ROOT / "data" / "demo")
    if corpus != "real":
        raise ValueError(f"CORPUS is {corpus!r}; it can be 'real' or 'demo'")
    folder = ROOT / "data" / "real"
    folder.mkdir(parents=True, exist_ok=True)
    if data:
        data = Path(data).expanduser()
        if not data.is_dir():
            raise FileNotFoundError(f"DATA is {data}: there is no such folder")
        found = corpora_in(data)
        if found and found != set(CORPORA):
            print(f"DATA is {data}: only {', '.join(found).upper()} is unpacked there; going on without the other corpus "
                  "(a zip is looked into only where nothing is unpacked)")
        if found:
            return data
        if corpora_in(folder) == set(CORPORA):  # unpacked when an earlier notebook ran
            return folder
        partial = ROOT / "data" / "downloads" / "DATA.part"
        shutil.rmtree(partial, ignore_errors=True)
        for archive in sorted(data.rglob("*.zip")):
            unpack(archive, partial)
        if not partial.exists():
            raise FileNotFoundError(f"DATA is {data}: no RAVDESS or TESS clip in it, and no zip file with one")
        put_in_place(partial, folder)
        return folder
    for missing in [name for name in CORPORA if name not in corpora_in(folder)]:
        fetch(missing, folder, ROOT / "data" / "downloads")
    return folder


def results_folder(corpus: str) -> Path:
    """Where a run's tables go: the real ones are part of the project, the demo's are not."""
    folder = ROOT / "notebooks" / "results" if corpus == "real" else ROOT / "models" / corpus / "results"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
