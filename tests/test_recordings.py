"""Recordings: any container, rate, number of channels and length, in pieces, against reading the file whole."""
import io
import tracemalloc

import librosa
import numpy as np
import pytest
import soundfile as sf

from emotion_helpers.clips import ClipError, read_clip
from emotion_helpers.pictures import PictureSettings, mel_decibels
from emotion_helpers.recordings import HOP, levels, mono_blocks, overview, pieces, share_at_peak, voiced, windows
from emotion_helpers.robustness import encode

RATE = 22_050
SETTINGS = PictureSettings()


def read(path, rate=RATE):
    return np.concatenate(list(mono_blocks(path, rate)))


@pytest.fixture
def voice():
    """Two seconds of a buzz below 3 kHz that comes and goes, so that 8 kHz and MP3 keep all of it; 48 kHz, peak 0.5."""
    t = np.arange(96_000) / 48_000
    buzz = sum(np.sin(2 * np.pi * 150 * k * t) / k for k in range(1, 20)) * np.sin(np.pi * t / 2)**2
    return (0.5 * buzz / np.abs(buzz).max()).astype(np.float32)


# ---- decoding


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 24_414, 44_100, 96_000])
def test_blocks_are_the_clip_that_training_reads_whole(voice, tmp_path, rate):
    sf.write(tmp_path / "voice.wav", librosa.resample(voice, orig_sr=48_000, target_sr=rate), rate, subtype="FLOAT")
    whole = read_clip(tmp_path / "voice.wav", RATE)
    assert len(read(tmp_path / "voice.wav")) == pytest.approx(len(whole), abs=1)
    size = min(len(whole), len(read(tmp_path / "voice.wav")))
    assert read(tmp_path / "voice.wav")[:size] == pytest.approx(whole[:size], abs=1e-3)


@pytest.mark.parametrize("name, kind", [("a.wav", dict(subtype="PCM_16")), ("b.wav", dict(subtype="PCM_24")), ("c.wav", dict(subtype="ULAW")),
                                        ("d.flac", {}), ("e.aiff", {}), ("f.ogg", {}), ("g.opus", dict(format="OGG", subtype="OPUS")),
                                        ("h.mp3", {}), ("i.wav", dict(format="AIFF"))], ids=lambda x: x if isinstance(x, str) else "")
def test_every_container_that_soundfile_reads_gives_the_same_sound(voice, tmp_path, name, kind):
    sf.write(tmp_path / name, voice, 48_000, **kind)
    wanted = librosa.resample(voice, orig_sr=48_000, target_sr=RATE)
    assert np.corrcoef(*(x[:len(wanted) - 3000] for x in (read(tmp_path / name), wanted)))[0, 1] > 0.98


@pytest.mark.parametrize("name, codec", [("a.m4a", "aac"), ("b.webm", "libopus"), ("c.mp4", "aac"), ("d.mka", "aac")])
def test_what_soundfile_cannot_read_is_read_by_pyav(voice, tmp_path, name, codec):
    encode(str(tmp_path / name), voice, 48_000, codec)
    found = read(tmp_path / name)
    wanted = librosa.resample(voice, orig_sr=48_000, target_sr=RATE)
    delay = np.argmax(np.correlate(found, wanted[10_000:30_000], "valid")) - 10_000  # coders put a few samples before the beginning
    assert abs(delay) < 0.1 * RATE and len(found) == pytest.approx(len(wanted), abs=0.15 * RATE)
    assert np.corrcoef(found[10_000 + delay:30_000 + delay], wanted[10_000:30_000])[0, 1] > 0.98


def test_flac_written_into_a_pipe_does_not_say_how_long_it_is_and_is_read_whole(voice, tmp_path):
    file = io.BytesIO()
    file.seekable = lambda: False
    encode(file, voice, 48_000, "flac", "flac")
    (tmp_path / "pipe.flac").write_bytes(file.getvalue())
    assert sf.info(tmp_path / "pipe.flac").frames == 2**63 - 1
    wanted = librosa.resample(voice, orig_sr=48_000, target_sr=RATE)
    assert read(tmp_path / "pipe.flac") == pytest.approx(wanted[:len(read(tmp_path / "pipe.flac"))], abs=2e-3)


def test_channels_are_averaged(voice, tmp_path):
    sf.write(tmp_path / "five.wav", np.stack([voice, voice, 0 * voice, 0 * voice, 0.5 * voice], axis=1), 48_000, subtype="FLOAT")
    assert read(tmp_path / "five.wav") == pytest.approx(0.5 * librosa.resample(voice, orig_sr=48_000, target_sr=RATE)[:len(read(tmp_path / "five.wav"))], abs=1e-3)


def test_without_pyav_the_error_names_it(tmp_path, monkeypatch):
    (tmp_path / "note.m4a").write_bytes(b"\0\0\0 ftypM4A ")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ClipError, match="note.m4a: soundfile cannot read it.*pip install av"):
        read(tmp_path / "note.m4a")


@pytest.mark.parametrize("name, content, said", [
    ("empty.wav", b"", "not a recording"), ("letter.mp3", b"Dear reader, this is a letter." * 50, "not a recording"),
    ("header.m4a", b"\0\0\0 ftypM4A \0\0\0\0", "not a recording"), ("picture.ogg", b"\x89PNG\r\n\x1a\n" + bytes(200), "not a recording"),
    ("bare.raw", bytes(2000), "not a recording"),
    ("list.m4a", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname.wav\n#EXT-X-ENDLIST\n", "not a recording")])
def test_a_file_that_is_no_sound_is_an_error_that_names_it(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ClipError, match=f"{name}: {said}"):
        read(tmp_path / name)


def test_a_missing_a_truncated_and_a_broken_file_are_errors_that_name_it(voice, tmp_path):
    with pytest.raises(ClipError, match="gone.wav: there is no such file"):
        read(tmp_path / "gone.wav")
    sf.write(tmp_path / "cut.wav", voice, 48_000)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "cut.wav").read_bytes()[:50_000])
    with pytest.raises(ClipError, match="cut.wav: the file ends before"):
        read(tmp_path / "cut.wav")
    voice[1000] = np.nan
    sf.write(tmp_path / "nan.wav", voice, 48_000, subtype="FLOAT")
    with pytest.raises(ClipError, match="nan.wav: .*not numbers"):
        read(tmp_path / "nan.wav")


def test_half_an_mp3_is_what_is_left_of_it_and_nothing_else(voice, tmp_path):
    sf.write(tmp_path / "whole.mp3", np.tile(voice, 10), 48_000)
    content = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "half.mp3").write_bytes(content[:len(content) // 2])
    whole, half = read(tmp_path / "whole.mp3"), read(tmp_path / "half.mp3")
    assert len(half) == pytest.approx(len(whole) / 2, rel=0.05) and half[:-5000] == pytest.approx(whole[:len(half) - 5000], abs=1e-3)


def test_a_recording_over_the_limit_is_refused_before_it_is_read_to_its_end(tmp_path):
    sf.write(tmp_path / "long.flac", np.zeros(700 * 8_000, np.int16), 8_000)
    with pytest.raises(ClipError, match="long.flac: longer than 60 s"):
        levels(tmp_path / "long.flac", RATE, longest=60)
    sf.write(tmp_path / "minute.flac", np.zeros(60 * 8_000, np.int16), 8_000)
    assert levels(tmp_path / "minute.flac", RATE, longest=60)[1] == pytest.approx(60)


def test_an_impossible_rate_is_an_error_that_names_it(voice, tmp_path):
    sf.write(tmp_path / "slow.wav", voice[:1000], 3)
    with pytest.raises(ClipError, match="slow.wav: 3 samples a second"):
        read(tmp_path / "slow.wav")


# ---- pieces


def test_pieces_are_slices_of_the_whole():
    rng = np.random.default_rng(0)
    for _ in range(200):
        whole = np.arange(rng.integers(1, 300), dtype=np.float32)
        blocks = np.split(whole, np.sort(rng.integers(0, len(whole) + 1, rng.integers(0, 9))))
        starts = np.sort(rng.integers(0, len(whole), rng.integers(0, 9)))
        size = rng.integers(1, 80)
        found = list(pieces(blocks, [(start, start + size) for start in starts]))
        assert len(found) == len(starts) and all(np.array_equal(f, whole[s:s + size]) for f, s in zip(found, starts))


def test_levels_are_the_power_and_the_peak_of_each_stretch(voice, tmp_path):
    sf.write(tmp_path / "voice.wav", voice, 48_000)
    whole, (table, seconds) = read(tmp_path / "voice.wav"), levels(tmp_path / "voice.wav", RATE)
    assert seconds == pytest.approx(2, abs=1e-3)
    assert len(table) == -(-len(whole) // HOP)
    assert table.peak.max() == pytest.approx(np.abs(whole).max())
    assert table.power[7] == pytest.approx((whole[7 * HOP:8 * HOP].astype(float)**2).sum())


def test_a_clipped_recording_has_many_samples_at_its_peak(voice, tmp_path):
    sf.write(tmp_path / "voice.wav", voice, 48_000)
    sf.write(tmp_path / "clipped.wav", np.clip(4 * voice, -1, 1) / 3, 48_000)
    assert share_at_peak(tmp_path / "voice.wav") < 0.01 < 0.05 < share_at_peak(tmp_path / "clipped.wav")


@pytest.mark.parametrize("before", [0.0, 0.31, 1.0])
def test_a_short_recording_is_one_window_and_what_librosa_trims_to(voice, tmp_path, before):
    samples = np.concatenate([np.zeros(round(before * 48_000)), voice, np.zeros(20_000)])
    sf.write(tmp_path / "voice.wav", samples + 1e-4 * np.random.default_rng(0).normal(size=len(samples)), 48_000, subtype="FLOAT")
    (span,) = windows(voiced(levels(tmp_path / "voice.wav", RATE)[0], SETTINGS.trim_db), SETTINGS)
    (piece,), whole = pieces(mono_blocks(tmp_path / "voice.wav", RATE), [span]), read(tmp_path / "voice.wav")
    assert np.array_equal(librosa.effects.trim(piece, top_db=SETTINGS.trim_db)[0], librosa.effects.trim(whole, top_db=SETTINGS.trim_db)[0])


def test_a_long_recording_is_heard_in_overlapping_windows_without_its_silence():
    heard = np.zeros(43 * 30, bool)
    heard[43:43 * 8], heard[43 * 20:43 * 25] = True, True  # from 1 to 8 and from 20 to 25 s
    spans = windows(heard, SETTINGS)
    assert {stop - start for start, stop in spans} == {SETTINGS.seconds * RATE}
    assert np.diff([start for start, _ in spans])[:3] == pytest.approx(RATE)  # a second
    assert spans[0][0] / RATE == pytest.approx(1, abs=0.05) and spans[-1][1] / RATE == pytest.approx(25, abs=0.05)
    assert not any(9 < start / RATE and stop / RATE < 19 for start, stop in spans)


def test_two_words_far_apart_are_heard_all_the_same():
    heard = np.zeros(43 * 12, bool)
    heard[:10], heard[-10:] = True, True
    assert len(windows(heard, SETTINGS)) >= 1


# ---- the whole at a glance, and long recordings


def test_the_overview_of_a_short_recording_is_its_mel_spectrogram(voice, tmp_path):
    sf.write(tmp_path / "voice.wav", voice, 48_000)
    whole = read(tmp_path / "voice.wav")
    found = overview(tmp_path / "voice.wav", SETTINGS, len(whole))
    wanted = mel_decibels(whole, SETTINGS.win_lengths[1], SETTINGS)
    assert found.shape[1] == pytest.approx(wanted.shape[1], abs=6)
    size = min(found.shape[1], wanted.shape[1]) - 3
    assert np.corrcoef(found[:, :size].ravel(), wanted[:, :size].ravel())[0, 1] > 0.99


def test_the_overview_of_silence_is_black(tmp_path):
    sf.write(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    assert (overview(tmp_path / "silence.wav", SETTINGS, RATE) == -SETTINGS.top_db).all()


def test_two_hours_take_no_more_memory_than_a_minute(tmp_path):
    with sf.SoundFile(tmp_path / "long.wav", "w", 8_000, 1, "PCM_U8") as file:
        for _ in range(120):
            file.write(0.5 * np.sin(np.arange(60 * 8_000)))
    tracemalloc.start()
    table, _ = levels(tmp_path / "long.wav", RATE)
    spans = windows(voiced(table, SETTINGS.trim_db), SETTINGS)
    assert sum(len(piece) > 0 for piece in pieces(mono_blocks(tmp_path / "long.wav", RATE), spans)) == len(spans) > 7_100
    overview(tmp_path / "long.wav", SETTINGS, 7200 * RATE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # bytes; the whole would be 635 million
