"""Cards as text for people: each value with what it was guessed from, and what was not known as comments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from benchmark.cards import DatasetCard
from benchmark.scaffold.guessed import Guess

if TYPE_CHECKING:
    from benchmark.scaffold.dataset import Measured

LARGE = 640  # training images from which batches are LoVT's for large sets
SMALL_BUDGET = {"batch_size": 8, "max_epochs": 100, "patience": 20}  # LoVT on COVID Rural
LARGE_BUDGET = {"batch_size": 64, "max_epochs": 50, "patience": 10}  # LoVT on RSNA and SIIM-ACR
RATES = {"linear": [0.03, 0.01, 0.003, 0.001], "unet": [0.0001, 0.0003, 0.001], "yolov3": [0.0003, 0.001]}
TITLES = {"linear": "linear", "unet": "U-Net", "yolov3": "YOLOv3", "classifier": "linear classifier", "retrieval": "retrieval"}


def dataset_text(card: DatasetCard, made: Guess, measured: Measured | None, problem: str) -> str:
    """The file of the dataset's card."""
    lines = [
        "# Your own data, as `lobe new dataset` understood the folder. Nothing here is checked by anybody but you.",
        "# After each change: lobe data verify. What a card may say: docs/your-data.md.",
        "datasets:",
        f"  - name: {card.name}",
        f"    folder: {_flow(card.folder)} # below the folder that --data names",
    ]
    if card.classes:
        lines.append(f"    classes: {_flow(list(card.classes))}{_from(made, 'classes')}")
    lines += [
        "    redistribution: none # none: no name of an image leaves this machine. ids: names may be shown. open: pictures may be too",
        "    intensity: equalised # as-stored takes images of 8 bits as they are; then measure `statistics` anew",
    ]
    lines.append("    # shares_with: {} # write this if no public dataset holds these images; else any pretraining may have seen them")
    if measured is None:
        lines.append(
            "    # not known: statistics, for no training image was read; without them 0.5 and 0.2887 of an even histogram are taken"
        )
    else:
        statistics = {"mean": [round(measured.mean, 4)], "std": [round(measured.std, 4)]}
        counted = f"{measured.n_images:,} of {measured.n_train:,} training images"
        lines.append(f"    statistics: {_flow(statistics)} # measured on {counted}, after equalising")
    lines += ["", f"    {made.block}:"]
    lines += [f"      {key}: {_flow(value)}{_from(made, key)}" for key, value in made.given.items()]
    lines += ["", f"    split: {_flow(made.split)}{_from(made, 'split')}"]
    notes = [f"not known: {sentence}" for sentence in made.unknown] + ([f"not usable yet: {problem}"] if problem else [])
    if notes:
        lines += ["", *(f"    # {line}" for note in notes for line in note.splitlines())]
    return "\n".join(lines) + "\n"


def tasks_text(card: DatasetCard, measured: Measured | None) -> tuple[tuple[str, ...], str]:
    """Names of the tasks that the card's targets allow, and the file of their cards and of a suite of them."""
    tasks = _tasks(card, 0 if measured is None else measured.n_train)
    names = tuple(str(task["id"]) for task in tasks)
    wide = measured is None or measured.wide
    why = "; `lobe` takes images of 8 bits alone" if wide and "reports" not in card.targets else ""
    lines = [
        f"# Tasks on {card.name}. Recipes are LoVT's for the same head; of the rates the best on validation is kept.",
        "suites:",
        f"  - name: {card.name}",
        f"    title: {_flow(card.name)}",
        "    description: Own data, never ranked beside published numbers.",
        "    default_protocol: corrected",
        f"    tasks: {_flow(list(names))}",
        "",
        "tasks:",
    ]
    protocols = ["corrected"] if wide or "reports" in card.targets else ["corrected", "lobe"]
    for task in tasks:
        first, *rest = {**task, "protocols": protocols}.items()
        lines.append(f"  - {first[0]}: {_flow(first[1])}")
        lines += [f"    {key}: {_flow(value)}{f' # {why[2:]}' if key == 'protocols' and why else ''}" for key, value in rest]
        lines.append("")
    return names, "\n".join(lines[:-1]) + "\n"


def _tasks(card: DatasetCard, n_train: int) -> list[dict[str, Any]]:
    """Cards without protocols, the quickest first."""
    budget = dict(LARGE_BUDGET if n_train >= LARGE else SMALL_BUDGET)
    if 0 < n_train < budget["batch_size"]:
        budget["batch_size"] = n_train
    found = []
    if "masks" in card.targets:
        # Of one class the mean over classes is its Dice; so a class can be renamed in the dataset's card alone.
        found += [_trained(card, head, "masks", "avg_dice", "avg_dice", {**budget, **_rates(head)}) for head in ("linear", "unet")]
    if "boxes" in card.targets:
        found.append(_trained(card, "yolov3", "boxes", "froc_full", "AP40_75_full", {**budget, **_rates("yolov3")}))
    if "labels" in card.targets:
        # As GLoRIA's and MGCA's linear probes: a constant rate, stopped by the validation loss.
        recipe = {**budget, "learning_rate": 0.0005, "min_delta": 0.0, "plateau_patience": 1000}
        found.append(_trained(card, "classifier", "labels", "negative_loss", "auroc", recipe))
    if "reports" in card.targets:
        recipe = {"batch_size": 32, "learning_rate": 0.0, "max_epochs": 0, "patience": 0}
        task = _trained(card, "retrieval", "reports", "none", "image_to_text_hit@5", recipe)
        found.append({**task, "fraction": 0.0, "words": {"similarity": "global"}})
    return found


def _trained(card: DatasetCard, head: str, target: str, select: str, report: str, recipe: dict[str, Any]) -> dict[str, Any]:
    of_boxes = ", box-mask Dice" if target == "masks" and card.mask_source == "boxes" else ""
    return {
        "id": f"{card.name}-{head}-frozen".replace("_", "-"),
        "version": 1,
        "title": f"{card.name} · {TITLES[head]} · frozen{of_boxes} (own data)",
        "dataset": card.name,
        "split": "own",
        "head": head,
        "encoder": "frozen",
        "fraction": 1.0,
        "target": target,
        "select": select,
        "report": report,
        "runs": 5,
        "recipe": recipe,
    }


def _rates(head: str) -> dict[str, Any]:
    return {"learning_rate": RATES[head][len(RATES[head]) // 2], "grid": RATES[head]}


def _from(made: Guess, key: str) -> str:
    if key == "split" and made.split.get("by") == "rule":
        return f" # {made.reasons[key]}"
    return f" # guessed from {made.reasons[key]}" if key in made.reasons else ""


def _flow(value: Any) -> str:
    """A value of YAML in one line."""
    text = yaml.safe_dump(json.loads(json.dumps(value)), default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)
    return text.removesuffix("...\n").strip()
