"""Which images a job sees, in which order, and what it is told of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.contents import drained
from benchmark.errors import DataChanged, DataError, SplitError, TooFewImages
from benchmark.readers.base import Sample, open_reader
from benchmark.readers.kit.splits import prefix
from benchmark.training import data, sizes

LINEAR, DETECTION = "rsna-linear-frozen-100", "rsna-yolov3-frozen-100"


def sample(name: str, positive: bool | None) -> Sample:
    return Sample(id=name, patient_id=None, image=lambda: None, files=(), positive=positive)


def samples(positive: list[bool | None]) -> list[Sample]:
    return [sample(str(i), p) for i, p in enumerate(positive)]


def loaded(job, place) -> data.JobData:
    return drained(data.load(job.experiment, place))


# ------------------------------------------------------------------------------------------------------------ limited runs


@pytest.mark.parametrize(
    ("positive", "limit", "expected"),
    [
        ([True, False] * 6, 8, [0, 1, 2, 3, 4, 5, 6, 7]),  # four positives among the first: untouched
        ([False] * 6 + [True] * 6, 6, [0, 1, 9, 8, 7, 6]),  # the last negatives give way to the next positives
        ([False] * 6 + [True] * 2, 6, [0, 1, 2, 3, 7, 6]),  # no more than there are
        ([False, False, True, True, True], 2, [3, 2]),  # a limit below four is itself the minimum
        ([None] * 6, 4, [0, 1, 2, 3]),  # positives unknown without opening images: the list's order
    ],
)
def test_limit_keeps_the_order_and_swaps_late_negatives_for_the_next_positives(positive, limit, expected):
    everything = samples(positive)
    assert [int(s.id) for s in data.limit_samples(everything, everything, limit)] == expected


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(2, 40))
def test_limit_is_never_exceeded_and_four_positives_are_there_where_they_exist(positive, limit):
    chosen = data.limit_samples(samples(positive), samples(positive), limit)
    assert len(chosen) == min(limit, len(positive))
    assert len({s.id for s in chosen}) == len(chosen)
    assert sum(bool(s.positive) for s in chosen) >= min(data.MINIMUM_POSITIVES, limit, sum(positive))


@given(st.lists(st.booleans(), min_size=8, max_size=80), st.integers(8, 40), st.floats(0.01, 1))
def test_limited_fraction_is_a_part_of_the_limited_whole(positive, limit, fraction):
    everything = samples(positive)
    kept = everything[: max(round(fraction * len(everything)), min(limit, sizes.MINIMUM_LIMITED))]
    part = {s.id for s in data.limit_samples(kept, everything, limit)}
    whole = {s.id for s in data.limit_samples(everything, everything, limit)}
    assert part <= whole


def test_a_fraction_too_small_for_a_limited_run_is_filled_up_by_the_same_order(small, tiny):
    job, place = small.one("rsna-linear-frozen-1", tiny())
    reader = open_reader(place.card, place.dataset_root)
    split = reader.split(job.experiment.dataset.split_rule)["train"]
    assert len(prefix(split, 0.01)) < sizes.MINIMUM_LIMITED
    chosen = data.choose(job.experiment, reader)["train"]
    assert sizes.MINIMUM_LIMITED <= len(chosen) <= 12
    assert sum(bool(s.positive) for s in chosen) >= data.MINIMUM_POSITIVES
    kept = [s.id for s in chosen if s.id in split[: sizes.MINIMUM_LIMITED]]
    assert kept == [i for i in split if i in kept]


@pytest.mark.parametrize(("card_batch", "card_warmup", "batch", "warmup"), [(64, 500, 6, 2), (4, 500, 4, 3), (64, 1, 6, 1)])
def test_limited_batch_and_warmup_shrink_with_the_images_and_never_grow(small, tiny, card_batch, card_warmup, batch, warmup):
    job, place = small.one(LINEAR, tiny(), batch_size=card_batch, warmup_steps=card_warmup)
    given = loaded(job, place)
    assert len(given.train) == 12
    assert (given.batch_size, given.warmup_steps) == (batch, warmup)


# ------------------------------------------------------------------------------------------------------------ whole splits


def test_label_budgets_are_prefixes_of_each_other_and_leave_validation_and_test_alone(small, tiny):
    file, chosen = tiny(), {}
    for percent in (1, 10, 100):
        job, place = small.one(f"rsna-linear-frozen-{percent}", file, limit=None, card={"fraction": max(percent, 4) / 100})
        chosen[percent] = {
            n: [s.id for s in v] for n, v in data.choose(job.experiment, open_reader(place.card, place.dataset_root)).items()
        }
    for one, more in ((1, 10), (10, 100)):
        assert 0 < len(chosen[one]["train"]) < len(chosen[more]["train"])
        assert chosen[one]["train"] == chosen[more]["train"][: len(chosen[one]["train"])]
    assert chosen[1]["validation"] == chosen[100]["validation"]
    assert chosen[1]["test"] == chosen[100]["test"]


def test_a_nested_draw_belongs_to_the_runs_seed_and_validation_has_no_more_labels_than_training(small, tiny):
    file, own = tiny(), {"normalised_by": "dataset"}
    drawn = {}
    for percent in (20, 50, 100):
        jobs, places = small.plan(
            LINEAR, [file], limit=None, runs=2, card={"fraction": percent / 100, "protocols": ("lobe",)}, data=own, validation_subset=1.0
        )
        for job in jobs[-2:]:
            place = places[job.key]
            found = data.choose(job.experiment, open_reader(place.card, place.dataset_root))
            drawn[percent, job.labels.run] = {name: [s.id for s in listed] for name, listed in found.items()}
    released = open_reader(place.card, place.dataset_root).split(job.experiment.dataset.split_rule)
    for run in (0, 1):
        few, more, whole = (drawn[percent, run] for percent in (20, 50, 100))
        assert few["train"] == more["train"][: len(few["train"])]
        assert set(more["train"]) < set(whole["train"])
        assert set(few["validation"]) <= set(more["validation"])
        assert whole["train"] == list(released["train"])  # all labels need no draw, and keep the order of the list
        for found in (few, more, whole):
            assert len(found["validation"]) == min(len(released["validation"]), len(found["train"]))
            assert found["test"] == list(released["test"])
    assert set(drawn[20, 0]["train"]) != set(drawn[20, 1]["train"])
    assert drawn[100, 0] == drawn[100, 1]


def test_a_limited_draw_keeps_to_the_images_that_its_limit_reaches(small, tiny):
    from benchmark.readers.kit.identity import covered

    jobs, places = small.plan(LINEAR, [tiny()], limit=10, card={"fraction": 0.2, "protocols": ("lobe",)}, data={"normalised_by": "dataset"})
    for job in jobs:
        reader = open_reader(places[job.key].card, places[job.key].dataset_root)
        reachable = set(covered(reader, reader.split(job.experiment.dataset.split_rule), 10))
        found = data.choose(job.experiment, reader, wanted=data.splits_seen(job.experiment))
        assert {s.id for listed in found.values() for s in listed} <= reachable
        assert sum(bool(s.positive) for s in found["train"]) >= data.MINIMUM_POSITIVES


def test_runs_of_other_draws_never_train_side_by_side(small, tiny):
    from benchmark.training.together import group_key

    def groups(fraction: float) -> int:
        card = {"fraction": fraction, "protocols": ("lobe",)}
        jobs, _ = small.plan(LINEAR, [tiny(f"at-{fraction}")], runs=3, card=card, data={"normalised_by": "dataset"})
        return len({group_key(job) for job in jobs if job.experiment.learning_rate is None and not job.experiment.extends_grid})

    assert (groups(0.2), groups(1.0)) == (3, 1)


def test_unlimited_fewer_images_than_one_batch_names_both_numbers(small, tiny):
    job, place = small.one(LINEAR, tiny(), limit=None)
    n_train = len(open_reader(place.card, place.dataset_root).split(job.experiment.dataset.split_rule)["train"])
    with pytest.raises(TooFewImages, match=f"{n_train} training images at 100 % are fewer than one batch of 64"):
        loaded(job, place)


def test_an_unknown_release_is_refused_unless_limited(small, tiny):
    import dataclasses

    job, place = small.one(LINEAR, tiny(), limit=None, batch_size=4)
    unknown = dataclasses.replace(place, known_release=False)
    with pytest.raises(DataError, match="not the public release"):
        loaded(job, unknown)
    limited, place = small.one(LINEAR, tiny("limited"), limit=8)
    assert loaded(limited, dataclasses.replace(place, known_release=False)).train.ids


def test_a_folder_that_changed_since_planning_is_refused(small, tiny, corpora: Path, tmp_path: Path):
    shutil.copytree(corpora / "rsna", tmp_path / "data" / "rsna")
    job, place = small.one(LINEAR, tiny(), root=tmp_path / "data")
    labels = tmp_path / "data" / "rsna" / "stage_2_train_labels.csv"
    rows = labels.read_text().splitlines()
    box = next(i for i, row in enumerate(rows) if row.endswith(",1"))
    name, x, *rest = rows[box].split(",")
    rows[box] = ",".join([name, str(float(x) + 1), *rest])
    labels.write_text("\n".join(rows) + "\n")
    with pytest.raises(DataChanged, match="not those the job was planned with"):
        loaded(job, place)
    labels.unlink()
    with pytest.raises(DataChanged, match=r"stage_2_train_labels\.csv"):
        loaded(job, place)


def test_splits_that_the_files_gave_when_planned_and_do_not_give_now_are_a_change(small, tiny, monkeypatch: pytest.MonkeyPatch):
    """It is of this machine's files, and no property of the job: nothing of it is stored."""

    def too_few(*_):
        raise SplitError("rsna: too few training images")

    job, place = small.one(LINEAR, tiny())
    monkeypatch.setattr(data, "splits_of", too_few)
    with pytest.raises(DataChanged, match="rsna: too few training images"):
        loaded(job, place)


# ------------------------------------------------------------------------------------------------------------ one split


@pytest.fixture
def part(small, tiny) -> data.Part:
    job, place = small.one(DETECTION, tiny())
    return data.load_part(job.experiment, place, "train")


def test_boxes_arrive_in_the_frame(part, corpora: Path):
    import csv

    with (corpora / "rsna" / "stage_2_train_labels.csv").open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["Target"] == "1"]
    for i, name in enumerate(part.ids):
        expected = [[float(row[k]) * 64 / 1024 for k in ("x", "y", "width", "height")] for row in rows if row["patientId"] == name]
        assert np.array_equal(part.boxes[i], np.array(expected, np.float32).reshape(-1, 4))
    assert part.frame_name == "padded-64"
    assert part.images(np.arange(2)).shape == (2, 64, 64)


def test_box_targets_are_padded_to_the_batch_and_say_which_are_real(part):
    index = np.arange(len(part))
    most = max(len(b) for b in part.boxes)
    assert most >= 2
    targets = part.targets(index, torch.device("cpu"))
    assert targets.boxes_xywh.shape == (len(part), most, 4)
    assert targets.box_valid.sum(1).tolist() == [len(b) for b in part.boxes]
    for i, boxes in enumerate(part.boxes):
        assert np.array_equal(targets.boxes_xywh[i][targets.box_valid[i]].numpy(), boxes)
        assert not targets.boxes_xywh[i][~targets.box_valid[i]].any()


def test_a_batch_of_negatives_still_has_one_padded_box(part):
    negatives = np.array([i for i, b in enumerate(part.boxes) if not len(b)])
    targets = part.targets(negatives, torch.device("cpu"))
    assert targets.boxes_xywh.shape == (len(negatives), 1, 4)
    assert not targets.box_valid.any()


def test_truth_lists_every_box_with_its_image(part):
    truth = part.truth()
    assert truth.n_images == len(part)
    assert [int((truth.image == i).sum()) for i in range(len(part))] == [len(b) for b in part.boxes]
    assert part.n_positive() == sum(len(b) > 0 for b in part.boxes) >= data.MINIMUM_POSITIVES


def test_mask_targets_are_the_filled_boxes(small, tiny):
    job, place = small.one(LINEAR, tiny())
    part = data.load_part(job.experiment, place, "train")
    masks = part.targets(np.arange(len(part)), torch.device("cpu")).masks
    assert masks.shape == (len(part), 1, 64, 64)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert [bool(m.any()) for m in masks] == [len(b) > 0 for b in part.boxes]
