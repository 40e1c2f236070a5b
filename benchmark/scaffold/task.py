"""A task card to start from."""

from __future__ import annotations

from pathlib import Path

from benchmark import registry
from benchmark.errors import CardError, UsageError
from benchmark.metrics import spec
from benchmark.scaffold.own_files import Started, card_name, start

_CARD = """\
# A task: which head learns from which dataset, by which recipe, and by which metric it is judged. All keys: docs/tasks.md.
tasks:
  - id: @NAME@
    version: 1 # up by one whenever a change alters results
    title: @TITLE@
    dataset: @DATASET@ # `lobe list datasets`, or a card of this folder
    split: @SPLIT@ # one of the dataset card's splits
    head: @HEAD@ # LOBE's (docs/tasks.md), or a module in heads/ of this folder
    encoder: frozen # or finetune
    fraction: 1.0 # share of the training images
    frame_size: 224 # pixels of the padded square, a multiple of 32
    target: @TARGET@ # ground truth that the head learns from
    select: @SELECT@ # on validation: early stopping, best epoch, learning rate
    report: @REPORT@ # on test; a metric of this folder goes here or into `select`
    protocols: [corrected] # `lobe list protocols`
    runs: 5 # that differ in their seeds
    recipe:
      batch_size: 16
      learning_rate: 0.01
      max_epochs: 50
      patience: 10 # epochs without a better `select`
"""


def new(name: str, folder: Path, *, dataset: str = "rsna", head: str = "linear", report: str | None = None) -> Started:
    """Writes `tasks/<name>.yaml`.

    Args:
        folder: of one's own; what it holds, the task may name.
        report: metric; None takes the head's usual one.

    Raises:
        UsageError: a name cannot be one, is taken, or is not known; or the file is there.
    """
    card_name(name)
    if name in registry.tasks():
        raise UsageError(f"There is a task {name} already: take another name.")
    data, facts = registry.dataset(dataset), registry.head(head)
    usual = {"masks": "avg_dice", "boxes": "mAP", "labels": "auroc"}.get(facts.target)
    if not facts.trains or usual is None:
        raise UsageError(f"The head {head} has the target {facts.target}: this command writes tasks of heads for masks, boxes or labels.")
    if facts.target not in data.targets:
        raise UsageError(f"The head {head} learns from {facts.target}, and {dataset} has {', '.join(data.targets)}.")
    if not data.splits:
        raise CardError(f"The dataset {dataset} has no split: its card names at least one.")
    if report is not None and spec.find(report, facts.target) is None:
        raise UsageError(f"There is no metric {report!r} of {facts.target}.")
    words = {
        "NAME": name,
        "TITLE": f"{data.title} · {facts.title} · frozen · 100 %",
        "DATASET": dataset,
        "SPLIT": next(iter(data.splits)),
        "HEAD": head,
        "TARGET": facts.target,
        "SELECT": usual,
        "REPORT": report or usual,
    }
    text = _CARD
    for word, said in words.items():
        text = text.replace(f"@{word}@", said)
    return start(folder, {f"tasks/{name}.yaml": text}, "lobe validate-cards {folder}")
