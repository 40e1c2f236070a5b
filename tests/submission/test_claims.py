"""What cards say of a job: each that they plan is one of theirs, under every protocol, and searches may leave the test split closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards import BackboneRef, DatasetRef, Failure, Job, Record
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.store import Store
from benchmark.submission import claims
from benchmark.submission.pack import pack
from benchmark.submission.validate import validate
from tests.submission.conftest import BACKBONES

OFFERED = [
    (task, protocol)
    for task in ("rsna-linear-frozen-100", "rsna-yolov3-frozen-10", "rsna-linear-frozen-10-lobe-v1", "siim-unet-frozen-10-lobe-v1")
    for protocol in registry.task(task).protocols
]


def planned(task: str, protocol: str, input_size: int | None = 384) -> list[Job]:
    card, rules = registry.task(task), registry.protocol(protocol)
    about = registry.dataset(card.dataset)
    ref = DatasetRef(
        name=about.name,
        digest="d" * 64,
        split=card.split,
        split_rule=about.splits[card.split].model_copy(update={"expected": {}}),
        classes=about.classes,
        target="masks",
        intensity=about.intensity if rules.equalise == "as-released" else "as-stored",
        statistics=about.statistics,
        normalised_by=rules.statistics,
    )
    named = NamedBackbone("resnet18 (mine.pt)", BackboneRef(family="timm", model="x", digest="5" * 64), input_size=input_size)
    return plan([card], [named], {about.name: ref}, rules, Settings(suite="lovt-18"), registry.prompts())


def record_of(job: Job, *, phantom: bool = True, **more) -> Record:
    agreement = registry.dataset(job.experiment.dataset.name).redistribution
    rate = job.experiment.learning_rate
    given = {"status": "ok", "scale": "full", "phantom": phantom, "redistribution": agreement, "learning_rate": rate}
    return Record(key=job.key, job=job, **(given | more))


def test_every_protocol_is_tried_here() -> None:
    assert {protocol for _, protocol in OFFERED} == set(registry.protocols())


@pytest.mark.parametrize(("task", "protocol"), OFFERED)
def test_every_job_that_cards_plan_is_one_of_theirs(task: str, protocol: str) -> None:
    jobs = planned(task, protocol)
    assert len(jobs) > 4
    assert [why for job in jobs if (why := claims.fault_in(record_of(job)))] == []


def test_a_search_that_leaves_the_test_split_closed_has_no_digest_of_it() -> None:
    (search, *_, final) = planned("rsna-linear-frozen-100", "corrected")
    expected = registry.dataset("rsna").splits["lovt"].expected
    known = {name: expected[of] for name, of in (("train", "train"), ("validation", "validation_10pct"))}
    digests = {f"{name} sorted": counts.sha256_sorted or "" for name, counts in known.items()}
    given = {"sample_digests": digests, "counts": {name: {"images": counts.n_images} for name, counts in known.items()}}
    assert claims.fault_in(record_of(search, phantom=False, **given)) == ""
    assert "its test images are not those" in claims.fault_in(record_of(final, phantom=False, **given))


def test_a_rate_at_which_training_failed_is_packed_without_what_it_said(out: Path, tmp_path: Path) -> None:
    jobs = planned("rsna-linear-frozen-10-lobe-v1", "lobe")
    failure = Failure(kind="TrainingError", sentence="NaN in secret/run", traceback="File secret")
    store = Store(out)
    with store.lock():
        store.put(record_of(jobs[0], status="failed", failure=failure))
        store.put(record_of(jobs[1]))
    sent = pack(out, tmp_path / "sent.zip", allow_phantom=True, backbones=[BACKBONES[1].label])
    assert sent.left_out == ()
    assert b"secret" not in sent.file.read_bytes()
    found = validate(sent.file, allow_phantom=True)
    assert [fault for fault in found.faults if "failed" in fault] == []
    assert not [note for note in found.notes if jobs[0].key in note or jobs[1].key in note]
