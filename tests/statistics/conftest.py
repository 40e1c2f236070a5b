"""The small splits of the metrics' tests, for what is inferred from them."""

from tests.metrics.conftest import random_split

__all__ = ["random_split"]
