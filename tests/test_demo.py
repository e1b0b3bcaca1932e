"""The synthetic corpus: names and folders of the real ones, and voices that do what the literature says."""
import librosa
import numpy as np
import pytest
import soundfile as sf

from emotion_helpers.clips import EMOTIONS, parse_name
from emotion_helpers.demo import SAMPLE_RATE, demo_names, make_demo, write_demo_clip


def ravdess(emotion, actor=1, intensity=2):
    code = EMOTIONS.index(emotion) + 1
    return f"RAVDESS/Actor_{actor:02}/03-01-{code:02}-{intensity:02}-01-01-{actor:02}.wav"


@pytest.fixture
def say(tmp_path):
    """A function that synthesises one clip and returns its samples at 24 kHz."""
    def synthesised(name, seed=0):
        write_demo_clip(tmp_path, name, seed)
        samples, rate = sf.read(tmp_path / name)
        assert rate == SAMPLE_RATE
        return samples
    return synthesised


def pitch(samples):
    """Median fundamental frequency [Hz] of the voiced frames, as librosa measures it."""
    hertz, voiced, _ = librosa.pyin(samples, fmin=60, fmax=800, sr=SAMPLE_RATE, frame_length=2048, hop_length=1024, resolution=0.3)
    return np.median(hertz[voiced])


def spoken_seconds(samples):
    return len(librosa.effects.trim(samples, top_db=35)[0]) / SAMPLE_RATE


# ---- names


def test_every_name_is_one_that_the_real_corpora_could_have():
    for name in demo_names():
        said = parse_name(name)
        corpus, folder, _ = name.split("/")
        assert corpus == said["corpus"].upper() and folder.startswith(said["speaker"])
    assert len(demo_names()) == len(set(demo_names())) == 24 * 15 + 2 * 7 * 4


def test_all_speakers_and_emotions_are_there_as_in_the_real_corpora():
    said = [parse_name(name) for name in demo_names()]
    assert {row["speaker"] for row in said} == {f"Actor_{n:02}" for n in range(1, 25)} | {"OAF", "YAF"}
    assert {row["emotion"] for row in said if row["corpus"] == "ravdess"} == set(EMOTIONS)
    assert {row["emotion"] for row in said if row["corpus"] == "tess"} == set(EMOTIONS) - {"calm"}
    assert not any(row["emotion"] == "neutral" and row["intensity"] == "strong" for row in said)


# ---- voices


@pytest.mark.parametrize("name", [ravdess("angry"), ravdess("calm", actor=2), "TESS/OAF_ps/OAF_food_ps.wav", "TESS/YAF_sad/YAF_back_sad.wav"])
def test_a_clip_is_sound_without_gaps_in_the_numbers_and_without_clipping(say, name):
    samples = say(name)
    assert np.isfinite(samples).all()
    assert 0.05 < np.abs(samples).max() < 0.99
    assert 0.5 < spoken_seconds(samples) < len(samples) / SAMPLE_RATE < 6


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_clip(tmp_path):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_demo_clip(tmp_path / folder, ravdess("happy"), seed)
    a, b, c = ((tmp_path / folder / ravdess("happy")).read_bytes() for folder in "abc")
    assert a == b != c


def test_no_two_takes_are_alike(say):
    takes = [say(name) for name in ("TESS/OAF_sad/OAF_back_sad.wav", "TESS/OAF_sad/OAF_germ_sad.wav",
                                    "RAVDESS/Actor_01/03-01-04-01-01-01-01.wav", "RAVDESS/Actor_01/03-01-04-01-01-02-01.wav")]
    assert len({take.tobytes() for take in takes}) == 4
    assert len(takes[2]) != len(takes[3])  # the same sentence again, not the same in time


@pytest.mark.parametrize("actor", [1, 2, 13])
def test_fear_is_higher_and_faster_than_sadness_of_the_same_speaker(say, actor):
    fearful, sad = say(ravdess("fearful", actor)), say(ravdess("sad", actor))
    assert pitch(fearful) > 1.3 * pitch(sad)  # 10 semitones apart in the table, less what the melody adds
    assert spoken_seconds(sad) > 1.3 * spoken_seconds(fearful)


def test_anger_is_brighter_and_louder_than_sadness(say):
    angry, sad = say("TESS/YAF_angry/YAF_back_angry.wav"), say("TESS/YAF_sad/YAF_back_sad.wav")
    share_above_2_khz = [(np.abs(np.fft.rfft(x))**2)[int(2_000 * len(x) / SAMPLE_RATE):].sum() / (np.abs(np.fft.rfft(x))**2).sum() for x in (angry, sad)]
    assert share_above_2_khz[0] > share_above_2_khz[1]
    assert np.abs(angry).max() > np.abs(sad).max()


# ---- the whole corpus


def test_the_whole_corpus_is_there(demo_corpus):
    wavs = sorted(path.name for path in demo_corpus.rglob("*.wav"))
    expected = {name.split("/")[-1] for name in demo_names()} - {"OAF_bite_neutral.wav"} | {"OA_bite_neutral.wav", "03-02-03-01-01-01-01.wav"}
    assert wavs == sorted(expected)
    assert [path.name for path in demo_corpus.parent.iterdir()] == ["demo"]  # nothing half-made beside it


def test_making_it_again_does_nothing(demo_corpus):
    before = {path: path.stat().st_mtime_ns for path in demo_corpus.rglob("*")}
    assert make_demo(demo_corpus) == demo_corpus
    assert {path: path.stat().st_mtime_ns for path in demo_corpus.rglob("*")} == before


def test_a_folder_that_is_not_a_demo_is_never_overwritten(tmp_path):
    (tmp_path / "my voice.wav").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=f"{tmp_path}.*not a demo corpus"):
        make_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["my voice.wav"]
