"""Whether code that builds other weights under another seed builds an untrained network, or a trained one with tensors left to chance.

Both differ from call to call: a classifier that no file fills is enough. What the spec says of pretraining, and what stays the same, tell
them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmark.cards import BackboneSpec, Contamination
from benchmark.errors import ConformanceError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.encoders.base import Backbone

_SEEN = (Contamination.SOURCE, Contamination.IMAGES, Contamination.LABELS)
_MOST = 0.5  # share of the learned numbers
_SHOWN = 3


def require_untrained(name: str, one: Backbone, other: Backbone) -> None:
    """Refuses a trained network among those that two seeds give different weights.

    What is equal under both seeds counts only where it is learned and varies, and only as a share: an untrained network may well have
    tables of positions, filters and BatchNorm's statistics that are fixed, and begin a few learned tensors (rates of decay, an identity)
    at values that nobody draws. Most of its numbers are drawn all the same.

    Args:
        name: of the function, for the sentence.
        one, other: what it built under one seed and another.

    Raises:
        ConformanceError: its spec says that it saw images, or most of what it learns is the same under both seeds.
    """
    said = _pretraining(one.spec)
    if said:
        why = f"and its spec says that it was pre-trained ({said})"
    elif _share_kept(one, other) > _MOST:
        why = "and most of what it learns it does not draw: it looks like a trained network that was loaded in part"
    else:
        return
    names = list(_differing(one, other))
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more tensors" if len(names) > _SHOWN else "")
    raise ConformanceError(
        f"{name} draws {listed} anew at every call, {why}. Call torch.manual_seed before building, or load every tensor from the file."
    )


def _pretraining(spec: BackboneSpec) -> str:
    """What the spec says was seen; empty where it says nothing, or that nothing was."""
    seen = [dataset for dataset, kind in spec.contamination.items() if Contamination(kind) in _SEEN]
    return ", ".join(spec.pretraining or seen)


def _differing(one: nn.Module, other: nn.Module) -> Iterator[str]:
    mine, theirs = one.state_dict(), other.state_dict()
    return (name for name in mine | theirs if name not in mine or name not in theirs or not _equal(mine[name], theirs[name]))


def _share_kept(one: nn.Module, other: nn.Module) -> float:
    """Share of learned numbers that are the same in both; tensors of one value everywhere (zeros, ones) are no evidence of either."""
    theirs = dict(other.named_parameters())
    kept = drawn = 0
    for name, parameter in one.named_parameters():
        if not parameter.requires_grad or not parameter.is_floating_point() or not parameter.numel():
            continue
        if name not in theirs or not _equal(parameter, theirs[name]):
            drawn += parameter.numel()
        elif bool((parameter != parameter.flatten()[0]).any()):
            kept += parameter.numel()
    return kept / (kept + drawn) if kept else 0.0


def _equal(one: Tensor, other: Tensor) -> bool:
    import torch

    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
