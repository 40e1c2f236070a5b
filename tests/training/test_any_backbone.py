"""One backbone of each kind through each head: stages of a CNN, one grid of a plain transformer, stages of a hierarchical one.

The named seven (ResNet-18 to ConvNeXt-T) run in tests/verify.
"""

from __future__ import annotations

import pytest

from benchmark import resolve

TASKS = ("rsna-linear-frozen-100", "covid-rural-unet-frozen-100", "rsna-yolov3-frozen-100")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:test_vit", "timm:convnext_atto"])
def test_backbone_of_each_kind_runs_each_head(small, tmp_path, task, name):
    backbone = resolve.backbone(name, tmp_path / "cache")
    jobs, places = small.plan(task, [backbone], limit=8, max_steps=2, max_epochs=2, batch_size=4)
    record = small.fit(jobs[-1], next(iter(places.values())))
    assert record.status == "ok"
    assert record.job.labels.backbone.endswith("(random)")
    # The levels a head needs of a single grid are its own, trained in a frozen task too, and counted.
    trains_pyramid = name == "timm:test_vit" and "linear" not in task
    assert ("pyramid" in record.parameters) == trains_pyramid
    assert record.parameters["trained"] == record.parameters["head"]
    if trains_pyramid:
        assert 0 < record.parameters["pyramid"] < record.parameters["head"]
