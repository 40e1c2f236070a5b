"""What may stand beside a paper's numbers. The reasons as a page prints them: `test_reproduce`."""

from __future__ import annotations

from benchmark.cards import Words
from benchmark.report.admission import awaited, on_published_images

CARD = {"backbone": "lovt-100", "digest": "a" * 64}


def test_a_task_that_trains_nothing_needs_the_published_test_images_alone(make):
    record = make.record(0.1, **CARD)
    experiment = record.job.experiment.model_copy(update={"words": Words()})
    asked = record.model_copy(update={"job": record.job.model_copy(update={"experiment": experiment})})
    of_test = {"test sorted": record.sample_digests["test sorted"]}
    assert on_published_images(asked.model_copy(update={"sample_digests": of_test}))
    assert not on_published_images(asked.model_copy(update={"sample_digests": {"test sorted": "0" * 64}}))
    assert not on_published_images(record.model_copy(update={"sample_digests": of_test}))


def test_jobs_are_awaited_of_evaluations_that_were_begun_alone(make):
    begun = [make.record(0.1, **CARD)]
    of_it = [make.job(run=run, **CARD) for run in range(3)]
    others = ({"limit": 8}, {"protocol": "corrected", "order_seed": 7}, {"split": "patient-disjoint"}, {"task": "rsna-yolov3-frozen-100"})
    assert awaited([*of_it, *(make.job(run=3, **(CARD | options)) for options in others)], begun) == of_it
    assert awaited(of_it, []) == []
