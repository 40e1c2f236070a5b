"""Line-ups: what their cards promise, and how the backbones of one are priced and measured by one command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.api import Request, plan_jobs
from benchmark.encoders.library_weights import without_asking
from benchmark.panels import backbones_of
from benchmark.statistics.headline import SEEN

TASK = "rsna-linear-frozen-10"
SUITE = f"suites:\n  - {{ name: one, title: One, description: Made up., tasks: [{TASK}] }}\n"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A user's folder with a suite of one task and room for backbones, forgotten afterwards."""
    before = list(registry.included())
    for room in ("tasks", "backbones"):
        (tmp_path / "own" / room).mkdir(parents=True)
    (tmp_path / "own" / "tasks" / "one.yaml").write_text(SUITE, encoding="utf-8")
    yield tmp_path / "own"
    registry._included[:] = before
    registry.forget()


def test_the_panel_is_measured_like_any_backbones_and_priced_before(own: Path, corpora: Path, lobe, tmp_path: Path, monkeypatch):
    small = ["resnet18", "resnet34", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_b1"]
    names = [*small, "densenet121"]
    cards = [{"name": f"own-{name}", "title": name, "family": "torchvision", "model": name} for name in names]
    lineup = {
        "name": "mine",
        "title": "Mine",
        "suite": "one",
        "backbones": [f"own-{n}" for n in names],
        "anchors": {"random": "random-resnet50"},
    }
    (own / "backbones" / "mine.yaml").write_text(json.dumps({"backbones": cards, "lineups": [lineup]}), encoding="utf-8")

    def call(*arguments: object) -> tuple[int, str, str]:
        registry._included.clear()  # each call is a process of its own
        registry.forget()
        return lobe(
            "--include", own, "panel", "run", "--panel", "mine", "--data", corpora, "--out", tmp_path / "out", "--dry-run", *arguments
        )

    code, text, _ = call("--executor", "inline")
    assert (code, "Expected with" in text) == (0, True)
    rows = json.loads(call("--executor", "inline", "--json")[1])
    assert [row["backbone"] for row in rows] == [*(f"{name} (random)" for name in names), "ResNet-50 (random)"]
    task = registry.task(TASK)
    assert {(row["jobs"], row["stored"]) for row in rows} == {(task.runs + len(task.recipe.grid), 0)}
    asked: list[tuple] = []
    monkeypatch.setattr("benchmark.cli.panel.run_and_show", lambda request, *more: asked.append((request, *more)))
    whole = ["--include", own, "panel", "run", "--panel", "mine", "--data", corpora, "--out", tmp_path / "out"]
    registry._included.clear()
    registry.forget()
    assert lobe(*whole)[0] == 0
    ((request, as_json, hint),) = asked
    assert (len(request.backbones), request.suite, as_json) == (9, "one", False)
    assert hint.startswith("lobe panel freeze ")


def test_a_dry_run_asks_nobody_for_weights_and_says_which_a_run_downloads(corpora: Path, lobe, tmp_path: Path, monkeypatch, no_network):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    names = ("torchvision:resnet18@DEFAULT", "timm:resnet18@a1_in1k", "torchvision:resnet18")
    given = [word for name in names for word in ("--backbone", name)]
    command = ("run", *given, "--task", TASK, "--data", corpora, "--out", tmp_path / "out", "--executor", "inline", "--dry-run")
    code, text, err = lobe(*command)
    assert (code, "Expected with" in text) == (0, True)
    told = [line for line in " ".join(err.split()).split("note: ") if "A run downloads them first" in line]
    assert [line.split(": its weights")[0] for line in told] == ["resnet18 (DEFAULT)", "resnet18 (a1_in1k)"]
    # Where images are hashed, the jobs without those weights alone have keys that no run will have.
    request = Request(names, tasks=(TASK,), data=[str(corpora)], out=tmp_path / "out", cache=tmp_path / "cache", executor="inline")
    with without_asking():
        planned = plan_jobs(request)
    provisional = {(job.labels.backbone, job.key in planned.provisional) for job in planned.jobs}
    assert provisional == {("resnet18 (DEFAULT)", True), ("resnet18 (a1_in1k)", True), ("resnet18 (random)", False)}


# ---------------------------------------------------------------------------------------------------------- the line-up


@pytest.mark.parametrize("name", registry.lineups())
def test_a_line_up_is_of_twelve_known_backbones_that_have_seen_no_image_of_the_core(name: str):
    from benchmark.contamination import contamination_of

    card = registry.lineup(name)
    assert len(set(card.backbones)) == len(card.backbones) >= 12
    assert set(card.anchors) == {"random", "imagenet", "dinov2"}
    cards = [registry.backbones()[one] for one in card.backbones]
    for one in cards:
        assert one.weights is not None
        assert one.normalisation is not None, f"{one.name} would not be ranked"
        saw = contamination_of(one.pretraining, one.contamination)
        assert not [d for d in ("rsna", "siim", "chestx-det", "nih-cxr", "object-cxr", "tbx11k") if saw[d] in SEEN], one.name
    assert registry.backbones()[card.anchors["random"]].weights is None


def test_files_that_cards_ask_for_are_found_in_one_folder(tmp_path: Path):
    card = registry.lineup("lobe-v1")
    (tmp_path / "mrm").mkdir()
    for name in ("mrm/MRM.pth", "resnet_50.ckpt", "ConVIRT.pth"):
        (tmp_path / name).write_bytes(b"")
    names = backbones_of(card, tmp_path)
    assert f"mrm@{tmp_path / 'mrm' / 'MRM.pth'}" in names
    assert f"mgca-resnet@{tmp_path / 'resnet_50.ckpt'}" in names
    assert {"imagenet-resnet50", "prior", "random-resnet50"} <= set(names)  # the library's own, not there, untrained
    assert len(names) == len(set(names)) == 13
    assert set(backbones_of(card, None)) == {*card.backbones, *card.anchors.values()}
