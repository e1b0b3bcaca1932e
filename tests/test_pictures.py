"""One clip becomes one picture, all clips become eight folders of them; librosa is the oracle."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import librosa
import numpy as np
import pytest
from joblib import Parallel, delayed
from PIL import Image

from emotion_helpers import EmotionHelpersError
from emotion_helpers.audio import high_pass, read_audio
from emotion_helpers.clips import EMOTIONS, find_clips
from emotion_helpers.demo import write_demo_clip
from emotion_helpers.pictures import (
    SpectrogramSettings,
    mel_decibels,
    mel_picture,
    picture_files,
    render,
    resize,
)

RATE, HOP, BANDS = 22_050, 153, 288


def sine(hertz, seconds, rate=RATE):
    samples = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return samples.astype(np.float32)


def silence(seconds):
    return np.zeros(round(seconds * RATE), np.float32)


@pytest.fixture(scope="module")
def demo_voice(tmp_path_factory):
    """A function that gives the samples of a demo clip."""
    folder = tmp_path_factory.mktemp("voice")

    def samples_of(name="TESS/OAF_fear/OAF_back_fear.wav", rate=RATE):
        write_demo_clip(folder, name, seed=0)
        return read_audio(folder / name, rate)

    return samples_of


RENDER = """
import sys
from emotion_helpers.pictures import mel_picture
mel_picture([0, 1, 0] * 9_999)
print(*sys.modules)
"""
COMPILED = {"librosa.util.utils", "librosa.core.audio", "librosa.core.pitch"}


def test_a_picture_needs_nothing_that_librosa_compiles():
    """That takes seconds to load, and processes which store it at the same time crash the next one
    (numba issue 10128)."""
    run = subprocess.run([sys.executable, "-c", RENDER], capture_output=True, text=True, check=True)
    loaded = {*run.stdout.split()}
    assert "librosa.filters" in loaded
    assert not COMPILED & loaded


# ---- one picture

OTHER_SETTINGS = {
    "defaults": {},
    "another scale": {
        "n_mels": 64,
        "top_db": 60.0,
        "trim_db": 20.0,
        "fmin": 100.0,
        "fmax": 8_000.0,
    },
    "cropped": {"width": 90, "hop_length": 160, "win_lengths": (300, 600, 1200), "n_fft": 1200},
    "slower": {"sample_rate": 8_000, "n_fft": 600, "win_lengths": (99, 201, 600), "fmax": 4_000.0},
}
VOICES = [
    "TESS/OAF_fear/OAF_back_fear.wav",
    "TESS/YAF_ps/YAF_food_ps.wav",
    "RAVDESS/Actor_01/03-01-04-01-01-01-01.wav",
    "RAVDESS/Actor_12/03-01-05-02-02-01-12.wav",
]


@pytest.mark.parametrize("change", OTHER_SETTINGS.values(), ids=OTHER_SETTINGS)
@pytest.mark.parametrize("name", VOICES, ids=[name[-16:-4] for name in VOICES])
def test_a_picture_is_what_librosa_gives_the_plain_way(demo_voice, name, change):
    settings = SpectrogramSettings(**change)
    samples = demo_voice(name, settings.sample_rate)
    picture = mel_picture(samples, settings)
    assert picture.shape == (settings.n_mels, settings.width, 3)
    assert picture.dtype == np.uint8
    voice = high_pass(samples, settings.sample_rate, settings.fmin)
    voice, _ = librosa.effects.trim(voice, top_db=settings.trim_db)
    size = (settings.width - 1) * settings.hop_length
    start = max(0, len(voice) - size) // 2
    voice = librosa.util.pad_center(voice[start : start + size], size=size)
    shape = {"n_fft": settings.n_fft, "hop_length": settings.hop_length, "n_mels": settings.n_mels}
    shape |= {"sr": settings.sample_rate, "fmin": settings.fmin, "fmax": settings.fmax}
    for colour, win_length in enumerate(settings.win_lengths):
        mel = librosa.feature.melspectrogram(y=voice, win_length=win_length, **shape)
        decibels = librosa.power_to_db(mel, ref=np.max, top_db=settings.top_db)
        expected = np.round(255 + 255 * np.flipud(decibels) / settings.top_db)
        assert np.abs(picture[:, :, colour] - expected).max() <= 1


@pytest.mark.parametrize("hertz", [100, 250, 440, 1_000, 2_500, 6_000, 10_000])
def test_a_sine_is_brightest_in_the_row_whose_mel_band_holds_it(hertz):
    edges = librosa.mel_frequencies(n_mels=BANDS + 2, fmin=40, fmax=11_025)
    rows = mel_picture(sine(hertz, 1))[:, 170:262].mean(axis=1).argmax(axis=0)  # one per colour
    for band in BANDS - 1 - rows:  # high frequencies are on top
        assert edges[band] <= hertz <= edges[band + 2]


@pytest.mark.parametrize("gain", [1e-4, 1e4])
def test_decibels_of_a_quiet_recording_reach_as_far_down_as_those_of_a_loud_one(demo_voice, gain):
    """Of samples whose gain was not evened out, as in the picture of a long recording."""
    voice, settings = demo_voice(), SpectrogramSettings()
    expected = mel_decibels(voice, 1024, settings)
    decibels = mel_decibels(np.float32(gain) * voice, 1024, settings)
    assert decibels == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("decibels", [20, -20, -40, -80])
def test_louder_or_softer_is_the_same_picture(demo_voice, decibels):
    voice = demo_voice()
    louder = mel_picture(voice * np.float32(10 ** (decibels / 20)))
    assert np.abs(louder - mel_picture(voice).astype(int)).max() <= 1


@pytest.mark.parametrize("seconds", [0, 5])
@pytest.mark.parametrize("name", VOICES[1:3], ids=["loud", "soft"])
def test_what_lies_below_40_hz_is_neither_seen_nor_taken_for_voice(demo_voice, name, seconds):
    """A microphone's offset and a rumble are louder than the pauses before and after the voice."""
    voice = np.concatenate([silence(seconds), demo_voice(name), silence(seconds)])
    picture = mel_picture(voice).astype(int)
    assert np.abs(mel_picture(voice + 0.02) - picture).max() <= 1
    rumble = 0.04 * sine(15, len(voice) / RATE)  # peak 0.02
    assert np.abs(mel_picture(voice + rumble) - picture).max() <= 10  # of 255: 3 dB


def bright_columns(picture):
    return np.flatnonzero(picture.max(axis=(0, 2)) > 128)


def test_one_time_scale_for_all_a_second_more_is_144_columns_more():
    one, two = (len(bright_columns(mel_picture(sine(440, seconds)))) for seconds in (1, 2))
    assert two - one == pytest.approx(RATE / HOP, abs=2)
    assert two == pytest.approx(2 * one, abs=10)


def test_silence_at_both_ends_is_cut_off_and_the_voice_is_centred():
    alone = bright_columns(mel_picture(sine(440, 1)))
    late = bright_columns(mel_picture(np.concatenate([silence(2), sine(440, 1), silence(0.5)])))
    assert abs((late[0] + late[-1]) / 2 - 215.5) < 4
    assert abs(len(late) - len(alone)) < 8


def test_a_clip_too_long_is_cropped_to_its_middle():
    picture = mel_picture(np.concatenate([sine(500, 2), sine(3_000, 1), sine(500, 2)]))
    centres = librosa.mel_frequencies(n_mels=BANDS + 2, fmin=40, fmax=11_025)[1:-1]
    bright = np.flatnonzero(picture[BANDS - 1 - np.abs(centres - 3_000).argmin(), :, 0] > 200)
    assert len(bright) == pytest.approx(RATE / HOP, abs=6)
    assert abs((bright[0] + bright[-1]) / 2 - 215.5) < 2
    assert picture[:, [0, -1]].max(axis=(0, 2)).min() > 200  # sound up to both edges


@pytest.mark.filterwarnings("ignore:overflow|invalid value")
def test_what_is_too_loud_to_be_filtered_is_black():
    assert not mel_picture(np.float32([3.4e38, -3.4e38] * 9_999)).any()


@pytest.mark.parametrize("samples", [silence(1), silence(0.001), silence(1) + 0.1], ids=len)
def test_silence_is_black(samples):
    assert not mel_picture(samples).any()


@pytest.mark.parametrize(
    "samples",
    [[], sine(440, 1).reshape(2, -1), [0.1, float("nan")] * 999, [0.1, -float("inf")] * 999, 0.5],
    ids=["empty", "stereo", "NaN", "infinite", "a number"],
)
def test_what_is_no_mono_sound_is_an_error(samples):
    with pytest.raises(EmotionHelpersError, match="mono samples"):
        mel_picture(np.array(samples))


# ---- settings


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate": 0},
        {"sample_rate": 22_050.5},
        {"n_fft": "4096"},
        {"n_fft": 1024},  # less than the longest window
        {"n_fft": 2**30},
        {"win_lengths": (512, 1024)},
        {"win_lengths": (512, 1024, 0)},
        {"win_lengths": None},
        {"hop_length": 0},
        {"hop_length": True},
        {"width": -1},
        {"width": 1},  # lasts no time
        {"width": 10**6},
        {"n_mels": 0},
        {"n_mels": 2**13},
        {"fmin": 0.0},
        {"fmin": 12_000.0},
        {"fmax": 12_000.0},  # above half the sample rate
        {"fmax": float("nan")},
        {"top_db": 0.0},
        {"top_db": None},
        {"trim_db": -1.0},
        {"trim_db": float("inf")},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(change):
    with pytest.raises(EmotionHelpersError, match="cannot be"):
        SpectrogramSettings(**change)


def test_the_defaults_show_three_seconds_and_settings_can_be_told_apart_by_name(small):
    assert SpectrogramSettings().seconds == pytest.approx(3, abs=0.01)
    assert SpectrogramSettings().name == SpectrogramSettings(top_db=80).name == ""
    names = {small.name, replace(small, top_db=60.0).name, SpectrogramSettings(top_db=60.0).name}
    assert len(names) == 3
    assert all(name.isalnum() for name in names)


def test_settings_survive_json(small):
    copy = SpectrogramSettings(**json.loads(json.dumps(asdict(small))))
    assert copy == small
    assert hash(copy) == hash(small)
    assert copy.name == small.name


# ---- eight folders of pictures

HAPPY, SAD, CALM = (f"03-01-{code}-01-01-01-01" for code in ("03", "04", "02"))
NAMES = [HAPPY, SAD, CALM, "OAF_back_happy", "OAF_back_sad", "OAF_back_angry"]


@pytest.fixture
def clips(tmp_path, tone):
    """The table of six tones: two happy, two sad, an angry and a calm one."""
    for i, name in enumerate(NAMES):
        tone(tmp_path / f"voices/{name}.wav", hertz=300 + 100 * i)
    return find_clips(tmp_path / "voices")[0]


@pytest.fixture
def pictures(tmp_path, clips, small):
    """The folder with their pictures."""
    render(clips, tmp_path / "pictures", small, n_jobs=1)
    return tmp_path / "pictures"


def contents(folder):
    """The bytes of every picture."""
    return {path.name: path.read_bytes() for path in folder.glob("*/*.png")}


def leftovers(folder):
    """What is in the emotions' folders beside pictures."""
    return [path.name for path in folder.glob("*/*") if path.suffix != ".png"]


def by_status(report):
    """The clip_ids of each status."""
    return {status: sorted(rows.clip_id) for status, rows in report.groupby("status")}


def test_each_clip_has_its_picture_in_its_emotions_folder(tmp_path, clips, small):
    report = render(clips, tmp_path / "pictures", small, n_jobs=1)
    assert by_status(report) == {"made": sorted(NAMES)}
    folders = {path.name for path in (tmp_path / "pictures").iterdir() if path.is_dir()}
    assert folders == set(EMOTIONS)
    files = picture_files(tmp_path / "pictures", small)
    assert [path.stem for path in files] == sorted(NAMES)  # one order on every machine
    emotion = clips.set_index("clip_id").emotion
    for path in files:
        assert path.parent.name == emotion[path.stem]
        with Image.open(path) as image:
            expected = mel_picture(read_audio(tmp_path / f"voices/{path.stem}.wav", 8_000), small)
            assert np.array_equal(np.asarray(image), expected)


def test_two_cores_make_the_same_pictures_as_one(tmp_path, clips, small, pictures):
    render(clips, tmp_path / "two", small, n_jobs=2)
    assert contents(tmp_path / "two") == contents(pictures)


def test_rendering_again_does_nothing(clips, small, pictures):
    before = {path: path.stat().st_mtime_ns for path in pictures.rglob("*")}
    assert by_status(render(clips, pictures, small, n_jobs=1)) == {"kept": sorted(NAMES)}
    assert {path: path.stat().st_mtime_ns for path in pictures.rglob("*")} == before


@pytest.mark.parametrize("step", [100, 1000, 10**7, 10**9, 2 * 10**9])  # ns
def test_disks_that_keep_coarse_times_keep_pictures(clips, small, pictures, step):
    """NTFS, some file systems of networks, exFAT, HFS+, FAT; clips may lie on a finer one."""
    for path in pictures.glob("*/*.png"):
        moment = path.stat().st_mtime_ns // step * step
        os.utime(path, ns=(moment, moment))
    assert by_status(render(clips, pictures, small, n_jobs=1)) == {"kept": sorted(NAMES)}


def test_a_picture_that_a_power_cut_left_empty_is_made_again(clips, small, pictures):
    path = pictures / "sad/OAF_back_sad.png"
    moment = path.stat().st_mtime_ns
    path.write_bytes(b"")
    os.utime(path, ns=(moment, moment))
    assert by_status(render(clips, pictures, small, n_jobs=1))["made"] == ["OAF_back_sad"]


def test_other_settings_make_all_pictures_again(clips, small, pictures):
    other = replace(small, top_db=60.0)
    assert by_status(render(clips, pictures, other, n_jobs=1)) == {"made": sorted(NAMES)}
    assert len(picture_files(pictures, other)) == 6
    assert by_status(render(clips, pictures, small, n_jobs=1)) == {"made": sorted(NAMES)}


@pytest.mark.parametrize("later", [60, -60], ids=["newer", "older"])
def test_a_clip_that_changed_is_made_again_and_only_that(clips, small, pictures, tone, later):
    path = Path(clips.set_index("clip_id").path["OAF_back_sad"])
    before, moment = contents(pictures), path.stat().st_mtime + later
    tone(path, hertz=2_000)
    os.utime(path, (moment, moment))
    report = by_status(render(clips, pictures, small, n_jobs=1))
    assert report["made"] == ["OAF_back_sad"]
    assert len(report["kept"]) == 5
    after = contents(pictures)
    assert [name for name in before if after[name] != before[name]] == ["OAF_back_sad.png"]


def test_pictures_of_clips_no_longer_in_the_table_go(clips, small, pictures):
    report = render(clips[clips.corpus == "tess"], pictures, small, n_jobs=1)
    assert by_status(report)["removed"] == sorted([HAPPY, SAD, CALM])
    names = [path.stem for path in picture_files(pictures, small)]
    assert names == ["OAF_back_angry", "OAF_back_happy", "OAF_back_sad"]


def test_a_killed_run_continues_and_its_half_picture_goes(clips, small, pictures):
    before = contents(pictures)
    half = pictures / "sad/OAF_back_sad.png.123.part"
    half.write_bytes(before["OAF_back_sad.png"][:100])
    os.utime(half, (0, 0))
    (pictures / "sad/OAF_back_sad.png").unlink()
    shutil.rmtree(pictures / "happy")
    report = by_status(render(clips, pictures, small, n_jobs=1))
    assert report["made"] == [HAPPY, "OAF_back_happy", "OAF_back_sad"]
    assert contents(pictures) == before
    assert not leftovers(pictures)


def interrupt(monkeypatch, number, error):
    """The n-th picture is written half, then `error` is raised."""
    save = Image.Image.save
    room = iter(range(number - 1))

    def save_until(image, path, **options):
        save(image, path, **options)
        if next(room, None) is None:
            os.truncate(path, 100)
            raise error

    monkeypatch.setattr(Image.Image, "save", save_until)


def test_a_full_disk_is_said_and_finished_pictures_stay(tmp_path, clips, small, monkeypatch):
    folder = tmp_path / "pictures"
    with monkeypatch.context() as patch:
        interrupt(patch, 5, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(
            EmotionHelpersError, match=r"cannot write .*pictures .No space left.*: make room"
        ):
            render(clips, folder, small, n_jobs=1)
    assert len(contents(folder)) == 4
    assert not leftovers(folder)
    report = by_status(render(clips, folder, small, n_jobs=1))
    assert (len(report["kept"]), len(report["made"])) == (4, 2)


def test_ctrl_c_leaves_no_half_picture(tmp_path, clips, small, monkeypatch):
    folder = tmp_path / "pictures"
    with monkeypatch.context() as patch:
        interrupt(patch, 3, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            render(clips, folder, small, n_jobs=1)
    assert not leftovers(folder)
    for path in picture_files(folder, small):
        with Image.open(path) as image:
            image.load()
    assert len(by_status(render(clips, folder, small, n_jobs=1))["kept"]) == 2


@pytest.mark.parametrize("where", ["before the first picture", "among the old ones"])
def test_old_pictures_never_pass_for_new_ones(clips, small, pictures, monkeypatch, where):
    other = replace(small, top_db=60.0)
    unlink, room = Path.unlink, iter(range(2))

    def unlink_until(path, **options):
        unlink(path, **options)
        if path.suffix == ".png" and next(room, None) is None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if where == "among the old ones":
            patch.setattr(Path, "unlink", unlink_until)
        interrupt(patch, 1, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            render(clips, pictures, other, n_jobs=1)
    assert by_status(render(clips, pictures, other, n_jobs=1)) == {"made": sorted(NAMES)}


def cut_off(path):
    path.write_bytes(path.read_bytes()[:40])


def letter(path):
    path.write_text("Dear Sir or Madam")


@pytest.mark.parametrize("spoil", [cut_off, letter, os.unlink])
def test_one_bad_clip_does_not_stop_the_rest(tmp_path, clips, small, spoil):
    spoil(tmp_path / "voices/OAF_back_sad.wav")
    report = render(clips, tmp_path / "pictures", small, n_jobs=1).set_index("clip_id")
    assert (report.status == "made").sum() == 5
    assert report.status["OAF_back_sad"] == "failed"
    assert "OAF_back_sad.wav" in report.reason["OAF_back_sad"]
    assert not (tmp_path / "pictures/sad/OAF_back_sad.png").exists()


@pytest.mark.parametrize("spoil", [letter, os.unlink])
def test_the_picture_of_a_clip_that_went_bad_goes(tmp_path, clips, small, pictures, spoil):
    spoil(tmp_path / "voices/OAF_back_sad.wav")
    assert by_status(render(clips, pictures, small, n_jobs=1))["failed"] == ["OAF_back_sad"]
    assert "OAF_back_sad.png" not in contents(pictures)


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path, clips, small):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(EmotionHelpersError, match=r"cannot write .*file/pictures.*run again"):
        render(clips, tmp_path / "file/pictures", small, n_jobs=1)


def check_two_at_once(folder, expected, reports):
    """Both ended well, and the pictures are whole."""
    assert all(set(report.status) <= {"made", "kept"} for report in reports)
    assert len(reports) == 2
    assert contents(folder) == expected
    assert not leftovers(folder)


def test_two_processes_may_render_into_one_folder(tmp_path, clips, small, pictures):
    job = delayed(render)(clips, tmp_path / "both", small, n_jobs=1)
    check_two_at_once(tmp_path / "both", contents(pictures), Parallel(n_jobs=2)([job, job]))


def test_two_threads_may_render_into_one_folder(tmp_path, clips, small, pictures):
    expected = contents(pictures)
    for i in range(10):
        folder, start, reports = tmp_path / str(i), threading.Barrier(2), []

        def work(folder=folder, start=start, reports=reports):
            start.wait()
            reports.append(render(clips, folder, small, n_jobs=1))

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check_two_at_once(folder, expected, reports)


# ---- reading the folders


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "._x.png", f"._{SAD}.png", "notes.txt"])
def test_what_systems_leave_in_folders_is_no_picture(clips, small, pictures, name):
    (pictures / "sad" / name).write_bytes(b"\0\5\x16\7")
    assert [path.stem for path in picture_files(pictures, small)] == sorted(NAMES)
    assert by_status(render(clips, pictures, small, n_jobs=1)) == {"kept": sorted(NAMES)}
    assert (pictures / "sad" / name).exists()  # not ours to delete


def test_empty_and_foreign_folders_are_no_pictures(clips, small, pictures):
    for folder in ("sad/empty", "bored", "__MACOSX/sad"):
        (pictures / folder).mkdir(parents=True)
    assert [path.stem for path in picture_files(pictures, small)] == sorted(NAMES)
    assert by_status(render(clips, pictures, small, n_jobs=1)) == {"kept": sorted(NAMES)}
    assert (pictures / "bored").is_dir()  # not ours to delete


@pytest.mark.parametrize("name", ["my holiday.png", "DC_a01.png", "1001_DFA_ANG_XX.png"])
def test_a_foreign_picture_is_refused_by_name_and_not_deleted(clips, small, pictures, name):
    """The last two are how SAVEE and CREMA-D name their clips."""
    Image.new("RGB", (9, 9)).save(pictures / "sad" / name)
    render(clips, pictures, small, n_jobs=1)
    with pytest.raises(EmotionHelpersError, match=rf"sad/{name} .*move it"):
        picture_files(pictures, small)


def test_no_pictures_is_an_error_that_names_the_folder_and_the_notebook(tmp_path, small):
    with pytest.raises(EmotionHelpersError, match=rf"{tmp_path}.*chapter 03"):
        picture_files(tmp_path, small)


@pytest.mark.parametrize("content", [None, "", "[]", '{"top_db": 0}', '{"colour": "red"}'])
def test_pictures_of_other_settings_are_an_error(small, pictures, content):
    with pytest.raises(EmotionHelpersError, match=r"(?s)pictures.*top_db=60.0.*chapter 03"):
        picture_files(pictures, replace(small, top_db=60.0))
    (pictures / "settings.json").unlink()
    if content is not None:
        (pictures / "settings.json").write_text(content)
    with pytest.raises(EmotionHelpersError, match=r"pictures.*chapter 03"):
        picture_files(pictures, small)


@pytest.mark.parametrize("size", [(64, 64), (64, 224), (144, 144)], ids=str)
def test_a_resized_picture_shows_the_whole_of_it(tmp_path, size):
    quarters = np.zeros((288, 432, 3), np.uint8)
    quarters[:144, 216:], quarters[144:, :216], quarters[144:, 216:] = 80, 160, 240
    Image.fromarray(quarters).save(tmp_path / "a.png")
    for source in (quarters, tmp_path / "a.png", str(tmp_path / "a.png")):
        small = np.asarray(resize(source, *size)).astype(float)
        assert small.shape == (*size, 3)
        means = small.reshape(2, size[0] // 2, 2, size[1] // 2, 3).mean((1, 3, 4))
        assert means == pytest.approx(np.array([[0, 80], [160, 240]]), abs=3)


def test_a_picture_of_16_bits_is_named_and_to_be_deleted(tmp_path):
    """Pillow would turn all of it white."""
    Image.fromarray(np.full((9, 9), 30_000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(EmotionHelpersError, match=r"a\.png .*16 bits.*delete it"):
        resize(tmp_path / "a.png", 16, 16)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA"])
def test_a_picture_in_another_mode_looks_the_same(tmp_path, mode):
    """As an image editor may have saved it."""
    ramp = Image.linear_gradient("L")  # 256 x 256, black above, white below
    ramp.convert(mode).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == mode
    small = np.asarray(resize(tmp_path / "a.png", 16, 16))
    assert small.shape == (16, 16, 3)
    assert np.abs(small - np.asarray(resize(np.array(ramp), 16, 16)).astype(int)).max() <= 1
