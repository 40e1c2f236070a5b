"""The two encoders that a method trains: an image encoder of the benchmark, and a BERT."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download, try_to_load_from_cache
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from benchmark.cards import IMAGENET, BackboneRef, Normalisation
from benchmark.cards.pretraining import ImageTowerCard, TextTowerCard
from benchmark.contents import sha256_of
from benchmark.encoders.build import build_backbone
from benchmark.encoders.dual_encoder import enlarged, read_texts
from benchmark.encoders.library_weights import without_asking
from benchmark.encoders.sealed import SealedEncoder
from benchmark.encoders.text import Tokenizer, bert
from benchmark.encoders.tokenizer_files import FILES
from benchmark.encoders.torchvision import library_weights
from benchmark.encoders.words import Batch, write_vocabulary
from benchmark.errors import EnvironmentProblem
from benchmark.generators import drawn_from
from benchmark.objectives.kit.base import Encoded, Objective, Widths

HALF = Normalisation(mean=(0.5,), std=(0.5,))
SAFE, PICKLED = "model*.safetensors*", "pytorch_model*.bin*"  # a BERT's weights, whole or in shards with their index


class Towers(nn.Module):
    """
    Attributes:
        image: the encoder, with its normalisation.
        text: the BERT.
        seen_at: see `ImageTowerCard.seen_at`.
    """

    def __init__(self, image: SealedEncoder, text: BertModel, seen_at: int | None = None):
        super().__init__()
        self.image, self.text, self.seen_at = image, text, seen_at

    @property
    def widths(self) -> Widths:
        return Widths(dict(self.image.backbone.spec.strides), self.text.config.hidden_size)

    def encode(self, frames: Tensor, words: Batch, keys: Tensor, objective: Objective) -> Encoded:
        """What the objective reads of the pairs: frames (b, S, S) uint8, tokens, and a key each."""
        images = self.image.normalise(frames)
        if self.seen_at is None:
            maps = self.image.pyramid_of(images, objective.strides)
        else:  # maps as the network leaves them: at 299 pixels no stride divides the side
            images = enlarged(images, self.seen_at)
            maps = self.image.backbone.pyramid(images, objective.strides)
        return Encoded(images, maps, read_texts(self.text, words, objective), keys)


def build(
    image: ImageTowerCard, text: TextTowerCard, tokenizer: Path | str, seed: int, *, reads_attention: bool
) -> tuple[Towers, Tokenizer]:
    """Towers from random numbers of the seed, or from a library's weights where the cards name them.

    Args:
        tokenizer: folder or repository of the tokenizer.
        reads_attention: the text tower has to tell its attention, which the fastest kernels do not.
    """
    weights = None if image.weights is None else library_weights(image.model, image.weights).path
    reference = BackboneRef(family="torchvision", model=image.model, digest=None)
    backbone, _ = build_backbone(reference, weights, init_seed=seed)
    encoder = SealedEncoder(backbone, image.statistics or (IMAGENET if image.weights else HALF))
    reader = Tokenizer(tokenizer, text.tokens)
    with drawn_from(seed):
        tower = _of_the_hub(text.hub, text.kept_layers) if text.hub else bert(_config(text, reader))
    if reads_attention:
        tower.set_attn_implementation("eager")
    for parameter in _frozen(tower, text):
        parameter.requires_grad_(False)
    return Towers(encoder, tower, image.seen_at), reader


def tokenizer_of(text: TextTowerCard, reports: Iterable[tuple[str, ...]], folder: Path) -> Path | str:
    """The hub's repository, or a folder with a vocabulary made of the reports."""
    if text.hub:
        return text.hub
    write_vocabulary(list(reports), folder)
    return folder


def require_here(image: ImageTowerCard, text: TextTowerCard) -> None:
    """Asks nobody: looks whether what the cards name is on this machine.

    Raises:
        EnvironmentProblem: the library's weights or the repository of the hub are not.
    """
    if image.weights is not None:
        with without_asking():
            library_weights(image.model, image.weights)
    if text.hub is not None and not Path(text.hub).is_dir():
        for needed in (("config.json",), ("vocab.txt", "tokenizer.json"), ("model.safetensors", "pytorch_model.bin")):
            if not any(isinstance(try_to_load_from_cache(text.hub, name), str) for name in needed):
                raise EnvironmentProblem(
                    f"The text encoder {text.hub} is not whole on this machine ({' or '.join(needed)}). Fetch it where there is a network, "
                    "and name its folder as `text: {hub: FOLDER}` in a recipe of your own."
                )


def digest_of(repository: str) -> str:
    """SHA-256 over names and contents of a text encoder's files: configuration, tokenizer and weights.

    Args:
        repository: a folder, or a repository of the hub, which is fetched where it is not on this machine.

    Raises:
        EnvironmentProblem: it cannot be had.
    """
    folder = Path(repository) if Path(repository).is_dir() else _fetched(repository)
    files = sorted({path for pattern in (*FILES, SAFE, PICKLED) for path in folder.glob(pattern) if path.is_file()})
    lines = "".join(f"{path.name}\0{sha256_of(path.resolve())}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _fetched(repository: str) -> Path:
    """The newest snapshot of the hub, which `from_pretrained` takes too; without a network the one on this machine."""
    try:
        folder = Path(snapshot_download(repository, allow_patterns=[*FILES, SAFE]))
        return folder if any(folder.glob(SAFE)) else Path(snapshot_download(repository, allow_patterns=[*FILES, PICKLED]))
    except Exception as error:  # no network, no such repository, a snapshot that lacks a file nobody reads
        known = try_to_load_from_cache(repository, "config.json") if not isinstance(error, ValueError) else None
        if isinstance(known, str):
            return Path(known).parent
        raise _not_had(repository, error) from None


def _of_the_hub(repository: str, kept_layers: int | None) -> BertModel:
    given: dict[str, Any] = {} if kept_layers is None else {"num_hidden_layers": kept_layers}
    try:
        return BertModel.from_pretrained(repository, **given)
    except OSError as error:
        raise _not_had(repository, error) from None


def _not_had(repository: str, error: Exception) -> EnvironmentProblem:
    reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
    return EnvironmentProblem(
        f"The text encoder {repository} cannot be had ({reason}). Fetch it where there is a network, and name its folder as "
        "`text: {hub: FOLDER}` in a recipe of your own."
    )


def _config(text: TextTowerCard, reader: Tokenizer) -> BertConfig:
    return BertConfig(
        vocab_size=reader.n_entries,
        hidden_size=text.width,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        intermediate_size=text.hidden,
        max_position_embeddings=text.tokens,
    )


def _frozen(tower: BertModel, text: TextTowerCard) -> list[nn.Parameter]:
    layers = [tower.encoder.layer[k] for k in range(text.frozen_layers)]
    return [p for part in ([tower.embeddings] if text.frozen_embeddings else []) + layers for p in part.parameters()]
