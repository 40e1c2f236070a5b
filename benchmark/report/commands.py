"""The command that computes a record again, from what the record says of itself."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from benchmark.cards import BackboneCard, Experiment, Record
from benchmark.report.escape import one_line
from benchmark.report.rows import LOVT_SPLIT

_SOURCES = {"torchvision": "torchvision:{}", "timm": "timm:{}", "hf": "hf:{}", "hf_text": "hf:{}+text"}  # family -> what is typed
_IN_BRACKETS = re.compile(r"\((?P<inside>[^()]*)\)$")


def command_of(record: Record, card: BackboneCard | None) -> str:
    """`lobe run …` for the runs up to this one; what only its author has (a weights file, the data) stands in capitals.

    Every part is quoted for a shell: names come from records.
    """
    labels, experiment = record.job.labels, record.job.experiment
    parts = ["lobe", "run", "--backbone", backbone_argument(labels.backbone, experiment, card)]
    parts += ["--task", labels.task, "--protocol", labels.protocol, "--seeds", str(labels.run_number)]
    if experiment.dataset.split != LOVT_SPLIT:
        parts += ["--split", experiment.dataset.split]
    if experiment.limit is not None:
        parts += ["--limit", str(experiment.limit)]
    if experiment.profile != "full":
        parts += ["--profile", experiment.profile]
    if experiment.threads != 1:
        parts += ["--threads", str(experiment.threads)]
    if experiment.device_type != "cpu":
        parts += ["--device", experiment.device_type]
    return " ".join(shlex.quote(one_line(part)) for part in [*parts, "--data", "DATA", "--out", "OUT"])


def backbone_argument(label: str, experiment: Experiment, card: BackboneCard | None) -> str:
    """What `--backbone` was given, as far as its label and its weights tell."""
    backbone, inside = experiment.backbone, _IN_BRACKETS.search(label)
    if card is not None:
        needs_file = card.weights is not None and Path(card.weights).suffix != ""
        return f"{card.name}@{card.weights}" if needs_file and backbone.digest is not None else card.name
    if backbone.family in _SOURCES:
        weights = "" if backbone.digest is None else f"@{inside['inside']}" if inside else "@WEIGHTS"
        return f"{_SOURCES[backbone.family].format(backbone.model)}{weights}"
    stem, colon, function = label.partition(":")
    return f"{stem}.py:{function}" if colon else label
