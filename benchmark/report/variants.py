"""What tells rows of one name apart. A backbone's name is no file: a second training may write into the first one's.

Headlines, curves over labels and leaks put rows of one label together, whatever their task. So what tells the networks of one name apart
stands in the label of all their rows, also where a task has rows of one of them alone. Other settings stand where rows of one task differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from benchmark.cards import BackboneRef, Experiment
from benchmark.report.escape import one_line

SHOWN = 3  # settings that a label names; more where fewer would not tell two rows apart
SHORT, WHOLE = 8, 16  # characters of a value that is longer than so many; more where fewer would not tell two values apart
BACKBONE = "backbone."
_OF_RUNS = {"head_seed", "order_seed", "role", "learning_rate"}  # in which the runs of one row differ
_SEED = f"{BACKBONE}init_seed"

Values = Mapping[str, str | None]
"""Path of a field, such as `backbone.digest` -> its value; None and a path that is not there are one."""


class Network(NamedTuple):
    """What fixes the network behind a name, first what tells two apart in the fewest words.

    Weights that every run draws anew are one network. How tensors are read from a file (container, layout) is part of fixed ones alone.
    """

    digest: str | None
    family: str
    model: str
    container: str | None
    layout: str | None

    @property
    def values(self) -> dict[str, str | None]:
        return {f"{BACKBONE}{name}": value for name, value in self._asdict().items()}


@dataclass(frozen=True)
class Variant:
    """
    Attributes:
        text: what tells a row from others of its name; mostly empty.
        settings: the part of it that is not the backbone's.
    """

    text: str
    settings: str


def network_of(backbone: BackboneRef) -> Network:
    container, layout = (None, None) if backbone.digest is None else (backbone.container, backbone.layout)
    return Network(backbone.digest, backbone.family, backbone.model, container, layout)


def variants_of(experiments: Sequence[Experiment], networks: Collection[Network]) -> list[Variant]:
    """One for each experiment, and no two of one text.

    Args:
        experiments: that make rows of one name on one task, split, protocol, scale and kind of data, one for each row.
        networks: all that have the name, on any task.
    """
    if len(experiments) == len(networks) == 1:
        return [Variant("", "")]
    # In one order, so that all rows of the name choose the same.
    every: list[Values] = [network.values for network in sorted(networks, key=str)]
    of_network = list(every[0])
    of_name = _telling(of_network, every, [], 0)
    rows: list[Values] = [
        _flatten(one.model_dump(mode="json", exclude=_OF_RUNS)) | {p: network_of(one.backbone).values[p] for p in of_name}
        for one in experiments
    ]
    differing = [path for path in sorted(set().union(*rows)) if path != _SEED and len({row.get(path) for row in rows}) > 1]
    shown = _telling([path for path in differing if path not in of_network], rows, of_name, SHOWN)
    shown = sorted(_telling(of_network, rows, shown, 0))
    short = {path: _shortened(values.get(path) for values in (every if path in of_name else rows)) for path in shown}
    settings = [path for path in shown if not path.startswith(BACKBONE)]
    return [Variant(_said(row, shown, short), _said(row, settings, short)) for row in rows]


def _telling(paths: Iterable[str], rows: Sequence[Values], shown: Sequence[str], room: int) -> list[str]:
    """`shown`, and those of the paths that tell apart what it does not; others too, up to `room` of all."""
    found = list(shown)
    for path in paths:
        if path not in found and (len(found) < room or _n_told(rows, [*found, path]) > _n_told(rows, found)):
            found.append(path)
    return found


def _n_told(rows: Sequence[Values], paths: Sequence[str]) -> int:
    return len({tuple(row.get(path) for path in paths) for row in rows})


def _flatten(value: object, path: str = "") -> dict[str, str | None]:
    if isinstance(value, dict) and value:
        return {p: v for key, inner in value.items() for p, v in _flatten(inner, f"{path}.{key}" if path else str(key)).items()}
    return {path: str(value)}


def _shortened(values: Iterable[str | None]) -> dict[str | None, str]:
    """Value -> its text; no two of one text."""
    known = set(values)
    long = {value for value in known if value is not None and len(value) > WHOLE}
    n = next(n for n in count(SHORT) if len({value[:n] for value in long}) == len(long))
    return {value: "none" if value is None else f"{value[:n]}…" if value in long else value for value in known}


def _said(row: Values, paths: Sequence[str], short: Mapping[str, Mapping[str | None, str]]) -> str:
    return one_line(", ".join(f"{path}={short[path][row.get(path)]}" for path in paths))
