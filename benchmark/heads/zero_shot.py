"""Zero-shot classification: similarities of images with prompts become scores of classes. Nothing is trained, nothing reads a label.

Similarities come from the backbone (`similarity`) or from `local_similarity`; texts from `prompts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from scipy.special import expit

from benchmark.errors import UsageError
from benchmark.heads.prompts import PromptSet

# texts -> (N, P) similarities of all images with them
Similarities = Callable[[Sequence[str]], np.ndarray]


def class_scores(similarities: Similarities, prompts: PromptSet, combine: Literal["max", "mean"]) -> np.ndarray:
    """(N, C) float64 score of each class: its prompts combined; for pairs the softmax of the positive against the negative.

    An image's scores depend on that image alone.

    Raises:
        UsageError: similarities of another shape than images by prompts.
    """
    texts = prompts.texts
    table = np.asarray(similarities(texts), np.float64)
    if table.ndim != 2 or table.shape[1] != len(texts):
        raise UsageError(f"Similarities of shape {table.shape}, expected one column for each of the {len(texts)} prompts.")
    place = {text: column for column, text in enumerate(texts)}

    def combined(listed: Sequence[str]) -> np.ndarray:
        columns = table[:, [place[text] for text in listed]]
        return columns.max(axis=1) if combine == "max" else columns.mean(axis=1)

    positive = np.stack([combined(listed) for listed in prompts.positives.values()], axis=1)
    if not prompts.negatives:
        return positive
    negative = np.stack([combined(listed) for listed in prompts.negatives.values()], axis=1)
    return expit(positive - negative)


def standardised(scores: np.ndarray) -> np.ndarray:
    """GLoRIA's last step: each class minus its mean over all images scored together, by their standard deviation.

    It makes a prediction depend on the other test images, so only the protocol `published` uses it. One image alone stays as it is;
    a class that scores the same everywhere becomes 0. A score that is no number leaves its class without numbers.
    """
    if len(scores) < 2:
        return scores
    centred = scores - scores.mean(axis=0)
    spread = scores.std(axis=0)
    # Equal scores may differ from their rounded mean, and have a spread then. A range that is no number must not pass for none.
    return np.divide(centred, spread, out=np.zeros_like(centred), where=np.ptp(scores, axis=0) != 0)
