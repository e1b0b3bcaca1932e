"""What is refused of half an hour of sounds that are no speech, and of speech, by what measure.

    .venv/bin/python tests/study_refusals.py

asks the network that answers (`final_model`) about each, prints the table and writes it into the
results of its corpus, refusals.csv. The sounds are made by formulas, the same ones in every run;
speech is of actors that the network never heard, and of espeak-ng if it is installed.
"""

import itertools
import re
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf
from scipy.signal import lfilter

from emotion_helpers import write_text
from emotion_helpers.audio import read_audio
from emotion_helpers.beyond.prediction import final_model, map_in_threads, predict
from emotion_helpers.clips import find_clips
from emotion_helpers.corpora import get_corpora, results_folder
from emotion_helpers.models import load_model

RATE = 48_000  # Hz
CLIPS = 12  # of each sound that is no speech
REASONS = {  # the beginning of each reason, and what the table calls it
    "silence|too quiet": "too quiet",
    "no sound in it": "clicks",
    "its tones stand still": "tones stand still",
    "its loudness hardly moves": "loudness hardly moves",
    "no tone stands out": "no tone stands out",
    "clipped": "clipped",
    "not sure": "not sure",
}
MAJOR, MINOR, SCALE = (0, 4, 7, 12), (0, 3, 7, 12), (0, 2, 4, 7, 9, 12)  # semitones


# ---- music


def note(hertz, seconds, partials=6, decay=0.0, attack=0.01, vibrato=0.0):
    """A note with overtones; `decay` [1/s], `attack` [s], `vibrato` at 5.5 Hz (share of pitch)."""
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * hertz * t - vibrato * hertz / 5.5 * np.cos(2 * np.pi * 5.5 * t)
    tones = [np.sin(k * phase) * np.exp(-decay * k * t) / k for k in range(1, partials + 1)]
    return sum(tones) * np.minimum(1, t / attack) * np.minimum(1, (seconds - t) / 0.02)


def melody(hertz=220, per_second=4, chord=(0,), steps=(0, 4, 7, 12), seconds=4, **timbre):
    """Notes, or chords of them (semitones), one after another."""
    notes = []
    for i in range(round(seconds * per_second)):
        pitches = [hertz * 2 ** ((steps[i % len(steps)] + tone) / 12) for tone in chord]
        notes.append(sum(note(pitch, 1 / per_second, **timbre) for pitch in pitches))
    return np.concatenate(notes)


def tune(rng, seconds, hertz=220, per_second=(1.5, 6), chord=False, **timbre):
    """A melody, or chords, in a key and at a tempo of its own."""
    steps, root = rng.choice(SCALE, 12), hertz * 2 ** (rng.uniform(-6, 6) / 12)
    tones = (MAJOR, MINOR)[rng.integers(2)] if chord else (0,)
    return melody(root, rng.uniform(*per_second), tones, steps, seconds, **timbre)


def drums(seconds=4, seed=0, per_second=4):
    """A kick, a snare, and a hi-hat on every beat (of 120 a minute, in eighths)."""
    rng = np.random.default_rng(seed)
    samples = np.zeros(round(seconds * RATE))
    for beat in range(int(per_second * seconds)):
        t = np.arange(len(samples) - round(beat * RATE / per_second)) / RATE
        hit = 0.2 * np.diff(rng.normal(size=len(t)), prepend=0) * np.exp(-60 * t)
        if beat % 4 == 0:
            hit += np.sin(2 * np.pi * (50 * t + 8 * (1 - np.exp(-30 * t)))) * np.exp(-8 * t)
        if beat % 4 == 2:
            hit += 0.4 * rng.normal(size=len(t)) * np.exp(-18 * t)
        samples[-len(t) :] += hit
    return samples


def beat(rng, seconds):
    """Drums alone, from 75 to 180 beats a minute."""
    return drums(seconds, rng.integers(1000), rng.uniform(2.5, 6))


def band(rng, seconds):
    """Drums, a bass, and chords or a melody over them."""
    bass = tune(rng, seconds, 55, (2, 4), partials=8, decay=1.5)
    over = tune(rng, seconds, chord=rng.random() < 0.5, decay=1)
    parts = beat(rng, seconds), bass, rng.uniform(0.2, 0.6) * over
    size = min(map(len, parts))
    return sum(part[:size] for part in parts)


def song(rng, seconds):
    """A singer: notes of a fifth to a whole second with vibrato, a vowel each, no words."""
    size, per_second = round(seconds * RATE), rng.uniform(1, 5)
    t = np.arange(size) / RATE
    which = (t * per_second).astype(int)
    notes, vowels = rng.choice(SCALE, which.max() + 1), rng.uniform(0, 1, which.max() + 1)
    glide = np.ones(RATE // 20) / (RATE // 20)
    semitones = np.convolve(np.pad(notes[which], (len(glide), 0), "edge"), glide, "valid")[:size]
    hertz = rng.uniform(110, 260) * 2 ** ((semitones + 0.4 * np.sin(2 * np.pi * 5.5 * t)) / 12)
    throat = np.outer(1 - vowels, (270, 2290, 3010)) + np.outer(vowels, (730, 1090, 2440))
    phase, samples = 2 * np.pi * np.cumsum(hertz) / RATE, np.zeros(size)
    for k in range(1, 25):
        near = (k * hertz[:, None] - throat[which]) / 80
        samples += np.sin(k * phase) / k * (1 / np.hypot(1, near)).sum(axis=1)
    return samples * (0.4 + np.minimum(1, 8 * (t * per_second % 1)))


# ---- noise, hums, clicks, silence


def coloured(exponent, seconds=3, seed=0):
    """Noise whose power falls with frequency to this power: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=round(seconds * RATE)))
    hertz = np.fft.rfftfreq(round(seconds * RATE), 1 / RATE)
    return np.fft.irfft(spectrum * np.maximum(hertz, 20) ** (-exponent / 2), round(seconds * RATE))


def noise(rng, seconds, exponent):
    return coloured(exponent, seconds, rng.integers(1000))


def gusts(rng, seconds):
    """Wind: brown noise whose loudness comes and goes."""
    t = np.arange(round(seconds * RATE)) / RATE
    swell = sum(np.sin(2 * np.pi * (f * t + rng.random())) for f in rng.uniform(0.1, 1, 3))
    return noise(rng, seconds, 2) * 10 ** (swell / 4)


def engine(hertz, revving, seconds=4):
    """Explosions that often a second, faster and slower by a share, with roaring noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    cycles = np.cumsum(hertz * (1 + revving * np.sin(np.pi * t / 2))) / RATE
    roar = lfilter([1], [1, -0.985], np.random.default_rng(0).normal(size=len(t)))
    strokes = sum(np.sin(2 * np.pi * k * cycles) / k for k in range(1, 12))
    return roar * (0.3 + np.exp(-12 * (cycles % 1))) + 2 * strokes


def mains(rng, seconds, hiss=0.0):
    """The hum of 50 or 60 Hz and its overtones, in noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    loud, hertz = rng.uniform(0, 1, 20), rng.choice([50, 60])
    hum = sum(a * np.sin(2 * np.pi * k * hertz * t + k**2) for k, a in enumerate(loud, 1))
    return hum / np.abs(hum).max() + hiss * rng.normal(size=len(t))


def beeps(rng, seconds):
    """A telephone that rings, a truck that backs: a tone on and off."""
    t = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * f * t) for f in rng.uniform(400, 2000, rng.integers(1, 3)))
    return tone * (t * rng.uniform(0.5, 4) % 1 < rng.uniform(0.3, 0.7))


def siren(rng, seconds):
    """A tone that glides up and down."""
    t = np.arange(round(seconds * RATE)) / RATE
    octaves = 0.5 * np.sin(2 * np.pi * rng.uniform(0.2, 2) * t)
    phase = 2 * np.pi * np.cumsum(rng.uniform(500, 900) * 2**octaves) / RATE
    return sum(np.sin(k * phase) / k for k in (1, 2, 3))


def hits(rng, seconds, number, milliseconds):
    """That many clicks or taps, short bursts that ring in between 200 and 3,000 Hz."""
    samples = np.zeros(round(seconds * RATE))
    for start in rng.integers(RATE // 4, len(samples) - RATE // 4, number):
        t = np.arange(RATE // 5) / RATE
        ring = np.sin(2 * np.pi * rng.uniform(200, 3000) * t) + 0.3 * rng.normal(size=len(t))
        samples[start : start + len(t)] += (
            rng.uniform(0.3, 1) * ring * np.exp(-3000 * t / milliseconds)
        )
    return samples


def typing(rng, seconds):
    """Keys or knuckles: three to nine taps a second."""
    return hits(rng, seconds, round(seconds * rng.uniform(3, 9)), rng.uniform(5, 40))


def offset(rng, seconds, hiss):
    """A microphone that is off but for an offset, and for noise."""
    return rng.uniform(-0.8, 0.8) + hiss * rng.normal(size=round(seconds * RATE))


def silence(rng, seconds):
    return np.zeros(round(seconds * RATE))


LOUD = {  # brought to a peak between 0.05 and 0.9
    "flute": partial(tune, hertz=440, partials=3, attack=0.05, vibrato=0.005),
    "whistle": partial(tune, hertz=880, partials=1, attack=0.03),
    "violin": partial(tune, hertz=330, partials=12, attack=0.06, vibrato=0.02),
    "organ": tune,
    "plucked string": partial(tune, partials=8, decay=3),
    "bells": partial(tune, hertz=660, per_second=(1, 3), partials=4, decay=1),
    "piano chords": partial(tune, hertz=110, chord=True, partials=8, decay=1.5),
    "guitar chords": partial(
        tune, hertz=110, per_second=(1, 4), chord=True, partials=10, decay=0.8
    ),
    "drums": beat,
    "band": band,
    "singing without words": song,
    "white noise": partial(noise, exponent=0),
    "pink noise": partial(noise, exponent=1),
    "brown noise": partial(noise, exponent=2),
    "wind in gusts": gusts,
    "engine that revs": lambda rng, s: engine(rng.uniform(20, 60), rng.uniform(0, 0.5), s),
    "mains hum": mains,
    "mains hum in noise": partial(mains, hiss=0.2),
    "beeps": beeps,
    "siren": siren,
    "one click": partial(hits, number=1, milliseconds=3),
    "three clicks": partial(hits, number=3, milliseconds=3),
    "typing, knocking": typing,
}
AS_THEY_ARE = {
    "silence": silence,
    "offset alone": partial(offset, hiss=0),
    "offset and faint noise": partial(offset, hiss=1e-3),
}


def make_sounds(name, clips=CLIPS):
    """`clips` variants of a sound, of 3 to 10 s, at several levels; yields samples at RATE."""
    for number in range(clips):
        rng = np.random.default_rng([number, *name.encode()])
        samples = (LOUD | AS_THEY_ARE)[name](rng, rng.uniform(3, 10))
        if name in LOUD:
            samples = samples * 10 ** rng.uniform(-1.3, -0.05) / np.abs(samples).max()
        yield np.clip(samples, -1, 1)


# ---- speech


def make_speech(folder, network):
    """Files with speech: the actors the network never heard, as they are and in noise, and
    espeak-ng's voices; yields sound, file."""
    clips, _ = find_clips(get_corpora(network.info["corpus"]))
    unseen = clips[clips.speaker.isin(network.info["unseen_speakers"])]
    yield from (("unseen actors", path) for path in unseen.path)
    for number, path in enumerate(unseen.path[::8]):
        samples = read_audio(path, RATE)
        level = 0.1 * np.sqrt(np.mean(samples**2))  # 20 dB below
        samples = samples + level * np.random.default_rng(number).normal(size=len(samples))
        sf.write(folder / f"noisy-{number}.wav", samples, RATE)
        yield "unseen actors, noise 20 dB below", folder / f"noisy-{number}.wav"
    if not shutil.which("espeak-ng"):
        return
    speakers = "en", "en-us", "en+f3", "en+m3", "en+f5", "en+croak", "en+whisper", "de", "fr"
    sentence = "I did not expect you here today. Who is talking by the door?"
    for number, (speaker, pitch, speed) in enumerate(
        itertools.product(speakers, (20, 50, 80), (120, 200))
    ):
        file, options = folder / f"espeak-{number}.wav", ["-s", str(speed), "-p", str(pitch)]
        command = ["espeak-ng", "-v", speaker, *options, "-w", file, sentence]
        subprocess.run(command, check=True)
        yield "espeak-ng's voices", file


# ---- the table


def table_of(answers) -> pd.DataFrame:
    """A row per sound of (sound, kind, Prediction): how many are refused, and by what."""
    rows = {}
    for sound, kind, answer in answers:
        row = rows.setdefault(sound, {"kind": kind, "clips": 0, "refused": 0})
        row |= {name: row.get(name, 0) for name in REASONS.values()}
        row["clips"] += 1
        if answer.reason:
            why = next(name for begin, name in REASONS.items() if re.match(begin, answer.reason))
            row["refused"] += 1
            row[why] += 1
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("sound").reset_index()


def main():
    network = load_model(final_model())
    with tempfile.TemporaryDirectory() as temporary:
        folder, asked = Path(temporary), []
        for name in LOUD | AS_THEY_ARE:
            for number, samples in enumerate(make_sounds(name)):
                file = folder / f"{name}-{number}.wav"
                sf.write(file, samples, RATE)
                asked.append((name, "not speech", file))
        asked += [(name, "speech", file) for name, file in make_speech(folder, network)]
        answers = list(map_in_threads(lambda row: predict(row[2], network), asked, unit="clip"))
    table = table_of(
        (name, kind, answer) for (name, kind, _), answer in zip(asked, answers, strict=True)
    )
    print(table.drop(columns="kind").to_string(index=False))
    for kind in ("not speech", "speech"):
        minutes = sum(
            answer.recording.seconds / 60
            for row, answer in zip(asked, answers, strict=True)
            if row[1] == kind
        )
        print(f"{kind}: {minutes:.0f} minutes")
    file = results_folder(network.info["corpus"]) / "refusals.csv"
    write_text(file, table.to_csv(index=False))


if __name__ == "__main__":
    main()
