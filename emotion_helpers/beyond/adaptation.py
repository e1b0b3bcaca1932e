"""Adaptation: the last layer, to one speaker, by a few sentences whose emotion is known."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import EmotionHelpersError, write_text
from ..audio import read_audio
from ..clips import EMOTIONS, STATEMENTS
from ..corpora import results_folder
from ..models import Network, load_model
from ..pictures import mel_picture
from .explanation import extract_features


def clip_features(paths: list[str], network: Network) -> Tensor:
    """Features of each recording, shape (n, 512). Raises `AudioError` for one that is no use."""
    settings = network.settings
    samples = (read_audio(path, settings.sample_rate) for path in paths)
    return extract_features((mel_picture(one, settings) for one in samples), network)


def fit_last_layer(weight: Tensor, features: Tensor, emotions, temperature=1.0, l2=0.1) -> Tensor:
    """The last layer's `weight`, shape (8, 512), fitted to `features` and their emotions.
    `l2` times the squared distance from the old weights is added to the mean cross-entropy: a few
    sentences must not unlearn a thousand. On EmoBox's fold 2 0.03 to 1 did about as well."""
    truth = torch.tensor([EMOTIONS.index(emotion) for emotion in emotions])
    weight, features = weight.detach(), features.clone()
    change = torch.zeros_like(weight, requires_grad=True)
    optimizer = torch.optim.LBFGS([change], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        scores = features @ (weight + change).T / temperature
        loss = torch.nn.functional.cross_entropy(scores, truth) + l2 * change.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight + change.detach()


def adapt_to_speaker(network: Network, paths: list[str], emotions: list[str]) -> Network:
    """A copy of the network whose last layer was fitted to one speaker's recordings. Raises
    `EmotionHelpersError` if there are none, or not one of EMOTIONS for each."""
    if not paths or len(paths) != len(emotions) or not {*emotions} <= {*EMOTIONS}:
        problem = f"{len(paths)} recordings and the emotions {emotions}"
        raise EmotionHelpersError(f"{problem}: to adapt, give one or more, each one of EMOTIONS")
    model, features = deepcopy(network.model), clip_features(paths, network)
    layer = model[1][-1]
    layer.weight.data = fit_last_layer(layer.weight, features, emotions, network.temperature)
    return replace(network, model=model)


def study_adaptation(corpus="real", data: str | None = None, **options) -> pd.DataFrame:
    """What three clips per emotion of one sentence bring for an unseen speaker's other sentence:
    for each actor and both ways round, by the networks of `deployed_experiments` (`options`), which
    are trained if needed. Writes adaptation.csv into the results: speaker, taught (the sentence),
    clips taught and asked, accuracy before and after [%]."""
    from .cross_validation import deployed_experiments, run_experiments  # fastai takes seconds

    rows = []
    for clips, run in run_experiments(deployed_experiments(corpus, **options), corpus, data):
        network = load_model(run["folder"])
        before = network.model[1][-1].weight.detach()
        for speaker, spoken in clips[clips.speaker.isin(run["tested_on"])].groupby("speaker"):
            features, truth = clip_features(spoken.path, network), spoken.emotion.to_numpy()
            first = spoken.groupby(["text", "emotion"]).cumcount() < 3  # of each emotion
            for sentence in STATEMENTS:
                asked = np.array(spoken.text != sentence)
                taught = ~asked & first.to_numpy()
                if not taught.any() or not asked.any():  # of whom one sentence is here
                    continue
                after = fit_last_layer(before, features[taught], truth[taught], network.temperature)
                answers = [(features[asked] @ w.T).argmax(dim=1) for w in (before, after)]
                right = [100 * np.mean(np.array(EMOTIONS)[a] == truth[asked]) for a in answers]
                rows.append([speaker, sentence, taught.sum(), asked.sum(), *right])
    columns = ["speaker", "taught", "clips_taught", "clips_asked", "before", "after"]
    table = pd.DataFrame(rows, columns=columns).round(4)
    write_text(results_folder(corpus) / "adaptation.csv", table.to_csv(index=False))
    return table
