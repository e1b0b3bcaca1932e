"""What a file name says, and which files count."""

import hashlib
import itertools
import os
import shutil
from pathlib import Path

import pytest

from emotion_helpers.clips import ClipError, files_below, find_clips, parse_name

# The codes as published: Livingstone & Russo 2018; Pichora-Fuller & Dupuis 2020.
EMOTIONS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
RAVDESS = {
    "emotion": {f"{code:02}": emotion for code, emotion in enumerate(EMOTIONS, start=1)},
    "intensity": {"01": "normal", "02": "strong"},
    "text": {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
    "repetition": {"01": 1, "02": 2},
    "speaker": {f"{actor:02}": f"Actor_{actor:02}" for actor in range(1, 25)},
}
TESS = {
    "angry": "angry",
    "disgust": "disgust",
    "fear": "fearful",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "surprised",
    "sad": "sad",
}
FOLDERS = {  # file name -> its folder in Kaggle's copies
    "03-01-01-01-01-01-01.wav": "Actor_01",
    "03-01-06-02-02-01-12.wav": "Actor_12",
    "03-01-08-01-01-02-12.wav": "Actor_12",
    "OAF_back_fear.wav": "OAF_Fear",
    "YAF_youth_ps.wav": "YAF_pleasant_surprised",
}


# ---- names


def test_every_ravdess_code_means_what_was_published():
    for codes in itertools.product(*RAVDESS.values()):
        stem = f"03-01-{'-'.join(codes)}"
        if codes[:2] == ("01", "02"):  # "no strong intensity for the neutral emotion"
            with pytest.raises(ClipError, match="a code that RAVDESS does not have"):
                parse_name(f"{stem}.wav")
            continue
        row = parse_name(f"{stem}.wav")
        columns = zip(RAVDESS, codes, strict=True)
        assert {key: row[key] for key in RAVDESS} == {
            key: RAVDESS[key][code] for key, code in columns
        }
        # "odd numbered actors are male"
        assert row["gender"] == ("male" if int(codes[-1]) % 2 else "female")
        assert (row["corpus"], row["clip_id"]) == ("ravdess", stem)


@pytest.mark.parametrize("speaker", ["OAF", "YAF"])
@pytest.mark.parametrize("ending, emotion", TESS.items())
def test_every_part_of_a_tess_name(speaker, ending, emotion):
    assert parse_name(f"{speaker}_chalk_{ending}.wav") == {
        "clip_id": f"{speaker}_chalk_{ending}",
        "corpus": "tess",
        "speaker": speaker,
        "gender": "female",
        "emotion": emotion,
        "intensity": "normal",
        "text": "chalk",
        "repetition": 1,
    }


def test_only_the_name_counts_not_the_folder_and_not_the_case():
    ravdess = parse_name("songs/Actor_03/YAF_sad/03-01-05-01-01-01-20.WAV")
    assert ravdess["speaker"] == "Actor_20"
    tess = parse_name("OAF_Pleasant_surprise/yaf_Back_Angry.WAV")
    assert (tess["speaker"], tess["text"], tess["emotion"]) == ("YAF", "back", "angry")


def test_the_one_published_name_that_lacks_a_letter():
    row = parse_name("OA_bite_neutral.wav")
    assert (row["speaker"], row["text"]) == ("OAF", "bite")


@pytest.mark.parametrize(
    "name, reason",
    [
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
        ("٠٣-٠١-٠١-٠١-٠١-٠١-٠١.wav", "neither"),  # digits, but not those
        ("OAF_back.wav", "neither"),
        ("my holiday.wav", "neither"),
    ],
)
def test_other_names_are_refused_by_name(name, reason):
    with pytest.raises(ClipError, match=reason) as refusal:
        parse_name(name)
    assert name.rsplit(".", 1)[0] in str(refusal.value)


# ---- folders


@pytest.mark.parametrize(
    "places",
    [
        ["{name}"],
        ["{folder}/{name}"],
        ["{folder}/{name}", "audio_speech_actors_01-24/{folder}/{name}"],  # Kaggle: all twice
        ["TESS/{folder}/{name}", "TESS/TESS/{folder}/{name}"],  # Kaggle: nested in itself
        ["{upper_folder}/{upper_name}"],
    ],
    ids=["flat", "folders", "doubled", "nested", "upper case"],
)
def test_each_clip_is_found_once_wherever_it_lies(tmp_path, tone, places):
    for number, (name, folder) in enumerate(FOLDERS.items()):
        names = {"name": name, "folder": folder, "upper_folder": folder.upper()}
        names["upper_name"] = name.replace(".wav", ".WAV")
        for place in places:
            tone(tmp_path / place.format(**names), 200 + 50 * number)
    clips, left_out = find_clips(tmp_path)
    # sorted by corpus, speaker, clip_id
    assert list(clips.clip_id) == [name.removesuffix(".wav") for name in FOLDERS]
    assert list(clips.emotion) == ["neutral", "fearful", "surprised", "fearful", "surprised"]
    assert len(left_out) == len(FOLDERS) * (len(places) - 1)
    assert all("second copy of" in reason for reason in left_out.reason)


def test_a_second_copy_names_the_one_that_is_used(tmp_path, tone):
    tone(tmp_path / "a/b/OAF_back_sad.wav", 300)
    tone(tmp_path / "z/OAF_back_sad.wav", 300)
    tone(tmp_path / "z/y/OAF_back_sad.wav", 400)
    clips, left_out = find_clips(tmp_path)
    assert list(clips.path) == [str(tmp_path / "z/OAF_back_sad.wav")]
    assert dict(left_out.to_numpy()) == {
        "a/b/OAF_back_sad.wav": "a second copy of z/OAF_back_sad.wav",
        "z/y/OAF_back_sad.wav": "another recording under the name of z/OAF_back_sad.wav",
    }


def test_names_that_differ_by_case_alone_are_copies_as_on_a_mac(tmp_path, tone):
    tone(tmp_path / "a" / "OAF_back_sad.wav", 300)
    tone(tmp_path / "b" / "oaf_back_sad.wav", 300)
    clips, left_out = find_clips(tmp_path)
    assert list(clips.clip_id) == ["OAF_back_sad"]
    assert list(left_out.reason) == [f"a second copy of {Path('a') / 'OAF_back_sad.wav'}"]


@pytest.mark.parametrize("name", ["OAF_back_d\u0131sgust.wav", "OAF_back_\u017fad.wav"])
def test_letters_that_only_unicode_takes_for_i_and_s_are_no_name_of_ours(name):
    with pytest.raises(ClipError, match="TESS has only the emotions"):
        parse_name(name)


def test_a_good_copy_is_used_where_the_first_one_is_damaged(tmp_path, tone):
    tone(tmp_path / "a/b/OAF_back_sad.wav")
    (tmp_path / "OAF_back_sad.wav").write_bytes(b"")
    clips, left_out = find_clips(tmp_path)
    assert list(clips.path) == [str(tmp_path / "a/b/OAF_back_sad.wav")]
    assert list(left_out.file) == ["OAF_back_sad.wav"]


def test_the_table_has_length_rate_channels_container_and_md5(tmp_path, tone):
    tone(tmp_path / "03-01-02-01-01-02-01.wav", seconds=1.5, rate=48_000, channels=2)
    tone(tmp_path / "OAF_food_fear.wav", seconds=0.5, rate=96_000)
    tone(tmp_path / "YAF_germ_angry.wav", seconds=2, rate=24_414, format="AIFF")
    clips, _ = find_clips(tmp_path)
    columns = ["clip_id", "seconds", "rate", "channels", "container"]
    assert clips[columns].to_numpy().tolist() == [
        ["03-01-02-01-01-02-01", 1.5, 48_000, 2, "WAV"],
        ["OAF_food_fear", 0.5, 96_000, 1, "WAV"],
        ["YAF_germ_angry", 2.0, 24_414, 1, "AIFF"],
    ]
    contents = [Path(path).read_bytes() for path in clips.path]
    assert list(clips.md5) == [hashlib.md5(content).hexdigest() for content in contents]


def test_two_clips_of_the_same_bytes_are_both_kept(tmp_path, tone):
    path = tone(tmp_path / "03-01-03-01-02-01-07.wav")
    shutil.copy(path, tmp_path / "03-01-03-01-02-02-07.wav")
    clips, left_out = find_clips(tmp_path)
    assert len(clips) == 2
    assert clips.md5.nunique() == 1
    assert left_out.empty


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
    reasons = dict(left_out.to_numpy())
    assert list(clips.clip_id) == ["03-01-01-01-01-01-01"]
    assert len(clips) + len(left_out) == sum(path.is_file() for path in tmp_path.rglob("*"))
    assert "song" in reasons["Actor_01/03-02-01-01-01-01-01.wav"]
    assert "TESS has only" in reasons["OAF_back_bored.wav"]
    assert "not a recording" in reasons["03-01-02-01-01-01-01.wav"]
    assert "ends before" in reasons["03-01-03-01-01-01-01.wav"]
    assert "not a recording" in reasons["03-01-04-01-01-01-01.wav"]
    assert reasons["readme.txt"] == reasons["01-01-01-01-01-01-01.mp4"] == "not a .wav file"
    assert str(tmp_path) not in " ".join(left_out.reason)  # the table is shown to others


def test_lengths_in_headers_are_not_believed(tmp_path, tone):
    path = tone(tmp_path / "OAF_back_sad.wav", seconds=1)
    content = bytearray(path.read_bytes())
    content[40:44] = bytes(4)  # the recorder crashed before it wrote how much there is
    path.write_bytes(content)
    clips, _ = find_clips(tmp_path)
    assert list(clips.seconds) == [pytest.approx(1, abs=0.01)]


def test_linked_folders_are_followed_and_a_loop_ends(tmp_path, tone):
    tone(tmp_path / "elsewhere/OAF_back_sad.wav")
    (tmp_path / "DATA").mkdir()
    (tmp_path / "DATA/TESS").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "DATA")
    clips, left_out = find_clips(tmp_path / "DATA")
    assert list(clips.path) == [str(tmp_path / "DATA/TESS/OAF_back_sad.wav")]
    assert left_out.empty


def test_a_folder_and_a_link_to_it_are_one(tmp_path, tone):
    tone(tmp_path / "b/c.wav")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    assert [path.name for path in files_below(tmp_path)] == ["c.wav"]


def test_hidden_files_and_dangling_links_are_no_files(tmp_path, tone):
    tone(tmp_path / "a/b.wav")
    (tmp_path / ".DS_Store").write_bytes(b"")
    tone(tmp_path / ".Trash-1000/deleted.wav")
    (tmp_path / "a/gone.wav").symlink_to(tmp_path / "nowhere.wav")
    assert list(files_below(tmp_path)) == [tmp_path / "a/b.wav"]


def test_a_wav_of_a_kind_that_nobody_knows_is_left_out(tmp_path, tone):
    """One changed byte in its header; nothing else of the corpus must suffer."""
    tone(tmp_path / "OAF_back_sad.wav")
    path = tone(tmp_path / "OAF_bar_sad.wav")
    content = path.read_bytes()
    path.write_bytes(content[:20] + b"\0\0" + content[22:])
    clips, left_out = find_clips(tmp_path)
    assert list(clips.clip_id) == ["OAF_back_sad"]
    assert list(left_out.file) == ["OAF_bar_sad.wav"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_folder_whose_name_is_not_utf_8(tmp_path, tone):
    path = tone(tmp_path / "OAF_back_sad.wav")
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    path.rename(folder / path.name)
    clips, _ = find_clips(tmp_path)
    assert list(clips.clip_id) == ["OAF_back_sad"]


@pytest.mark.parametrize("kind", ["missing", "empty", "a file"])
def test_a_folder_without_clips_is_an_error_that_names_it(tmp_path, kind):
    if kind == "empty":
        (tmp_path / "voices").mkdir()
    if kind == "a file":
        (tmp_path / "voices").write_text("no folder")
    with pytest.raises(ClipError, match=r"voices.*no file at all.*chapter 01.*DATA"):
        find_clips(tmp_path / "voices")


def test_a_folder_of_refused_files_says_the_commonest_reasons(tmp_path):
    for number in range(3):
        (tmp_path / f"03-01-02-01-01-01-{number + 1:02}.wav").write_text("no sound")
    (tmp_path / "readme.txt").write_text("about")
    with pytest.raises(ClipError, match=r"3 files: not a recording .*1 files: not a .wav file"):
        find_clips(tmp_path)
