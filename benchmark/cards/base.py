"""The model that every card is: frozen, strict about names, with one canonical text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, model_serializer

SCHEMA_VERSION = 2  # 2: predictions and statistics are columns, which earlier releases cannot read

DISCLAIMER = (
    "Research comparison of representations. Not a medical device, not validated for diagnosis; "
    "scores do not predict clinical performance or safety."
)

Target = str
"""Type of a task's ground truth: masks, boxes, labels, reports, phrases, or a target that another kind adds (`benchmark.kinds`)."""

T = TypeVar("T")
_LATER = object()
Later = Annotated[T, _LATER]
"""Type of a field that came later: written only where it differs from its default, so that the keys of earlier jobs stay."""


class Card(BaseModel):
    """Frozen, and strict about names: a misspelt key is an error, never ignored. Fields that came later are `Later`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _later: ClassVar[dict[str, Any]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        cls._later = {name: field.default for name, field in cls.model_fields.items() if _LATER in field.metadata}

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, serialise: Any) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        for name, default in self._later.items():
            if getattr(self, name) == default:
                content.pop(name, None)
        return content

    @cached_property
    def canonical(self) -> str:
        """`canonical_json` of the card, kept: a frozen card never changes, and thousands of jobs share a dataset and a recipe."""
        return canonical_json(self.model_dump(mode="json"))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As in pydantic, but what was computed of the original stays with it."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(copied).model_fields.keys():
            del copied.__dict__[name]
        return copied


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and shortest round-trip floats: equal values give equal text."""
    return _canonical.encode(value)


def canonical_object(texts: Mapping[str, str]) -> str:
    """`canonical_json` of an object whose values are given as such texts."""
    return "{" + ",".join(f'"{name}":{texts[name]}' for name in sorted(texts)) + "}"


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
