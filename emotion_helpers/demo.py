"""Synthetic voices under the names of RAVDESS and TESS, to try everything without a download.

Nobody speaks. Overtones are as loud as the resonances of a throat make them; emotions change them
in the directions that Juslin & Laukka 2003 report for people (doi:10.1037/0033-2909.129.5.770), by
amounts of ours. A score on these voices shows that the code works, and nothing about people."""

from itertools import pairwise, product
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from scipy.io import wavfile
from scipy.signal.windows import tukey

from . import EmotionHelpersError, move_once, own_folder, write_text
from .clips import EMOTIONS, TESS_EMOTIONS, parse_name

SAMPLE_RATE = 24_000  # Hz
RESONANCES = (270, 840, 1690, 3000), (730, 2290, 3010, 3600)  # Hz, a man's lowest and highest
WORDS = ("back", "bite", "food", "germ")
MANNERS = (  # what emotions, in the order of EMOTIONS, do to a voice at full strength
    (0, -1, 5, -2, 4, 8, -3, 7),  # pitch: semitones above the speaker's own
    (1.5, 1, 4, 0.7, 3.5, 1.5, 2.5, 3),  # span: semitones, the melody's ups and downs
    (-2, -1, 2, -4, -5, 0, -3, 9),  # slope: semitones from beginning to end
    (1, 0.85, 1.15, 0.75, 1.2, 1.35, 0.7, 1.05),  # rate: times the speaker's own
    (0, -4, 3, -8, 9, 0, 2, 3),  # effort: dB, in loudness and in brightness
)


def synthesise(name: str, seed: int) -> np.ndarray:
    """The clip of a file name: float64 (n,) at 24 kHz, six syllables between two silences."""
    clip = parse_name(name)
    take = np.random.default_rng([seed, *name.encode()])
    speaker = np.random.default_rng([seed, *clip["speaker"].encode()])
    text = np.random.default_rng([*clip["text"].encode()])
    strength = take.uniform(0.9, 1.2) if clip["intensity"] == "strong" else take.uniform(0.6, 1)
    neutral, full = np.array(MANNERS)[:, [0, EMOTIONS.index(clip["emotion"])]].T
    pitch, span, slope, rate, effort = neutral + strength * (full - neutral)
    hertz, throat = (115, 1) if clip["gender"] == "male" else (205, 1.16)
    melody = take.normal(pitch + slope * np.linspace(-0.5, 0.5, 7), span) + speaker.normal(0, 2.5)
    vowels = throat * speaker.uniform(0.94, 1.06) * text.uniform(*RESONANCES, (6, 4))
    rate *= speaker.uniform(0.85, 1.15)
    syllables = []
    for vowel, notes in zip(vowels, pairwise(hertz * 2 ** (melody / 12)), strict=True):
        overtones = np.arange(notes[0], 9_000, notes[0])  # Hz
        loudness = (1 / np.hypot(1, (overtones[:, None] - vowel) / 50)).sum(axis=1)
        loudness /= overtones * (1 + overtones / (500 * 10 ** (effort / 12)))
        pitches = np.linspace(*notes, int(take.uniform(5e3, 7e3) / rate))  # Hz, as it glides
        phase = 1024 * np.cumsum(pitches) / SAMPLE_RATE
        voice = np.interp(phase, range(1024), np.fft.irfft([0, *loudness], 1024), period=1024)
        voice = voice / abs(voice).max() + take.normal(0, 0.01, len(voice))  # breath
        syllables.append(voice * tukey(len(voice), 0.3))
    samples = 0.2 * 10 ** (effort / 20) * np.pad(np.concatenate(syllables), SAMPLE_RATE // 4)
    return samples + take.normal(0, 3e-4, len(samples))  # the room


def demo_names() -> list[str]:
    """File names of the demo: 24 actors with 15 clips each; 2 women, 7 emotions, 4 words."""
    names = []
    for actor, emotion, level in product(range(1, 25), range(1, 9), (1, 2)):
        if (emotion, level) != (1, 2):  # strongly neutral
            text = 2 - (actor // 2 + emotion + level) % 2
            codes = f"03-01-0{emotion}-0{level}-0{text}-01-{actor:02}"
            names.append(f"RAVDESS/Actor_{actor:02}/{codes}.wav")
    for speaker, emotion, word in product(("OAF", "YAF"), TESS_EMOTIONS, WORDS):
        names.append(f"TESS/{speaker}_{emotion}/{speaker}_{word}_{emotion}.wav")
    return names


def write_demo_clip(folder: str | Path, name: str, seed: int) -> None:
    """Make one clip of `demo_names` below `folder`: 24 kHz, mono, 16 bits."""
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, SAMPLE_RATE, np.int16(32_767 * synthesise(name, seed)))


def make_demo(folder: str | Path, seed: int = 0) -> Path:
    """Write all clips or none into `folder` and return it; raises `EmotionHelpersError`."""
    folder, mark = Path(folder), f"synthetic-seed-{seed}.txt"
    if (folder / mark).exists():
        return folder
    if folder.is_file() or any(folder.glob("*")):
        raise EmotionHelpersError(f"{folder} holds no demo of seed {seed} but files: move it away")
    try:
        with own_folder(folder.parent) as own:
            new = own / "demo"
            Parallel(n_jobs=-1)(delayed(write_demo_clip)(new, name, seed) for name in demo_names())
            write_text(new / mark, "Synthetic voices, made by emotion_helpers: nobody speaks.\n")
            move_once(new, folder, lambda demo: (demo / mark).exists())
        return folder
    except OSError as error:
        raise EmotionHelpersError(f"{folder} cannot be written ({error}): make room") from error
