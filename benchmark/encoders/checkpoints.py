"""Weights from a file into an encoder, with an account of every tensor: nothing is loaded, left out or ignored in silence.

Layouts say how a file names the encoder's tensors. Reading the bytes safely is `weights_file`'s part, building the encoder the families'.
A checkpoint that fits badly gives a plausible number, not a crash; so whatever looks like that is an error here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.encoders.weights_file import read_tensors
from benchmark.errors import CardError, CheckpointError

PREFIX_LAYOUT = "prefix:"
_NAMES_SHOWN = 4


@dataclass(frozen=True)
class Layout:
    """How a file names an encoder's tensors.

    Attributes:
        prefix: what stands before the encoder's own names; tensors without it are no part of the encoder.
        ignore: patterns (fnmatch, on full names in the file) of tensors known to be no part of the encoder.
    """

    prefix: str = ""
    ignore: tuple[str, ...] = ()


_CLASSIFIERS = ("fc.*", "classifier.*", "head.*", "head_dist.*")

LAYOUTS: dict[str, Layout] = {
    "torchvision": Layout(ignore=_CLASSIFIERS),
    # Buffers that timm's attention models recompute, and a token that only masked pretraining reads.
    "timm": Layout(ignore=(*_CLASSIFIERS, "*relative_position_index", "*attn_mask", "mask_token")),
    # LoVT, ConVIRT and CLIP* of the LoVT repository: a Lightning checkpoint whose side `a` is the image (docs/protocols/lovt.md).
    "lovt": Layout(
        prefix="model_a.encoder.feature_extractor.backbone_layers.",
        ignore=(
            "model_a.encoder.global_aggregator.*",
            "model_a.project_*",
            "model_b.*",
            "ll_attention.*",
            "loss_module.*",
            "chexpert_bin_*",
            "model_a.encoder.feature_extractor.backbone_layers.fc.*",
        ),
    ),
}


@dataclass(frozen=True)
class TensorAccount:
    """What became of every tensor, by name: of the encoder (loaded, missing, wrong_shape) or of the file (ignored, unexpected).

    BatchNorm's batch counters are left out: no forward pass with a fixed momentum reads them, and old files lack them.
    """

    loaded: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of tensors by fate: what a record keeps."""
        return {fate: len(getattr(self, fate)) for fate in ("loaded", "ignored", "missing", "unexpected", "wrong_shape")}

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


def layout_of(name: str) -> Layout:
    """The named layout; `prefix:TEXT` is torchvision's with TEXT before every name.

    Raises:
        CardError: no such layout.
    """
    if name.startswith(PREFIX_LAYOUT):
        prefix = name.removeprefix(PREFIX_LAYOUT)
        return Layout(prefix=prefix, ignore=tuple(prefix + pattern for pattern in _CLASSIFIERS))
    if name not in LAYOUTS:
        raise CardError(f"There is no checkpoint layout {name!r}; use one of {', '.join(sorted(LAYOUTS))}, or {PREFIX_LAYOUT}TEXT.")
    return LAYOUTS[name]


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
    found, chosen = read_tensors(path), layout_of(layout)
    wanted = encoder.state_dict()
    fitting, account = _match(found, wanted, chosen)
    account.require(minimum, source=path.name, hint=_prefix_hint(found, wanted, chosen))
    _refuse_larger_encoder(account, wanted, chosen, path)
    _refuse_missing_statistics(encoder, account, path)
    _refuse_not_finite(fitting, path)
    if all(torch.equal(tensor.to(wanted[name].dtype), wanted[name].cpu()) for name, tensor in fitting.items()):
        raise CheckpointError(f"Loading {path.name} changed no tensor of the encoder: the file holds what the encoder already had.")
    encoder.load_state_dict(fitting, strict=False)
    return account


def _match(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: Layout) -> tuple[dict[str, Tensor], TensorAccount]:
    fitting: dict[str, Tensor] = {}
    ignored, unexpected, wrong_shape = [], [], []
    for name, tensor in found.items():
        inner = name.removeprefix(layout.prefix) if name.startswith(layout.prefix) else None
        if inner in wanted and tensor.shape == wanted[inner].shape:
            fitting[inner] = tensor
        elif inner in wanted:
            wrong_shape.append(inner)
        elif any(fnmatch(name, pattern) for pattern in layout.ignore):
            ignored.append(name)
        else:
            unexpected.append(name)
    return fitting, TensorAccount(
        loaded=_counted(name for name in wanted if name in fitting),
        ignored=_counted(ignored),
        missing=_counted(name for name in wanted if name not in fitting and name not in wrong_shape),
        unexpected=_counted(unexpected),
        wrong_shape=_counted(wrong_shape),
    )


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
    if prefix == layout.prefix:
        return ""
    return f"\nWith the prefix {prefix!r} {n_fitting} tensors would fit: try layout `{PREFIX_LAYOUT}{prefix}`."


def _refuse_larger_encoder(account: TensorAccount, wanted: Mapping[str, Tensor], layout: Layout, path: Path) -> None:
    """A ResNet-34 file fills a ResNet-18 to the last tensor; only what is left over in the same blocks tells."""
    blocks = {name.split(".")[0] for name in wanted}
    inner = [name.removeprefix(layout.prefix) for name in account.unexpected if name.startswith(layout.prefix)]
    left_over = [name for name in inner if name.split(".")[0] in blocks]
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
