"""What pretraining saw of each dataset, derived from the names of its sets and from what datasets say they share.

Cards of datasets declare a pair once (`shares_with`), so that a new dataset touches no backbone card. What names cannot tell, such as the
splits that were used, a backbone's card states (`contamination`), and its word goes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark import registry
from benchmark.cards import Contamination

# What two pretraining sets say together. Known images weigh more than a suspicion.
RISING = (Contamination.NONE, Contamination.SOURCE, Contamination.UNKNOWN, Contamination.IMAGES, Contamination.LABELS)

Shares = Mapping[str, Contamination]


def contamination_of(pretraining: Sequence[str] | None, stated: Shares) -> dict[str, Contamination]:
    """Dataset -> what pretraining saw of it. A dataset left out is unknown, and counts as seen.

    Args:
        pretraining: sets, each beginning with the name of a dataset or of a collection; words behind it are for people. None is unknown.
        stated: what the author says, by dataset. For a pretraining set it says what was used of it; without, which images is unknown.
    """
    sets = None if pretraining is None else {entry.partition(" ")[0] for entry in pretraining}
    if sets is None or not sets <= registry.datasets().keys() | registry.collections().keys():
        return dict(stated)
    releases = [name for name, card in registry.datasets().items() if not card.parts]
    derived = {name: max((_seen(one, name, stated) for one in sets), key=RISING.index, default=Contamination.NONE) for name in releases}
    return derived | dict(stated)


def _seen(pretrained: str, dataset: str, stated: Shares) -> Contamination:
    """What pretraining on one set saw of a dataset."""
    used = stated.get(pretrained, Contamination.UNKNOWN)
    if pretrained in _cards_of(dataset):
        return used
    shared = _shared(pretrained, dataset)
    if shared is Contamination.LABELS:
        return used
    if Contamination.UNKNOWN in (shared, used):
        return shared
    return min(shared, used, key=RISING.index)


def _shared(one: str, other: str) -> Contamination:
    """What two releases share, as either declares; unknown where a card says nothing, or both took images of a third."""
    of_one, of_other = _declared(one), _declared(other)
    for declared, partner in ((of_one, other), (of_other, one)):
        for name in _cards_of(partner):
            if name in declared:
                return declared[name]
    if not _speaks(other):
        return Contamination.UNKNOWN
    third = {name for name, shared in of_one.items() if shared is Contamination.IMAGES}
    drawn = any(of_other.get(name) is Contamination.IMAGES for name in third)
    return Contamination.UNKNOWN if drawn else Contamination.NONE


def _cards_of(name: str) -> tuple[str, ...]:
    """Names of all cards of one release: those of its folder. A collection has its own name alone."""
    datasets = registry.datasets()
    if name not in datasets:
        return (name,)
    return tuple(card.name for card in datasets.values() if card.folder == datasets[name].folder and not card.parts)


def _declared(name: str) -> dict[str, Contamination]:
    """What the cards of a release say it shares."""
    datasets = registry.datasets()
    found: dict[str, Contamination] = {}
    for card in (datasets[one] for one in _cards_of(name) if one in datasets):
        found |= card.shares_with or {}
    return found


def _speaks(name: str) -> bool:
    """Whether a card of the release says what it shares; collections share what datasets say."""
    datasets = registry.datasets()
    return any(datasets[one].shares_with is not None for one in _cards_of(name) if one in datasets)
