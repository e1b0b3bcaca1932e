"""Any sound file to samples: containers, codecs, rates, damage, and librosa as the oracle."""

import io
import os
import tracemalloc

import av
import librosa
import numpy as np
import pytest
import soundfile as sf
from sounds import encode, hum, noise, voice, write_tracks

from emotion_helpers.audio import (
    CLIPPED_LIMIT,
    AudioError,
    active_intervals,
    high_pass,
    is_truncated,
    read_audio,
    read_recording,
)

RATE = 22_050


def resample(samples, from_rate, to_rate=RATE):
    return librosa.resample(samples, orig_sr=from_rate, target_sr=to_rate)


def wav_bytes(samples, rate=16_000, **container):
    file = io.BytesIO()
    sf.write(file, samples.T, rate, format=container.pop("format", "WAV"), **container)
    return bytearray(file.getvalue())


def encoded(samples, rate, codec, container_format):
    return encode(io.BytesIO(), samples, rate, codec, container_format).getvalue()


def correlation(samples, expected, longest_delay=0.1):
    """Of a middle second, after the delay that many codecs have has been removed."""
    start, size = RATE // 2, RATE
    pad = round(longest_delay * RATE)
    around = samples[start - pad : start + size + pad]
    delay = np.correlate(around, expected[start : start + size], "valid").argmax()
    return np.corrcoef(around[delay : delay + size], expected[start : start + size])[0, 1]


@pytest.fixture(scope="module")
def speech():
    return voice()  # 2 s at 48 kHz


# ---- containers, codecs, rates


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_414, 44_100, 48_000, 96_000])
def test_a_wav_file_is_what_librosa_reads(speech, tmp_path, rate):
    sf.write(tmp_path / "a.wav", resample(speech, 48_000, rate), rate)
    expected, _ = librosa.load(tmp_path / "a.wav", sr=RATE)
    samples = read_audio(tmp_path / "a.wav", RATE)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(len(expected), abs=1)
    size = min(len(samples), len(expected))
    assert samples[:size] == pytest.approx(expected[:size], abs=1e-6)


SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_every_kind_of_sample_has_the_same_full_scale(speech, tmp_path, subtype):
    sf.write(tmp_path / "a.wav", speech, 48_000, subtype=subtype)
    expected, _ = librosa.load(tmp_path / "a.wav", sr=RATE)
    recording = read_recording(tmp_path / "a.wav", RATE)
    assert recording.samples == pytest.approx(expected, abs=1e-6)
    assert recording.channel_peak == pytest.approx(0.5, rel=0.04)
    assert (recording.sample_rate, recording.seconds, recording.notes) == (RATE, 2.0, ())


FORMATS = dict.fromkeys(["a.aiff", "a.flac", "a.ogg", "a.mp3", "a.w64", "a.au", "a.caf", "a.voc"])
FORMATS |= {"aiff.wav": "AIFF", "no ending": "WAV", "a.WAV": "WAV", "a.mp4": "FLAC"}


@pytest.mark.parametrize("name", FORMATS)
def test_containers_that_soundfile_writes(speech, tmp_path, name):
    sf.write(tmp_path / name, speech, 48_000, format=FORMATS[name])
    recording = read_recording(tmp_path / name, RATE)
    assert recording.seconds == pytest.approx(2, abs=0.06)
    assert correlation(recording.samples, resample(speech, 48_000)) > 0.98


CODECS = ["a.m4a aac", "a.mp4 aac", "a.3gp aac", "a.mka aac", "a.aac aac", "a.ts aac"]
CODECS += ["a.webm libopus", "a.opus libopus", "a.mp3 libmp3lame", "a.avi libmp3lame"]
CODECS += ["a.mp2 mp2", "a.ac3 ac3", "a.eac3 eac3", "a.flac flac", "a.caf alac", "a.wv wavpack"]
CODECS += ["a.tta tta", "a.mov pcm_s24le", "a.wav pcm_s64le", "a.wav adpcm_ms", "a.w64 pcm_f64le"]
CODECS += ["a.wav ac3"]


@pytest.mark.parametrize("name, codec", [pytest.param(*text.split(), id=text) for text in CODECS])
def test_codecs_and_what_is_clipped_in_them(speech, tmp_path, name, codec):
    encode(tmp_path / name, speech, 48_000, codec)
    recording = read_recording(tmp_path / name, RATE)
    assert recording.seconds == pytest.approx(2, abs=0.06)
    assert correlation(recording.samples, resample(speech, 48_000)) > 0.98
    assert recording.clipped < CLIPPED_LIMIT and recording.notes == ()
    encode(tmp_path / name, 0.3 * np.clip(20 * speech, -1, 1), 48_000, codec)
    assert read_recording(tmp_path / name, RATE).clipped > CLIPPED_LIMIT


def test_flac_from_a_pipe_does_not_say_how_long_it_is(speech, tmp_path):
    file = io.BytesIO()
    file.seekable = lambda: False
    encode(file, speech, 48_000, "flac", "flac")
    (tmp_path / "pipe.flac").write_bytes(file.getvalue())
    assert sf.info(tmp_path / "pipe.flac").frames == 2**63 - 1
    assert read_recording(tmp_path / "pipe.flac", RATE).seconds == 2


@pytest.mark.parametrize("channels", [2, 5, 11, 64])
def test_channels_are_averaged(tmp_path, channels):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (8_000, channels)).astype(np.float32)
    sf.write(tmp_path / "a.wav", samples, 8_000, subtype="FLOAT")
    recording = read_recording(tmp_path / "a.wav", 8_000)
    assert recording.samples == pytest.approx(samples.mean(axis=1), abs=1e-6)
    assert recording.channel_peak == pytest.approx(np.abs(samples).max())


def test_channels_that_cancel_each_other_are_noticed(speech, tmp_path):
    sf.write(tmp_path / "a.wav", np.stack([speech, -speech], axis=1), 48_000)
    recording = read_recording(tmp_path / "a.wav", RATE)
    assert recording.channel_peak == pytest.approx(0.5, abs=1e-3)
    assert np.abs(recording.samples).max() < 1e-4


@pytest.mark.parametrize("name", ["Zoë 😀.wav", b"caf\xe9.wav"])
def test_any_file_name(speech, tmp_path, name):
    path = os.path.join(tmp_path, os.fsdecode(name))
    with open(path, "wb") as file:
        file.write(wav_bytes(speech, 48_000))
    assert read_recording(path, RATE).seconds == 2
    assert not is_truncated(path)


# ---- headers, joints, tracks, holes


def lengths(content, riff=None, data=None):
    """A wav file with other lengths in its header."""
    place = content.index(b"data") + 4
    if riff is not None:
        content[4:8] = riff.to_bytes(4, "little")
    if data is not None:
        content[place : place + 4] = data.to_bytes(4, "little")
    return content


@pytest.mark.parametrize(
    "wrong",
    [
        {"riff": 0x7FFFF024, "data": 0x7FFFF000},  # sox into a pipe
        {"riff": 0x80000024, "data": 0x80000000},  # arecord into a pipe
        {"riff": 0xFFFFFFFF, "data": 0xFFFFFFFF},  # ffmpeg into a pipe
        {"riff": 0, "data": 0},  # a recorder that crashed
        {"riff": 64_052},  # the header counted twice
    ],
    ids=["sox", "arecord", "ffmpeg", "crashed", "off by 8"],
)
def test_what_counts_is_what_is_there_and_not_what_the_header_says(speech, tmp_path, wrong):
    content = wav_bytes(resample(speech, 48_000, 16_000))
    (tmp_path / "plain.wav").write_bytes(content)
    (tmp_path / "a.wav").write_bytes(lengths(content, **wrong))
    expected = read_audio(tmp_path / "plain.wav", RATE)
    assert not is_truncated(tmp_path / "a.wav")
    assert read_audio(tmp_path / "a.wav", RATE) == pytest.approx(expected)


@pytest.mark.parametrize(
    "kind",
    [{"format": "WAV"}, {"format": "WAVEX"}, {"format": "AIFF"}, {"endian": "BIG"}],
    ids=["wav", "wavex", "aiff", "rifx"],
)
def test_a_file_that_was_cut_off_is_told_and_its_rest_is_read(speech, tmp_path, kind):
    content = wav_bytes(speech, 48_000, **kind)
    (tmp_path / "a.wav").write_bytes(content)
    assert not is_truncated(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(content[: len(content) // 2])
    assert is_truncated(tmp_path / "a.wav")
    assert read_recording(tmp_path / "a.wav", RATE).seconds == pytest.approx(1, abs=0.01)


def test_only_wav_and_aiff_files_can_be_truncated(tmp_path):
    (tmp_path / "a.mp3").write_bytes(b"ID3" + bytes(100))
    (tmp_path / "b.wav").write_bytes(b"")
    assert not is_truncated(tmp_path / "a.mp3")
    assert not is_truncated(tmp_path / "b.wav")


@pytest.mark.parametrize(
    "codec, container", [("libmp3lame", "mp3"), ("aac", "adts"), ("ac3", "ac3")]
)
def test_two_recordings_of_different_rates_joined(speech, tmp_path, codec, container):
    second = encoded(resample(speech, 48_000, 32_000), 32_000, codec, container)
    (tmp_path / "a").write_bytes(encoded(speech, 48_000, codec, container) + second)
    recording = read_recording(tmp_path / "a", RATE)
    assert recording.seconds == pytest.approx(4, abs=0.15)
    halves = recording.samples[: 2 * RATE], recording.samples[-2 * RATE - 1000 :]
    assert [correlation(half, resample(speech, 48_000)) > 0.95 for half in halves] == [True, True]


def ogg_bytes(samples, rate, subtype="VORBIS", **options):
    return bytes(wav_bytes(samples, rate, format="OGG", subtype=subtype, **options))


@pytest.mark.parametrize(
    "first",
    [
        ogg_bytes(hum(), 48_000),
        ogg_bytes(hum(), 48_000, compression_level=0.9),
        ogg_bytes(hum(rate=16_000), 16_000),
        ogg_bytes(np.stack([hum()] * 2), 48_000),
        ogg_bytes(hum(), 48_000, subtype="OPUS"),
        encoded(hum(), 48_000, "flac", "ogg"),
    ],
    ids=["alike", "other quality", "other rate", "stereo", "other codec", "FLAC"],
)
def test_chained_ogg(speech, tmp_path, first):
    (tmp_path / "a.ogg").write_bytes(first + ogg_bytes(speech, 48_000) + first)
    recording = read_recording(tmp_path / "a.ogg", RATE)
    assert recording.seconds == pytest.approx(6, abs=0.1)
    assert recording.notes == ()
    assert correlation(recording.samples[2 * RATE :], resample(speech, 48_000)) > 0.98
    assert np.abs(recording.samples).max() < 0.6


def test_a_huge_ogg_file_is_not_held_in_memory(speech, tmp_path):
    (tmp_path / "a.ogg").write_bytes(ogg_bytes(speech, 48_000) + bytes(50_000_000))
    tracemalloc.start()
    recording = read_recording(tmp_path / "a.ogg", RATE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert recording.seconds == pytest.approx(2, abs=0.1)
    assert peak < 10_000_000  # bytes


@pytest.mark.parametrize("length", [30, 400, 3_000])
def test_chained_ogg_whose_last_part_breaks_off_in_its_header(speech, tmp_path, length):
    whole = ogg_bytes(speech, 48_000)
    (tmp_path / "a.ogg").write_bytes(whole + whole[:length])
    recording = read_recording(tmp_path / "a.ogg", RATE)
    assert recording.seconds == pytest.approx(2, abs=0.1)


def test_zeros_before_an_mp3(speech, tmp_path):
    content = bytes(2**16) + encoded(speech, 48_000, "libmp3lame", "mp3")
    (tmp_path / "a.mp3").write_bytes(content)
    samples = read_audio(tmp_path / "a.mp3", RATE)
    assert len(samples) / RATE == pytest.approx(2, abs=0.1)
    assert correlation(samples, resample(speech, 48_000)) > 0.98


@pytest.mark.parametrize("silent_tracks", [0, 1, 2])
def test_the_first_track_that_is_not_silent(speech, tmp_path, silent_tracks):
    tracks = [np.zeros((1, 96_000), np.float32)] * silent_tracks + [speech[None], noise()[None]]
    write_tracks(tmp_path / "a.mkv", tracks, 48_000, "pcm_s16le")
    recording = read_recording(tmp_path / "a.mkv", RATE)
    assert recording.samples == pytest.approx(resample(speech, 48_000), abs=1e-3)
    told = f"track 1 is silent, so track {silent_tracks + 1} was read"
    assert recording.notes == ((told,) if silent_tracks else ())


def test_a_file_whose_tracks_are_all_silent_is_silent(tmp_path):
    write_tracks(tmp_path / "a.mkv", [np.zeros((1, 48_000), np.float32)] * 2, 48_000, "pcm_s16le")
    assert not read_recording(tmp_path / "a.mkv", RATE).samples.any()
    with pytest.raises(AudioError, match=r"a.mkv: silent"):
        read_audio(tmp_path / "a.mkv", RATE)


def test_a_hole_costs_the_damaged_packets_only(speech, tmp_path):
    content = bytearray(encoded(speech, 48_000, "aac", "mp4"))
    middle = len(content) // 2
    content[middle : middle + 300] = b"\xff" * 300
    (tmp_path / "a.m4a").write_bytes(content)
    recording = read_recording(tmp_path / "a.m4a", RATE)
    assert 1.8 < recording.seconds < 2.03
    assert "damaged packets were left out" in " ".join(recording.notes)


@pytest.mark.parametrize("codec, container", [("libmp3lame", "mp3"), ("libopus", "webm")])
def test_half_a_file_is_half_a_recording(speech, tmp_path, codec, container):
    content = encoded(np.tile(speech, 4), 48_000, codec, container)
    (tmp_path / "a").write_bytes(content[: len(content) // 2])
    recording = read_recording(tmp_path / "a", RATE)
    assert recording.seconds == pytest.approx(4, abs=0.4)
    assert correlation(recording.samples, resample(speech, 48_000)) > 0.98


# ---- what is refused


@pytest.mark.parametrize(
    "name, content",
    [
        ("empty.wav", b""),
        ("letter.mp3", b"Dear reader, this is a letter." * 50),
        ("header.m4a", b"\0\0\0 ftypM4A \0\0\0\0"),
        ("bare.raw", bytes(2_000)),
        ("picture.ogg", b"\x89PNG\r\n\x1a\n" + bytes(200)),
        ("zip.wav", b"PK\x03\x04" + bytes(500)),
        ("only a header.wav", bytes(wav_bytes(np.zeros(0)))),
    ],
)
def test_a_file_without_sound_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=rf"{name}: (not a recording|less than 0.1 s of sound)"):
        read_recording(tmp_path / name, RATE)


@pytest.mark.parametrize("seed", range(20))
def test_noise_in_a_file_ends_in_samples_or_an_audio_error(speech, tmp_path, seed):
    rng = np.random.default_rng(seed)
    kinds = [("aac", "mp4"), ("libopus", "webm"), ("flac", "flac"), ("libmp3lame", "mp3")]
    content = bytearray(encoded(speech[:24_000], 48_000, *kinds[seed % 4]))
    for place in rng.integers(0, len(content), 30):
        content[place] = rng.integers(256)
    (tmp_path / "a").write_bytes(content[: rng.integers(10, len(content))])
    try:
        assert read_recording(tmp_path / "a", RATE).samples.ndim == 1
    except AudioError as error:
        assert str(tmp_path / "a") in str(error)


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n"),
        ("a.m4a", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{path}\n#EXT-X-ENDLIST\n"),
        ("a.ffconcat", "ffconcat version 1.0\nfile secret.wav\n"),
        ("a.wav", "ffconcat version 1.0\nfile secret.wav\n"),
    ],
)
def test_a_playlist_opens_no_other_file(tone, tmp_path, name, content):
    path = tone(tmp_path / "secret.wav")
    (tmp_path / name).write_text(content.format(path=path))
    with pytest.raises(AudioError, match=name):
        read_recording(tmp_path / name, RATE)


def test_a_film_without_sound_is_refused(tmp_path):
    with av.open(str(tmp_path / "film.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 64
        image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
        film.mux(stream.encode(image) + stream.encode(None))
    with pytest.raises(AudioError, match=r"film.mp4: less than 0.1 s of sound"):
        read_recording(tmp_path / "film.mp4", RATE)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(AudioError, match=r"gone.wav: not a recording .*No such file"):
        read_recording(tmp_path / "gone.wav", RATE)
    with pytest.raises(AudioError, match="not a recording"):
        read_recording(tmp_path, RATE)


@pytest.mark.parametrize("rate", [3, 999, 2_000_000])
def test_an_impossible_rate_is_refused(tmp_path, rate):
    sf.write(tmp_path / "a.wav", np.ones(5_000) / 2, rate)
    with pytest.raises(AudioError, match=rf"a.wav: {rate} samples a second"):
        read_recording(tmp_path / "a.wav", RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused(speech, tmp_path, value):
    samples = np.where(np.isin(np.arange(96_000), [5, 50_000, 95_000]), value, speech)
    sf.write(tmp_path / "a.wav", samples, 48_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a.wav: samples are not numbers .*export it again"):
        read_recording(tmp_path / "a.wav", RATE)


def test_a_recording_over_the_limit_is_refused(tmp_path):
    sf.write(tmp_path / "long.flac", np.zeros(61 * 8_000, np.int16), 8_000)
    with pytest.raises(AudioError, match=r"long.flac: longer than 60 s, which is the limit"):
        read_recording(tmp_path / "long.flac", RATE, max_seconds=60)
    assert read_recording(tmp_path / "long.flac", RATE, max_seconds=61).seconds == 61


@pytest.mark.parametrize(
    "samples, reason",
    [
        (np.full(80, 0.5), "less than 0.1 s of sound .*record or cut it anew"),
        (np.zeros(8_000), "silent .*check the recording"),
        (np.full(8_000, 1e-5), "silent"),
        (np.full(8_000, 0.02), "silent"),  # a muted microphone with an offset
    ],
    ids=["10 ms", "zeros", "nearly zeros", "offset"],
)
@pytest.mark.parametrize("rate", [8_000, RATE])
def test_clips_that_cannot_be_used_are_refused(tmp_path, samples, reason, rate):
    sf.write(tmp_path / "OAF_back_sad.wav", samples, 8_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=f"OAF_back_sad.wav: {reason}"):
        read_audio(tmp_path / "OAF_back_sad.wav", rate)


def test_memory_holds_the_result_and_not_the_recording(tmp_path):
    with sf.SoundFile(tmp_path / "long.wav", "w", 96_000, 2, "PCM_U8") as file:
        for _ in range(12):
            file.write(np.repeat(noise(10, 96_000)[:, None], 2, axis=1))
    tracemalloc.start()
    recording = read_recording(tmp_path / "long.wav", 8_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert recording.seconds == 120
    assert peak < 25e6  # bytes; the result has 4 million, the recording as floats 92


# ---- clipping


@pytest.mark.parametrize("codec, container", [("pcm_s16le", "wav"), ("aac", "mp4")])
@pytest.mark.parametrize("peak", [0.6, 1.0])
def test_a_tap_on_the_microphone_is_not_clipping(speech, tmp_path, codec, container, peak):
    samples = 0.15 * speech
    samples[40_000:40_240] = peak * np.sign(np.sin(np.arange(240) / 20))
    encode(tmp_path / "a", samples, 48_000, codec, container)
    assert read_recording(tmp_path / "a", RATE).clipped < CLIPPED_LIMIT


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("gain", [1, 0.05])
def test_clipping_of_one_channel_is_noticed_at_any_level(speech, tmp_path, subtype, gain):
    clipped = gain * np.clip(6 * speech, -1, 1)
    both = np.stack([clipped, gain * np.clip(6 * np.roll(speech, 999), -1, 1)], axis=1)
    sf.write(tmp_path / "a.wav", both, 48_000, subtype=subtype)
    assert read_recording(tmp_path / "a.wav", RATE).clipped > CLIPPED_LIMIT


@pytest.mark.parametrize("offset", [0.0, 0.02, 0.5])
def test_an_offset_without_sound_is_not_clipping(tmp_path, offset):
    samples = offset + 1e-4 * np.random.default_rng(0).normal(size=48_000)
    sf.write(tmp_path / "a.wav", samples, 48_000)
    assert read_recording(tmp_path / "a.wav", RATE).clipped == 0


# ---- where it is loud


def bursts(*gains):
    """Noise as loud as said, each after a pause of the same length."""
    rng = np.random.default_rng(1)
    loudness = np.repeat([part for gain in gains for part in (3e-4, gain)], 4_000)
    return (loudness * rng.normal(size=len(loudness))).astype(np.float32)


SOUNDS = {
    "three bursts": bursts(1, 0.1, 0.01),
    "loud to the end": np.append(bursts(0.5, 1), bursts(0.2)[4_000:]),
    "loud from the beginning": bursts(1)[4_000:],
    "silence": np.zeros(5_000, np.float32),
}
SIZES = (1, 511, 512, 513, 2_047, 2_048, 2_049)  # samples, about those of a frame and of a hop
SOUNDS |= {f"{size} samples": bursts(1)[3_900 : 3_900 + size] for size in SIZES}


@pytest.mark.parametrize("top_db", [5, 20, 35, 60])
@pytest.mark.parametrize("samples", SOUNDS.values(), ids=SOUNDS)
def test_loud_intervals_are_those_of_librosa_at_any_loudness(samples, top_db):
    expected = librosa.effects.split(samples, top_db=top_db)
    for gain in (1, 1e-6, 1e12):
        assert active_intervals(np.float32(gain) * samples, top_db).tolist() == expected.tolist()


# ---- high_pass


@pytest.mark.parametrize("hertz", [75, 100, 1_000, 8_000])
def test_high_pass_keeps_voices(hertz):
    samples = hum(2, RATE, hertz)
    difference = high_pass(samples, RATE) - samples
    assert np.std(difference[2000:-2000]) < 0.0116 * np.std(samples)  # 0.1 dB


def test_high_pass_removes_rumble_and_offset_without_a_click():
    t = np.arange(2 * RATE) / RATE
    rumble = np.sin(2 * np.pi * 15 * t + 1).astype(np.float32)
    removed = high_pass(rumble, RATE)
    assert removed.dtype == np.float32 and removed.shape == rumble.shape
    assert np.abs(removed[5000:-5000]).max() < 10 ** (-50 / 20)
    assert np.abs(removed).max() < 0.05  # also at the ends
    assert np.abs(high_pass(np.full(RATE, 0.3, np.float32), RATE)).max() < 1e-6


@pytest.mark.parametrize("size", [1, 2, 3, 10, 100])
def test_high_pass_of_a_few_samples(size):
    assert high_pass(np.ones(size, np.float32), RATE) == pytest.approx(np.zeros(size), abs=1e-6)
    assert np.isfinite(high_pass(noise(1, RATE)[:size], RATE)).all()
