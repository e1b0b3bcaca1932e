"""Prediction: one answer for every form of a recording, and none where there is nothing to go by."""
import json
import os
import shutil
import subprocess
import sys
from multiprocessing.pool import ThreadPool

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from emotion_helpers import prediction
from emotion_helpers.clips import EMOTIONS, ClipError, find_clips, read_clip
from emotion_helpers.corpora import ROOT
from emotion_helpers.pictures import PictureSettings, mel_picture
from emotion_helpers.prediction import STANDING, STEADY, movement, plot_timeline, predict, predict_files, probabilities
from emotion_helpers.recordings import HOP

RATE = 22_050
EMOTION_LIST = list(EMOTIONS)


@pytest.fixture(scope="module")
def clip(demo_corpus):
    """A clip of the demo corpus, a synthetic voice: its path."""
    clips = find_clips(demo_corpus)[0].query("corpus == 'ravdess' and channels == 1")
    return clips.path.iloc[100]


def said(path, network):
    return np.array(list(predict(path, *network).probabilities.values()))


# ---- the network's answer


def test_a_clip_is_answered_as_the_picture_that_training_made_of_it(clip, network):
    picture = mel_picture(read_clip(clip, RATE), PictureSettings())
    assert said(clip, network) == pytest.approx(probabilities(picture, *network), abs=0.02)


def test_the_network_knows_the_voices_it_was_trained_on(demo_corpus, network):
    clips = find_clips(demo_corpus)[0].query("corpus == 'ravdess'").iloc[::12]
    right = [max(a.probabilities, key=a.probabilities.get) == emotion for a, emotion in
             ((predict(row.path, *network), row.emotion) for row in clips.itertuples())]
    assert np.mean(right) > 0.3  # chance: 0.13


def test_probabilities_are_eight_in_the_fixed_order_and_sum_to_one(clip, network):
    answer = predict(clip, *network)
    assert list(answer.probabilities) == EMOTION_LIST and sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.emotion == (max(answer.probabilities, key=answer.probabilities.get) if max(answer.probabilities.values()) > 0.5 else "")


def test_temperature_softens_and_views_are_averaged_as_in_evaluation(clip, network):
    model, settings = network
    picture = mel_picture(read_clip(clip, RATE), PictureSettings())
    plain = probabilities(picture, model, settings | {"temperature": 1.0})
    soft = probabilities(picture, model, settings | {"temperature": 2.0})
    assert soft == pytest.approx(plain**0.5 / (plain**0.5).sum(), abs=1e-5)
    still = settings | {"temperature": 1.0, "recipe": {"views": 4}}  # views that change nothing
    assert probabilities(picture, model, still) == pytest.approx(plain, abs=1e-3)
    moved = settings | {"recipe": {"views": 4, "shift": 0.2, "masks": 0.2}}
    before = torch.random.get_rng_state()
    assert np.array_equal(probabilities(picture, model, moved), probabilities(picture, model, moved))  # always the same views
    assert not np.allclose(probabilities(picture, model, moved), plain, atol=1e-3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_threads_do_not_disturb_each_others_views(clip, network):
    picture = mel_picture(read_clip(clip, RATE), PictureSettings())
    moved = network[1] | {"recipe": {"views": 4, "shift": 0.2, "masks": 0.2}}
    with ThreadPool(2) as pool:
        found = pool.map(lambda _: probabilities(picture, network[0], moved), range(24))
    assert np.ptp(found, axis=0).max() < 1e-5


# ---- one source, every form


@pytest.mark.parametrize("name, rate, channels, kind, tolerance", [
    ("a.wav", 44_100, 1, {}, 0.02), ("b.wav", 96_000, 2, dict(subtype="PCM_24"), 0.02), ("c.flac", 48_000, 1, {}, 0.02),
    ("d.aiff", 32_000, 2, dict(subtype="FLOAT"), 0.02), ("e.ogg", 44_100, 1, {}, 0.1), ("f.mp3", 44_100, 2, {}, 0.1)])
def test_every_container_and_rate_gives_the_same_answer(clip, network, tmp_path, name, rate, channels, kind, tolerance):
    samples = librosa.resample(read_clip(clip, 24_000), orig_sr=24_000, target_sr=rate)
    sf.write(tmp_path / name, np.stack([samples] * channels, axis=1), rate, **kind)
    assert said(tmp_path / name, network) == pytest.approx(said(clip, network), abs=tolerance)


@pytest.mark.parametrize("decibels", [-40, -20, -6, 20])
def test_gain_alone_does_not_change_the_answer(clip, network, tmp_path, decibels):
    samples = read_clip(clip, 24_000) * 10**(decibels / 20)
    sf.write(tmp_path / "loud.wav", samples, 24_000, subtype="FLOAT")
    answer, before = predict(tmp_path / "loud.wav", *network), predict(clip, *network)
    assert (answer.emotion, list(answer.probabilities.values())) == (before.emotion, pytest.approx(list(before.probabilities.values()), abs=0.01))


# ---- long recordings


def test_a_long_recording_has_a_track_over_what_is_spoken(clip, network, tmp_path):
    samples = read_clip(clip, RATE)
    sf.write(tmp_path / "long.wav", np.concatenate([np.zeros(5 * RATE), *[samples] * 4, np.zeros(20 * RATE), samples]), RATE)
    answer = predict(tmp_path / "long.wav", *network)
    end = 5 + 4 * len(samples) / RATE
    assert len(answer.track) > 4 and answer.seconds == pytest.approx(25 + 5 * len(samples) / RATE, abs=HOP / RATE)
    assert answer.track.start.min() > 4 and not any((row.start > end) & (row.end < end + 19) for row in answer.track.itertuples())
    assert answer.probabilities == pytest.approx(answer.track[EMOTION_LIST].mean().to_dict())


def test_the_timeline_has_three_plots_on_one_axis_of_time(clip, network):
    answer = predict(clip, *network)
    axes = plot_timeline(answer, network[1]).axes
    assert len(axes) == 3 and {ax.get_xlim() for ax in axes} == {(0, answer.seconds)}
    assert [text.get_text() for text in axes[2].get_legend().get_texts()] == EMOTION_LIST[::-1]
    assert sum(bar.get_height() for bar in axes[2].patches) == pytest.approx(100)


# ---- out of its depth


def music(rate=RATE):
    """Three chords of decaying harmonics, a second each."""
    t = np.arange(rate) / rate
    chords = [sum(np.sin(2 * np.pi * root * 2**(step / 12) * k * t) * np.exp(-3 * t) / k for step in (0, 4, 7) for k in range(1, 6)) for root in (220, 165, 196)]
    return 0.1 * np.concatenate(chords)


def noise(seconds=3, seed=0):
    return 0.1 * np.random.default_rng(seed).normal(size=seconds * RATE)


CLICK = np.zeros(2 * RATE)
CLICK[RATE] = 0.5


@pytest.mark.parametrize("samples, why", [
    (CLICK, "a click"),
    (np.zeros(2 * RATE), "silence"), (np.full(2 * RATE, 1e-5), "silence"), (1e-3 * noise(), "too quiet"), (noise(), "noise"),
    (music(), "music"), (0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE), "a tone")], ids=["click", "zeros", "nearly", "quiet", "noise", "music", "sine"])
def test_what_is_no_voice_gets_no_emotion_but_a_reason(network, tmp_path, samples, why):
    sf.write(tmp_path / "what.wav", samples, RATE, subtype="FLOAT")
    answer = predict(tmp_path / "what.wav", *network)
    assert answer.emotion == "" and why in answer.reason


def test_stereo_of_which_one_side_is_upside_down_says_so(clip, network, tmp_path):
    samples = read_clip(clip, 24_000)
    sf.write(tmp_path / "stereo.wav", np.stack([samples, -samples], axis=1), 24_000)
    assert predict(tmp_path / "stereo.wav", *network).reason.startswith("its channels cancel each other")
    sf.write(tmp_path / "one-side.wav", np.stack([0.0015 * samples / np.abs(samples).max(), 0 * samples], axis=1), 24_000, subtype="FLOAT")
    assert predict(tmp_path / "one-side.wav", *network).reason.startswith("too quiet")


def test_a_clipped_recording_says_so(clip, network, tmp_path):
    samples = read_clip(clip, 24_000)
    sf.write(tmp_path / "clipped.wav", np.clip(samples * 10 / np.abs(samples).max(), -1, 1), 24_000)
    assert "clipped" in predict(tmp_path / "clipped.wav", *network).reason


def test_the_demo_voices_are_taken_for_voices(demo_corpus):
    clips = find_clips(demo_corpus)[0].iloc[::20]
    decibels, likeness = np.transpose([movement(mel_picture(read_clip(path, RATE)), 80.0) for path in clips.path])
    assert decibels.min() > STEADY and likeness.max() < STANDING


def test_an_even_choice_is_called_unsure(clip, network):
    answer = predict(clip, network[0], network[1] | {"temperature": 50.0})
    assert answer.emotion == "" and answer.reason.startswith("not sure: ") and len(answer.probabilities) == 8


@pytest.mark.parametrize("seconds", [0.2, 0.5])
def test_a_fifth_of_a_second_is_enough(network, tmp_path, seconds):
    t = np.arange(round(seconds * 44_100)) / 44_100
    sf.write(tmp_path / "ah.wav", 0.3 * np.sin(2 * np.pi * 200 * t * (1 + t)) * np.sin(np.pi * t / seconds), 44_100)
    assert len(predict(tmp_path / "ah.wav", *network).probabilities) == 8


def test_less_than_a_tenth_of_a_second_is_an_error(tmp_path, network):
    sf.write(tmp_path / "tick.wav", 0.3 * np.ones(1000), 44_100)
    with pytest.raises(ClipError, match="tick.wav: only 2. ms"):
        predict(tmp_path / "tick.wav", *network)


# ---- the command


def test_the_command_prints_one_answer_and_exits_with_zero(clip, demo_network, tmp_path):
    command = [sys.executable, "-m", "emotion_helpers", "predict", clip, "--model", str(demo_network), "--json", "--timeline", str(tmp_path / "t.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    assert list(answer)[:4] == ["file", "emotion", "reason", "seconds"] and set(EMOTIONS) < set(answer) and answer["track"]
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_becomes_a_table_and_bad_files_are_told_at_the_end(clip, demo_network, tmp_path, capsys):
    (tmp_path / "in/deep").mkdir(parents=True)
    shutil.copy(clip, tmp_path / "in/one.wav")
    shutil.copy(clip, tmp_path / "in/deep/two.WAV")
    (tmp_path / "in/bad.wav").write_text("no sound")
    (tmp_path / "in/notes.txt").write_text("no sound either")
    (tmp_path / "in/._one.wav").write_text("what macOS leaves")
    shutil.copy(clip, os.fsencode(tmp_path / "in") + b"/caf\xe9 $_$.wav")  # not UTF-8
    assert predict_files([str(tmp_path / "in")], str(demo_network), csv=str(tmp_path / "out.csv")) == 1
    table = pd.read_csv(tmp_path / "out.csv")
    assert list(table.columns) == ["file", "emotion", "reason", "seconds", *EMOTIONS] and len(table) == 3
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3 and "bad.wav: not a recording" in err and "caf" in out and "notes.txt" not in out + err


def test_a_folder_with_one_recording_becomes_a_table_too(clip, demo_network, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(clip, tmp_path / "in/one.wav")
    assert predict_files([str(tmp_path / "in")], str(demo_network), csv=str(tmp_path / "out.csv")) == 0
    assert len(pd.read_csv(tmp_path / "out.csv")) == 1


def test_a_folder_without_recordings_and_a_missing_model_are_errors(demo_network, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("no sound")
    with pytest.raises(ValueError, match="no recording in"):
        predict_files([str(tmp_path)], str(demo_network))
    monkeypatch.setattr(prediction, "ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match="emotion_helpers train"):
        predict_files([str(tmp_path)])
