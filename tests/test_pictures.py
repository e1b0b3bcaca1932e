"""One clip becomes one picture, all clips become eight folders of them."""
import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import librosa
import numpy as np
import pytest
from PIL import Image

from emotion_helpers.clips import EMOTIONS, find_clips, read_clip
from emotion_helpers.demo import write_demo_clip
from emotion_helpers.pictures import PictureSettings, mel_picture, picture_files, render, squeezed

RATE, HOP, BANDS = 22_050, 153, 288
SMALL = PictureSettings(sample_rate=8_000, n_fft=512, win_lengths=(128, 256, 512), hop_length=100, width=48, n_mels=24, fmax=4_000.0)


def sine(hertz, seconds):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    """One clip of the demo voice at the pictures' sample rate."""
    folder, name = tmp_path_factory.mktemp("voice"), "TESS/OAF_fear/OAF_back_fear.wav"
    write_demo_clip(folder, name, seed=0)
    return read_clip(folder / name, RATE)


@pytest.fixture(scope="module")
def picture(voice):
    return mel_picture(voice)


@pytest.fixture
def clips(tmp_path, tone):
    """The table of six tones: two happy, two sad, an angry and a calm one."""
    for pitch, name in enumerate(["03-01-03-01-01-01-01", "03-01-04-01-01-01-01", "03-01-02-01-01-01-01", "OAF_back_happy",
                                  "OAF_back_sad", "OAF_back_angry"]):
        tone(tmp_path / f"voices/{name}.wav", hertz=300 + 100 * pitch)
    return find_clips(tmp_path / "voices")[0]


def all_files(folder):
    """Every file below a folder with its bytes and the time it was written."""
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def count(report, status):
    return (report.status == status).sum()


# ---- one picture


def test_a_picture_is_what_librosa_gives_the_plain_way(voice, picture):
    trimmed, _ = librosa.effects.trim(voice, top_db=35)
    size = 431 * HOP  # from the first column's centre to the last one's
    before = (size - len(trimmed)) // 2
    samples = np.concatenate([np.zeros(before), trimmed, np.zeros(size - len(trimmed) - before)])
    assert picture.shape == (288, 432, 3) and picture.dtype == np.uint8
    for colour, win_length in enumerate((512, 1024, 2048)):
        mel = librosa.feature.melspectrogram(y=samples, sr=RATE, n_fft=4096, win_length=win_length, hop_length=HOP, n_mels=BANDS,
                                             fmin=40, fmax=11_025)
        decibels = librosa.power_to_db(mel, ref=np.max, top_db=80)
        assert picture[:, :, colour] == pytest.approx(255 + np.flipud(decibels) * 255 / 80, abs=0.51)


@pytest.mark.parametrize("hertz", [100, 250, 440, 1_000, 2_500, 6_000, 10_000])
def test_a_sine_is_brightest_in_the_row_whose_mel_band_holds_it(hertz):
    edges = librosa.mel_frequencies(n_mels=BANDS + 2, fmin=40, fmax=11_025)  # band i rises from edge i and falls to edge i + 2
    rows = mel_picture(sine(hertz, 1))[:, 170:262].mean(axis=1).argmax(axis=0)  # one a colour, where the sine is in full sound
    for band in BANDS - 1 - rows:  # high frequencies are on top
        assert edges[band] <= hertz <= edges[band + 2]


@pytest.mark.parametrize("decibels", [20, -20, -40, -80])
def test_louder_or_softer_is_the_same_picture(voice, picture, decibels):
    assert mel_picture(voice * np.float32(10 ** (decibels / 20))) == pytest.approx(picture.astype(float), abs=1)


def test_one_time_scale_for_all_a_clip_twice_as_long_is_twice_as_wide():
    one, two = (int((mel_picture(sine(440, seconds)).max(axis=(0, 2)) > 128).sum()) for seconds in (1, 2))
    assert two - one == pytest.approx(RATE / HOP, abs=2)  # a second more: 144 columns more
    assert two == pytest.approx(2 * one, abs=10)


def test_silence_at_both_ends_is_cut_off_and_the_voice_is_centred():
    alone = mel_picture(sine(440, 1))
    late = mel_picture(np.concatenate([np.zeros(2 * RATE), sine(440, 1), np.zeros(RATE // 2)]))
    bright = np.flatnonzero(late.max(axis=(0, 2)) > 128)
    assert abs((bright[0] + bright[-1]) / 2 - 215.5) < 4
    assert abs(len(bright) - (alone.max(axis=(0, 2)) > 128).sum()) < 8


def test_a_clip_too_long_is_cropped_to_its_middle():
    low, high = sine(500, 2), sine(3_000, 1)
    picture = mel_picture(np.concatenate([low, high, low]))
    row = BANDS - 1 - np.abs(librosa.mel_frequencies(n_mels=BANDS + 2, fmin=40, fmax=11_025)[1:-1] - 3_000).argmin()
    bright = np.flatnonzero(picture[row, :, 0] > 200)
    assert len(bright) == pytest.approx(RATE / HOP, abs=6) and abs((bright[0] + bright[-1]) / 2 - 215.5) < 2
    assert picture[:, 0].max() > 200 and picture[:, -1].max() > 200  # sound to both edges


# ---- eight folders of pictures


def test_each_clip_has_its_picture_in_its_emotions_folder(tmp_path, clips):
    report = render(clips, tmp_path / "pictures", SMALL, n_jobs=1)
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == sorted(EMOTIONS)
    assert {e: len(list((tmp_path / "pictures" / e).iterdir())) for e in EMOTIONS} == {
        "neutral": 0, "calm": 1, "happy": 2, "sad": 2, "angry": 1, "fearful": 0, "disgust": 0, "surprised": 0}
    assert set(report["clip"]) == set(clips["clip"]) and count(report, "made") == 6
    with Image.open(tmp_path / "pictures/calm/03-01-02-01-01-01-01.png") as image:
        assert image.size == (48, 24) and image.mode == "RGB"
    assert {p.stem for p in picture_files(tmp_path / "pictures", SMALL)} == set(clips["clip"])


def test_the_same_seed_gives_the_same_pictures_to_the_byte(tmp_path):
    for run in ("one", "two"):
        for name in ("TESS/OAF_sad/OAF_back_sad.wav", "RAVDESS/Actor_01/03-01-05-02-02-01-01.wav"):
            write_demo_clip(tmp_path / run / "voices", name, seed=3)
        render(find_clips(tmp_path / run / "voices")[0], tmp_path / run / "pictures", n_jobs=1)
    one, two = ({name: content for name, (content, _) in all_files(tmp_path / run / "pictures").items()} for run in ("one", "two"))
    assert len(one) == 2 and one == two


def test_two_cores_make_the_same_pictures_as_one(tmp_path, clips):
    for n_jobs in (1, 2):
        render(clips, tmp_path / str(n_jobs), SMALL, n_jobs=n_jobs)
    one, two = ({name: content for name, (content, _) in all_files(tmp_path / n).items()} for n in ("1", "2"))
    assert len(one) == 6 and one == two


def test_workers_find_all_of_librosa_compiled(tmp_path, clips):
    code = """
import sys
from emotion_helpers import pictures
from emotion_helpers.clips import find_clips
loaded = lambda: {name for name in sys.modules if name.startswith("librosa")}
class Workers(pictures.Parallel):
    def __call__(self, jobs):
        global before
        before = loaded()
        return super().__call__(jobs)
pictures.Parallel = Workers
pictures.render(find_clips(sys.argv[1])[0], sys.argv[2], n_jobs=1)
print("librosa.core.pitch" in before, loaded() - before)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "voices", tmp_path / "pictures"], capture_output=True, text=True)
    assert done.stdout == "True set()\n", done.stderr


def test_rendering_again_does_nothing(tmp_path, clips):
    render(clips, tmp_path / "pictures", SMALL, n_jobs=1)
    before = all_files(tmp_path / "pictures")
    assert count(render(clips, tmp_path / "pictures", SMALL, n_jobs=1), "kept") == 6
    assert all_files(tmp_path / "pictures") == before


def test_another_setting_renders_again(tmp_path, clips):
    render(clips, tmp_path / "pictures", SMALL, n_jobs=1)
    assert count(render(clips, tmp_path / "pictures", replace(SMALL, top_db=60.0), n_jobs=1), "made") == 6


def test_a_clip_that_changed_is_rendered_again_and_only_that(tmp_path, clips, tone):
    render(clips, tmp_path / "pictures", SMALL, n_jobs=1)
    tone(tmp_path / "voices/OAF_back_sad.wav", hertz=2_000)
    report = render(find_clips(tmp_path / "voices")[0], tmp_path / "pictures", SMALL, n_jobs=1)
    assert list(report[report.status == "made"]["clip"]) == ["OAF_back_sad"] and count(report, "kept") == 5


def test_an_interrupted_run_continues_and_no_half_picture_is_left(tmp_path, clips):
    pictures = tmp_path / "pictures"
    render(clips, pictures, SMALL, n_jobs=1)
    whole = all_files(pictures)
    half = pictures / "sad/OAF_back_sad.png"
    half.with_suffix(".123.part").write_bytes(half.read_bytes()[:200])
    half.unlink()
    shutil.rmtree(pictures / "happy")
    report = render(clips, pictures, SMALL, n_jobs=1)
    assert (count(report, "made"), count(report, "kept")) == (3, 3)
    assert {name: content for name, (content, _) in all_files(pictures).items()} == {name: content for name, (content, _) in whole.items()}


def test_pictures_of_clips_no_longer_there_go_but_those_of_the_reader_stay(tmp_path, clips):
    pictures = tmp_path / "pictures"
    render(clips, pictures, SMALL, n_jobs=1)
    Image.new("RGB", (9, 9)).save(pictures / "sad/my holiday.png")
    report = render(clips[clips.corpus == "tess"], pictures, SMALL, n_jobs=1)
    assert set(report[report.status == "removed"]["clip"]) == set(clips[clips.corpus == "ravdess"]["clip"])
    assert sorted(p.name for p in pictures.glob("*/*")) == ["OAF_back_angry.png", "OAF_back_happy.png", "OAF_back_sad.png", "my holiday.png"]


def damaged(path):
    path.write_bytes(path.read_bytes()[:3_000])


@pytest.mark.parametrize("spoil", [damaged, lambda path: path.unlink()], ids=["truncated", "gone"])
def test_one_bad_clip_is_reported_and_the_rest_is_made(tmp_path, clips, spoil):
    spoil(tmp_path / "voices/OAF_back_sad.wav")
    report = render(clips, tmp_path / "pictures", SMALL, n_jobs=1)
    failed = report[report.status == "failed"]
    assert list(failed["clip"]) == ["OAF_back_sad"] and "OAF_back_sad.wav" in failed.reason.item()
    assert count(report, "made") == 5 and not (tmp_path / "pictures/sad/OAF_back_sad.png").exists()


def test_the_picture_of_a_clip_that_went_bad_is_not_left_behind(tmp_path, clips):
    render(clips, tmp_path / "pictures", SMALL, n_jobs=1)
    damaged(tmp_path / "voices/OAF_back_sad.wav")
    render(clips.assign(md5=clips.md5.mask(clips["clip"] == "OAF_back_sad", "another")), tmp_path / "pictures", SMALL, n_jobs=1)
    assert not (tmp_path / "pictures/sad/OAF_back_sad.png").exists()


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path, clips):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"cannot write pictures to .*file/pictures.*run again"):
        render(clips, tmp_path / "file/pictures", SMALL, n_jobs=1)


def test_a_full_disk_is_an_error_that_names_the_folder_and_keeps_what_is_finished(tmp_path, clips, monkeypatch):
    save, room = Image.Image.save, iter(range(4))

    def save_until_full(image, path, **options):
        save(image, path, **options)
        if next(room, None) is None:
            os.truncate(path, 100)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save_until_full)
    with pytest.raises(OSError, match=r"cannot write pictures to .*pictures: the disk is full") as error:
        render(clips, tmp_path / "pictures", SMALL, n_jobs=1)
    assert error.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert [p.suffix for p in (tmp_path / "pictures").glob("*/*")] == [".png"] * 4
    assert count(render(clips, tmp_path / "pictures", SMALL, n_jobs=1), "kept") == 4


# ---- reading the folders


def test_no_pictures_is_an_error_that_names_the_notebook(tmp_path):
    with pytest.raises(FileNotFoundError, match="notebook 03"):
        picture_files(tmp_path)


def test_pictures_of_other_settings_are_an_error_that_names_the_setting(tmp_path, clips):
    render(clips, tmp_path, SMALL, n_jobs=1)
    with pytest.raises(ValueError, match=r"\.png.*top_db 80.0 instead of 60.0.*notebook 03"):
        picture_files(tmp_path, replace(SMALL, top_db=60.0))


def test_a_picture_of_the_readers_own_is_an_error_that_says_to_move_it(tmp_path, clips):
    render(clips, tmp_path, SMALL, n_jobs=1)
    Image.new("RGB", (9, 9)).save(tmp_path / "sad/my holiday.png")
    with pytest.raises(ValueError, match="my holiday.png.*move it"):  # rendering again would not help: it leaves it alone
        picture_files(tmp_path, SMALL)


def test_pictures_are_in_one_order_on_every_machine(tmp_path, clips):
    render(clips, tmp_path, SMALL, n_jobs=1)
    assert [p.stem for p in picture_files(tmp_path, SMALL)] == sorted(clips["clip"])


@pytest.mark.parametrize("size, rows, columns", [(dict(px=64), 64, 64), (dict(px=64, width=192), 64, 192)])
def test_a_squeezed_picture_shows_the_whole_of_it(size, rows, columns):
    quarters = np.zeros((288, 432, 3), np.uint8)
    quarters[:144, 216:], quarters[144:, :216], quarters[144:, 216:] = 80, 160, 240
    small = np.asarray(squeezed(quarters, **size)).astype(float)
    assert small.shape == (rows, columns, 3)
    halves = small.reshape(2, rows // 2, 2, columns // 2, 3).mean((1, 3, 4))
    assert halves == pytest.approx(np.array([[0, 80], [160, 240]]), abs=3)
