"""No recording, no licensed clip and no weights in anything that is committed."""

import base64
import gzip
import re
import subprocess
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Small files made by a formula, which the tests replay.
OURS = ("tests/fuzz_cases/",)
SOUND = "wav flac ogg oga opus mp3 m4a aac aiff aif webm mkv caf amr wma mp4 mov w64 au voc"
WEIGHTS = "pth pt pkl pickle safetensors ckpt bin onnx h5 npy npz joblib"
# How files of sound begin (an mp3 without a tag is known by its ending alone).
MAGIC = re.compile(
    rb"RIFF....WAVE|RIFX....WAVE|fLaC\0|OggS\0|FORM....AIF|ID3[\2-\4]\0"
    rb"|\x1aE\xdf\xa3|....ftyp|caff\0",
    re.DOTALL,
)
# The same in base64, as notebooks keep it, and how pages name it.
TEXT = re.compile(r"UklGR[i-l]|ZkxhQ|T2dnUwA|SUQz[AB]|data:audio|audio/(?!\*)[a-z0-9-]+;|<audio")


def git(*arguments):
    """What git says of the project; without it nobody can say what is or was committed."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.check_output(command, stderr=subprocess.DEVNULL).decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git here to say what is committed")


def committed():
    """The files that git keeps, or those of a folder without git that are not ignored."""
    names = git("ls-files", "-z").split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def problems_of(name, content):
    """Why a file may not be committed, in words; "" if it may."""
    ending = name.rsplit(".", 1)[-1].lower()
    if ending in SOUND.split() or MAGIC.match(content):
        return "" if name.startswith(OURS) else "sound"
    if ending in WEIGHTS.split() or content[:4] == b"PK\3\4" or content[:2] == b"\x80\2":
        return "weights, a pickle or a zip file"
    if ending in ("ipynb", "html", "md", "json") and TEXT.search(content.decode(errors="replace")):
        return "sound inside a text"
    if ending == "gz" and MAGIC.match(gzip.decompress(content)):
        return "packed sound"
    return ""


def test_nothing_that_is_committed_is_sound_weights_or_a_clip():
    files = committed()
    assert len(files) > 50
    names = [str(path.relative_to(ROOT)).replace("\\", "/") for path in files]
    found = {
        name: problems_of(name, path.read_bytes()) for name, path in zip(names, files, strict=True)
    }
    assert not {name: problem for name, problem in found.items() if problem}
    kept = {"data/README.md", "models/README.md"}  # the folders of clips, pictures and weights
    assert {name for name in names if name.startswith(("data/", "models/"))} <= kept


def test_nothing_that_was_ever_committed_has_the_name_of_sound_or_weights():
    """In the whole history that is here: what a later commit deleted can still be had."""
    lines = git("rev-list", "--objects", "--all").splitlines()
    names = {line.partition(" ")[2] for line in lines}
    assert "README.md" in names
    assert not {name for name in names if problems_of(name, b"") and not name.startswith(OURS)}


def test_no_picture_of_a_clip_is_committed():
    """Eight folders of spectrograms can be turned into sound again."""
    clip = re.compile(
        r"(03-0[12]-[0-9-]{14}|(OAF?|YAF)_[a-z]+_[a-z]+)\.(png|jpe?g)$", re.IGNORECASE
    )
    assert not [path for path in committed() if clip.search(path.name)]


def sample(kind):
    """A file of a kind that must be noticed."""
    file = BytesIO()
    if kind.endswith("zip"):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.wav", b"")
        return file.getvalue()
    wav = b"RIFF\x24\x10\0\0WAVEfmt " + bytes(64)
    text = base64.b64encode(wav).decode()
    return {
        "a.wav": wav,
        "a.txt": wav,
        "a.bin": b"anything",
        "a.csv.gz": gzip.compress(wav),
        "a.ipynb": f'{{"text": "{text}"}}'.encode(),
        "b.ipynb": b'<audio src=\\"x\\">',
        "model": b"\x80\2}q\0.",
        "a.mp3": b"\xff\xfb\x90\x64",
    }[kind]


@pytest.mark.parametrize(
    "kind", ["a.wav", "a.txt", "a.bin", "a.csv.gz", "a.ipynb", "b.ipynb", "model", "a.mp3", "a.zip"]
)
def test_the_scan_notices_what_it_looks_for(kind):
    assert problems_of(kind, sample(kind))
    assert not problems_of("README.md", b"# Emotions in a voice, in RIFF files")
