"""The synthetic corpus: the names of the real ones, and voices that differ as they should."""

import librosa
import numpy as np
import pytest
import soundfile as sf

from emotion_helpers import EmotionHelpersError
from emotion_helpers.clips import EMOTIONS, find_clips, parse_name
from emotion_helpers.demo import SAMPLE_RATE, demo_names, make_demo, write_demo_clip


def ravdess(emotion, actor=1, intensity=2):
    code = EMOTIONS.index(emotion) + 1
    return f"RAVDESS/Actor_{actor:02}/03-01-{code:02}-{intensity:02}-01-01-{actor:02}.wav"


def tess(emotion, word="back", speaker="YAF"):
    return f"TESS/{speaker}_{emotion}/{speaker}_{word}_{emotion}.wav"


@pytest.fixture
def say(tmp_path):
    """A function that makes one clip and returns its samples at 24 kHz."""

    def synthesised(name, seed=0):
        write_demo_clip(tmp_path, name, seed)
        samples, rate = sf.read(tmp_path / name)
        assert rate == SAMPLE_RATE
        return samples

    return synthesised


def median_pitch(samples):
    """Fundamental frequency [Hz] of the voiced frames, as librosa measures it."""
    hertz, voiced, _ = librosa.pyin(
        samples, fmin=60, fmax=800, sr=SAMPLE_RATE, hop_length=1024, resolution=0.3
    )
    return np.median(hertz[voiced])


def spoken_seconds(samples):
    return len(librosa.effects.trim(samples, top_db=35)[0]) / SAMPLE_RATE


def share_above_2_khz(samples):
    power = np.abs(np.fft.rfft(samples)) ** 2
    return power[np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE) > 2_000].sum() / power.sum()


# ---- names


def test_every_name_is_one_that_the_real_corpora_could_have():
    for name in demo_names():
        clip = parse_name(name)
        corpus, folder, _ = name.split("/")
        assert corpus == clip["corpus"].upper()
        assert folder.startswith(clip["speaker"])
    assert len(demo_names()) == len(set(demo_names())) == 24 * 15 + 2 * 7 * 4


def test_all_speakers_emotions_and_sentences_are_there_as_in_the_real_corpora():
    clips = [parse_name(name) for name in demo_names()]
    actors = {f"Actor_{n:02}" for n in range(1, 25)}
    assert {clip["speaker"] for clip in clips} == actors | {"OAF", "YAF"}
    assert {clip["emotion"] for clip in clips if clip["corpus"] == "ravdess"} == set(EMOTIONS)
    assert {clip["emotion"] for clip in clips if clip["corpus"] == "tess"} == {*EMOTIONS} - {"calm"}
    # No gender and no emotion can be told from the sentence.
    for gender in ("female", "male"):
        texts = {clip["text"] for clip in clips if clip["gender"] == gender}
        assert {text[:4] for text in texts} >= {"Kids", "Dogs"}


# ---- voices


@pytest.mark.parametrize(
    "name", [ravdess("angry"), ravdess("calm", actor=2), tess("ps", "food", "OAF"), tess("sad")]
)
def test_a_clip_is_sound_that_is_neither_faint_nor_clipped(say, name):
    samples = say(name)
    assert 0.05 < np.abs(samples).max() < 0.99
    assert 0.5 < spoken_seconds(samples) < len(samples) / SAMPLE_RATE < 6


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_clip(tmp_path):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_demo_clip(tmp_path / folder, ravdess("happy"), seed)
    a, b, c = ((tmp_path / folder / ravdess("happy")).read_bytes() for folder in "abc")
    assert a == b != c


def test_no_two_takes_are_alike(say):
    names = [
        tess("sad", "back"),
        tess("sad", "germ"),
        "RAVDESS/Actor_01/03-01-04-01-01-01-01.wav",
        "RAVDESS/Actor_01/03-01-04-01-01-02-01.wav",
    ]
    takes = [say(name) for name in names]
    assert len({take.tobytes() for take in takes}) == 4
    assert len(takes[2]) != len(takes[3])  # the same sentence again, not the same in time


def test_speakers_have_pitches_of_their_own_and_women_higher_ones(say):
    men, women = (
        [median_pitch(say(ravdess("neutral", actor, 1))) for actor in actors]
        for actors in ((1, 3, 5, 7), (2, 4, 6, 8))
    )
    assert np.ptp(men) > 5
    assert np.median(women) > 1.3 * np.median(men)


@pytest.mark.parametrize("actor", [1, 2, 13])
def test_fear_is_higher_and_faster_than_sadness_of_the_same_speaker(say, actor):
    fearful, sad = say(ravdess("fearful", actor)), say(ravdess("sad", actor))
    # They are 10 semitones apart (1.78), less what the melody adds.
    assert median_pitch(fearful) > 1.3 * median_pitch(sad)
    assert spoken_seconds(sad) > 1.3 * spoken_seconds(fearful)


def test_anger_is_brighter_and_louder_than_sadness(say):
    angry, sad = say(tess("angry")), say(tess("sad"))
    assert share_above_2_khz(angry) > 2 * share_above_2_khz(sad)
    assert np.abs(angry).max() > np.abs(sad).max()


# ---- the whole corpus


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo(tmp_path_factory.mktemp("data") / "demo")


def test_the_whole_corpus_is_there_and_says_what_it_is(demo):
    clips, left_out = find_clips(demo)
    assert len(clips) == len(demo_names())
    assert list(left_out.file) == ["synthetic-seed-0.txt"]
    assert "nobody speaks" in (demo / "synthetic-seed-0.txt").read_text()
    assert [path.name for path in demo.parent.iterdir()] == ["demo"]  # nothing half-made beside it


def test_making_it_again_does_nothing(demo):
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*")}
    assert make_demo(demo) == demo
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*")} == before


def test_a_folder_that_is_not_this_demo_is_never_overwritten(demo, tmp_path):
    (tmp_path / "my voice.wav").write_bytes(b"precious")
    with pytest.raises(EmotionHelpersError, match=f"{tmp_path} .*move it away"):
        make_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["my voice.wav"]
    with pytest.raises(EmotionHelpersError, match="seed 1"):
        make_demo(demo, seed=1)
    assert (demo / "synthetic-seed-0.txt").exists()


def test_a_run_that_was_stopped_leaves_no_corpus_and_the_next_one_makes_it(tmp_path, monkeypatch):
    from emotion_helpers import demo

    folder = tmp_path / "demo"
    monkeypatch.setattr(demo, "demo_names", lambda: [tess("sad"), "no such name.wav"])
    with pytest.raises(EmotionHelpersError, match="no such name"):
        make_demo(folder)
    assert not folder.exists()
    monkeypatch.setattr(demo, "demo_names", lambda: [tess("sad")])
    make_demo(folder)
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == [
        "YAF_back_sad.wav",
        "synthetic-seed-0.txt",
    ]


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "data").write_text("a file where the folder should be")
    monkeypatch.setattr("emotion_helpers.demo.demo_names", lambda: [tess("sad")])
    with pytest.raises(EmotionHelpersError, match=r"data/demo cannot be written .*make room"):
        make_demo(tmp_path / "data/demo")


def test_an_empty_folder_is_filled(tmp_path, monkeypatch):
    monkeypatch.setattr("emotion_helpers.demo.demo_names", lambda: [tess("sad")])
    assert make_demo(str(tmp_path)) == tmp_path
    assert (tmp_path / tess("sad")).exists()
