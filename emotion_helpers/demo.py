"""A synthetic corpus with the names and folders of RAVDESS and TESS, for trying the tutorial without a download.

Nobody speaks here. A train of glottal pulses goes through four vowel formants (a source-filter voice: Fant 1960; Klatt
1980, doi:10.1121/1.383940), and each emotion moves pitch, range, contour, rate, effort, jitter and breathiness the way
listeners and measurements report it for human voices: Murray & Arnott 1993, doi:10.1121/1.405558; Scherer 2003,
doi:10.1016/S0167-6393(02)00084-5; Juslin & Laukka 2003, doi:10.1037/0033-2909.129.5.770. Directions are
theirs, sizes are ours. What a network scores on it says that the code works, nothing about people.
"""
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf
from joblib import Parallel, delayed
from scipy.signal import butter, lfilter, sosfilt

from .clips import EMOTIONS, TESS_EMOTIONS

SAMPLE_RATE = 24_000  # Hz
ACTORS, WORDS = 24, ("back", "bite", "food", "germ")


class Manner(NamedTuple):
    """How an emotion changes a voice at full strength."""
    pitch: float  # semitones above the speaker's neutral
    span: float  # semitones the melody moves up and down
    slope: float  # semitones the melody rises (or falls) from beginning to end
    rate: float  # syllables a second, times the speaker's neutral
    effort: float  # dB more (or less) at 4 kHz against 200 Hz: a louder voice is a brighter voice
    jitter: float  # random change from one pitch period to the next, as a share of it
    breath: float  # breath noise against the voice's amplitude
    tremor: float = 0.0  # semitones of trembling at 6 Hz


MANNERS = dict(zip(EMOTIONS, (
    Manner(0, 1.5, -2, 1.00, 0, 0.005, 0.04),  # neutral
    Manner(-1, 1.0, -1, 0.85, -4, 0.003, 0.08),  # calm: low, even, slow, soft
    Manner(5, 4.0, 2, 1.15, 3, 0.008, 0.04),  # happy: higher, wide, a little faster, bright
    Manner(-2, 0.7, -4, 0.75, -8, 0.010, 0.20),  # sad: lower, narrow, falling, slow, breathy
    Manner(4, 3.5, -5, 1.20, 9, 0.020, 0.02),  # angry: high, wide, abrupt, fast, tense and loud
    Manner(8, 1.5, 0, 1.35, 0, 0.025, 0.10, 0.8),  # fearful: very high, fast, trembling
    Manner(-3, 2.5, -3, 0.70, 2, 0.030, 0.05),  # disgust: low, slow, creaky
    Manner(7, 3.0, 9, 1.05, 3, 0.006, 0.06),  # surprised: very high, very wide, rising at the end
)))
# The first resonances of a man's vocal tract [Hz] in a few vowels (three: Peterson & Barney 1952, doi:10.1121/1.1906875; the fourth is ours).
VOWELS = {"i": (270, 2290, 3010, 3600), "e": (530, 1840, 2480, 3500), "a": (730, 1090, 2440, 3400), "o": (570, 840, 2410, 3300),
          "u": (300, 870, 2240, 3300), "r": (490, 1350, 1690, 3300)}
STATEMENT_VOWELS = ("iraiaeo", "oraiiaeo")  # kids are talking by the door, dogs are sitting by the door


def synthesise(vowels: str, emotion: str, strength: float, voice: dict, rng: np.random.Generator) -> np.ndarray:
    """One spoken phrase, float, shape (n,), at 24 kHz, peak 0.1 to 0.8: a vowel a syllable, `strength` 0 is neutral.

    `voice`: pitch [Hz], tract (formants times this), rate [syllables/s], breath, effort [dB].
    """
    manner = Manner(*(n + strength * (m - n) for m, n in zip(MANNERS[emotion], MANNERS["neutral"])))
    lengths = rng.uniform(0.8, 1.2, len(vowels)) / (voice["rate"] * manner.rate)  # seconds a syllable
    ends = np.round(np.cumsum(lengths) * SAMPLE_RATE).astype(int)
    time = np.linspace(0, 1, ends[-1])
    accents = np.interp(time, np.linspace(0, 1, len(vowels) + 1), rng.normal(0, manner.span, len(vowels) + 1))
    semitones = manner.pitch + accents + manner.slope * (time**2 - 0.5)
    semitones += manner.tremor * np.sin(2 * np.pi * 6 * np.arange(ends[-1]) / SAMPLE_RATE)
    periods = np.cumsum(voice["pitch"] * 2 ** (semitones / 12) / SAMPLE_RATE)
    knots = np.arange(int(periods[-1]) + 2)  # one a pitch period
    jitter = np.interp(periods, knots, rng.normal(0, manner.jitter, len(knots)))
    pulses = np.diff(np.floor(periods + jitter), prepend=0).clip(0)
    # Two one-pole low-passes give the glottis' 12 dB an octave; effort moves the second one's corner up.
    source = lfilter([1], [1, -0.97], pulses)
    pole = np.exp(-2 * np.pi * 500 * 10 ** ((manner.effort + voice["effort"]) / 12) / SAMPLE_RATE)
    source = lfilter([1 - pole], [1, -pole], source)
    source /= np.abs(source).max()
    noise = rng.normal(0, 0.3, ends[-1]) * (manner.breath + voice["breath"])
    sound, memory = np.empty(ends[-1]), [np.zeros(2) for _ in range(4)]
    for vowel, start, end in zip(vowels, np.concatenate([[0], ends[:-1]]), ends):
        part = (source + noise)[start:end]
        for i, (formant, width) in enumerate(zip(VOWELS[vowel], (60, 90, 150, 200))):
            angle, radius = 2 * np.pi * formant * voice["tract"] / SAMPLE_RATE, np.exp(-np.pi * width / SAMPLE_RATE)
            poles = [1, -2 * radius * np.cos(angle), radius**2]
            part, memory[i] = lfilter([sum(poles)], poles, part, zi=memory[i])
        consonant = min(int(0.06 * SAMPLE_RATE), end - start)
        envelope = np.ones(end - start)
        envelope[:consonant] = np.linspace(0.15, 1, consonant)
        envelope[-consonant // 2:] *= np.linspace(1, 0.4, len(envelope[-consonant // 2:]))
        sound[start:end] = part * envelope
    hiss = sosfilt(butter(2, 3000, "high", fs=SAMPLE_RATE, output="sos"), rng.normal(0, 1, ends[-1]))
    at_onset = np.concatenate([np.exp(-np.arange(n) / (0.015 * SAMPLE_RATE)) for n in np.diff(ends, prepend=0)])
    sound = sound / np.abs(sound).max() + 0.05 * hiss * at_onset
    return sound / np.abs(sound).max() * np.clip(0.35 * 10 ** ((manner.effort + rng.normal(0, 2)) / 20), 0.1, 0.8)


def demo_names() -> list[str]:
    """File names below the demo folder: 24 actors, 15 clips each, and two women, seven emotions, four words."""
    ravdess = [f"RAVDESS/Actor_{actor:02}/03-01-{emotion:02}-{intensity:02}-{1 + (actor + emotion) % 2:02}-01-{actor:02}.wav"
               for actor in range(1, ACTORS + 1) for emotion in range(1, 9) for intensity in (1, 2) if (emotion, intensity) != (1, 2)]
    tess = [f"TESS/{speaker}_{emotion}/{speaker}_{word}_{emotion}.wav"
            for speaker in ("OAF", "YAF") for emotion in TESS_EMOTIONS for word in WORDS]
    return ravdess + tess


def write_demo_clip(folder: Path, name: str, seed: int) -> None:
    """Synthesise one clip of `demo_names` and write it below `folder`."""
    path, parts = folder / name, Path(name).stem.replace("_", "-").split("-")
    acted = len(parts) == 7  # RAVDESS
    number = int(parts[6]) if acted else 25 + ("OAF", "YAF").index(parts[0])
    speaker, take = np.random.default_rng([seed, number]), np.random.default_rng([seed, *name.encode()])
    man = acted and number % 2
    voice = dict(pitch=(115 if man else 205) * 2 ** (speaker.normal(0, 2.5) / 12), tract=(1.0 if man else 1.16) * speaker.uniform(0.94, 1.06),
                 rate=speaker.uniform(3.4, 4.6), breath=speaker.uniform(0, 0.08), effort=speaker.normal(0, 2))
    emotion = EMOTIONS[int(parts[2]) - 1] if acted else TESS_EMOTIONS[parts[2]]
    strength = take.uniform(0.6, 1.0) if acted and parts[3] == "01" else take.uniform(0.9, 1.2)
    vowels = STATEMENT_VOWELS[int(parts[4]) - 1] if acted else "eer" + "aiou"[WORDS.index(parts[1])]  # say the word ...
    silence = np.zeros(int(SAMPLE_RATE * (0.5 if acted else 0.1)))
    samples = np.concatenate([silence, synthesise(vowels, emotion, strength, voice, take), silence])
    samples += take.normal(0, 3e-4, len(samples))  # the room
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, SAMPLE_RATE, subtype="PCM_16")


def make_demo(folder: str | Path, seed: int = 0) -> Path:
    """Write the demo corpus (416 clips, seconds) into `folder` unless this seed's is there already; returns `folder`.

    It has the oddities of the real ones: a stereo clip, two clips of the same bytes, AIFF under a .wav name, a name that
    lacks a letter, a song among the speech.
    """
    folder = Path(folder)
    mark = folder / f"synthetic-seed-{seed}.txt"
    if mark.exists():
        return folder
    if folder.exists() and any(folder.iterdir()):
        if not any(folder.glob("synthetic-seed-*.txt")):
            raise FileExistsError(f"{folder} exists and is not a demo corpus: move it away, or name another folder")
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    Parallel(n_jobs=-1)(delayed(write_demo_clip)(partial, name, seed) for name in demo_names())
    first = partial / "RAVDESS/Actor_01"
    samples, _ = sf.read(next(first.glob("03-01-02-01-*")))
    sf.write(next(first.glob("03-01-02-01-*")), np.stack([samples, samples], 1), SAMPLE_RATE, subtype="PCM_16")
    shutil.copy(next(first.glob("03-01-03-01-*")), next(first.glob("03-01-03-02-*")))
    shutil.copy(next(first.glob("03-01-03-01-*")), first / "03-02-03-01-01-01-01.wav")  # named as a song
    aiff = partial / "TESS/YAF_angry/YAF_germ_angry.wav"
    samples, _ = sf.read(aiff)
    sf.write(aiff, samples, SAMPLE_RATE, format="AIFF", subtype="PCM_16")
    os.replace(partial / "TESS/OAF_neutral/OAF_bite_neutral.wav", partial / "TESS/OAF_neutral/OA_bite_neutral.wav")
    (partial / mark.name).write_text("A synthetic corpus, made by emotion_helpers.demo. Nobody speaks in it.\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    return folder
