"""What a pretraining leaves: the image encoder in torchvision's names, the whole with its text side, and what held-out pairs showed.

Each has a card of its own: most tasks look at images alone, and a backbone's size and cost there are those of its image encoder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from safetensors.torch import save_file

from benchmark import json_files, parallel, private
from benchmark.cards.pretraining import PretrainingCard
from benchmark.encoders import dual_encoder
from benchmark.encoders.dual_encoder import CONFIGURATION
from benchmark.errors import UsageError
from benchmark.pretraining.views import Views
from benchmark.training.text_pretraining import torchvision_state

if TYPE_CHECKING:
    from benchmark.pretraining.loop import Trained
    from benchmark.pretraining.pairs import Pairs

CARD, WEIGHTS, CURVE = "backbone.yaml", "encoder.safetensors", "held_out.json"
TEXT_CARD, TEXT_WEIGHTS, TOKENIZER = "with_text.yaml", "dual_encoder.safetensors", "tokenizer"
LEFT = (CARD, WEIGHTS, TEXT_CARD, TEXT_WEIGHTS, CONFIGURATION)


@dataclass
class HeldOut:
    """What held-out pairs showed on the way, and which encoders were kept.

    Attributes:
        each: step -> (N,) shares of `loop.percentiles`.
        patients: (N,) numbers, equal for images of one patient.
        kept: pairs after which an encoder of its own was written.
        ids: `Pairs.ids_digest` of what was held out; empty where an earlier version wrote the file.
        dropped: training or validation -> why pairs were left out -> how many.
    """

    each: dict[int, list[float]] = field(default_factory=dict)
    patients: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    ids: str = ""
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)

    def describe(self, train: Pairs, held_out: Pairs) -> None:
        """Notes which pairs it is of."""
        self.patients, self.ids = held_out.patients.tolist(), held_out.ids_digest
        self.dropped = {"training": train.dropped, "validation": held_out.dropped}

    def holds(self, steps: Iterable[int], batch: int) -> bool:
        """Whether all steps were looked at, and the encoder kept after each but the start."""
        return all(step in self.each and (step == 0 or step * batch in self.kept) for step in steps)

    @property
    def curve(self) -> dict[int, float]:
        """Step -> mean."""
        return {step: sum(shares) / len(shares) for step, shares in self.each.items()}


@dataclass(frozen=True)
class Made:
    card: Path
    held_out: HeldOut


def write(folder: Path, card: PretrainingCard, key: str, seed: int, trained: Trained, held_out: HeldOut) -> Path:
    """Writes encoders, cards and curve; gives the image encoder's card. Each appears whole or not at all, that card last."""
    _encoders(folder, card, key, trained, 1.0)
    write_held_out(folder, key, held_out, ended=True)
    return _cards(folder, backbone_card(card, key, seed, trained), TOKENIZER)


def keep(folder: Path, card: PretrainingCard, key: str, seed: int, trained: Trained, pairs: int, held_out: HeldOut, *, done: float) -> Path:
    """Writes the encoders as they are after so many pairs, in a folder of its own; its tokenizer is that of the folder above.

    Args:
        done: share of the budget that lies behind.
    """
    below = private.folder(kept_card(folder, pairs).parent)
    _encoders(below, card, key, trained, done)
    said = backbone_card(card, key, seed, trained)
    budget = {"name": f"{said['name']}-at-{pairs}", "title": f"{said['title']}, after {pairs:,} pairs"}
    notes = {"notes": f"method {card.method}, {card.protocol}, {pairs} of {card.budget.pairs} pairs{_by(card)}, key {key}"}
    file = _cards(below, {**said, **budget, **notes}, f"../{TOKENIZER}")
    held_out.kept = sorted({*held_out.kept, pairs})
    write_held_out(folder, key, held_out)
    return file


def with_text(title: str) -> str:
    """What tables call a backbone, `title` without its text side, where it is asked in words."""
    return f"{title}, with text"


def kept_card(folder: Path, pairs: int) -> Path:
    return folder / f"at-{pairs}" / CARD


def backbone_card(card: PretrainingCard, key: str, seed: int, trained: Trained) -> dict[str, Any]:
    """The card of the image encoder: how it is built, its statistics, and what it has seen."""
    image = trained.towers.image
    sets = ["imagenet-1k"] if card.image.weights else []
    return {
        "name": f"{card.name}-{seed}",
        "title": f"{card.title}, seed {seed}",
        "family": "torchvision",
        "model": card.image.model,
        "weights": WEIGHTS,
        "layout": "torchvision",
        "normalisation": {"mean": image.mean.flatten().tolist(), "std": image.std.flatten().tolist()},
        "pretraining": [*sets, card.pairs.dataset],
        "contamination": {card.pairs.dataset: "images"},
        "input_size": Views(card.image.augmentation, card.image.size).side,
        "status": "verified",
        "origin": f"made here by the recipe {card.name}, version {card.version}",
        "notes": f"method {card.method}, {card.protocol}, {card.budget.pairs} pairs{_by(card)}, key {key}",
    }


def _by(card: PretrainingCard) -> str:
    n = parallel.size()
    if n == 1:
        return ""
    told = f", by {n} processes: equal to one process up to rounding and what falls out at random"
    return told if card.budget.group == card.budget.batch else f"{told}; BatchNorm's running statistics are the mean over processes"


def made(folder: Path, key: str) -> Made | None:
    """What an earlier call left under this key."""
    content = _content(folder, key)
    if content is None or not content.get("ended") or not all((folder / name).is_file() for name in LEFT):
        return None
    return Made(folder / CARD, _held_out(content))


def require_free(folder: Path, key: str) -> None:
    """Raises UsageError where the folder holds a finished backbone of another key: hours of work are replaced by nobody's mistake."""
    other = _content(folder, None)
    if other is not None and other.get("key") != key and other.get("ended") and all((folder / name).is_file() for name in LEFT):
        raise UsageError(
            f"{folder} holds a finished backbone of another recipe, other pairs, or another number of threads, device or version "
            f"(key {str(other.get('key'))[:12]}…, not {key[:12]}…). Choose another --out, or move it away."
        )


def held_out(folder: Path, key: str) -> HeldOut:
    """As far as an earlier call of this key came."""
    content = _content(folder, key)
    return HeldOut() if content is None else _held_out(content)


def write_held_out(folder: Path, key: str, found: HeldOut, *, ended: bool = False) -> None:
    each = {str(step): shares for step, shares in found.each.items()}
    content = {"key": key, "ended": ended, "each": each, "patients": found.patients, "kept": found.kept}
    content |= {"ids": found.ids, "dropped": found.dropped}
    _replace(folder / CURVE, json.dumps(content))


def _encoders(folder: Path, card: PretrainingCard, key: str, trained: Trained, done: float) -> None:
    towers = trained.towers
    images = torchvision_state(towers.image)
    parts = {"image": images, "text": towers.text.state_dict(), "objective": trained.objective.state_dict()}
    whole = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    for file, tensors in ((WEIGHTS, images), (TEXT_WEIGHTS, whole)):
        temporary = folder / f".{file}.{os.getpid()}.tmp"
        # One entry: safetensors writes several in an order that changes, and the file's digest is the backbone's identity.
        metadata = {"lobe": json.dumps({"recipe": card.name, "key": key})}
        # Copies: of tensors that share memory safetensors would keep one.
        save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, temporary, metadata=metadata)
        temporary.replace(folder / file)
    _replace(folder / CONFIGURATION, json.dumps(dual_encoder.described(card, towers.text.config, done), indent=1) + "\n")


def _cards(folder: Path, images: dict[str, Any], tokenizer: str) -> Path:
    """
    Args:
        images: content of the image encoder's card.
        tokenizer: its folder, from the card's.
    """
    named = {"name": f"{images['name']}-with-text", "title": with_text(images["title"])}
    built = {"family": "dual_encoder", "model": ".", "weights": TEXT_WEIGHTS, "layout": dual_encoder.DEFAULT_LAYOUT, "tokenizer": tokenizer}
    for file, content in ((TEXT_CARD, {**images, **named, **built}), (CARD, images)):
        _replace(folder / file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return folder / CARD


def _content(folder: Path, key: str | None) -> dict[str, Any] | None:
    """What an earlier call of this key, or of any, left."""
    path = folder / CURVE
    if not path.is_file():
        return None
    content = json_files.read(path)
    if not isinstance(content, dict) or not isinstance(content.get("each"), dict):
        return None
    return content if key in (None, content.get("key")) else None


def _held_out(content: dict[str, Any]) -> HeldOut:
    each = {int(step): [float(share) for share in shares] for step, shares in content["each"].items()}
    patients, kept = ([int(number) for number in content[name]] for name in ("patients", "kept"))
    dropped = {part: {why: int(n) for why, n in of.items()} for part, of in content.get("dropped", {}).items()}
    return HeldOut(each, patients, kept, str(content.get("ids", "")), dropped)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
