"""Clips: what a file name says, and the table of all clips below a folder."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import av
import pandas as pd
from joblib import Parallel, delayed

from . import EmotionHelpersError
from .audio import AV_OPTIONS, is_truncated

# In the order of RAVDESS's codes 01 to 08.
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
TESS_EMOTIONS = {emotion: emotion for emotion in ("neutral", "happy", "sad", "angry", "disgust")}
TESS_EMOTIONS |= {"fear": "fearful", "ps": "surprised"}  # ps: pleasant surprise
STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
COLUMNS = ["clip_id", "corpus", "speaker", "gender", "emotion", "intensity", "text", "repetition"]
# Emotion, intensity (neutral is never strong), statement, repetition, actor.
RAVDESS_NAME = r"03-01-(?!01-02)0([1-8])-0([12])-0([12])-0([12])-(0[1-9]|1[0-9]|2[0-4])"
TESS_NAME = rf"(?ai)(OAF?|YAF)_([a-z]+)_({'|'.join(TESS_EMOTIONS)})"
REFUSED_NAMES = {  # the first that fits says why
    r"(?!03-01)[0-9]{2}(-[0-9]{2}){6}": "a song or a video of RAVDESS; here 03-01-... is used",
    r"[0-9]{2}(-[0-9]{2}){6}": "a code that RAVDESS does not have; rename the file or remove it",
    r"(?i)(OAF?|YAF)_[a-z]+_[a-z]+": f"TESS has only the emotions {', '.join(TESS_EMOTIONS)}",
    "(?s).*": "neither a RAVDESS nor a TESS file name",
}


class ClipError(EmotionHelpersError):
    """A file name that is none of the corpora's, or a folder without clips."""


def parse_name(path: str | Path) -> dict:
    """What a RAVDESS or TESS file name says of its clip: a value for each of COLUMNS.

    The folder does not count: mirrors nest, double and rename folders. Raises `ClipError` for all
    other names. Codes: Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391; Pichora-Fuller &
    Dupuis 2020, doi:10.5683/SP2/E8H2MF.

    >>> parse_name("03-01-06-01-02-01-12.wav")["emotion"], parse_name("OAF_back_ps.wav")["emotion"]
    ('fearful', 'surprised')
    """
    stem = Path(path).stem
    if ravdess := re.fullmatch(RAVDESS_NAME, stem):
        emotion, intensity, text, repetition, actor = map(int, ravdess.groups())
        speaker, gender = f"Actor_{actor:02}", ("female", "male")[actor % 2]
        intensity = ("normal", "strong")[intensity - 1]
        rest = (EMOTIONS[emotion - 1], intensity, STATEMENTS[text - 1], repetition)
        return dict(zip(COLUMNS, (stem, "ravdess", speaker, gender, *rest), strict=True))
    if tess := re.fullmatch(TESS_NAME, stem):
        speaker = tess[1][0].upper() + "AF"  # also in OA_bite_neutral.wav
        rest = (TESS_EMOTIONS[tess[3].lower()], "normal", tess[2].lower(), 1)
        return dict(zip(COLUMNS, (stem, "tess", speaker, "female", *rest), strict=True))
    why = next(why for pattern, why in REFUSED_NAMES.items() if re.fullmatch(pattern, stem))
    raise ClipError(f"{path}: {why}")


def clip_path(name: str | Path, suffix: str = ".wav") -> Path | None:
    """CORPUS/speaker/name of a clip's file, whatever folders `name` has; None for all else."""
    name = Path(str(name).replace("\\", "/")).name
    try:
        clip = parse_name(name)
    except ClipError:
        return None
    path = Path(clip["corpus"].upper(), clip["speaker"], name)
    return path if path.suffix.lower() == suffix else None


def files_below(folder: str | Path) -> Iterator[Path]:
    """Every file below a folder, sorted, without hidden ones; links are followed, loops end."""
    seen = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        shown = sorted((name for name in folders if name[0] != "."), reverse=True)
        real = {os.path.realpath(Path(parent, name)): name for name in shown}
        folders[:] = sorted(name for path, name in real.items() if path not in seen)
        seen.update(real)
        paths = [Path(parent, name) for name in sorted(names) if name[0] != "."]
        yield from filter(Path.is_file, paths)


def describe_clip(path: Path) -> dict:
    """A clip's row of the table of `find_clips`, or its path and the reason to leave it out."""
    try:
        if path.suffix.lower() != ".wav":
            raise ClipError("not a .wav file")
        row = parse_name(path.name)
        if is_truncated(path):
            raise ClipError("it ends before its header says; copy or download it again")
        with open(path, "rb") as file, av.open(file, **AV_OPTIONS) as container:
            stream = container.streams.audio[0]
            row |= {"seconds": (container.duration or 0) / 1e6, "rate": stream.rate}
            row |= {"channels": stream.channels, "container": container.format.name.upper()}
        return row | {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "path": str(path)}
    except ClipError as error:
        return {"path": path, "reason": str(error).removeprefix(f"{path.name}: ")}
    except (av.FFmpegError, OSError, IndexError, AttributeError) as error:  # or no known codec
        reason = getattr(error, "strerror", "no sound in it, or of a kind that nobody knows")
        return {"path": path, "reason": f"not a recording that can be read ({reason})"}


def find_clips(folder: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every RAVDESS and TESS speech clip below `folder`, once, and every file that was left out.

    Returns (clips, left_out), sorted: of a clip COLUMNS, seconds, rate [Hz], channels, container,
    md5, path; else file (relative to `folder`) and reason. Raises `ClipError` without a clip."""
    # Of two copies the one higher up is kept.
    files = sorted(files_below(folder), key=lambda path: (len(path.parts), path))
    clips, left_out = {}, []
    for row in Parallel(n_jobs=-1, prefer="threads")(map(delayed(describe_clip), files)):
        reason = row.get("reason")
        if not reason and (first := clips.setdefault(row["clip_id"].lower(), row)) is not row:
            same = first["md5"] == row["md5"]
            reason = "a second copy of " if same else "another recording under the name of "
            reason += os.path.relpath(first["path"], folder)
        if reason:
            left_out.append((os.path.relpath(row["path"], folder), reason))
    left_out = pd.DataFrame(left_out, columns=["file", "reason"])
    if not clips:
        commonest = left_out.reason.value_counts().head(3).items()
        why = "; ".join(f"{count} files: {reason}" for reason, count in commonest)
        advice = "run chapter 01, or set DATA (--data) to your clips' folder"
        raise ClipError(f"{folder}: no speech clip in it ({why or 'no file at all'}); {advice}")
    order = ["corpus", "speaker", "clip_id"]
    return pd.DataFrame(clips.values()).sort_values(order, ignore_index=True), left_out
