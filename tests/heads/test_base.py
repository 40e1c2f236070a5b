"""A head that is given another task's ground truth says so: nothing it could learn from is made up."""

from __future__ import annotations

import pytest
import torch

from benchmark.heads.base import Targets


@pytest.mark.parametrize("what", ["masks", "labels", "boxes"])
def test_ground_truth_that_a_batch_has_not_is_an_error(what: str) -> None:
    given = {
        "masks": {"masks": torch.zeros(1, 1, 4, 4)},
        "labels": {"labels": torch.zeros(1, 2)},
        "boxes": {"boxes_xywh": torch.zeros(1, 1, 4), "box_labels": torch.zeros(1, 1), "box_valid": torch.zeros(1, 1)},
    }
    for there, fields in given.items():
        targets = Targets(**fields)
        if there == what:
            assert getattr(targets, f"true_{what}") is not None
        else:
            with pytest.raises(TypeError, match=f"This batch has no {what}: a head that learns from {what} was given another task's"):
                getattr(targets, f"true_{what}")
