"""What a file name says, which files count, the samples of a clip."""
import hashlib
import itertools
import shutil

import numpy as np
import pytest
import soundfile as sf

from emotion_helpers.clips import ClipError, find_clips, parse_name, read_clip

# The codes as the publishers print them: Livingstone & Russo 2018; Pichora-Fuller & Dupuis 2020.
RAVDESS = {
    "emotion": {"01": "neutral", "02": "calm", "03": "happy", "04": "sad", "05": "angry", "06": "fearful", "07": "disgust", "08": "surprised"},
    "intensity": {"01": "normal", "02": "strong"},
    "text": {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
    "repetition": {"01": 1, "02": 2},
    "speaker": {f"{actor:02}": f"Actor_{actor:02}" for actor in range(1, 25)},
}
TESS = {"angry": "angry", "disgust": "disgust", "fear": "fearful", "happy": "happy", "neutral": "neutral", "ps": "surprised", "sad": "sad"}

NAMES = ["03-01-01-01-01-01-01.wav", "03-01-06-02-02-01-12.wav", "03-01-08-01-01-02-12.wav", "OAF_back_fear.wav", "YAF_youth_ps.wav"]
FOLDERS = {"03-01-01-01-01-01-01.wav": "Actor_01", "03-01-06-02-02-01-12.wav": "Actor_12", "03-01-08-01-01-02-12.wav": "Actor_12",
           "OAF_back_fear.wav": "OAF_Fear", "YAF_youth_ps.wav": "YAF_pleasant_surprised"}  # folder names as in Kaggle's mirrors


# ---- names


def test_every_ravdess_code_says_what_its_publishers_say():
    for codes in itertools.product(*RAVDESS.values()):
        if codes[:2] == ("01", "02"):  # "no strong intensity for the neutral emotion"
            with pytest.raises(ClipError, match="a code RAVDESS does not have"):
                parse_name(f"03-01-{'-'.join(codes)}.wav")
            continue
        said = parse_name(f"03-01-{'-'.join(codes)}.wav")
        assert {key: said[key] for key in RAVDESS} == {key: RAVDESS[key][code] for key, code in zip(RAVDESS, codes)}
        assert said["gender"] == ("male" if int(codes[-1]) % 2 else "female")  # "odd numbered actors are male"
        assert (said["corpus"], said["clip"]) == ("ravdess", f"03-01-{'-'.join(codes)}")


@pytest.mark.parametrize("speaker", ["OAF", "YAF"])
@pytest.mark.parametrize("ending, emotion", TESS.items())
def test_every_part_of_a_tess_name(speaker, ending, emotion):
    assert parse_name(f"{speaker}_chalk_{ending}.wav") == dict(
        clip=f"{speaker}_chalk_{ending}", corpus="tess", speaker=speaker, gender="female", emotion=emotion, intensity="normal",
        text="chalk", repetition=1)


def test_only_the_name_counts_not_the_folder_and_not_the_case():
    assert parse_name("songs/Actor_03/YAF_sad/03-01-05-01-01-01-20.WAV")["speaker"] == "Actor_20"
    assert parse_name("OAF_Pleasant_surprise/yaf_Back_Angry.WAV")["speaker"] == "YAF"
    assert parse_name("yaf_Back_Angry.wav")["emotion"] == "angry"


def test_the_one_published_name_that_lacks_a_letter():
    assert parse_name("OA_bite_neutral.wav")["speaker"] == "OAF"
    assert parse_name("OA_bite_neutral.wav")["text"] == "bite"


@pytest.mark.parametrize("name, why", [
    ("03-02-01-01-01-01-01.wav", "song"),
    ("01-01-01-01-01-01-01.mp4", "video"),
    ("02-01-01-01-01-01-01.mp4", "video"),
    ("03-01-00-01-01-01-01.wav", "code"),
    ("03-01-09-01-01-01-01.wav", "code"),
    ("03-01-01-03-01-01-01.wav", "code"),
    ("03-01-01-01-03-01-01.wav", "code"),
    ("03-01-01-01-01-03-01.wav", "code"),
    ("03-01-01-01-01-01-00.wav", "code"),
    ("03-01-01-01-01-01-25.wav", "code"),
    ("OAF_back_bored.wav", "bored"),
    ("03-01-01-01-01-01.wav", "neither"),
    ("03-01-01-01-01-01-01-01.wav", "neither"),
    ("03-01-01-01-01-01-01 (1).wav", "neither"),
    ("OAF_back.wav", "neither"),
    ("my holiday.wav", "neither"),
])
def test_other_names_are_refused_by_name(name, why):
    with pytest.raises(ClipError, match=why) as refusal:
        parse_name(name)
    assert name in str(refusal.value)


# ---- folders


@pytest.mark.parametrize("places", [
    ["{name}"],
    ["{folder}/{name}"],
    ["{folder}/{name}", "audio_speech_actors_01-24/{folder}/{name}"],  # Kaggle's RAVDESS: everything twice
    ["TESS data/{folder}/{name}", "TESS data/TESS data/{folder}/{name}"],  # Kaggle's TESS: nested in itself
    ["{upper_folder}/{upper_name}"],
], ids=["flat", "folders", "doubled", "nested", "upper case"])
def test_each_clip_is_found_once_whatever_the_folders(tmp_path, tone, places):
    for pitch, (name, folder) in enumerate(FOLDERS.items()):
        for place in places:
            upper = name.replace(".wav", ".WAV")
            tone(tmp_path / place.format(name=name, folder=folder, upper_folder=folder.upper(), upper_name=upper), 200 + 50 * pitch)
    clips, left_out = find_clips(tmp_path)
    assert list(clips["clip"]) == [name.removesuffix(".wav") for name in NAMES]  # sorted by corpus, speaker, clip
    assert list(clips.emotion) == ["neutral", "fearful", "surprised", "fearful", "surprised"]
    assert len(left_out) == len(NAMES) * (len(places) - 1)
    assert all("second copy of" in reason for reason in left_out.reason)


def test_a_second_copy_names_the_one_that_is_used(tmp_path, tone):
    tone(tmp_path / "a/b/OAF_back_sad.wav", 300)
    tone(tmp_path / "z/OAF_back_sad.wav", 300)
    tone(tmp_path / "z/y/OAF_back_sad.wav", 400)
    clips, left_out = find_clips(tmp_path)
    assert list(clips.path) == [str(tmp_path / "z/OAF_back_sad.wav")]
    assert dict(left_out.values) == {"a/b/OAF_back_sad.wav": "a second copy of z/OAF_back_sad.wav",
                                     "z/y/OAF_back_sad.wav": "another recording under the name of z/OAF_back_sad.wav"}


def test_a_whole_copy_is_used_where_the_first_one_is_damaged(tmp_path, tone):
    tone(tmp_path / "a/b/OAF_back_sad.wav")
    (tmp_path / "OAF_back_sad.wav").write_bytes(b"")
    clips, left_out = find_clips(tmp_path)
    assert list(clips.path) == [str(tmp_path / "a/b/OAF_back_sad.wav")] and list(left_out.file) == ["OAF_back_sad.wav"]


def test_the_table_tells_length_rate_channels_container_and_bytes(tmp_path, tone):
    tone(tmp_path / "03-01-02-01-01-02-01.wav", seconds=1.5, rate=48_000, channels=2)
    tone(tmp_path / "OAF_food_fear.wav", seconds=0.5, rate=96_000)
    tone(tmp_path / "YAF_germ_angry.wav", seconds=2, rate=24_414, format="AIFF")
    clips, _ = find_clips(tmp_path)
    assert clips[["clip", "seconds", "rate", "channels", "container"]].values.tolist() == [
        ["03-01-02-01-01-02-01", 1.5, 48_000, 2, "WAV"], ["OAF_food_fear", 0.5, 96_000, 1, "WAV"], ["YAF_germ_angry", 2.0, 24_414, 1, "AIFF"]]
    assert list(clips.md5) == [hashlib.md5(open(path, "rb").read()).hexdigest() for path in clips.path]


def test_two_clips_of_the_same_bytes_are_both_kept(tmp_path, tone):
    shutil.copy(tone(tmp_path / "03-01-03-01-02-01-07.wav"), tmp_path / "03-01-03-01-02-02-07.wav")
    clips, left_out = find_clips(tmp_path)
    assert len(clips) == 2 and clips.md5.nunique() == 1 and left_out.empty


def test_what_cannot_be_used_is_listed_with_its_reason_and_the_rest_goes_on(tmp_path, tone):
    good = tone(tmp_path / "Actor_01/03-01-01-01-01-01-01.wav")
    tone(tmp_path / "Actor_01/03-02-01-01-01-01-01.wav")
    tone(tmp_path / "OAF_back_bored.wav")
    (tmp_path / "03-01-02-01-01-01-01.wav").write_text("I am a letter.")
    (tmp_path / "03-01-03-01-01-01-01.wav").write_bytes(good.read_bytes()[:3000])
    (tmp_path / "03-01-04-01-01-01-01.wav").write_bytes(b"")
    (tmp_path / "readme.txt").write_text("about")
    (tmp_path / "01-01-01-01-01-01-01.mp4").write_bytes(b"film")
    clips, left_out = find_clips(tmp_path)
    reasons = dict(left_out.values)
    assert list(clips["clip"]) == ["03-01-01-01-01-01-01"]
    assert len(clips) + len(left_out) == sum(path.is_file() for path in tmp_path.rglob("*"))
    assert "song" in reasons["Actor_01/03-02-01-01-01-01-01.wav"]
    assert "bored" in reasons["OAF_back_bored.wav"]
    assert "not audio" in reasons["03-01-02-01-01-01-01.wav"]
    assert "ends before" in reasons["03-01-03-01-01-01-01.wav"]
    assert "not audio" in reasons["03-01-04-01-01-01-01.wav"]
    assert reasons["readme.txt"] == reasons["01-01-01-01-01-01-01.mp4"] == "not a .wav file"
    assert str(tmp_path) not in " ".join(left_out.reason)  # no machine's paths in a table that is shown


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.mkdir(), lambda folder: folder.write_text("a file")],
                         ids=["missing", "empty", "a file"])
def test_a_folder_without_clips_is_an_error_that_names_it(tmp_path, make):
    make(tmp_path / "voices")
    with pytest.raises(ClipError, match="voices.*notebook 01.*DATA"):
        find_clips(tmp_path / "voices")


def test_the_demo_corpus_has_the_oddities_of_the_real_ones_and_loses_nothing(demo_corpus):
    clips, left_out = find_clips(demo_corpus)
    assert len(clips) + len(left_out) == sum(path.is_file() for path in demo_corpus.rglob("*"))
    assert sorted(left_out.file) == ["RAVDESS/Actor_01/03-02-03-01-01-01-01.wav", "synthetic-seed-0.txt"]
    assert (clips.channels == 2).sum() == 1 and clips.md5.duplicated().sum() == 1
    assert set(clips.emotion) == set(RAVDESS["emotion"].values()) and clips.speaker.nunique() == 26
    assert read_clip(demo_corpus / "TESS/YAF_angry/YAF_germ_angry.wav", 8_000).any()  # AIFF inside


# ---- samples


def loudest_hertz(samples, rate):
    return np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)


@pytest.mark.parametrize("rate", [16_000, 24_414, 48_000, 96_000])
def test_a_clip_is_mono_float32_at_the_asked_rate_with_its_pitch_unchanged(tmp_path, tone, rate):
    samples = read_clip(tone(tmp_path / "a.wav", hertz=440, seconds=1, rate=rate), 22_050)
    assert samples.dtype == np.float32 and samples.shape == (22_050,)
    assert loudest_hertz(samples, 22_050) == pytest.approx(440, abs=1)
    assert np.abs(samples).max() == pytest.approx(0.5, rel=0.05)


def test_aiff_inside_a_wav_name_is_read(tmp_path, tone):
    samples = read_clip(tone(tmp_path / "YAF_neat_fear.wav", 500, seconds=1, format="AIFF"), 8_000)
    assert loudest_hertz(samples, 8_000) == pytest.approx(500, abs=1)


def test_stereo_is_averaged(tmp_path):
    left, right = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 4_000))
    sf.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 8_000, subtype="FLOAT")
    assert read_clip(tmp_path / "a.wav", 8_000) == pytest.approx((left + right) / 2, abs=1e-6)


@pytest.mark.parametrize("samples, why", [
    (np.full(80, 0.5), "only 10 ms"),
    (np.zeros(0), "only 0 ms"),
    (np.zeros(8_000), "silent"),
    (np.full(8_000, 1e-5), "silent"),
    (np.where(np.arange(8_000) == 99, np.nan, 0.5), "1 samples are not numbers"),
    (np.where(np.arange(8_000) < 7, np.inf, 0.5), "7 samples are not numbers"),
], ids=["10 ms", "no samples", "silent", "nearly silent", "NaN", "infinite"])
def test_samples_that_cannot_be_used_are_refused_with_the_file_named(tmp_path, samples, why):
    sf.write(tmp_path / "OAF_back_sad.wav", samples, 8_000, subtype="FLOAT")
    with pytest.raises(ClipError, match=f"OAF_back_sad.wav: .*{why}"):
        read_clip(tmp_path / "OAF_back_sad.wav", 8_000)


@pytest.mark.parametrize("format", ["WAV", "AIFF"])
def test_a_truncated_clip_is_refused_with_the_file_named(tmp_path, tone, format):
    path = tone(tmp_path / "OAF_back_sad.wav", format=format)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ClipError, match="OAF_back_sad.wav: .*ends before"):
        read_clip(path, 8_000)


def test_not_audio_is_refused_with_the_file_named(tmp_path):
    (tmp_path / "OAF_back_sad.wav").write_text("I am a letter.")
    with pytest.raises(ClipError, match="OAF_back_sad.wav: not audio"):
        read_clip(tmp_path / "OAF_back_sad.wav", 8_000)
