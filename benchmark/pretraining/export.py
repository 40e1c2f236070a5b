"""What a pretraining leaves: the image encoder in torchvision's names, a backbone card beside it, and what held-out pairs showed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from safetensors.torch import save_file

from benchmark import json_files, parallel
from benchmark.cards.pretraining import PretrainingCard
from benchmark.training.text_pretraining import torchvision_state

if TYPE_CHECKING:
    from benchmark.pretraining.loop import Trained

CARD, WEIGHTS, CURVE = "backbone.yaml", "encoder.safetensors", "held_out.json"


@dataclass(frozen=True)
class Made:
    card: Path
    percentile: float
    curve: dict[int, float]


def write(folder: Path, card: PretrainingCard, key: str, seed: int, trained: Trained, curve: dict[int, float]) -> Path:
    """Writes encoder, card and curve; gives the card's file. Each appears whole or not at all, the card last."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in torchvision_state(trained.towers.image).items()}
    temporary = folder / f".{WEIGHTS}.{os.getpid()}.tmp"
    save_file(tensors, temporary, metadata={"recipe": card.name, "key": key})
    temporary.replace(folder / WEIGHTS)
    write_curve(folder, key, curve, ended=True)
    _replace(folder / CARD, yaml.safe_dump(backbone_card(card, key, seed, trained), sort_keys=False, allow_unicode=True))
    return folder / CARD


def backbone_card(card: PretrainingCard, key: str, seed: int, trained: Trained) -> dict[str, Any]:
    """The card of the encoder: how it is built, its statistics, and what it has seen."""
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
        "input_size": card.image.size,
        "status": "verified",
        "origin": f"made here by the recipe {card.name}, version {card.version}",
        "notes": f"method {card.method}, {card.protocol}, {card.budget.pairs} pairs{_by()}, key {key}",
    }


def _by() -> str:
    n = parallel.size()
    return f", by {n} processes: equal to one process up to rounding and what falls out at random" if n > 1 else ""


def made(folder: Path, key: str) -> Made | None:
    """What an earlier call left under this key."""
    content = _content(folder, key)
    if content is None or not content.get("ended") or not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
        return None
    found = _steps(content)
    return Made(folder / CARD, found[max(found)], found)


def curve(folder: Path, key: str) -> dict[int, float]:
    """Step -> percentile, as far as an earlier call of this key came."""
    content = _content(folder, key)
    return {} if content is None else _steps(content)


def write_curve(folder: Path, key: str, found: dict[int, float], *, ended: bool = False) -> None:
    _replace(folder / CURVE, json.dumps({"key": key, "ended": ended, "percentile": {str(step): value for step, value in found.items()}}))


def _content(folder: Path, key: str) -> dict[str, Any] | None:
    path = folder / CURVE
    if not path.is_file():
        return None
    content = json_files.read(path)
    return content if isinstance(content, dict) and content.get("key") == key else None


def _steps(content: dict[str, Any]) -> dict[int, float]:
    return {int(step): float(value) for step, value in content["percentile"].items()}


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
