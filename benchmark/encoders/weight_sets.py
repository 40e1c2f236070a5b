"""Which mapping of a checkpoint is the state dict that is meant.

Training scripts keep raw and averaged weights, student and teacher, or two networks side by side. Only the author knows which one was
evaluated, so a file with two sets of one network is refused until a `container` names one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmark.encoders.inert_pickle import Inert, PickledArray
from benchmark.errors import CheckpointError

# Where training scripts put the state dict, most telling first.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "encoder", "backbone", "module", "weights")
TOP = "."  # container of the tensors that lie in no mapping of their own
MOST_TENSORS = 100_000
_DATA_PARALLEL = "module."
_MOST_MAPPINGS = 200_000  # an optimiser has one per tensor
_MOST_DEPTH = 8
_TAIL = 3  # parts at the end of a tensor's name by which two sets of one network are known
_ALIKE = 0.5  # share of the smaller set's tensors that the other has too
_SETS_SHOWN = 6


@dataclass(frozen=True)
class WeightSet:
    """A state dict out of a file.

    Attributes:
        tensors: by name; a `module.` that DataParallel put before every name is taken off.
        container: the key under which it lay, nested keys joined by points; `.` for tensors at the top.
        others: containers of other sets of the same network, left aside because this one was asked for.
    """

    tensors: dict[str, Tensor]
    container: str = TOP
    others: tuple[str, ...] = ()


def choose(content: Any, file: str, container: str | None = None, documented: str | None = None) -> WeightSet:
    """The state dict that is meant.

    Args:
        content: what the file holds, in plain containers.
        file: its name, for sentences.
        container: the key the user named; it must be there.
        documented: the key where a published file is known to have it; taken if it is there.

    Raises:
        CheckpointError: no state dict, none under that key, or several sets of one network and no word which.
    """
    nodes = _mappings(content, file)
    sets = {where: tensors for where, node in nodes.items() if (tensors := _tensors(node))}
    if container is not None:
        chosen = _inside(container, nodes, sets)
        if chosen is None:
            raise CheckpointError(f"{file} holds no set of weights under {container!r}. It holds {_listed(sets) or 'none'}.")
    else:
        chosen = _inside(documented, nodes, sets) if documented is not None else None
        chosen = chosen or _inside(TOP, nodes, sets)
    if chosen is None:
        raise CheckpointError(_nothing(content, file, sets))
    asked = container is not None or (documented is not None and chosen.split(".")[0] == documented)
    others = _copies(chosen, nodes, sets)
    if others and not asked:
        pair = {name: sets.get(name, ()) for name in (chosen, *others)}
        raise CheckpointError(
            f"{file} holds {len(pair)} sets of weights of one network: {_listed(pair)}. Which one is meant, only its author knows. Choose "
            f"with --container {others[0]}, with FILE#container={others[0]}, or with `container: {others[0]}` in a card"
            f"{' (. = the tensors at the top)' if TOP in pair else ''}."
        )
    return WeightSet(_without_data_parallel(sets[chosen]), chosen, others)


def _mappings(content: Any, file: str) -> dict[str, Mapping]:
    """Every mapping in the content by its keys; none is looked into twice, because one may hold itself."""
    found: dict[str, Mapping] = {}
    waiting: deque[tuple[str, Any, int]] = deque([(TOP, content, 0)])
    seen: set[int] = set()
    while waiting:
        where, node, depth = waiting.popleft()
        if isinstance(node, PickledArray):
            node = node.item
        if not isinstance(node, (Mapping, list, tuple)):
            continue
        if isinstance(node, Mapping):
            found[where] = node
        if id(node) in seen:
            continue
        seen.add(id(node))
        if len(found) > _MOST_MAPPINGS:
            raise CheckpointError(f"{file} holds more than {_MOST_MAPPINGS:,} mappings: save its state_dict() alone.")
        if depth == _MOST_DEPTH:
            continue
        if not isinstance(node, Mapping):
            if node and all(isinstance(value, Tensor) for value in node):  # an averager that keeps no names
                found[where] = {str(place): value for place, value in enumerate(node)}
            node = dict(enumerate(node)) if len(node) <= _MOST_MAPPINGS else {}
        waiting += [
            (str(key) if where == TOP else f"{where}.{key}", value, depth + 1)
            for key, value in node.items()
            if isinstance(value, (Mapping, list, tuple, PickledArray)) and isinstance(key, (str, int))
        ]
    return found


def _tensors(node: Mapping) -> dict[str, Tensor]:
    found = {name: value.tensor if isinstance(value, PickledArray) else value for name, value in node.items() if isinstance(name, str)}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _inside(where: str, nodes: Mapping[str, Mapping], sets: Mapping[str, Mapping]) -> str | None:
    """The set at a mapping, or in the known wrappers inside it: a wrapper goes before tensors beside it."""
    while where in nodes:
        prefix = "" if where == TOP else f"{where}."
        inner = [key for key in WRAPPERS if isinstance(nodes[where].get(key), (Mapping, PickledArray)) and nodes.get(prefix + key)]
        if not inner:
            return where if where in sets else None
        where = prefix + inner[0]
    return None


def _copies(chosen: str, nodes: Mapping[str, Mapping], sets: Mapping[str, dict[str, Tensor]]) -> tuple[str, ...]:
    """Other sets of the same network whose values differ."""
    mine = _without_data_parallel(sets[chosen])
    apart = {name: _without_data_parallel(tensors) for name, tensors in sets.items() if nodes[name] is not nodes[chosen]}
    return tuple(name for name, tensors in apart.items() if _alike(mine, tensors) and not _equal(mine, tensors))


def _alike(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether most tensors of the smaller set are in the other, by the end of their names and their shapes."""
    small, large = sorted((len(one), len(other)))
    if small < _ALIKE * large / 2:
        return False
    named = not all(name.isdigit() for name in other)
    shared = _signature(one, named=named) & _signature(other, named=named)
    return shared.total() >= _ALIKE * small


def _signature(tensors: Mapping[str, Tensor], *, named: bool) -> Counter:
    ends = (".".join(name.split(".")[-_TAIL:]) if named else "" for name in tensors)
    return Counter(zip(ends, (tuple(tensor.shape) for tensor in tensors.values()), strict=True))


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    if one.keys() != other.keys():
        return False
    return all(tensor is other[name] or _same(tensor, other[name]) for name, tensor in one.items())


def _same(one: Tensor, other: Tensor) -> bool:
    if not (is_plain(one) and is_plain(other)) or one.dtype != other.dtype:
        return False
    return one.shape == other.shape and bool((one == other).all())


def is_plain(tensor: Tensor) -> bool:
    """Strided numbers that are here: not sparse, nested, quantised or without storage."""
    return not (tensor.is_meta or tensor.is_quantized or tensor.is_nested or tensor.is_sparse or "sparse" in str(tensor.layout))


def _without_data_parallel(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if all(name.startswith(_DATA_PARALLEL) for name in tensors):
        return {name.removeprefix(_DATA_PARALLEL): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def _listed(sets: Mapping[str, Any]) -> str:
    """The largest sets with their sizes."""
    largest = sorted(sets, key=lambda name: -len(sets[name]))[:_SETS_SHOWN]
    more = f", and {len(sets) - len(largest)} more" if len(sets) > len(largest) else ""
    return ", ".join(f"{name!r} ({len(sets[name])} tensors)" for name in sets if name in largest) + more


def _nothing(content: Any, file: str, sets: Mapping[str, Any]) -> str:
    if isinstance(content, Inert):
        return f"{file} is a whole pickled model, which cannot be read without running it: save its state_dict()."
    keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
    sentence = f"{file} holds no state dict that LOBE knows (found: {keys[:200]}); save one under 'state_dict'"
    if not sets:
        return sentence + "."
    largest = max(sets, key=lambda name: len(sets[name]))
    return f"{sentence}, or name the set that is meant, as --container {largest}: it holds {_listed(sets)}."
