"""Clips: what a file name says, which files count, and the samples of one clip."""
import hashlib
import re
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import soundfile as sf
from joblib import Parallel, delayed

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")  # RAVDESS codes 01 to 08
CORPORA = ("ravdess", "tess")
TESS_EMOTIONS = {"neutral": "neutral", "happy": "happy", "sad": "sad", "angry": "angry", "fear": "fearful",
                 "disgust": "disgust", "ps": "surprised"}  # ps: pleasant surprise
STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
MIN_SECONDS = 0.1

RAVDESS_NAME = re.compile(r"\d\d(-\d\d){6}")
TESS_NAME = re.compile(r"(OAF?|YAF)_([a-z]+)_([a-z]+)", re.IGNORECASE)


class ClipError(ValueError):
    """A file that cannot be used; the message names the file and what to do about it."""


def parse_name(path: str | Path) -> dict:
    """What a RAVDESS or TESS file name says: clip, corpus, speaker, gender, emotion, intensity, text, repetition.

    Reads the name only, never the folder: mirrors nest, double and rename the folders, the names stay.
    Raises `ClipError` for songs, videos, unknown codes and names of neither corpus.
    Codes: Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391; Pichora-Fuller & Dupuis 2020, doi:10.5683/SP2/E8H2MF.

    >>> parse_name("03-01-06-01-02-01-12.wav")["emotion"], parse_name("OAF_back_ps.wav")["emotion"]
    ('fearful', 'surprised')
    """
    stem = Path(path).stem
    if RAVDESS_NAME.fullmatch(stem):
        modality, channel, emotion, intensity, statement, repetition, actor = map(int, stem.split("-"))
        if modality != 3:
            raise ClipError(f"{path}: modality {modality:02} is video; the tutorial uses 03, audio only")
        if channel != 1:
            raise ClipError(f"{path}: vocal channel {channel:02} is song; the tutorial uses 01, speech")
        known = 1 <= emotion <= 8 and intensity in (1, 2) and statement in (1, 2) and repetition in (1, 2)
        if not known or not 1 <= actor <= 24 or (emotion, intensity) == (1, 2):  # nobody is strongly neutral
            raise ClipError(f"{path}: a code RAVDESS does not have; is it named by hand? Rename it or take it out")
        return dict(clip=stem, corpus="ravdess", speaker=f"Actor_{actor:02}", gender=("female", "male")[actor % 2],
                    emotion=EMOTIONS[emotion - 1], intensity=("normal", "strong")[intensity - 1],
                    text=STATEMENTS[statement - 1], repetition=repetition)
    if match := TESS_NAME.fullmatch(stem):
        speaker, word, emotion = match[1].upper(), match[2].lower(), match[3].lower()
        if emotion not in TESS_EMOTIONS:
            raise ClipError(f"{path}: TESS has no emotion '{emotion}', only {', '.join(TESS_EMOTIONS)}; rename the file")
        # One published file, OA_bite_neutral.wav, lacks the F of the older woman's OAF.
        return dict(clip=stem, corpus="tess", speaker="OAF" if speaker == "OA" else speaker, gender="female",
                    emotion=TESS_EMOTIONS[emotion], intensity="normal", text=word, repetition=1)
    raise ClipError(f"{path}: neither a RAVDESS nor a TESS file name")


def refuse_truncated(path: Path) -> None:
    """Raises `ClipError` for a wav or aiff file that is shorter than its header says: libsndfile reads what is left without a word."""
    with open(path, "rb") as file:
        head = file.read(12)
    order = {b"RIFF": "little", b"FORM": "big"}.get(head[:4])  # wav, aiff
    if order and path.stat().st_size < int.from_bytes(head[4:8], order) < 2**32 - 1:
        raise ClipError(f"{path}: the file ends before its header says; copy or download it again")


def probe(path: str | Path) -> dict:
    """Length [s], rate [Hz], channels, container and md5 of an audio file, without decoding it. Raises `ClipError`."""
    path = Path(path)
    refuse_truncated(path)
    with open(path, "rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    try:
        info = sf.info(path)
    except sf.LibsndfileError as error:
        raise ClipError(f"{path}: not audio that soundfile can read ({error.error_string}); replace or remove it") from error
    return dict(seconds=info.duration, rate=info.samplerate, channels=info.channels, container=info.format, md5=md5)


def find_clips(folder: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every RAVDESS and TESS speech clip below `folder`, once, and every other file with the reason it was left out.

    Returns (clips, left_out): `clips` has a row a clip, sorted: clip, corpus, speaker, gender, emotion, intensity, text,
    repetition, seconds, rate [Hz], channels, container, md5, path; `left_out` has file (relative to `folder`) and reason.
    Raises `ClipError` if there is no clip at all.
    """
    folder = Path(folder)
    files = sorted((p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")),
                   key=lambda p: (len(p.parts), p))  # of two copies, keep the one higher up

    def look(path):
        try:
            return parse_name(path.name) | probe(path) | dict(path=str(path))
        except (ClipError, OSError) as error:
            return dict(path=path, reason=str(error).removeprefix(f"{path}: ").removeprefix(f"{path.name}: "))

    kept, left_out = {}, []
    for row in Parallel(n_jobs=-1, prefer="threads")(delayed(look)(p) for p in files if p.suffix.lower() == ".wav"):
        first = kept.setdefault(row["clip"], row) if "clip" in row else row
        if first is not row:
            same = "a second copy of" if first["md5"] == row["md5"] else "another recording under the name of"
            row["reason"] = f"{same} {Path(first['path']).relative_to(folder)}"
        if "reason" in row:
            left_out.append((str(Path(row["path"]).relative_to(folder)), row["reason"]))
    left_out += [(str(p.relative_to(folder)), "not a .wav file") for p in files if p.suffix.lower() != ".wav"]
    if not kept:
        raise ClipError(f"{folder}: no RAVDESS or TESS clip in it ({len(left_out)} other files). Run notebook 01, which "
                        "fetches them, or set DATA to the folder that holds yours")
    clips = pd.DataFrame(kept.values()).sort_values(["corpus", "speaker", "clip"], ignore_index=True)
    return clips, pd.DataFrame(left_out, columns=["file", "reason"])


def refuse_not_numbers(path: Path, samples: np.ndarray) -> None:
    """Raises `ClipError` for samples among which are NaN or infinite ones."""
    if wrong := np.sum(~np.isfinite(samples)):
        raise ClipError(f"{path}: {wrong} samples are not numbers (NaN or infinite); export it again")


def read_clip(path: str | Path, sample_rate: int) -> np.ndarray:
    """Samples of one clip: mono float32, shape (n,), at `sample_rate` [Hz], full scale 1.

    Channels are averaged. Raises `ClipError` for a file that is not audio, truncated, shorter than 0.1 s, silent, or
    with samples that are not numbers.
    """
    probe(path)
    try:
        samples, rate = sf.read(path, dtype="float32", always_2d=True)
    except sf.LibsndfileError as error:
        raise ClipError(f"{path}: its sound cannot be decoded ({error.error_string}); copy or download it again") from error
    mono = samples.mean(axis=1)
    if len(mono) < MIN_SECONDS * rate:
        raise ClipError(f"{path}: only {1000 * len(mono) / rate:.0f} ms of sound; at least {MIN_SECONDS} s is needed")
    refuse_not_numbers(path, mono)
    if np.abs(mono).max() < 1e-4:
        raise ClipError(f"{path}: silent (peak below -80 dB); check the recording")
    return librosa.resample(mono, orig_sr=rate, target_sr=sample_rate)
