"""The ends of an interval around a value, for whatever has one."""

from __future__ import annotations


class WithInterval:
    """Base of values with a symmetric 95 % interval.

    Attributes:
        half_width: in the unit of the value; None where there is no interval.
    """

    value: float
    half_width: float | None

    @property
    def low(self) -> float | None:
        return None if self.half_width is None else self.value - self.half_width

    @property
    def high(self) -> float | None:
        return None if self.half_width is None else self.value + self.half_width
