"""A head is one module: a made-up one is planned, costed, trained, split over micro-batches and reported with no edit elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmark import heads, registry
from benchmark.execute.costs import FORWARD, RUN_S, SCORING_S, Costs, expected_work, sizes_of
from benchmark.plan import Settings, plan
from benchmark.training.options import RunOptions

NAME, TITLE, STEPS, STEP_S, MEMORY_BYTES = "made_up", "Made-up head", 3, 0.5, 7 * 2**30
MODULE = f'''
from torch import nn
from torch.nn import functional as F

from benchmark.cards import HeadFacts
from benchmark.heads.base import Head

FACTS = HeadFacts(title="{TITLE}", target="masks", smoke_steps={STEPS}, step_s={STEP_S}, memory_bytes={MEMORY_BYTES})


def build(request):
    return MadeUp(request)


class MadeUp(Head):
    def __init__(self, request):
        super().__init__()
        self.strides, self.size = (max(request.channels),), request.frame_size
        self.classify = nn.Conv2d(request.channels[self.strides[0]], request.n_classes, 1)

    def forward(self, pyramid, images=None):
        return F.interpolate(self.classify(pyramid[self.strides[0]]).float(), size=(self.size, self.size))

    def sums(self, outputs, targets):
        return F.binary_cross_entropy_with_logits(outputs, targets.masks, reduction="none").mean(dim=(1, 2, 3)).sum()[None]

    def loss_of(self, sums, n_images):
        return sums[0] / n_images

    def predict(self, outputs):
        return outputs.sigmoid()
'''


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """The head's module in a folder of its own, and the card of a task that trains it in a folder of the user's."""
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / f"{NAME}.py").write_text(MODULE)
    monkeypatch.setattr(heads, "__path__", [*heads.__path__, str(tmp_path / "room")])
    before = list(registry._included)
    registry.forget()
    given = registry.task("rsna-linear-frozen-100").model_dump(mode="json")
    given |= {"id": "mine", "title": "Mine", "head": NAME, "published": None, "runs": 1}
    (tmp_path / "own" / "tasks").mkdir(parents=True)
    (tmp_path / "own" / "tasks" / "mine.yaml").write_text(yaml.safe_dump({"tasks": [given]}))
    registry.include(tmp_path / "own")
    yield given
    registry._included[:] = before
    registry.forget()
    sys.modules.pop(f"benchmark.heads.{NAME}", None)
    vars(heads).pop(NAME, None)


def test_it_is_planned_and_costed_by_what_it_says_of_itself(card: dict, small, tiny) -> None:
    from benchmark.execute.work import units

    jobs, places = small.plan("mine", [tiny()], max_steps=None)
    (unit,) = units(jobs, places)
    costs, job = Costs(), jobs[-1]
    work = expected_work(job, sizes_of(job, unit.inputs))
    assert costs.seconds(job, unit.inputs) == pytest.approx(
        RUN_S + STEP_S * (work.seen + FORWARD * work.used.test) + SCORING_S * work.used.test
    )
    assert costs.needs(unit).memory_bytes == MEMORY_BYTES
    task, ref = registry.task("mine"), job.experiment.dataset
    planned = plan([task], [small.backbone(tiny("other")).named], {"rsna": ref}, registry.protocol("published"), Settings(profile="smoke"))
    assert {(job.experiment.head, job.experiment.recipe.max_steps) for job in planned} == {(NAME, STEPS)}


def test_it_trains_whole_and_in_micro_batches(card: dict, small, tiny, tmp_path: Path) -> None:
    job, place = small.one("mine", tiny(), batch_size=4)
    whole, pieces = small.fit(job, place), small.fit(job, place, RunOptions(micro_batches=2))
    assert whole.status == pieces.status == "ok"
    for one, two in zip(whole.curve, pieces.curve, strict=True):
        assert one.train_loss == pytest.approx(two.train_loss, abs=1e-6)


def test_it_runs_and_is_reported_by_the_command(card: dict, lobe, tiny, corpora: Path, tmp_path: Path) -> None:
    given = ["run", "--backbone", f"{tiny()}:build", "--task", "mine", "--data", corpora, "--out", tmp_path / "out", "--limit", 12]
    given += ["--executor", "inline", "--no-tracking", "--profile"]
    assert lobe(*given, "full", "--dry-run")[0] == 0
    code, out, problem = lobe(*given, "smoke", "--json")
    assert code == 0, out + problem
    (row,) = json.loads(out)["rows"]
    assert (row["task"], row["head"]) == ("mine", NAME)
    assert lobe("report", "--out", tmp_path / "out")[0] == 0
    assert TITLE in "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").rglob("*.html"))
