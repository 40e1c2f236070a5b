"""What a row took to compute, and how large its networks are: the price beside the quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.cards import Record, Role


@dataclass(frozen=True)
class Cost:
    """Of all jobs of a row on record.

    Attributes:
        seconds: of all of them, the search for a learning rate included, wherever they ran.
        seconds_per_run: mean over final runs; None without one.
        devices: that they ran on, in alphabetical order.
        encoder_parameters, trained_parameters: of a final run; None where no record says.
        encoder_macs: multiply-adds of the encoder for one image; likewise.
    """

    seconds: float
    seconds_per_run: float | None
    devices: tuple[str, ...]
    encoder_parameters: int | None
    trained_parameters: int | None
    encoder_macs: int | None


def cost_of(records: Sequence[Record]) -> Cost | None:
    """The cost of a row's records; None of none."""
    if not records:
        return None
    finals = [record for record in records if record.job.experiment.role is Role.FINAL and record.status == "ok"]
    each = [sum(record.timings_s.values()) for record in finals]
    known: dict[str, int] = next((record.parameters for record in finals if record.parameters), {})
    return Cost(
        seconds=sum(sum(record.timings_s.values()) for record in records),
        seconds_per_run=sum(each) / len(each) if each else None,
        devices=tuple(sorted({record.environment["device"] for record in records if record.environment.get("device")})),
        encoder_parameters=known.get("encoder"),
        trained_parameters=known.get("trained"),
        encoder_macs=next((record.macs["encoder"] for record in finals if "encoder" in record.macs), None),
    )
