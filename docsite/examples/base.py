"""What an example is, and how it stands on a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from benchmark.metrics import spec
from docsite.drawing import Picture


@dataclass(frozen=True)
class Example:
    """A family's metrics on a few numbers.

    Attributes:
        target: ground truth that its metrics score against.
        pictures: what goes in.
        shown: what is to be seen, as HTML without a blank line.
        values: name as records store it -> value, as the family's code gave it.
    """

    target: str
    pictures: tuple[Picture, ...]
    shown: str
    values: Mapping[str, float]

    def lines(self) -> Iterator[str]:
        """The example as a block of HTML."""
        yield '<figure class="example">'
        yield f'<div class="panels">{"".join(picture.svg() for picture in self.pictures)}</div>'
        values = " · ".join(self._said(name, value) for name, value in self.values.items())
        yield f"<figcaption>{self.shown}<br/>{values}</figcaption>"
        yield "</figure>"

    def _said(self, name: str, value: float) -> str:
        found = spec.find(name, self.target)
        assert found is not None, name
        shown = f"{value:.3f}".replace("-", "−") if found.spec.unit != "count" else f"{value:g}"
        return f'<code>{escape(name)}</code> = <data value="{value!r}">{shown}</data>'
