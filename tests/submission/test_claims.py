"""What cards say of a job: each that they plan is one of theirs, under every protocol, and searches may leave the test split closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards import BackboneCard, BackboneRef, Contamination, DatasetRef, Failure, Job, Record
from benchmark.contamination import contamination_of
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


TASK = "rsna-linear-frozen-100"


def final_record(task: str = TASK, protocol: str = "corrected", **more) -> Record:
    return record_of(planned(task, protocol)[-1], **more)


def relabelled(record: Record, **labels) -> Record:
    job = record.job
    return record.model_copy(update={"job": job.model_copy(update={"labels": job.labels.model_copy(update=labels)})})


def of_experiment(record: Record, **values) -> Record:
    job = record.job
    return record.model_copy(update={"job": job.model_copy(update={"experiment": job.experiment.model_copy(update=values)})})


def test_a_task_on_another_dataset_is_no_task_of_lobe() -> None:
    found = claims.fault_in(relabelled(final_record(), task="siim-unet-frozen-100"))
    assert found == "it is of the task siim-unet-frozen-100, which is on siim, and was computed on rsna"


def test_a_final_run_names_all_runs_of_its_search() -> None:
    record = final_record()
    job = record.job.model_copy(update={"depends_on": record.job.depends_on[1:]})
    assert claims.fault_in(record.model_copy(update={"job": job})) == (
        "it does not name all runs of the search that its learning rate comes from"
    )


def test_a_job_of_one_protocol_is_none_of_another_with_other_images() -> None:
    found = claims.fault_in(relabelled(final_record(), protocol="lobe-native"))
    assert found == "its images and classes are not those of the card of rsna under the protocol lobe-native"


def test_a_count_of_images_is_that_of_the_release() -> None:
    expected = registry.dataset("rsna").splits["lovt"].expected
    known = {name: expected[of] for name, of in (("train", "train"), ("validation", "validation_10pct"), ("test", "test"))}
    digests = {f"{name} sorted": counts.sha256_sorted or "" for name, counts in known.items()}
    counts = {name: {"images": counts.n_images} for name, counts in known.items()}
    record = final_record(phantom=False, sample_digests=digests, counts=counts)
    assert claims.fault_in(record) == ""
    fewer = record.model_copy(update={"counts": counts | {"test": {"images": 7}}})
    assert claims.fault_in(fewer) == f"it counts 7 test images, and the public release of rsna has {known['test'].n_images:,}"


def test_a_split_of_an_earlier_card_is_held_to_no_list_of_todays() -> None:
    record = final_record(phantom=False)
    dataset = record.job.experiment.dataset.model_copy(update={"split": "of an earlier card"})
    assert claims.fault_in(of_experiment(record, dataset=dataset, task_version=registry.task(TASK).version - 1)) == ""


def test_a_record_says_what_pretraining_saw() -> None:
    assert claims.fault_in(relabelled(final_record(), contamination=None)) == "it does not say what pretraining saw of its dataset"


def test_what_a_card_says_of_its_pretraining_goes_for_its_own_family_and_weights() -> None:
    name, card = next((name, card) for name, card in registry.backbones().items() if card.contamination and card.family != "python_file")
    digest = card.digest.removeprefix("sha256:") if card.digest.startswith("sha256:") else "5" * 64
    record = of_experiment(final_record(), backbone=BackboneRef(family=card.family, model="x", digest=digest))
    known = contamination_of(card.pretraining, card.contamination).get("rsna", Contamination.UNKNOWN)
    assert claims.derived_contamination(relabelled(record, backbone=card.title or name), {}) is known
    assert claims.derived_contamination(relabelled(record, backbone="nobody's"), {}) is Contamination.UNKNOWN


def test_only_what_lobe_draws_itself_is_known_to_have_seen_nothing() -> None:
    drawn = BackboneRef(family="torchvision", model="resnet18", digest=None)
    record = of_experiment(final_record(), backbone=drawn)
    assert claims.derived_contamination(record, {}) is Contamination.NONE
    of_an_author = of_experiment(record, backbone=drawn.model_copy(update={"family": "python_file"}))
    assert claims.derived_contamination(of_an_author, {}) is None
    card = BackboneCard(name="mine", family="python_file", model="mine.py:build", contamination={"rsna": "images"})
    assert claims.derived_contamination(relabelled(of_an_author, backbone="Mine"), {"Mine": card}) is Contamination.IMAGES


@pytest.mark.parametrize("digest", ["5" * 64, None])
def test_who_saw_the_images_of_one_dataset_saw_those_of_another_that_shares_them(digest: str | None) -> None:
    ref = BackboneRef(family="python_file", model="build:1", digest=digest)
    rsna, nih = (
        of_experiment(relabelled(final_record(task), contamination=mark), backbone=ref)
        for task, mark in ((TASK, Contamination.IMAGES), ("nih-cxr-linear-frozen-100", Contamination.NONE))
    )
    (sentence,) = claims.contradictions([rsna, nih])
    assert "it saw rsna, whose images nih-cxr shares, and says none of nih-cxr" in sentence
