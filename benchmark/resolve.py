"""Turns what the user named into references with digests: the only room where names meet files.

Backbones become `BackboneRef`s, dataset folders `DatasetRef`s; where they lie goes into `Place`s, which no key ever sees.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from benchmark import registry
from benchmark.cards import BackboneRef, DatasetCard, DatasetRef, Protocol, SplitRule, TaskCard
from benchmark.encoders import naming
from benchmark.encoders.describe import describe
from benchmark.encoders.shards import digest_of
from benchmark.errors import CheckpointError, DataError, SplitError, UsageError
from benchmark.plan import NamedBackbone
from benchmark.readers.base import Reader, open_reader
from benchmark.readers.lists import NAME as LISTS
from benchmark.readers.lists import lists_rule, read_lists
from benchmark.store import write_atomically
from benchmark.training.place import FEATURE_BUDGET_BYTES, Place, place_key

PATIENT_SPLITS = ("patient-disjoint", "size-matched")  # science 6


@dataclass(frozen=True)
class ResolvedBackbone:
    """A backbone as planned, with the model (or factory) and the file a worker builds it from."""

    named: NamedBackbone
    model: str
    weights: Path | None


@dataclass(frozen=True)
class ResolvedDataset:
    ref: DatasetRef
    card: DatasetCard
    root: Path
    release: str
    phantom: bool
    known_release: bool
    warnings: tuple[str, ...]
    lists: Path | None = None


def cache_folder(given: Path | None = None) -> Path:
    """The folder of all caches: --cache, $LOBE_CACHE, or the user's cache folder."""
    if given is None and os.environ.get("LOBE_CACHE"):
        given = Path(os.environ["LOBE_CACHE"])
    return (given or user_cache_path("lobe")).expanduser().resolve()


def data_roots(given: Sequence[str]) -> dict[str | None, Path]:
    """Folders from `--data DIR` or `--data name=path`; the key None is the common root. Default $LOBE_DATA.

    Raises:
        UsageError: nothing given, or an unknown dataset name.
    """
    given = list(given) or ([os.environ["LOBE_DATA"]] if os.environ.get("LOBE_DATA") else [])
    if not given:
        raise UsageError("Where is the data? Give --data DIR (one folder per dataset inside), --data name=path, or set LOBE_DATA.")
    roots: dict[str | None, Path] = {}
    for entry in given:
        name, equals, path = entry.partition("=")
        if equals:
            registry.dataset(name)
            roots[name] = Path(path).expanduser().resolve()
        else:
            roots[None] = Path(entry).expanduser().resolve()
    return roots


def dataset_root(card: DatasetCard, roots: dict[str | None, Path]) -> Path:
    """The dataset's own folder. Raises DataError naming where it was looked for."""
    if card.name in roots:
        return roots[card.name]
    if None in roots:
        return roots[None] / card.folder
    if card.parts:
        inside = " and ".join(repr(registry.dataset(name).folder) for name in card.parts.values())
        raise DataError(f"{card.name}: no folder given. Add --data DIR with the folders {inside} inside; it needs both.")
    raise DataError(f"{card.name}: no folder given. Add --data {card.name}=PATH, or --data DIR with a folder {card.folder!r} inside.")


def is_there(card: DatasetCard, root: Path) -> bool:
    """Whether there is anything to open: the dataset's folder, or those of both parts of a transfer."""
    return all((root / registry.dataset(name).folder).is_dir() for name in card.parts.values()) if card.parts else root.is_dir()


def dataset(card: DatasetCard, root: Path, protocol: Protocol, split: str = "lovt", lists: Path | None = None) -> ResolvedDataset:
    """Opens a dataset folder, checks it against its card, and digests it.

    Args:
        split: a split of the card.
        lists: folder of the dataset's split lists; they take the place of `split`.

    Raises:
        DataError: label files or folder are not what the card says, or the lists hold other boxes.
        SplitError: the card or the folder does not allow this split.
    """
    if lists is None:
        rule_of_card(card, split)
    reader = open_reader(card, root, shapes=protocol.switches.object_cxr_shapes)
    verification = reader.verify()
    split, rule, lists = _split(reader, split, lists)
    ref = DatasetRef(
        name=card.name,
        digest=reader.digest(),
        split=split,
        # What is expected of a split checks it and decides no digit, so it stays out of the key.
        split_rule=rule.model_copy(update={"expected": {}}),
        classes=card.classes,
        target="masks",
        intensity=card.intensity if protocol.equalise == "as-released" else "as-stored",
        statistics=card.statistics,
        parts=tuple(card.parts[part] for part in ("train", "test")) if card.parts else (),
    )
    return ResolvedDataset(
        ref=ref,
        card=card,
        root=root,
        release=verification.release,
        phantom=verification.phantom,
        known_release=verification.ok,
        warnings=tuple(reader.warnings),
        lists=lists,
    )


def rule_of_card(card: DatasetCard, split: str) -> SplitRule:
    """The card's split of that name.

    Raises:
        SplitError: the card has none, with the reason where patients are the reason.
    """
    if split in card.splits:
        return card.splits[split]
    offered = ", ".join(card.splits)
    if not card.patients_known and split in PATIENT_SPLITS:
        raise SplitError(
            f"{card.name}: no split {split!r}: the release does not say which images belong to one patient. It offers: {offered}."
        )
    raise SplitError(f"{card.name}: there is no split {split!r}. It offers: {offered}.")


def _split(reader: Reader, split: str, lists: Path | None) -> tuple[str, SplitRule, Path | None]:
    """Name, rule and folder of the split; lists that say what the rule says are that rule, and the same jobs."""
    if lists is not None:
        splits = read_lists(reader, lists)
        for name, rule in reader.card.splits.items():
            with contextlib.suppress(SplitError):
                if reader.split(rule) == splits:
                    return name, rule, None
        return LISTS, lists_rule(splits), lists
    rule = rule_of_card(reader.card, split)
    if split != "lovt":
        reader.split(rule)  # what a folder cannot give, such as unknown patients, is said before any job is planned
    return split, rule, None


def backbone(name: str, cache: Path) -> ResolvedBackbone:
    """Resolves a backbone's name to a reference whose digest fixes its weights.

    Raises:
        UnknownName, UsageError: no such source, card or file.
        CheckpointError: the weights file cannot be read.
    """
    parsed = naming.parse(name)
    model, label, weights = parsed.model, parsed.label, None
    if parsed.family == "python_file":
        found = describe(parsed.model)
        digest = found.weights
        # The path is not part of the result's identity; the function and the code around it are.
        model = f"{parsed.model.rpartition(':')[2]}:{found.sources}"
        label = label if digest else f"{label} (random)"
    elif parsed.weights is None:
        digest = None
    elif isinstance(parsed.weights, Path):
        weights = parsed.weights
        digest = digest_of(weights, lambda file: _file_digest(file, cache))
    else:
        library = registry.plugin("encoders", parsed.family).library_weights(parsed.model, parsed.weights)
        weights = library.path
        label = f"{Path(parsed.model).name} ({parsed.weights})" if parsed.container is None else label
        digest = digest_of(weights, lambda file: _file_digest(file, cache))
    if parsed.family == "hf" and (config := Path(parsed.model) / "config.json").is_file():
        # Neither is a folder's path; what its configuration builds is.
        model = f"{Path(parsed.model).name}:{_file_digest(config, cache)}"
    ref = BackboneRef(
        family=parsed.family,
        model=model,
        layout=parsed.layout,
        digest=digest,
        minimum_loaded=parsed.minimum_loaded,
        normalisation=parsed.normalisation,
        container=parsed.container,
    )
    return ResolvedBackbone(NamedBackbone(label, ref, parsed.contamination), parsed.model, weights)


def places(
    backbones: Iterable[ResolvedBackbone], datasets: Iterable[ResolvedDataset], cache: Path, feature_budget_bytes: int | None = None
) -> dict[tuple[str, str], Place]:
    """`place_key` of backbone and dataset -> where their inputs lie.

    Args:
        feature_budget_bytes: memory of a node for features; None = the default.
    """
    return {
        place_key(b.named.ref, d.card.name): Place(
            card=d.card,
            dataset_root=d.root,
            cache=cache / "images",
            backbone_model=b.model,
            weights=b.weights,
            release=d.release,
            phantom=d.phantom,
            known_release=d.known_release,
            lists=d.lists,
            feature_budget_bytes=FEATURE_BUDGET_BYTES if feature_budget_bytes is None else feature_budget_bytes,
        )
        for b in backbones
        for d in datasets
    }


def tasks(names: Sequence[str], suite: str | None) -> list[TaskCard]:
    """Task cards of a suite, or by name, without repetition."""
    if bool(names) == bool(suite):
        raise UsageError("Give either --suite S or --task T (repeatable). `lobe list suites` and `lobe list tasks` show what there is.")
    wanted = registry.suite(suite).tasks if suite else names
    return [registry.task(name) for name in dict.fromkeys(wanted)]


def size_bytes(text: str) -> int:
    """Bytes of a size such as 4GB, 500 MB, 1.5GiB or 4096.

    Raises:
        UsageError: not a size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?\s*", text, flags=re.IGNORECASE)
    if found is None:
        raise UsageError(f"{text!r} is not a size. Write it like 4GB, 500MB or 1.5GiB.")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit.lower() or " "))


def _file_digest(path: Path, cache: Path) -> str:
    """SHA-256 of a file, remembered by path, size and modification time."""
    try:
        stat = path.stat()
    except OSError as error:
        raise CheckpointError(f"The weights file {path} cannot be read: {error.strerror}.") from None
    memory = cache / "digests.json"
    known = {}
    if memory.exists():
        try:
            known = json.loads(memory.read_text())
        except ValueError:
            known = {}
    stamp = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    if stamp not in known:
        try:
            with path.open("rb") as handle:
                known[stamp] = hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"The weights file {path} cannot be read: {error.strerror}.") from None
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(memory, json.dumps(known, indent=1).encode())
    return known[stamp]
