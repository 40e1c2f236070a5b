"""What is known of a backbone beside its scores: its card, its size, what it cost, and which tensors of its file were loaded.

Facts of jobs come from the records; licence, pretraining and origin only today's card says, where one carries the name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmark import registry
from benchmark.cards import BackboneCard, EncoderMode, Record
from benchmark.report.escape import one_line
from benchmark.report.row_warnings import is_floor

NOT_STATED = "not stated"
SIZES = ((10_000_000, "under 10 M"), (30_000_000, "10 to 30 M"), (100_000_000, "30 to 100 M"))
LARGEST = "100 M and more"


@dataclass(frozen=True)
class BackboneFacts:
    """One backbone, as its records and its card tell.

    Attributes:
        name: as in the records.
        parameters: of the encoder; None where no job kept it frozen, and the records do not tell it from the head.
        macs: of the encoder for one image, the most of any input side; None where not recorded.
        seconds: of all its jobs, searches included.
        account: how many tensors of the weights file met which fate, each set of counts that its jobs have.
        digests: of its weights; more than one where runs of one name had other weights.
        card: today's card of this name and architecture; None for what has none.
    """

    name: str
    architecture: str
    random: bool
    parameters: int | None
    macs: int | None
    seconds: float
    n_jobs: int
    account: tuple[tuple[tuple[str, int], ...], ...]
    digests: tuple[str, ...]
    custom: tuple[str, ...]
    card: BackboneCard | None

    @property
    def pretraining(self) -> str:
        if self.random:
            return "none"
        if self.card is None or self.card.pretraining is None:
            return NOT_STATED
        return ", ".join(self.card.pretraining) or "none"

    @property
    def licence(self) -> str:
        return one_line(self.card.licence) if self.card is not None and self.card.licence else NOT_STATED

    @property
    def size(self) -> str:
        """Its class of size, to filter by."""
        if self.parameters is None:
            return NOT_STATED
        return next((text for most, text in SIZES if self.parameters < most), LARGEST)

    @property
    def parameters_text(self) -> str:
        return millions(self.parameters)


def facts_of(records: Iterable[Record]) -> dict[str, BackboneFacts]:
    """Facts by name, in alphabetical order, untrained backbones first."""
    grouped: dict[str, list[Record]] = {}
    for record in records:
        grouped.setdefault(one_line(record.job.labels.backbone), []).append(record)
    found = {name: _facts(name, members) for name, members in grouped.items()}
    return dict(sorted(found.items(), key=lambda item: (not item[1].random, item[0].lower(), item[0])))


def millions(count: int | None) -> str:
    """`23.5 M`; a dash where it is not known."""
    return "–" if count is None else f"{count / 1e6:,.1f} M"


def _facts(name: str, records: list[Record]) -> BackboneFacts:
    first = records[0].job.experiment.backbone
    frozen = [record for record in records if record.job.experiment.encoder is EncoderMode.FROZEN and record.parameters.get("frozen")]
    known = next((record.parameters["encoder"] for record in records if "encoder" in record.parameters), None)
    accounts = dict.fromkeys(tuple(sorted((fate, n) for fate, n in record.account.items())) for record in records if record.account)
    return BackboneFacts(
        name=name,
        architecture=f"{first.family}:{first.model}",
        random=all(is_floor(record.job.experiment, [record.job]) for record in records),
        parameters=known or max((record.parameters["frozen"] for record in frozen), default=None),
        macs=max((record.macs["encoder"] for record in records if "encoder" in record.macs), default=None),
        seconds=sum(sum(record.timings_s.values()) for record in records),
        n_jobs=len(records),
        account=tuple(accounts),
        digests=tuple(dict.fromkeys(digest for record in records if (digest := record.job.experiment.backbone.digest) is not None)),
        custom=tuple(dict.fromkeys(part for record in records for part in record.job.labels.custom)),
        card=_card(name, first.family, first.model),
    )


def _card(name: str, family: str, model: str) -> BackboneCard | None:
    """Of the same family and architecture, whose title (or name, where it has none) begins the backbone's name."""
    for card in registry.backbones().values():
        title = card.title or card.name
        if (card.family, card.model) == (family, model) and (name == title or name.startswith(f"{title} (")):
            return card
    return None
