"""The configuration files of a model that is a folder: what they hold is the model's name in keys, and what a job holds them to.

A folder's path is no part of a backbone's identity; what its configurations build is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmark.cards import BackboneRef
from benchmark.contents import sha256_of
from benchmark.encoders.naming import BESIDE_THEIR_CARD, CONFIGURATIONS
from benchmark.errors import CheckpointChanged


def model_in_keys(family: str, model: str, digest_of: Callable[[Path], str]) -> str:
    """The model without its place, with the digests of its configurations; as it is where it is no folder with one.

    Args:
        digest_of: SHA-256 of a file.
    """
    digests = _digests(family, model, digest_of)
    name = "" if family in BESIDE_THEIR_CARD else Path(model).name
    return f"{name}:{digests}" if digests else model


def require_planned(ref: BackboneRef, model: str) -> None:
    """Holds a folder to the reference that a job was planned with: it may have been edited since, or be another on this machine.

    Args:
        model: the folder as it is found here; other models pass, and so does a folder without a configuration, which no family builds.

    Raises:
        CheckpointChanged: a configuration is not the planned one.
    """
    digests = _digests(ref.family, model, sha256_of)
    if digests and digests != ref.model.rpartition(":")[2]:
        names = " and ".join(file.name for file in _files(ref.family, model))
        raise CheckpointChanged(
            f"The folder {model} is not the one the job was planned with: {names} differs. Run the same command again to plan with what is "
            "there now."
        )


def _digests(family: str, model: str, digest_of: Callable[[Path], str]) -> str:
    return "+".join(map(digest_of, _files(family, model)))


def _files(family: str, model: str) -> list[Path]:
    return [file for name in CONFIGURATIONS.get(family, ()) if (file := Path(model) / name).is_file()]
