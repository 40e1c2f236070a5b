"""Seven architectures with random weights through one linear, one U-Net and one YOLOv3 task, from the command's own request.

Time is bounded by few steps and by batches of two images. ResNet-18 fine-tunes too. One of each kind of architecture runs every head in
`tests/training/test_any_backbone.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import plan
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
FINETUNED = ("covid-rural-unet-finetune-100", "rsna-yolov3-finetune-100")
FINE_TUNES_TOO = "torchvision:resnet18"
FEW_STEPS = {"linear": 20, "unet": 6, "yolov3": 8}  # a fifth of the smoke budget: epochs enough to validate, select and test


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture_runs_a_linear_a_unet_and_a_yolov3_task(name: str, corpora: Path, tmp_path: Path, monkeypatch, record_property):
    monkeypatch.setattr(plan, "smoke_steps", FEW_STEPS.__getitem__)
    tasks = (*TASKS, *FINETUNED) if name == FINE_TUNES_TOO else TASKS
    request = Request(
        backbones=[name],
        tasks=tasks,
        data=[str(corpora)],
        out=tmp_path / "out",
        cache=tmp_path / "cache",
        executor="inline",
        limit=4,  # a batch is half of it
        profile="smoke",
        runs=1,
        tracking=False,
    )
    evaluation = evaluate(request)
    assert [record.failure for record in evaluation.failures] == []
    assert {record.job.labels.task for record in evaluation.records} == set(tasks)
    assert all(record.status == "ok" and record.job.experiment.profile == "smoke" for record in evaluation.records)
    assert {record.job.labels.backbone for record in evaluation.records} == {f"{name.partition(':')[2]} (random)"}
    taken = {(record.job.experiment.head, record.steps) for record in evaluation.records}
    assert taken == {(head, plan.smoke_steps(head)) for head in FEW_STEPS}
    seconds = sum(record.timings_s["training"] for record in evaluation.records)
    record_property("tasks", len(tasks))
    record_property("training seconds", f"{seconds:.0f}")
