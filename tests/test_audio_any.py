"""Any file at all: a whole picture or a sentence of ours, in bounded time and memory.

`EXAMPLES=5000 pytest ...` tries as many of each kind; fuzz_audio.py looks for new ones.
"""

import io
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hostile import check_file, quick_network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sounds import voice, write_tracks

from emotion_helpers.audio import AudioError, read_audio, read_recording
from emotion_helpers.beyond.prediction import predict
from emotion_helpers.pictures import mel_picture

ROOT = Path(__file__).resolve().parent.parent
CASES = Path(__file__).resolve().parent / "fuzz_cases"
RATE = 22_050
EXAMPLES = int(os.environ.get("EXAMPLES", "40"))
# The same examples in every run; files are made anew in one place.
always = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[*HealthCheck],
)


@pytest.fixture(scope="module")
def network():
    return quick_network()


def square(t, _):
    return np.sign(np.sin(2 * np.pi * 220 * t + 0.1))


KINDS = {
    "zeros": lambda t, _: 0 * t,
    "noise": lambda t, rng: rng.uniform(-1, 1, len(t)),
    "a square wave": square,
    "denormal": lambda t, rng: 1e-40 * rng.normal(size=len(t)),
    "faint": lambda t, rng: 2e-5 * rng.normal(size=len(t)),
    "an offset": lambda t, rng: 0.9 + 1e-3 * rng.normal(size=len(t)),
    "a great offset": lambda t, rng: 1e6 + rng.integers(0, 2, len(t)) / 16,  # a step of rounding
    "one impulse": lambda t, _: 1.0 * (np.arange(len(t)) == len(t) // 2),
    "huge": lambda t, rng: 1e30 * rng.normal(size=len(t)),
    "as large as floats can be": lambda t, rng: 3.4e38 * rng.choice([-1, 1], len(t)),
    "not a number": lambda t, _: np.where(np.arange(len(t)) % 97 == 96, np.nan, 0.1),
    "infinite": lambda t, _: np.where(np.arange(len(t)) % 97 == 96, -np.inf, 0.1),
    "a voice": lambda t, _: np.resize(voice(1, 8_000), len(t)),
}
RATES = [1, 999, 1_000, 4_000, 8_000, 11_025, 22_050, 24_414, 44_100, 48_000, 96_000, 384_000]
CONTAINERS = [  # without libsndfile's coders of speech and music, which crash over some of this
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("WAV", "ULAW"), ("AIFF", "FLOAT"), ("AIFF", "PCM_S8"), ("CAF", "DOUBLE"), ("AU", "FLOAT")),
    *(("RF64", "FLOAT"), ("W64", "DOUBLE"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")),
]


@always
@given(
    kind=st.sampled_from([*KINDS]),
    container=st.sampled_from(CONTAINERS),
    rate=st.sampled_from(RATES) | st.integers(1, 1_100_000),
    channels=st.integers(1, 8),
    seconds=st.sampled_from([0, 1e-5, 1e-3, 0.05, 0.1, 0.2, 1, 4]),
    gain=st.sampled_from([1, 1, 1e-3]),
    seed=st.integers(0, 9),
)
def test_any_samples_in_any_container(
    tmp_path_factory, network, kind, container, rate, channels, seconds, gain, seed
):
    rng = np.random.default_rng(seed)
    t = np.arange(min(round(seconds * rate), 200_000)) / rate
    with np.errstate(all="ignore"):
        samples = gain * np.stack([KINDS[kind](t, rng) for _ in range(channels)], axis=1)
        path = tmp_path_factory.getbasetemp() / "any"
        try:
            sf.write(path, samples, rate, format=container[0], subtype=container[1])
        except (sf.LibsndfileError, ValueError, AssertionError):  # which cannot be written so
            return
    check_file(path, network)


@always
@given(
    kind=st.sampled_from([*KINDS]),
    size=st.integers(0, 3_000) | st.integers(3_000, 200_000),
    seed=st.integers(0, 99),
)
def test_any_samples_become_a_picture_or_an_error(kind, size, seed):
    """Without a file between, as float64: what a reader's own code may pass."""
    from emotion_helpers import EmotionHelpersError

    samples = KINDS[kind](np.arange(size) / RATE, np.random.default_rng(seed))
    try:
        picture = mel_picture(samples)
    except EmotionHelpersError:
        assert not size or kind in ("not a number", "infinite")
        return
    assert picture.shape == (288, 432, 3) and picture.dtype == np.uint8


def test_what_a_great_offset_leaves_no_picture_of_is_no_speech(tmp_path, network):
    """It is louder than silence, and yet no more than what rounding leaves of the offset."""
    samples = KINDS["a great offset"](np.arange(2 * RATE), np.random.default_rng(0))
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    assert not mel_picture(read_audio(tmp_path / "a.wav", RATE)).any()
    assert re.search("noise or a hum|clipped", predict(tmp_path / "a.wav", network).reason)


@always
@given(
    which=st.integers(0, 3),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
    share=st.floats(0.01, 1),
)
def test_any_damage(tmp_path_factory, network, which, places, share):
    """Bytes turned to others, and the end cut off."""
    container = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", None)][which]
    file = io.BytesIO()
    sf.write(file, voice(0.5, 16_000), 16_000, format=container[0], subtype=container[1])
    content = bytearray(file.getvalue())
    for place, byte in places:  # most of them in the header
        content[int(place**4 * (len(content) - 1))] = byte
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: 1 + int(share * len(content))])
    check_file(path, network)


@always
@given(name=st.text(st.characters(blacklist_characters="/\0"), min_size=1, max_size=60))
def test_any_file_name(tmp_path_factory, name):
    """It is read, or refused by a sentence, whatever its name looks like."""
    folder = tmp_path_factory.getbasetemp() / "names"
    folder.mkdir(exist_ok=True)
    path = folder / name
    if name in (".", ".."):
        return
    try:
        content = io.BytesIO()
        sf.write(content, voice(0.2, 8_000), 8_000, format="WAV")
        path.write_bytes(content.getvalue())
    except (OSError, UnicodeEncodeError):  # which this machine's file system does not allow
        return
    assert check_file(path) == "picture"
    path.unlink()


@pytest.mark.parametrize("path", sorted(CASES.glob("*")), ids=lambda path: path.name)
def test_what_fuzzing_came_upon(network, path):
    check_file(path, network)


# ---- bombs: a small file, or a small header, that promises or holds a great deal

MEASURE = """
import resource, sys, time
from emotion_helpers.audio import AudioError, read_recording
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
read_recording(sys.argv[1], 8_000)
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    said = read_recording(sys.argv[2], 8_000, float(sys.argv[3])).seconds
except AudioError as error:
    said = error
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) // 1024, time.process_time() - start, said, sep=";")
"""


def measure(tone_path, path, limit):
    """Megabytes and seconds that reading a file takes beyond reading a short one, and the end."""
    command = [sys.executable, "-c", MEASURE, tone_path, path, limit]
    output = subprocess.check_output([*map(str, command)], cwd=ROOT, text=True)
    megabytes, seconds, said = output.strip().split(";", 2)
    return float(megabytes), float(seconds), said


def test_an_hour_of_silence_in_a_few_kilobytes_costs_what_an_hour_costs(tmp_path, tone):
    with sf.SoundFile(tmp_path / "hour.flac", "w", 8_000, 1, "PCM_16") as file:
        for _ in range(61):
            file.write(np.zeros(60 * 8_000, np.int16))
    assert (tmp_path / "hour.flac").stat().st_size < 200_000
    megabytes, seconds, said = measure(tone(tmp_path / "a.wav"), tmp_path / "hour.flac", 3600)
    assert "longer than 3600 s" in said
    assert megabytes < 300 and seconds < 20  # samples are 115 MB


def header_of_ten_hours(kind, content):
    """The bytes of a half-second file whose header promises ten hours."""
    if kind == "WAV":
        place = content.index(b"data") + 4
        content[place : place + 4] = (36_000 * 16_000 * 2).to_bytes(4, "little")
    elif kind == "AIFF":
        place = content.index(b"COMM") + 10
        content[place : place + 4] = (36_000 * 16_000).to_bytes(4, "big")
    else:  # the last 36 of 64 bits that begin with rate, channels and depth
        content[22:26] = (36_000 * 16_000).to_bytes(4, "big")
    return content


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC"])
def test_a_header_that_promises_ten_hours_is_not_believed(tmp_path, tone, kind):
    file = io.BytesIO()
    sf.write(file, voice(0.5, 16_000), 16_000, format=kind)
    path = tmp_path / "ten hours"
    path.write_bytes(header_of_ten_hours(kind, bytearray(file.getvalue())))
    megabytes, seconds, said = measure(tone(tmp_path / "a.wav"), path, 3600)
    assert float(said) == pytest.approx(0.5, abs=0.01)
    assert megabytes < 50 and seconds < 2


def test_many_silent_tracks_take_no_longer_than_their_sum(tmp_path):
    tracks = [np.zeros((1, 16_000), np.float32)] * 60
    write_tracks(tmp_path / "a.mkv", tracks, 16_000, "pcm_s16le")
    assert check_file(tmp_path / "a.mkv") == "refused"


def test_many_silent_tracks_are_not_held_in_memory(tmp_path):
    """Forty of an hour each are a few megabytes of FLAC, and would be thirteen gigabytes."""
    peaks = []
    for number in (1, 30):
        tracks = [np.zeros((1, 160_000), np.float32)] * number
        write_tracks(tmp_path / "a.mkv", tracks, 16_000, "pcm_s16le")
        tracemalloc.start()
        with pytest.raises(AudioError, match="silent"):
            read_audio(tmp_path / "a.mkv", RATE)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 4 * peaks[0]


def test_a_clip_longer_than_an_hour_is_refused_before_it_fills_the_memory(tmp_path):
    sf.write(tmp_path / "a.flac", np.zeros(100 * 8_000, np.int16), 8_000)
    with pytest.raises(AudioError, match="longer than 30 s"):
        read_recording(tmp_path / "a.flac", RATE, max_seconds=30)
    with pytest.raises(AudioError, match="silent"):
        read_audio(tmp_path / "a.flac", RATE)
