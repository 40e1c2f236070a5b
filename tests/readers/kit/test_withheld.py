"""Errors of data that nothing may be passed on of lose their names; all others stay what they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry
from benchmark.errors import DataError
from benchmark.readers.kit.withheld import withholding


def opened(dataset: str) -> None:
    with withholding(registry.dataset(dataset)):
        Path("/nowhere/patient-17.png").read_bytes()


def test_a_file_that_cannot_be_read_is_named_only_where_it_may_be() -> None:
    with pytest.raises(FileNotFoundError, match="patient-17"):
        opened("rsna")
    with pytest.raises(DataError, match=r"padchest: a file cannot be read \(No such file or directory\)") as told:
        opened("padchest")
    assert "patient-17" not in str(told.value)
