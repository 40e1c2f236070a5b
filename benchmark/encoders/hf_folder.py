"""What a folder of transformers says beside its weights: the statistics of its images, and sizes that a network can have.

Files here come from anywhere: a malformed one ends in a sentence that names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark import json_files
from benchmark.cards import Normalisation
from benchmark.cards.backbones import LEAST_MEAN, MOST_MEAN
from benchmark.errors import ConformanceError, UsageError

OPEN_CLIP = "open_clip_config.json"
_SAME_SCALE = 0.01  # share by which a factor may miss 1/255: configurations round it
_MOST_LAYERS = 1_000
_LARGEST = 1_000_000  # of a width, a vocabulary or an image's side


def states_beside(family: str, model: str) -> bool:
    """Whether the statistics of a backbone are those of `own_normalisation`: neither its configuration nor its weights hold them."""
    return family == "hf" or (family == "hf_text" and not (Path(model) / OPEN_CLIP).is_file())


def own_normalisation(model: str) -> Normalisation | None:
    """Mean and deviation of the folder's `preprocessor_config.json`; None where there is none, or they are on another scale than 0 to 1.

    A configuration that switches the step off keeps statistics nobody used: then images pass as they are.

    Raises:
        UsageError: the file is malformed.
    """
    file = Path(model) / "preprocessor_config.json"
    if not file.is_file():
        return None
    try:
        content = json_files.read(file)
        scale = content.get("rescale_factor", 1 / 255) if content.get("do_rescale", True) else 1.0
        if abs(255 * scale - 1) > _SAME_SCALE or content.get("rescale_offset", False):
            return None
        if not content.get("do_normalize", True):
            return Normalisation(mean=(0.0,), std=(1.0,))
        if content.get("image_mean") is None or content.get("image_std") is None:
            return None
        mean, std = numbers(content["image_mean"]), numbers(content["image_std"])
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError("image_mean and image_std do not fit each other")
        if not all(LEAST_MEAN <= value <= MOST_MEAN for value in mean):
            return None
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{file.name} of hf:{model} is malformed ({str(error)[:100]}). Mend it, or take it away.") from None
    return Normalisation(mean=mean, std=std)


def numbers(value: Any) -> tuple[float, ...]:
    """A number or a list of one or three, finite. Raises ValueError."""
    values = value if isinstance(value, list) else [value]
    if len(values) not in (1, 3) or not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        raise ValueError("one or three numbers are expected")
    return tuple(values)


def require_sizes(config: Mapping[str, Any], name: str) -> None:
    """Refuses numbers that no network has, before one is built from them.

    Raises:
        ConformanceError: a count of layers or a width is not positive, or beyond every network there is.
    """
    for key, value in config.items():
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(number, bool) or not isinstance(number, int):
                continue
            is_depth = "layers" in key or key in ("depths", "depth", "num_attention_heads", "num_heads")
            is_width = key.endswith(("_size", "_sizes", "_dim", "_channels"))
            most = _MOST_LAYERS if is_depth else _LARGEST
            if (is_depth or is_width) and not 0 <= number <= most:
                raise ConformanceError(f"{name}: `{key}` of its configuration is {number:,}, and no network has that. Is it whole?")
