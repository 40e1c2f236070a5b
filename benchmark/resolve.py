"""Turns what the user named into references with digests: the only room where names meet files.

Backbones become `BackboneRef`s, dataset folders `DatasetRef`s; where they lie goes into `Inputs`, which no key ever sees.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from benchmark import registry, task_code, task_rules
from benchmark.cards import BackboneRef, Contamination, DatasetCard, DatasetRef, Protocol, TaskCard
from benchmark.contamination import contamination_of
from benchmark.contents import Memory, Progress, digest_like, drained
from benchmark.encoders import configurations, hf_folder, naming, tokenizer_files
from benchmark.encoders.describe import FactoryDigest, describe, sources_digest
from benchmark.encoders.library_weights import NotHere
from benchmark.encoders.shards import digest_of
from benchmark.encoders.sources import SourceFile
from benchmark.errors import CheckpointError, ConformanceError, DataError, LobeError, PartialRelease, UsageError
from benchmark.imaging.prepare import intensity_under
from benchmark.own.rooms import PlannedModule
from benchmark.plan import NamedBackbone
from benchmark.readers.base import Reader, Verification, open_reader
from benchmark.readers.kit.chosen_split import chosen_split, rule_of_card
from benchmark.readers.kit.identity import identify, look, used
from benchmark.readers.kit.image_files import require_image_files
from benchmark.readers.kit.lists import splits_of
from benchmark.training.inputs import Inputs
from benchmark.training.sizes import SplitSizes, unknown_release

UNHASHED = "not hashed yet"  # in place of a digest, in a dry run
UNFETCHED = "not fetched yet"  # the same of a library's weights
_DIGESTS = {"sha256": "SHA-256", "md5": "MD5"}  # as sentences call them


@dataclass(frozen=True)
class ResolvedBackbone:
    """A backbone as planned, with the model (or factory) and the file a worker builds it from.

    Attributes:
        sources: files that a Python factory's code runs or reads.
        tokenizer: folder or file of the tokenizer that a card names, where it is on this machine.
        earlier: the reference that an earlier release wrote for the same weights and code, where it wrote another. It is None where what
            that release hashed (the `.py` files of a factory's folder) may not have been all the code that ran.
        normalised: False where its card, code or folder states no mean and deviation of its own; True where only building it would tell.
        own: its family, where that is the user's own.
    """

    named: NamedBackbone
    model: str
    weights: Path | None
    sources: tuple[SourceFile, ...] = ()
    earlier: BackboneRef | None = None
    normalised: bool = True
    own: tuple[PlannedModule, ...] = ()
    tokenizer: Path | None = None

    def require_statistics(self, protocol: Protocol) -> None:
        """Raises ConformanceError where the protocol asks for statistics that the backbone does not state: none of its jobs could run."""
        if protocol.statistics == "backbone" and not self.normalised:
            raise ConformanceError(naming.without_statistics(self.named.label))


@dataclass(frozen=True)
class ResolvedDataset:
    """A dataset folder as planned.

    Attributes:
        outline: digest of label files, image names and sizes: what an earlier release took for the dataset's identity.
        n_unhashed, unhashed_bytes: files of the split whose content is not known yet; then `ref.digest` is `UNHASHED`, in dry runs only.
    """

    ref: DatasetRef
    card: DatasetCard
    root: Path
    release: str
    phantom: bool
    known_release: bool
    warnings: tuple[str, ...]
    sizes: SplitSizes
    lists: Path | None = None
    outline: str = ""
    n_unhashed: int = 0
    unhashed_bytes: int = 0

    def require_known(self) -> None:
        """Raises PartialRelease for a folder that no unlimited job may use, as each of them would (`training.data.open_known`)."""
        if not self.known_release:
            raise PartialRelease(unknown_release(self.card.name, self.root, self.release))


def cache_folder(given: Path | None = None) -> Path:
    """The folder of all caches: --cache, $LOBE_CACHE, or the user's cache folder."""
    if given is None and os.environ.get("LOBE_CACHE"):
        given = Path(os.environ["LOBE_CACHE"])
    return (given or user_cache_path("lobe")).expanduser().resolve()


def data_roots(given: Sequence[str]) -> dict[str | None, Path]:
    """Folders from `--data DIR` or `--data name=path`; the key None is the common root. Default $LOBE_DATA.

    An entry that exists as it stands is a folder, even with an equals sign in its name.

    Raises:
        UsageError: nothing given, or an unknown dataset name.
    """
    given = list(given) or ([os.environ["LOBE_DATA"]] if os.environ.get("LOBE_DATA") else [])
    if not given:
        raise UsageError(
            "Where is the data? Give --data DIR (one folder per dataset inside), --data name=path, or set LOBE_DATA. Where there is none "
            "yet, `lobe data sample DIR` generates some and `lobe data get NAME --data DIR` gets a public release."
        )
    roots: dict[str | None, Path] = {}
    for entry in given:
        name, equals, path = entry.partition("=")
        if equals and not Path(entry).expanduser().exists():
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


@dataclass(frozen=True)
class OpenedRelease:
    """A dataset folder, opened and checked: what all of its splits have in common.

    Attributes:
        outline: as of `ResolvedDataset`.
    """

    reader: Reader
    verification: Verification
    outline: str


def opened_release(card: DatasetCard, root: Path, protocol: Protocol) -> OpenedRelease:
    """Opens a dataset folder and checks it against its card.

    Raises:
        DataError: label files or folder are not what the card says.
        PartialRelease: image files are missing or empty.
    """
    reader = open_reader(card, root, shapes=protocol.switches.object_cxr_shapes)
    sizes = require_image_files(reader)
    return OpenedRelease(reader, reader.verify(), reader.outline_digest(sizes))


def dataset(
    card: DatasetCard,
    root: Path,
    protocol: Protocol,
    split: str = "lovt",
    lists: Path | None = None,
    *,
    opened: OpenedRelease | None = None,
    trains: bool = True,
    limit: int | None = None,
    cache: Path | None = None,
    hashing: bool = True,
    progress: Progress | None = None,
) -> ResolvedDataset:
    """Opens a dataset folder, checks it against its card, and digests what the split uses of it.

    Args:
        split: a split of the card.
        lists: folder of the dataset's split lists; they take the place of `split`.
        opened: the folder, where another split of it was resolved just now.
        trains: False for jobs that train nothing: training images are then no part of the identity (`readers.kit.identity`).
        limit: of the jobs that are planned on it: a limited job is of the images that its limit can reach.
        cache: folder of all caches, where digests of files are remembered; None remembers none.
        hashing: False reads no image; what is not known yet is counted instead.
        progress: told how far hashing is.

    Raises:
        DataError: label files or folder are not what the card says, or the lists hold other boxes.
        PartialRelease: image files are missing or empty.
        SplitError: the card or the folder does not allow this split.
    """
    if lists is None:
        rule_of_card(card, split)
    opened = opened or opened_release(card, root, protocol)
    reader, verification = opened.reader, opened.verification
    split, rule, lists = chosen_split(reader, split, lists)
    all_splits, memory = splits_of(reader, rule, lists), Memory(cache)
    splits = used(all_splits, trains=trains)
    identity = drained(identify(reader, splits, limit, memory), progress) if hashing else look(reader, splits, limit, memory)
    ref = DatasetRef(
        name=card.name,
        digest=identity.digest or UNHASHED,
        split=split,
        # What is expected of a split checks it and decides no digit, so it stays out of the key.
        split_rule=rule.model_copy(update={"expected": {}}),
        classes=card.classes,
        target="masks",
        intensity=intensity_under(card, protocol.equalise),
        statistics=card.statistics,
        parts=tuple(card.parts[part] for part in ("train", "test")) if card.parts else (),
        normalised_by=protocol.statistics,
        partial=reader.partial,
    )
    return ResolvedDataset(
        ref=ref,
        card=card,
        root=root,
        release=verification.release,
        phantom=verification.phantom,
        known_release=verification.ok,
        warnings=tuple(reader.warnings),
        sizes=SplitSizes(**{name: len(ids) for name, ids in all_splits.items()}),
        lists=lists,
        outline=opened.outline,
        n_unhashed=len(identity.unhashed),
        unhashed_bytes=sum(identity.unhashed.values()),
    )


def backbone(name: str, cache: Path, *, reads_words: bool = False) -> ResolvedBackbone:
    """Resolves a backbone's name to a reference whose digest fixes its weights; `UNFETCHED` of a library's that nobody may be asked for.

    Args:
        reads_words: a task will ask it in words, so that the tokenizer its card names has to be had.

    Raises:
        EnvironmentProblem: it has not.
        UnknownName, UsageError: no such source, card or file.
        CheckpointError: the weights file cannot be read.
    """
    parsed = naming.parse(name, cache)
    model, label = parsed.model, parsed.label
    weights: Path | None = None
    files: tuple[SourceFile, ...] = ()
    earlier: str | None = None
    contamination = dict(parsed.contamination)
    beside = hf_folder.states_beside(parsed.family, parsed.model)
    statistics = hf_folder.own_normalisation(parsed.model) if beside else None
    by_building = not beside and (parsed.card is None or parsed.card.family == naming.PYTHON)
    normalised = by_building or parsed.normalisation is not None or statistics is not None
    input_size = None if parsed.card is None else parsed.card.input_size
    if parsed.family == "python_file":
        found = describe(parsed.model)
        normalised, input_size = found.normalised or parsed.normalisation is not None, found.input_size
        contamination = contamination_of_factory(parsed.label, found) | contamination
        digest, files = found.weights, found.files
        # The path is not part of the result's identity; the function, and what its code runs and reads, are.
        file, _, function = parsed.model.rpartition(":")
        model = f"{function}:{found.sources}"
        if [one.path for one in files] == [Path(file).name]:
            # Not with helper modules: another factory's of the same name may have run in their place, and nothing recorded it.
            earlier = f"{function}:{sources_digest(Path(file).parent)}"
        label = label if digest else f"{label} (random)"
    elif parsed.weights is None:
        digest = None
    elif isinstance(parsed.weights, Path):
        weights = parsed.weights
        digest = digest_of(weights, lambda file: _file_digest(file, cache))
        _require_published(parsed, weights, digest)
    else:
        if parsed.container is None and parsed.card is not None:
            label = f"{Path(parsed.model).name} ({parsed.weights})"
        try:
            library = registry.plugin("encoders", parsed.family).library_weights(parsed.model, parsed.weights)
        except NotHere:
            digest, normalised = UNFETCHED, True  # what the library states of them is known with the file
        else:
            weights, statistics = library.path, library.own
            normalised = library.normalisation is not None or parsed.normalisation is not None
            digest = digest_of(weights, lambda file: _file_digest(file, cache))
    if parsed.family in naming.CONFIGURATIONS:
        model = configurations.model_in_keys(parsed.family, parsed.model, lambda file: _file_digest(file, cache))
    own = task_code.of_family(parsed.family)
    if own:
        model = f"{model}:{own[0].code.digest}"  # what it builds is what its code says, and features are shared by this name
    tokenizer = _tokenizer(parsed, weights, required=reads_words)
    ref = BackboneRef(
        family=parsed.family,
        model=model,
        layout=parsed.layout,
        digest=digest,
        minimum_loaded=parsed.minimum_loaded,
        normalisation=parsed.normalisation,
        container=parsed.container,
        tokenizer=None if tokenizer is None else tokenizer_files.digest(tokenizer, lambda file: _file_digest(file, cache)),
        text_code=naming.TEXT_CODE.get(parsed.family),
    )
    before = None if earlier is None else ref.model_copy(update={"model": earlier})
    stated = None if parsed.normalisation is not None else statistics
    named = NamedBackbone(label, ref, contamination, custom=parsed.is_custom, input_size=input_size, statistics=stated)
    return ResolvedBackbone(named, parsed.model, weights, files, before, normalised, own, tokenizer)


def _tokenizer(parsed: naming.ParsedName, weights: Path | None, *, required: bool) -> Path | None:
    asked = parsed.tokenizer
    if asked is None:
        return None
    return tokenizer_files.require(asked, weights, parsed.label) if required else tokenizer_files.find(asked, weights, fetch=False)


def contamination_of_factory(label: str, found: FactoryDigest) -> dict[str, Contamination]:
    """Dataset -> what the pretraining of a backbone in Python saw of it, after what the backbone says.

    Raises:
        UsageError: it names a dataset that no card defines.
    """
    known = registry.datasets()
    for name in found.contamination:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"{label}: `spec.contamination` names {name!r}, and there is no such dataset.{meant} `lobe list datasets` shows all."
            )
    return contamination_of(found.pretraining, found.contamination)


def files_of_authors(names: Iterable[str]) -> list[str]:
    """`file.py:function` of every backbone that is an author's own file; a name that cannot be used is passed over."""
    found = []
    for name in names:
        with contextlib.suppress(LobeError):
            parsed = naming.parse(name)
            if parsed.family == "python_file":
                found.append(parsed.model)
    return found


def inputs(backbone: ResolvedBackbone, dataset: ResolvedDataset, cache: Path, own: tuple[PlannedModule, ...] = ()) -> Inputs:
    """Where the inputs of jobs of this backbone on this dataset lie.

    Args:
        cache: folder of all caches.
        own: the user's own modules of the tasks on this dataset.
    """
    return Inputs(
        card=dataset.card,
        dataset_root=dataset.root,
        cache=cache / "images",
        backbone_model=backbone.model,
        sources=backbone.sources,
        weights=backbone.weights,
        release=dataset.release,
        phantom=dataset.phantom,
        known_release=dataset.known_release,
        lists=dataset.lists,
        sizes=dataset.sizes,
        own=tuple({one.key: one for one in (*own, *backbone.own)}.values()),
        tokenizer=backbone.tokenizer,
    )


def tasks(names: Sequence[str], suite: str | None) -> list[TaskCard]:
    """Task cards of a suite, or by name, without repetition.

    Raises:
        UsageError: both a suite and tasks, or neither; or no such name.
        CardError: a task that cannot be (`benchmark.task_rules`).
    """
    if bool(names) == bool(suite):
        raise UsageError("Give either --suite S or --task T (repeatable). `lobe list suites` and `lobe list tasks` show what there is.")
    wanted = registry.suite(suite).tasks if suite else names
    cards = [registry.task(name) for name in dict.fromkeys(wanted)]
    task_rules.require(cards)
    return cards


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


def _require_published(parsed: naming.ParsedName, weights: Path, digest: str) -> None:
    """What nobody named must be the card's own file, to the bit, where its digest is known; `digest` is its SHA-256."""
    card = parsed.card
    if not parsed.kept or card is None or not card.digest:
        return
    kind, _, expected = card.digest.partition(":")
    found = digest if kind == "sha256" else digest_like(card.digest, weights).partition(":")[2]
    if found != expected:
        raise CheckpointError(
            f"{weights} has {_DIGESTS[kind]} {found[:12]}…, and the file of {card.name} has {expected[:12]}…: "
            f"it was edited or cut short. Install or fetch it again, or name another file as {card.name}@FILE."
        )


def _file_digest(path: Path, cache: Path) -> str:
    """SHA-256 of a file, remembered as those of images are."""
    try:
        return Memory(cache).digest(path)
    except DataError as error:
        raise CheckpointError(f"The weights file {error}") from None
