"""Weights from a file into an encoder, with an account of every tensor: nothing is loaded, left out or ignored in silence.

How files name an encoder's tensors stands in `layouts`; `weights_file` reads the bytes safely, families build the encoder.
A checkpoint that fits badly gives a plausible number, not a crash; so every sign of a bad fit is an error here.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.encoders.layouts import PREFIX_LAYOUT, SHARD, Layout, fit_shape, layout_of
from benchmark.encoders.weight_sets import is_plain
from benchmark.encoders.weights_file import read_set
from benchmark.errors import CheckpointError

_NAMES_SHOWN = 4
_COPY = 0.9  # share of the encoder's parameters that a second copy of it in the file has at least
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # of BatchNorm; an average of parameters alone has none
_MAY_BE_ZERO = "token_type_embeddings.weight"  # RoBERTa's published files zero it: its texts have one type
_MOST_PARTS = 64  # of a tensor's name


@dataclass(frozen=True)
class TensorAccount:
    """What became of every tensor, by name: of the encoder (loaded, missing, wrong_shape) or of the file (ignored, unexpected).

    `resampled` are those of the loaded whose table of positions was interpolated to the encoder's own grid, or whose first convolution was
    fitted to the encoder's channels. `container` is the key of the set of weights that was chosen in a file with several of this network,
    `other_sets` are the keys of the others; both are empty where there was no choice.
    BatchNorm's batch counters are left out: no forward pass with a fixed momentum reads them, and old files lack them.
    """

    loaded: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()
    other_sets: tuple[str, ...] = ()
    container: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """Number of names by fate: what a record keeps. `resampled` and `other_sets` are named only where there are some."""
        fates = ["loaded", "ignored", "missing", "unexpected", "wrong_shape"]
        fates += [fate for fate in ("resampled", "other_sets") if getattr(self, fate)]
        return {fate: len(getattr(self, fate)) for fate in fates}

    @property
    def share_loaded(self) -> float:
        """Share of the encoder's tensors that came from the file, 0..1."""
        n_encoder = len(self.loaded) + len(self.missing) + len(self.wrong_shape)
        return len(self.loaded) / n_encoder if n_encoder else 0.0

    def table(self) -> str:
        """One line a fate: count and the first names; before them the set of weights that was chosen, if there was a choice."""
        lines = [f"  container           {self.container}"] if self.container else []
        for fate, count in self.counts.items():
            names = getattr(self, fate)
            more = f", … ({count - _NAMES_SHOWN} more)" if count > _NAMES_SHOWN else ""
            lines.append(f"  {fate.replace('_', ' '):<12}{count:>6}  {', '.join(names[:_NAMES_SHOWN])}{more}".rstrip())
        return "\n".join(lines)

    def require(self, minimum: float, *, source: str = "the file", hint: str = "") -> None:
        """Raises CheckpointError, with the table and `hint`, when less than `minimum` (0..1) of the encoder was loaded."""
        if self.share_loaded >= minimum and self.loaded:
            return
        n_encoder = len(self.loaded) + len(self.missing) + len(self.wrong_shape)
        raise CheckpointError(
            f"Only {len(self.loaded)} of {n_encoder} encoder tensors ({100 * len(self.loaded) // max(1, n_encoder)}%) were found in "
            f"{source}; the card demands {100 * minimum:.4g}%.\n{self.table()}{hint}"
        )


def load_checkpoint(encoder: nn.Module, path: Path, layout: str, minimum: float, container: str | None = None) -> TensorAccount:
    """Copies a file's tensors into `encoder`, in place, and accounts for all of them.

    Args:
        encoder: freshly initialised; nothing of it changes when this raises.
        path: a PyTorch file of a state dict, bare or in a known wrapper; safetensors, or their index; NumPy arrays by name.
        layout: name for `layout_of`.
        minimum: least share (0..1) of the encoder's tensors that must come from the file.
        container: key of the set of weights that is meant, in files that hold several.

    Raises:
        CheckpointError: the file cannot be read; it holds several sets of weights and none was named; too little fits; it belongs to a
            larger encoder; BatchNorm statistics are missing; two tensors have one name in the encoder; a tensor is no plain real tensor,
            holds NaN or infinity, or is a matrix of zeros; or loading changed nothing. Says which, with the account.
    """
    asked = layout_of(layout)
    read = read_set(path, container, asked.container)
    found = read.tensors
    wanted = encoder.state_dict()
    chosen = _with_one_prefix(asked, found, wanted)
    if not _names_the_copy(layout, asked):
        _refuse_second_copy(found, wanted, chosen, path)
    _refuse_no_values(found, wanted, chosen, path)
    fitting, account = _match(found, wanted, chosen)
    if read.others:
        account = replace(account, container=read.container, other_sets=read.others)
    account.require(minimum, source=path.name, hint=_prefix_hint(found, wanted, chosen))
    _refuse_larger_encoder(account, wanted, chosen, path)
    _refuse_missing_statistics(encoder, account, path)
    _refuse_not_finite(fitting, wanted, path)
    _refuse_zeros(fitting, wanted, path)
    if all(torch.equal(tensor.to(wanted[name].dtype), wanted[name].cpu()) for name, tensor in fitting.items()):
        raise CheckpointError(f"Loading {path.name} changed no tensor of the encoder: the file holds what the encoder already had.")
    encoder.load_state_dict(fitting, strict=False)
    return account


def _with_one_prefix(layout: Layout, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Layout:
    """The layout with the one of its prefixes under which most of the encoder is found; the earlier wins a tie."""

    def n_found(prefix: str) -> int:
        return sum(inner_name(name, prefix, layout).partition(SHARD)[0] in wanted for name in found if name.startswith(prefix))

    return replace(layout, prefixes=(max(layout.prefixes, key=n_found),))


def inner_name(name: str, prefix: str, layout: Layout) -> str:
    """The encoder's own name of a file's tensor that starts with `prefix`."""
    inner = name.removeprefix(prefix)
    for pattern, replacement in layout.rename:
        inner = re.sub(pattern, replacement, inner)
    return inner


def _match(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: Layout) -> tuple[dict[str, Tensor], TensorAccount]:
    fitting: dict[str, Tensor] = {}
    ignored: list[str] = []
    unexpected: list[str] = []
    wrong_shape: list[str] = []
    resampled: list[str] = []
    (prefix,) = layout.prefixes
    merged, apart = _joined(found, wanted, prefix, layout)
    for inner, (name, tensor) in merged.items():
        if inner not in wanted:
            apart.append(name)
            continue
        fitted = fit_shape(tensor, wanted[inner].shape, inner, layout)
        if fitted is None:
            wrong_shape.append(inner)
            continue
        fitting[inner] = fitted
        if fitted.numel() != tensor.numel():
            resampled.append(inner)
    for name in apart:
        (ignored if _is_ignored(name, prefix, layout) else unexpected).append(name)
    return fitting, TensorAccount(
        loaded=_counted(name for name in wanted if name in fitting),
        ignored=_counted(ignored),
        missing=_counted(name for name in wanted if name not in fitting and name not in wrong_shape),
        unexpected=_counted(unexpected),
        wrong_shape=_counted(wrong_shape),
        resampled=tuple(resampled),
    )


def _is_ignored(name: str, prefix: str, layout: Layout) -> bool:
    """Inside the encoder's own names only rules that name them count: `*` must not hide a layer too many."""
    inside = bool(prefix) and name.startswith(prefix)
    return any(fnmatch(name, pattern) for pattern in layout.ignore if not inside or pattern.startswith(prefix))


def _joined(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], prefix: str, layout: Layout
) -> tuple[dict[str, tuple[str, Tensor]], list[str]]:
    """Tensors by their inner name, those stored in pieces joined, and names of tensors outside the encoder.

    Raises:
        CheckpointError: two tensors of the file are one of the encoder, and differ.
    """
    whole: dict[str, tuple[str, Tensor]] = {}
    shards: dict[str, dict[str, tuple[str, Tensor]]] = {}
    apart: list[str] = []

    def take(inner: str, name: str, tensor: Tensor) -> None:
        if inner in whole and inner.partition(SHARD)[0] in wanted:
            other, held = whole[inner]
            if tensor.dtype != held.dtype or not torch.equal(tensor, held):
                raise CheckpointError(f"The file holds {inner} twice: as {other} and as {name}. Only its author knows which is meant.")
        whole[inner] = (name, tensor)

    for name, tensor in found.items():
        if name.startswith(prefix):
            take(inner_name(name, prefix, layout), name, tensor)
        else:
            apart.append(name)
    for place in [place for place in whole if SHARD in place]:
        inner, _, number = place.partition(SHARD)
        shards.setdefault(inner, {})[number] = whole.pop(place)
    for inner, pieces in shards.items():
        if sorted(pieces) == ["0", "1", "2"]:
            take(inner, pieces["0"][0], torch.cat([pieces[number][1] for number in sorted(pieces)]))
        else:
            apart += [name for name, _ in pieces.values()]
    return whole, apart


def _counted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not name.endswith("num_batches_tracked"))


def _prefix_hint(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: Layout) -> str:
    """Names the prefix under which most tensors of the file would fit, if that is another one than the layout's."""
    votes = _prefix_votes(found, wanted)
    if not votes:
        return "\nNo prefix makes any tensor fit: is this file of another architecture?"
    prefix, n_fitting = votes.most_common(1)[0]
    if prefix in layout.prefixes:
        return ""
    rivals = [other for other, n in votes.items() if other != prefix and n == n_fitting]
    also = f" So they would with {', '.join(map(repr, rivals[:_NAMES_SHOWN]))}: only the author knows which is meant." if rivals else ""
    return (
        f"\nWith the prefix {prefix!r} {n_fitting} tensors would fit: try --layout {PREFIX_LAYOUT}{prefix}, or "
        f'`layout: "{PREFIX_LAYOUT}{prefix}"` in a card.{also}'
    )


def _prefix_votes(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Counter[str]:
    """Prefix -> number of the file's tensors that would fit the encoder without it."""
    votes: Counter[str] = Counter()
    for name, tensor in found.items():
        votes.update(name[:at] for at in _starts(name) if name[at:] in wanted and wanted[name[at:]].shape == tensor.shape)
    return votes


def _starts(name: str) -> list[int]:
    """Where an encoder's own name may begin in a file's."""
    return [0, *(at + 1 for at, letter in enumerate(name) if letter == ".")][:_MOST_PARTS]


def _refuse_larger_encoder(account: TensorAccount, wanted: Mapping[str, Tensor], layout: Layout, path: Path) -> None:
    """A ResNet-34 file fills a ResNet-18 to the last tensor; only what is left over tells."""
    blocks = {name.split(".")[0] for name in wanted}
    (prefix,) = layout.prefixes
    inner = [inner_name(name, prefix, layout) for name in account.unexpected if name.startswith(prefix)]
    left_over = [name for name in inner if layout.closed or name.split(".")[0] in blocks]
    if left_over:
        raise CheckpointError(
            f"{path.name} holds {len(left_over)} more tensors in the encoder's own blocks (first: {left_over[0]}): "
            f"it is of a larger or different architecture.\n{account.table()}"
        )


def _refuse_missing_statistics(encoder: nn.Module, account: TensorAccount, path: Path) -> None:
    loaded = set(account.loaded)
    for name, module in encoder.named_modules():
        if not isinstance(module, _BatchNorm) or not module.track_running_stats or f"{name}.weight" not in loaded:
            continue
        for statistic in ("running_mean", "running_var"):
            if f"{name}.{statistic}" not in loaded:
                raise CheckpointError(
                    f"{path.name} has weights but no {statistic} for BatchNorm {name!r}; a frozen encoder would run on untrained "
                    f"statistics. Save the whole state_dict(), buffers included.\n{account.table()}"
                )


def _refuse_not_finite(fitting: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    broken = [name for name, tensor in fitting.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(f"{path.name}: {len(broken)} tensors hold NaN or infinity (first: {broken[0]}). Training had diverged.")
    for name, tensor in fitting.items():
        if tensor.is_floating_point() and not tensor.to(wanted[name].dtype).isfinite().all():
            raise CheckpointError(f"{path.name}: {name} holds values beyond the range of {wanted[name].dtype}. Training had diverged.")


def _refuse_zeros(fitting: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """A download that was interrupted in a file of its full length leaves zeros at its end, which safetensors takes for weights."""
    zero = [
        name
        for name, tensor in fitting.items()
        if name.endswith("weight") and tensor.dim() >= 2 and tensor.is_floating_point() and not name.endswith(_MAY_BE_ZERO)
        if not tensor.any() and wanted[name].any()  # what is zero before training may have stayed so
    ]
    if zero:
        raise CheckpointError(f"{path.name}: {len(zero)} weight matrices are all zeros (first: {zero[0]}): is the download complete?")


def _refuse_no_values(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: Layout, path: Path) -> None:
    """A tensor of the encoder takes plain real values of its own kind: numbers without their scale would be loaded as weights."""
    (prefix,) = layout.prefixes
    for name, tensor in found.items():
        inner = inner_name(name, prefix, layout).partition(SHARD)[0] if name.startswith(prefix) else ""
        if inner in wanted and (kind := _not_weights(tensor, wanted[inner])):
            raise CheckpointError(
                f"{path.name}: tensor {name} {kind}. Save plain floating tensors: dequantise, fill or convert them first."
            )


def _not_weights(tensor: Tensor, wanted: Tensor) -> str:
    """What keeps the values from being those of an encoder's tensor; empty where nothing does."""
    if tensor.is_meta:
        return "has a shape but no values (meta device)"
    if tensor.is_quantized:
        return f"is quantised ({tensor.dtype})"
    if not is_plain(tensor):
        return f"is sparse or nested ({tensor.layout})"
    if tensor.is_complex():
        return f"is complex ({tensor.dtype})"
    if wanted.is_floating_point() and not tensor.is_floating_point():
        return f"holds whole numbers ({tensor.dtype}) where the encoder takes floating ones: their scale is elsewhere"
    if wanted.is_floating_point() and tensor.element_size() == 1:
        return f"holds floating numbers of 8 bits or fewer ({tensor.dtype}): their scale is elsewhere"
    if not wanted.is_floating_point() and tensor.is_floating_point() and not bool((tensor == tensor.round()).all()):
        return f"holds fractions where the encoder takes {wanted.dtype}"
    return ""


def _names_the_copy(name: str, layout: Layout) -> bool:
    """Whether the user, or the layout's one prefix, says which of several copies is meant. Where prefixes are tried, nobody does."""
    return name.startswith(PREFIX_LAYOUT) or (len(layout.prefixes) == 1 and layout.prefixes != ("",))


def _refuse_second_copy(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: Layout, path: Path) -> None:
    """An averaged copy beside the encoder, under names of its own, where nothing in the layout says which of the two is meant."""
    (prefix,) = layout.prefixes
    copies = _copies(found, wanted, layout)
    own = copies.pop(prefix, {})
    for other, names in copies.items():
        if _n_parameters(names) < _COPY * _n_parameters(own):
            continue
        pairs = [(found[name], found[names[inner]]) for inner, name in own.items() if names.get(inner, name) != name]
        if any(one.shape == two.shape and not (is_plain(one) and is_plain(two) and torch.equal(one, two)) for one, two in pairs):
            under = f"with {prefix!r} before its names" if prefix else "under its own names"
            raise CheckpointError(
                f"{path.name} holds the encoder twice: {under} and with {other!r} before them. Which one is meant, only its author knows. "
                + _choice_of(prefix, other, layout)
            )


def _n_parameters(names: Iterable[str]) -> int:
    return sum(not name.endswith(_BUFFERS) for name in names)


def _copies(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: Layout) -> dict[str, dict[str, str]]:
    """Prefix -> the encoder's own names -> the file's names of tensors that would fit under them.

    What the layout knows to be no part of the encoder is no copy of it: a text tower may be blocks of the same shapes.
    """
    (chosen,) = layout.prefixes
    copies: dict[str, dict[str, str]] = defaultdict(dict)
    for name, tensor in found.items():
        if _is_ignored(name, chosen, layout):
            continue
        for at in _starts(name):
            inner = inner_name(name, name[:at], layout)
            whole, shard, _ = inner.partition(SHARD)
            if whole in wanted and (wanted[whole].shape == tensor.shape or (shard and wanted[whole].shape[1:] == tensor.shape[1:])):
                copies[name[:at]][inner] = name
    return copies


def _choice_of(prefix: str, other: str, layout: Layout) -> str:
    """How to say which copy is meant; a prefix of one's own has no layout's renaming."""
    if layout.rename not in ((), layout_of(PREFIX_LAYOUT).rename):
        return "Save that one in a file of its own."
    return f"Choose with --layout {PREFIX_LAYOUT}{prefix} or --layout {PREFIX_LAYOUT}{other}, or with `layout` in a card."
