"""Seven architectures with random weights through one linear, one U-Net and one YOLOv3 task, from the command's own request.

Time is bounded by the steps of the smoke profile and by batches of two images. One of each kind of architecture runs every head in
`tests/training/test_any_backbone.py`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark.api import Request, evaluate

pytestmark = pytest.mark.slow

ARCHITECTURES = (
    "torchvision:resnet18",
    "torchvision:resnet50",
    "torchvision:densenet121",
    "timm:vit_small_patch16_224",
    "timm:vit_small_patch14_dinov2",
    "timm:swin_tiny_patch4_window7_224",
    "timm:convnext_tiny",
)
TASKS = ("rsna-linear-frozen-100", "covid-rural-unet-frozen-100", "rsna-yolov3-frozen-100")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture_runs_a_linear_a_unet_and_a_yolov3_task(name: str, corpora: Path, tmp_path: Path, record_property):
    request = Request(
        backbones=[name],
        tasks=TASKS,
        data=[str(corpora)],
        out=tmp_path / "out",
        cache=tmp_path / "cache",
        executor="inline",
        limit=4,  # a batch is half of it
        threads=os.cpu_count() or 1,
        profile="smoke",
        runs=1,
        tracking=False,
    )
    evaluation = evaluate(request)
    assert [record.failure for record in evaluation.failures] == []
    assert {record.job.labels.task for record in evaluation.records} == set(TASKS)
    assert all(record.status == "ok" and record.job.experiment.profile == "smoke" for record in evaluation.records)
    assert {record.job.labels.backbone for record in evaluation.records} == {f"{name.partition(':')[2]} (random)"}
    seconds = sum(record.timings_s["training"] for record in evaluation.records)
    record_property("training seconds", f"{seconds:.0f}")
