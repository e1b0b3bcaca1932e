"""Look for files that break the reader, guided by which lines of it they reach; atheris does it.

    pip install atheris  # into an environment of its own beside the project's packages: it is
                         # not in the lock, as it exists for Linux and macOS only
    python tests/fuzz_audio.py -max_total_time=120

begins with a small file of each kind, changes them, and asks of each what hostile.py asks: a whole
picture or an error of ours, in bounded time. What it begins with is tried as a file's name too. An
input that breaks this is kept by atheris as crash-... in the current folder: make it small
(`-minimize_crash=1`), put it into tests/fuzz_cases/, and test_audio_any.py replays it in every run.
Prints how many inputs were tried.
"""

import io
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=[f"emotion_helpers.{room}" for room in ("audio", "clips", "pictures")]
):
    from hostile import check_file, quick_network

    from emotion_helpers.clips import ClipError, clip_path, parse_name

import soundfile as sf
from sounds import encode, voice

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
NETWORK = quick_network()
TRIED = {"picture": 0, "refused": 0}


def write_seeds(folder):
    """A fifth of a second of voice in each kind of file."""
    samples = voice(0.2, 16_000)
    for name in ("a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.w64", "a.caf", "a.au"):
        sf.write(folder / name, samples, 16_000)
    sf.write(folder / "float.wav", samples, 16_000, subtype="FLOAT")
    for container, codec in (
        ("mp4", "aac"),
        ("webm", "libopus"),
        ("mkv", "pcm_s16le"),
        ("ac3",) * 2,
    ):
        rate = 48_000 if codec in ("libopus", "ac3") else 16_000
        content = encode(
            io.BytesIO(), voice(0.2, rate), rate, codec, container.replace("mkv", "matroska")
        )
        (folder / f"b.{container}").write_bytes(content.getvalue())


def check_name(name):
    """Any name is a clip's or refused, and its path stays below the folder that it is put into."""
    with suppress(ClipError):
        assert parse_name(name)["emotion"]
    path = clip_path(name)
    assert path is None or not (path.is_absolute() or ".." in path.parts)


def test_one_input(content):
    check_name(content[:100].decode(errors="surrogateescape"))
    path = FOLDER / "input"
    path.write_bytes(content)
    TRIED[check_file(path, NETWORK)] += 1
    if sum(TRIED.values()) % 500 == 0:
        print(TRIED, flush=True)


if __name__ == "__main__":
    seeds = FOLDER / "seeds"
    seeds.mkdir()
    write_seeds(seeds)
    options = ["-max_len=20000", "-rss_limit_mb=4000", "-timeout=20"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:], str(seeds)], test_one_input)
    atheris.Fuzz()
