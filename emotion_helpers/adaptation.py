"""Adaptation: the last layer taught one speaker's voice by a few sentences whose emotion is known."""
from copy import deepcopy

import numpy as np
import pandas as pd
import torch

from .clips import EMOTIONS, MIN_SECONDS, STATEMENTS, ClipError
from .corpora import results_folder
from .experiments import emobox_runs, rendered
from .pictures import PictureSettings, mel_picture
from .prediction import QUIET, as_input, features
from .recordings import mono_blocks
from .training import ANSWERS, load_model, write_text


def clip_features(paths: list[str], model: torch.nn.Module, settings: dict) -> torch.Tensor:
    """The `features` of each recording's picture: shape (n, 512). Raises `ClipError` for one that cannot be read, is silent or too short."""
    pictures = PictureSettings(**settings["spectrogram"])
    found = []
    for path in paths:
        samples = np.concatenate([np.zeros(0, np.float32), *mono_blocks(path, pictures.sample_rate)])
        if len(samples) < MIN_SECONDS * pictures.sample_rate or np.abs(samples).max() < QUIET:
            raise ClipError(f"{path}: {len(samples) / pictures.sample_rate:.1f} s, silent or too short: record it again")
        found.append(features(as_input(mel_picture(samples, pictures), settings), model))
    return torch.cat(found)


def taught(weight: torch.Tensor, found: torch.Tensor, emotions: list[str], temperature: float = 1, pull: float = 0.1) -> torch.Tensor:
    """The last layer's `weight` (8, 512) after learning from `features` and their emotions.

    `pull` holds it back towards what it was (squared distance, times this, beside the mean cross-entropy): a few sentences must not
    unlearn a thousand. On the speakers of EmoBox's fold 2 anything from 0.03 to 1 did about as well.
    """
    truth = torch.tensor([EMOTIONS.index(emotion) for emotion in emotions])
    weight = weight.detach()
    change = torch.zeros_like(weight, requires_grad=True)
    optimizer = torch.optim.LBFGS([change], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(found @ (weight + change).T / temperature, truth) + pull * change.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weight + change.detach()


def adapted(model: torch.nn.Module, settings: dict, paths: list[str], emotions: list[str], pull: float = 0.1) -> torch.nn.Module:
    """A copy of the network whose last layer was `taught` one speaker's clips; the layers below stay as they are."""
    model = deepcopy(model)
    layer = model[1][-1]
    layer.weight.data = taught(layer.weight, clip_features(paths, model, settings), emotions, settings.get("temperature", 1), pull)
    return model


def adaptation(corpus: str = "real", data: str | None = None) -> pd.DataFrame:
    """What three clips an emotion (or as many as there are) of one sentence bring for a stranger's other sentence, for each actor and both
    ways round, by the six networks of the corpus's recipe in `ANSWERS`, seed 1, which are trained if they are not there yet.

    Writes adaptation.csv into the results: speaker, taught (the sentence), clips taught and asked, accuracy before and after in %.
    """
    clips, pictures = rendered(corpus, data)
    clips = clips.assign(number=clips.groupby(["speaker", "text", "emotion"]).cumcount())
    rows = []
    for run in emobox_runs(clips, pictures, corpus, ANSWERS[corpus]):
        model, settings = load_model(run["folder"])
        weight = model[1][-1].weight
        for speaker, spoken in clips[clips.speaker.isin(run["tested_on"].split())].groupby("speaker"):
            found, truth = clip_features(spoken.path, model, settings), spoken.emotion.to_numpy()
            for sentence in STATEMENTS:
                others = (spoken.text != sentence).to_numpy()
                first = np.flatnonzero(~others & (spoken.number < 3))
                new = taught(weight, found[first], truth[first], settings.get("temperature", 1))
                before, after = (100 * np.mean(np.array(EMOTIONS)[(found[others] @ w.T).argmax(dim=1)] == truth[others]) for w in (weight.detach(), new))
                rows.append((speaker, sentence, len(first), others.sum(), before, after))
    table = pd.DataFrame(rows, columns=["speaker", "taught", "clips_taught", "clips_asked", "before", "after"]).round(2)
    write_text(results_folder(corpus) / "adaptation.csv", table.to_csv(index=False))
    return table
