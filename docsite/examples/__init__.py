"""One small example for each family of metrics: pictures, and values that the family's own code gives when the site is built.

No value is typed in: an example calls what a job calls (`metrics.scores`) on the predictions that it draws.
"""

from __future__ import annotations

from collections.abc import Callable

from docsite.examples import boxes, lists, masks
from docsite.examples.base import Example

EXAMPLES: dict[str, Callable[[], Example]] = {**masks.EXAMPLES, **boxes.EXAMPLES, **lists.EXAMPLES}  # by family
