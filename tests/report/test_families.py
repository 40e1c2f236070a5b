"""A family of metrics in a folder of its own is scored, stored, resampled, planned, refused and tabulated, with no edit elsewhere."""

from __future__ import annotations

import sys
import textwrap

import numpy as np
import pytest

from benchmark import metrics, registry, task_rules
from benchmark.cards import BackboneRef, DatasetRef, SplitRule
from benchmark.metrics import dice, scores, spec, statistics
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.report import beside, typeset
from benchmark.report.rows import rows_of

FAMILY = """
    from benchmark.metrics.spec import MetricSpec

    def kept(masks, label):
        return lambda weights=None: 1 - (missed(masks, label)(weights) or 0.0)

    def missed(masks, label):
        def value(weights=None):
            copies = 1 if weights is None else weights
            lost, true = ((part[:, label] * copies).sum() for part in (masks.counts.fn, masks.counts.fn + masks.counts.tp))
            return float(lost / true) if true else None
        return value

    METRICS = (
        MetricSpec(name="{class}_kept", title="{class} pixels kept", target="masks", needs=("counts",), selects=True,
                   compute=kept),
        MetricSpec(name="missed_of_first", title="pixels missed", target="masks", needs=("counts",), better="lower", high=0.75,
                   compute=lambda masks: missed(masks, 0), undefined="nothing can be missed"),
    )
"""


@pytest.fixture
def family(tmp_path, monkeypatch):
    (tmp_path / "made_up.py").write_text(textwrap.dedent(FAMILY), encoding="utf-8")
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    look_again()
    yield
    monkeypatch.undo()
    sys.modules.pop("benchmark.metrics.made_up", None)
    look_again()


def look_again() -> None:
    spec.forget()


@pytest.mark.usefixtures("family")
def test_a_family_is_scored_stored_and_resampled_by_being_there():
    masks = np.zeros((2, 2, 4, 4), bool)
    masks[0, :, 0] = masks[1, 0, :2] = True
    predicted = masks.copy()
    predicted[0, 0, 0, :3] = False
    found = scores.score_segmentation(predicted.astype(np.float32), masks, ("a", "b"), true_masks=True)
    assert (found.metrics["missed_of_first"], found.metrics["a_kept"], found.metrics["b_kept"]) == (0.25, 0.75, 1.0)
    empty = np.zeros((1, 1, 4, 4), bool)
    assert scores.score_segmentation(empty.astype(np.float32), empty, ("a",), true_masks=True).undefined["missed_of_first"] == (
        "nothing can be missed"
    )
    stored = statistics.from_json(statistics.to_json(found.statistics))
    assert statistics.pooled_metric(stored, "missed_of_first")(np.array([1, 0])) == 0.75
    reduced = statistics.reduced_to(stored, "missed_of_first")
    assert (reduced.lesions, reduced.pixels) == (None, None)
    chosen = scores.segmentation_selection(dice.count_overlap(predicted, masks), ("a", "b"))
    assert {"a_kept", "b_kept"} <= set(chosen)
    assert "missed_of_first" not in chosen


@pytest.mark.usefixtures("family")
def test_a_family_is_planned_refused_and_tabulated_by_being_there(make):
    task, dataset = registry.task("siim-unet-frozen-100"), registry.dataset("siim")
    card = task.model_copy(update={"select": "pneumothorax_kept", "report": "pneumothorax_kept"})
    cards = (registry.datasets(), registry.prompts(), registry.protocols())
    assert task_rules.task_faults(card, *cards) == []
    (fault,) = task_rules.task_faults(card.model_copy(update={"report": "missed_of_first"}), *cards)
    assert "whose lowest value is the best" in fault
    (fault,) = task_rules.task_faults(card.model_copy(update={"report": "pneumothorax_keptt"}), *cards)
    assert "Did you mean pneumothorax_kept" in fault

    nobody = NamedBackbone("random", BackboneRef(family="torchvision", model="resnet18", digest=None))
    seen = DatasetRef(
        name="siim",
        digest="0" * 64,
        split="lovt",
        split_rule=SplitRule(rule="permutation"),
        classes=dataset.classes,
        target="masks",
        intensity="as-stored",
        statistics=make.job().experiment.dataset.statistics,
    )
    job = plan([card], [nobody], {"siim": seen}, registry.protocol("published"), Settings(runs=1))[-1]
    assert job.labels.metric_title == "pneumothorax pixels kept"

    assert spec.fault_of({"missed_of_first": 0.8}) == "missed_of_first is 0.8, outside its range from 0 to 0.75"
    record = make.record(0.9, job=job, metrics={"pneumothorax_kept": 0.9, "missed_of_first": 0.1})
    rows = rows_of([record])
    assert "pneumothorax pixels kept" in typeset.to_markdown(rows)
    values = beside.values_of(rows, [record])
    (sheet,) = beside.sheets(values)
    assert sheet.lines == (("pixels missed", "", ("10.0",)),)
    assert "made_up,share,lower" in beside.to_csv(values)


def test_a_family_that_is_gone_is_no_longer_known():
    assert spec.find("missed_of_first", "masks") is None
