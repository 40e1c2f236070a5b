"""From a resolved reference to a backbone with its weights, and the account of them.

The one place where random initialisation, a weights file and its digest come together; families build architectures, `checkpoints` loads.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchmark import registry
from benchmark.cards import BackboneRef
from benchmark.encoders import tokenizer_files
from benchmark.encoders.base import Backbone, VisionLanguageBackbone
from benchmark.encoders.checkpoints import TensorAccount, load_checkpoint
from benchmark.encoders.shards import digest_of
from benchmark.errors import CheckpointChanged, CheckpointError, UsageError
from benchmark.files import open_regular
from benchmark.generators import drawn_from

# Seed of what is drawn and then overwritten by a file, or of a Python function whose digest stands for its weights.
FIXED_SEED = 0


def build_backbone(
    ref: BackboneRef, weights_path: Path | None, *, init_seed: int | None, tokenizer: Path | None = None
) -> tuple[Backbone, TensorAccount]:
    """Builds the backbone on the CPU.

    Args:
        ref: family, model, layout and digest; its normalisation, if any, replaces the one in the backbone's spec.
        weights_path: file with the digest of `ref`; None for random initialisation and for Python functions.
        init_seed: seed of a random backbone, the run's own.
        tokenizer: folder or file with the digest of `ref`; not looked at where that has none.

    Returns:
        The backbone, and its account: empty where no file was loaded.

    Raises:
        CheckpointError: the reference has weights but no file was given, or the file does not fit.
        CheckpointChanged: the file, or the tokenizer's, is another one or is not there.
        UsageError: a random backbone without a seed, or a tokenizer for one that reads no text.
        EnvironmentProblem: a tokenizer that cannot be read.
    """
    family = registry.plugin("encoders", ref.family)
    makes_own_weights = ref.family == "python_file"
    if weights_path is None and ref.digest is not None and not makes_own_weights:
        raise CheckpointError(f"{ref.family}:{ref.model} has weights with digest {ref.digest[:12]}…, but no file was given for them.")
    if weights_path is None and init_seed is None and not makes_own_weights:
        raise UsageError(f"{ref.family}:{ref.model} is randomly initialised and needs the run's seed.")
    if weights_path is not None and ref.digest is not None:
        _require_digest(weights_path, ref.digest)

    with drawn_from(FIXED_SEED if init_seed is None else init_seed):
        backbone = family.build(ref.model)
    account = TensorAccount()
    if weights_path is not None:
        # A family that wraps a library's model keeps it in `network`: files name the tensors of that.
        network = getattr(backbone, "network", backbone)
        account = load_checkpoint(network, weights_path, ref.layout, ref.minimum_loaded, ref.container)
    backbone.spec = backbone.spec.model_copy(update=_known_of(ref, weights_path))
    if ref.tokenizer is not None:
        _give_tokenizer(backbone, ref, tokenizer)
    return backbone, account


def _give_tokenizer(backbone: Backbone, ref: BackboneRef, tokenizer: Path | None) -> None:
    if not isinstance(backbone, VisionLanguageBackbone):
        raise UsageError(f"{ref.family}:{ref.model} reads no text, so it takes no tokenizer.")
    from benchmark.encoders.text import Tokenizer

    folder = tokenizer_files.require_unchanged(tokenizer, ref.tokenizer or "", f"{ref.family}:{ref.model}", _sha256)
    backbone.tokenizer = Tokenizer(folder, backbone.max_tokens)


def _known_of(ref: BackboneRef, weights_path: Path | None) -> dict:
    known: dict = {}
    if ref.normalisation is not None:
        known["normalisation"] = ref.normalisation
    if weights_path is not None:
        known["pretraining"] = None  # the architecture knows of none; the card may
    return known


def _require_digest(path: Path, digest: str) -> None:
    if not path.is_file():
        raise CheckpointChanged(f"There is no weights file {path}.")
    try:
        found = digest_of(path, _sha256)
    except CheckpointError as error:  # of an index, which named its files when the job was planned
        raise CheckpointChanged(str(error)) from error
    if found != digest:
        raise CheckpointChanged(
            f"{path.name} has SHA-256 {found[:12]}…, the job was planned with {digest[:12]}…: the file was replaced. Run the same "
            "command again to plan with what is there now."
        )


def _sha256(path: Path) -> str:
    with open_regular(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
