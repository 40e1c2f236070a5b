"""Weights from a file into an encoder, with an account of every tensor: nothing is loaded, left out or ignored in silence.

How files name an encoder's tensors stands in `layouts`; `weights_file` reads the bytes safely, families build the encoder.
A checkpoint that fits badly gives a plausible number, not a crash; so whatever looks like that is an error here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.encoders.layouts import PART, PREFIX_LAYOUT, Layout, fit_shape, layout_of
from benchmark.encoders.weights_file import read_tensors
from benchmark.errors import CheckpointError

_NAMES_SHOWN = 4


@dataclass(frozen=True)
class TensorAccount:
    """What became of every tensor, by name: of the encoder (loaded, missing, wrong_shape) or of the file (ignored, unexpected).

    `resampled` are those of the loaded whose table of positions was interpolated to the encoder's own grid.
    BatchNorm's batch counters are left out: no forward pass with a fixed momentum reads them, and old files lack them.
    """

    loaded: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of tensors by fate: what a record keeps. `resampled` is named only where there are some."""
        fates = ("loaded", "ignored", "missing", "unexpected", "wrong_shape", *(("resampled",) if self.resampled else ()))
        return {fate: len(getattr(self, fate)) for fate in fates}

    @property
    def share_loaded(self) -> float:
        """Share of the encoder's tensors that came from the file, 0..1."""
        n_encoder = len(self.loaded) + len(self.missing) + len(self.wrong_shape)
        return len(self.loaded) / n_encoder if n_encoder else 0.0

    def table(self) -> str:
        """One line a fate: count and the first names."""
        lines = []
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
            f"Only {len(self.loaded)} of {n_encoder} encoder tensors ({self.share_loaded:.0%}) were found in {source}; "
            f"the card demands {minimum:.0%}.\n{self.table()}{hint}"
        )


def load_checkpoint(encoder: nn.Module, path: Path, layout: str, minimum: float) -> TensorAccount:
    """Copies a file's tensors into `encoder`, in place, and accounts for all of them.

    Args:
        encoder: freshly initialised; nothing of it changes when this raises.
        path: safetensors, or a PyTorch file of a state dict, bare or in a known wrapper.
        layout: name for `layout_of`.
        minimum: least share (0..1) of the encoder's tensors that must come from the file.

    Raises:
        CheckpointError: the file cannot be read; too little fits; it belongs to a larger encoder; BatchNorm statistics are missing; a
            tensor holds NaN or infinity; or loading changed nothing. Says which, with the account.
    """
    chosen = layout_of(layout)
    found = read_tensors(path, chosen.container)
    wanted = encoder.state_dict()
    chosen = _with_one_prefix(chosen, found, wanted)
    fitting, account = _match(found, wanted, chosen)
    account.require(minimum, source=path.name, hint=_prefix_hint(found, wanted, chosen))
    _refuse_larger_encoder(account, wanted, chosen, path)
    _refuse_missing_statistics(encoder, account, path)
    _refuse_not_finite(fitting, path)
    if all(torch.equal(tensor.to(wanted[name].dtype), wanted[name].cpu()) for name, tensor in fitting.items()):
        raise CheckpointError(f"Loading {path.name} changed no tensor of the encoder: the file holds what the encoder already had.")
    encoder.load_state_dict(fitting, strict=False)
    return account


def account_of(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: Layout) -> TensorAccount:
    """What would become of a file's tensors `found` in an encoder's `wanted`, by names and shapes alone; nothing is loaded."""
    return _match(found, wanted, _with_one_prefix(layout, found, wanted))[1]


def _with_one_prefix(layout: Layout, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Layout:
    """The layout with the one of its prefixes under which most of the encoder is found; the earlier wins a tie."""

    def n_found(prefix: str) -> int:
        return sum(inner_name(name, prefix, layout).partition(PART)[0] in wanted for name in found if name.startswith(prefix))

    return replace(layout, prefixes=(max(layout.prefixes, key=n_found),))


def inner_name(name: str, prefix: str, layout: Layout) -> str:
    """The encoder's own name of a file's tensor that starts with `prefix`."""
    inner = name.removeprefix(prefix)
    for pattern, replacement in layout.rename:
        inner = re.sub(pattern, replacement, inner)
    return inner


def _match(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: Layout) -> tuple[dict[str, Tensor], TensorAccount]:
    fitting: dict[str, Tensor] = {}
    ignored, unexpected, wrong_shape, resampled = [], [], [], []
    (prefix,) = layout.prefixes
    merged, apart = _joined(found, prefix, layout)
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


def _joined(found: Mapping[str, Tensor], prefix: str, layout: Layout) -> tuple[dict[str, tuple[str, Tensor]], list[str]]:
    """Tensors by their inner name, parts of one put together, and the names of those that are no part of the encoder."""
    whole: dict[str, tuple[str, Tensor]] = {}
    parts: dict[str, dict[str, str]] = {}
    apart: list[str] = []
    for name, tensor in found.items():
        if not name.startswith(prefix):
            apart.append(name)
            continue
        inner, part, number = inner_name(name, prefix, layout).partition(PART)
        if part:
            parts.setdefault(inner, {})[number] = name
        else:
            whole[inner] = (name, tensor)
    for inner, names in parts.items():
        if sorted(names) == ["0", "1", "2"]:
            whole[inner] = (names["0"], torch.cat([found[names[number]] for number in sorted(names)]))
        else:
            apart += names.values()
    return whole, apart


def _counted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not name.endswith("num_batches_tracked"))


def _prefix_hint(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: Layout) -> str:
    """Names the prefix under which most tensors of the file would fit, if that is another one than the layout's."""
    votes: Counter[str] = Counter()
    for name, tensor in found.items():
        starts = [0, *(at + 1 for at, letter in enumerate(name) if letter == ".")]
        votes.update(name[:at] for at in starts if name[at:] in wanted and wanted[name[at:]].shape == tensor.shape)
    if not votes:
        return "\nNo prefix makes any tensor fit: is this file of another architecture?"
    prefix, n_fitting = votes.most_common(1)[0]
    if prefix in layout.prefixes:
        return ""
    return f"\nWith the prefix {prefix!r} {n_fitting} tensors would fit: try layout `{PREFIX_LAYOUT}{prefix}`."


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


def _refuse_not_finite(fitting: Mapping[str, Tensor], path: Path) -> None:
    broken = [name for name, tensor in fitting.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(f"{path.name}: {len(broken)} tensors hold NaN or infinity (first: {broken[0]}). Training had diverged.")
