"""LOBE, the LOcalized BEnchmark for chest X-ray backbones. `from benchmark import Lobe` is its front; importing it alone is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.front.lobe import Lobe as Lobe

__all__ = ["Lobe"]


def __getattr__(name: str) -> Any:
    """Imports what is asked for, and nothing before."""
    if name == "Lobe":
        from benchmark.front.lobe import Lobe

        return Lobe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
