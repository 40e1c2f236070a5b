"""What a user may call a backbone, and which family, model and weights that means.

`SOURCE:MODEL[@WEIGHTS]`, `CARD[@FILE]`, `file.py:function`, `card.yaml[@FILE]`, or an entry point's name. Behind a file may stand
`#container=KEY` (which of its sets of weights), `#layout=NAME` (how it names its tensors) and `#tokenizer=FOLDER`. Nothing is built or
opened here but cards, and torch is not imported, so that `lobe list` and `lobe --help` stay quick.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import yaml
from pydantic import ValidationError

from benchmark import registry, yaml_files
from benchmark.cards import BackboneCard, Contamination, Normalisation
from benchmark.contamination import contamination_of
from benchmark.encoders import kept_weights, tokenizer_files
from benchmark.errors import CardError, LobeError, UnknownName, UsageError

SOURCES = ("torchvision", "timm", "hf")
IMAGES_ONLY = frozenset(SOURCES)  # shipped families without a text side: no task asks them in words
PYTHON = "python_file"  # a function of the author's: whether its weights are random shows when it is called twice
TEXT = "+text"  # behind the name of a model: with its text half
# Families whose vectors of texts were others before -> version of the code that makes them, for the keys of jobs that read words.
TEXT_CODE = {"lovt": 2}  # a text's query is the mean of its own sentences, whatever stands beside it
# Families whose models are folders -> files of a folder that decide what is built.
CONFIGURATIONS = {
    "hf": ("config.json",),
    "hf_text": ("open_clip_config.json", "config.json"),
    "dual_encoder": ("dual_encoder.json",),
}
BESIDE_THEIR_CARD = frozenset({"dual_encoder"})  # families whose folder a card names from its own, and whose folder's name means nothing
ENTRY_POINTS = "lobe.backbones"
WEIGHT_SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".tar", ".safetensors"})
_FUNCTION = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)")
_CHOICE = re.compile(r"#(?P<key>container|layout|tokenizer)=(?P<value>[^#]+)$")


@dataclass(frozen=True)
class ParsedName:
    """A backbone as the user named it.

    Attributes:
        family: module in `benchmark/encoders` that builds it.
        model: architecture inside the family; for `python_file` the absolute file and function.
        weights: None for random initialisation (or the state in which a Python function returns it), a library's weight name, or a file.
        label: what tables call it, for example `resnet18 (random)`.
        layout, minimum_loaded, normalisation: of the card, or the family's defaults; None = the backbone's own statistics.
        container: key of the set of weights in a file that holds several; None = the only one.
        card: the card it came from, if any.
        tokenizer: of its text side, as `tokenizer_files.find` takes it; None where nobody names one.
        kept: True where the file was not named but found where the card's own is kept.
    """

    family: str
    model: str
    weights: str | Path | None
    label: str
    layout: str = "torchvision"
    minimum_loaded: float = 1.0
    normalisation: Normalisation | None = None
    card: BackboneCard | None = None
    container: str | None = None
    tokenizer: str | None = None
    kept: bool = False

    @property
    def contamination(self) -> dict[str, Contamination]:
        """What the card's pretraining saw, by dataset; empty where the weights are not the card's own, known by the file's name."""
        if self.card is None:
            return {}
        if self.card.family != PYTHON:  # whose card is of the one file that it names
            given = self.weights.name if isinstance(self.weights, Path) else self.weights
            if self.card.weights is None or given != Path(self.card.weights).name:
                return {}
        return contamination_of(self.card.pretraining, self.card.contamination)

    @property
    def is_custom(self) -> bool:
        """True when it came from a card of the user's own, in an included folder or named by its file."""
        known = self.card is not None and registry.backbones().get(self.card.name) == self.card
        return self.card is not None and (not known or registry.is_custom(self.card.name, "backbones"))

    @property
    def is_random(self) -> bool:
        """True when every run draws its own initialisation."""
        return self.weights is None and self.family != PYTHON


def parse(name: str, cache: Path | None = None) -> ParsedName:
    """Reads a backbone's name.

    Args:
        cache: folder of all caches, where the weights files of cards are looked for (`kept_weights`).

    Raises:
        UsageError: malformed, an unknown source, a missing file, a card that needs its weights file, or a choice without a file.
        UnknownName: no card of that name; suggests near ones.
        CardError: a card file that cannot be read.
    """
    plain, choices = _choices(name)
    named = _parse(plain, cache)
    if not choices:
        return named
    if named.weights is None:
        raise UsageError(f"{name!r}: {' and '.join(choices)} are of a weights file, and this backbone names none.")
    if (tokenizer := choices.get("tokenizer")) is not None:
        tokenizer_files.require_named(tokenizer)
    told = ", ".join(Path(value).name if key == "tokenizer" else value for key, value in choices.items())
    label = f"{named.label[:-1]}, {told})" if named.label.endswith(")") else f"{named.label} ({told})"
    container, layout = choices.get("container", named.container), choices.get("layout", named.layout)
    return replace(named, label=label, container=container, layout=layout, tokenizer=tokenizer or named.tokenizer)


def is_factory(name: str) -> bool:
    """Whether a Python function builds it: one in a file, of a card, or of an installed package. False for what is no backbone's name."""
    try:
        return parse(name).family == PYTHON
    except LobeError:
        return False


def without_statistics(label: str) -> str:
    """Why a backbone cannot run under a protocol of backbones' own statistics, as a sentence."""
    return (
        f"{label} states no normalisation of its own, and the protocol asks for it: set `normalisation` in its spec or card to the mean "
        "and deviation it was trained with, or use a protocol that normalises by the dataset's."
    )


def file_asked_for(card: BackboneCard) -> str | None:
    """Name of the weights file that whoever names the card gives with it; None where the card needs none."""
    return card.weights if card.weights is not None and _looks_like_file(card.weights) else None


def labels_of(card: BackboneCard) -> tuple[str, str]:
    """What tables call the trained backbone of a card: its title, or the library's own weights by their name."""
    return card.title or card.name, f"{Path(card.model).name} ({card.weights})"


def with_choices(names: Sequence[str], *, container: str | None = None, layout: str | None = None) -> list[str]:
    """The names with `container` and `layout` behind every one that names weights and does not say otherwise.

    Raises:
        UsageError: a choice is given and no backbone names weights, or its text cannot stand in a name.
    """
    given = {key: value for key, value in (("container", container), ("layout", layout)) if value is not None}
    files = [name for name in names if "@" in name and not _FUNCTION.fullmatch(name)]
    for key, value in given.items():
        if not files:
            raise UsageError(f"--{key} is of a weights file, and no backbone names one: write SOURCE:MODEL@FILE.")
        if not value or "#" in value:
            raise UsageError(f"--{key} {value!r}: a key without # is expected.")
    return [name + "".join(f"#{k}={v}" for k, v in given.items() if name in files and k not in _choices(name)[1]) for name in names]


def _choices(name: str) -> tuple[str, dict[str, str]]:
    """The name without what stands behind the file, and that by key."""
    found: dict[str, str] = {}
    while (choice := _CHOICE.search(name)) and choice["key"] not in found:
        found[choice["key"]] = choice["value"]
        name = name[: choice.start()]
    return name, found


def _parse(name: str, cache: Path | None) -> ParsedName:
    if function := _FUNCTION.fullmatch(name):
        file = _existing(Path(function["file"]), name)
        return ParsedName(PYTHON, f"{file}:{function['function']}", None, f"{file.stem}:{function['function']}")
    head, at, weights = name.partition("@")
    if not head or (at and not weights):
        raise UsageError(f"{name!r} is no backbone's name: write SOURCE:MODEL, SOURCE:MODEL@WEIGHTS, CARD, CARD@FILE or file.py:function.")
    if head.endswith((".yaml", ".yml")):
        path = _existing(Path(head), name)
        return _of_card(_card_in(path), weights, path, cache)
    source, colon, model = head.partition(":")
    if colon:
        return _of_source(name, source, model, weights)
    cards = registry.backbones()
    if head in cards:
        return _of_card(cards[head], weights, registry.file_of(head, "backbones"), cache)
    offered = entry_points()
    if head not in offered:
        raise UnknownName("backbone", head, [*cards, *offered])
    if weights:
        raise UsageError(f"{name!r}: an installed backbone brings its own weights; write {head}.")
    return ParsedName(PYTHON, offered[head], None, head)


def entry_points() -> dict[str, str]:
    """Backbones of installed packages, entry-point group `lobe.backbones`: name -> `file.py:function`. Nothing is imported."""
    found: dict[str, str] = {}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        spec = importlib.util.find_spec(point.module)
        if spec is None or not spec.origin or not point.attr:
            raise CardError(f"The installed backbone {point.name!r} names {point.value!r}, which is no function of a module that is there.")
        found[point.name] = f"{spec.origin}:{point.attr}"
    return found


def _of_source(name: str, source: str, model: str, weights: str) -> ParsedName:
    family, layout, short = source, source, model
    tokenizer: str | None = None
    if source == "hf":
        plain = model.removesuffix(TEXT)
        short = Path(plain).name + model.removeprefix(plain)
        model = str(Path(plain).expanduser().resolve()) if Path(plain).expanduser().is_dir() else plain
        if short.endswith(TEXT):
            family, layout, tokenizer = "hf_text", "hf-text", model
    if source not in SOURCES or not model:
        raise UsageError(f"{name!r}: a backbone's source is {', '.join(SOURCES)}, as in torchvision:resnet18@DEFAULT.")
    if not weights:
        return ParsedName(family, model, None, f"{short} (random)", layout=layout, tokenizer=tokenizer)
    if _looks_like_file(weights):
        file = _existing(Path(weights), name)
        return ParsedName(family, model, file, f"{short} ({file.name})", layout=layout, tokenizer=tokenizer)
    return ParsedName(family, model, weights, f"{short} ({weights})", layout=layout, tokenizer=tokenizer)


def _of_card(card: BackboneCard, file: str, origin: Path | None, cache: Path | None) -> ParsedName:
    """
    Args:
        origin: the card's own file, from which the folder or the Python file that it may name is found.
    """
    title = card.title or card.name

    def named(model: str, weights: str | Path | None, label: str = title) -> ParsedName:
        known = (card.layout, card.minimum_loaded, card.normalisation, card, card.container, card.tokenizer)
        return ParsedName(card.family, model, weights, label, *known)

    model = card.model
    if card.family in BESIDE_THEIR_CARD and origin is not None:
        model = str((origin.parent / model).resolve())
    if card.family == PYTHON:
        if file:
            raise UsageError(f"{card.name}@{file}: a backbone in Python loads its own weights; write {card.name}.")
        function = _FUNCTION.fullmatch(card.model)
        if function is None:
            raise CardError(f"Backbone {card.name}: `model` is {card.model!r}; of the family {PYTHON} it is file.py:function.")
        beside = Path(function["file"]) if origin is None else origin.parent / function["file"]
        return named(f"{_existing(beside, card.name)}:{function['function']}", None)
    if file:
        return named(model, _existing(Path(file), f"{card.name}@{file}"))
    if origin is not None and card.weights is not None and (origin.parent / card.weights).is_file():
        return named(model, (origin.parent / card.weights).resolve())
    if card.weights is None:
        return named(model, None, f"{title} (random)")
    if file_asked_for(card):
        if (own := kept_weights.kept(card, cache)) is not None:
            return replace(named(model, own), kept=True)
        raise UsageError(
            f"Backbone {card.name!r} needs its weights file {card.weights}: name it as {card.name}@path/to/{card.weights}, or get it: "
            f"{kept_weights.how_to_get(card)}"
        )
    return named(model, card.weights)


def _card_in(path: Path) -> BackboneCard:
    """The one card of a file, given plainly or as the only entry of `backbones:`."""
    try:
        content = yaml_files.read(path)
        entries = content["backbones"] if isinstance(content, dict) and "backbones" in content else [content]
        if len(entries) != 1:
            raise CardError(f"{path.name} holds {len(entries)} backbones; a card named by its file holds one.")
        return BackboneCard.model_validate(entries[0])
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CardError(f"{path.name} is not valid YAML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise CardError(f"{path.name}: key {'.'.join(map(str, first['loc']))!r}: {first['msg']}.") from None


def _looks_like_file(weights: str) -> bool:
    return "/" in weights or "\\" in weights or Path(weights).suffix in WEIGHT_SUFFIXES


def _existing(path: Path, name: str) -> Path:
    if not path.is_file():
        raise UsageError(f"{name!r}: there is no file {path}.")
    return path.resolve()
