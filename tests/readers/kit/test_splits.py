"""Promises of `benchmark.readers.kit.splits`: the published lists, in content and order, and leaks that cannot pass unseen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark import registry
from benchmark.cards import SplitCounts, SplitRule
from benchmark.errors import DataError, SplitError
from benchmark.readers.base import ids_digest
from benchmark.readers.kit.splits import (
    Numbers,
    check_digests,
    check_disjoint,
    drop_patients_of_test,
    lovt_csv,
    patient_lists,
    permutation_split,
    prefix,
    shared_patients,
    size_matched,
    split_by_rule,
)

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "lovt_splits"
needs_real_lists = pytest.mark.skipif(not SHARED.is_dir(), reason="the real lists are not beside the checkout")

IDS = tuple(f"p{i // 3}_{i}" for i in range(60))  # three images a patient


def patient_of(sample_id: str) -> str:
    return sample_id.split("_")[0]


# -------------------------------------------------------------------------------------------------------------------- rules


def test_permutation_takes_test_first_then_validation_then_train() -> None:
    drawn = [IDS[i] for i in np.random.RandomState(123).permutation(60)]
    splits = permutation_split(IDS, 123, 0.2, 0.1)
    assert splits == {"test": tuple(drawn[:6]), "validation": tuple(drawn[6:18]), "train": tuple(drawn[18:])}


def test_the_legacy_generator_gives_its_frozen_stream() -> None:
    splits = permutation_split([str(i) for i in range(10)], 123, 0.2, 0.2)
    assert splits == {"test": ("4", "0"), "validation": ("7", "5"), "train": ("8", "3", "1", "6", "9", "2")}


@given(st.integers(1, 400), st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.integers(0, 2**32 - 1))
def test_a_permutation_split_uses_every_id_once(n: int, validation: float, test: float, seed: int) -> None:
    ids = [str(i) for i in range(n)]
    splits = permutation_split(ids, seed, validation, test)
    check_disjoint(splits)
    assert sorted(i for split in splits.values() for i in split) == sorted(ids)
    assert (len(splits["validation"]), len(splits["test"])) == (round(validation * n), round(test * n))


@pytest.mark.parametrize(("n", "fraction", "expected"), [(16010, 0.1, 1601), (16010, 0.01, 160), (5337, 0.1, 534), (25, 0.1, 2), (7, 1, 7)])
def test_prefixes_have_lovts_sizes_and_are_nested(n: int, fraction: float, expected: int) -> None:
    ids = [str(i) for i in range(n)]
    assert len(prefix(ids, fraction)) == expected
    assert prefix(ids, fraction) == tuple(ids[:expected])


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, 10])
def test_fractions_outside_zero_to_one_are_errors(fraction: float) -> None:
    with pytest.raises(SplitError, match="fraction"):
        prefix(IDS, fraction)


def test_patient_lists_follow_the_order_of_the_lists() -> None:
    splits = patient_lists(IDS, patient_of, {"train": ("p3", "p1", "gone"), "validation": ("p0",), "test": ("p9",)})
    assert splits["train"] == ("p3_9", "p3_10", "p3_11", "p1_3", "p1_4", "p1_5")
    assert splits["validation"] == ("p0_0", "p0_1", "p0_2")


def test_a_patient_in_two_lists_is_an_error() -> None:
    with pytest.raises(SplitError, match="p1"):
        patient_lists(IDS, patient_of, {"train": ("p0", "p1"), "validation": ("p1",), "test": ("p2",)})


def test_lists_that_know_no_patient_of_the_folder_are_an_error() -> None:
    with pytest.raises(SplitError, match=r"20 patients found \(such as p0, p1, p10 and 17 more\).*q1"):
        patient_lists(IDS, patient_of, {"train": ("q1",), "validation": ("q2",), "test": ("q3",)})


def test_patient_disjoint_keeps_the_test_images_and_every_other_patient() -> None:
    splits = permutation_split(IDS, 1, 0.2, 0.1)
    assert shared_patients(splits, patient_of)["train", "test"] > 0
    disjoint = drop_patients_of_test(splits, patient_of)
    assert disjoint["test"] == splits["test"]
    shared = shared_patients(disjoint, patient_of)
    assert shared["train", "test"] == shared["validation", "test"] == 0
    held_out = {patient_of(i) for i in splits["test"]}
    assert disjoint["train"] == tuple(i for i in splits["train"] if patient_of(i) not in held_out)


def test_images_of_unknown_patients_stay() -> None:
    def of(sample_id: str) -> str | None:
        return None if sample_id.endswith("0") else patient_of(sample_id)

    splits = permutation_split(IDS, 1, 0.2, 0.1)
    kept = drop_patients_of_test(splits, of)
    assert all(i in kept[name] for name in ("train", "validation") for i in splits[name] if i.endswith("0"))


def test_patient_disjoint_needs_patients() -> None:
    with pytest.raises(SplitError, match="not known"):
        drop_patients_of_test(permutation_split(IDS, 1, 0.2, 0.1), lambda _: None)


def test_the_size_matched_control_drops_as_many_at_random_and_keeps_order() -> None:
    splits = permutation_split(IDS, 1, 0.2, 0.1)
    disjoint = drop_patients_of_test(splits, patient_of)
    control = size_matched(splits, disjoint, seed=5)
    assert {k: len(v) for k, v in control.items()} == {k: len(v) for k, v in disjoint.items()}
    assert control["test"] == splits["test"]
    assert control["train"] == tuple(i for i in splits["train"] if i in set(control["train"]))
    assert control["train"] != disjoint["train"]
    assert control == size_matched(splits, disjoint, seed=5)
    assert control != size_matched(splits, disjoint, seed=6)


def test_rules_are_found_by_name_with_their_variants() -> None:
    numbers = {"seed": 1, "validation_share": 0.2, "test_share": 0.1}
    plain = split_by_rule(IDS, SplitRule(rule="permutation", **numbers), patient_of)
    disjoint = split_by_rule(IDS, SplitRule(rule="permutation, patient-disjoint", **numbers), patient_of)
    control = split_by_rule(IDS, SplitRule(rule="permutation, size-matched", **numbers), patient_of)
    assert plain == permutation_split(IDS, 1, 0.2, 0.1)
    assert disjoint == drop_patients_of_test(plain, patient_of)
    assert control == size_matched(plain, disjoint, 1)


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"rule": "shuffle"}, "shuffle"),
        ({"rule": "permutation", "seed": 1}, "test_share"),
        ({"rule": "patient-lists"}, "patients"),
        ({"rule": "permutation, by-age", "seed": 1, "validation_share": 0.2, "test_share": 0.2}, "by-age"),
    ],
)
def test_unknown_and_incomplete_rules_are_errors(rule: dict, sentence: str) -> None:
    with pytest.raises(SplitError, match=sentence):
        split_by_rule(IDS, SplitRule(**rule), patient_of)


def test_a_number_that_the_card_leaves_out_is_an_error_when_it_is_asked_for() -> None:
    numbers = Numbers(SplitRule(rule="permutation", seed=3), "rsna")
    assert numbers.seed == 3
    with pytest.raises(SplitError, match=r"rsna: split rule 'permutation' needs test_share; mend the dataset card"):
        _ = numbers.test_share
    with pytest.raises(SplitError, match=r"^split rule 'permutation' needs patients"):
        _ = Numbers(SplitRule(rule="permutation")).patients


# ------------------------------------------------------------------------------------------------------------------- checks


def test_a_leak_is_an_error_naming_ids() -> None:
    with pytest.raises(SplitError, match=r"2 ids are in 'train' and in 'test': b, c"):
        check_disjoint({"train": ("a", "b", "c"), "validation": (), "test": ("c", "b")})
    with pytest.raises(SplitError, match=r"'train': a"):
        check_disjoint({"train": ("a", "a"), "test": ("b",)})


def test_shared_patients_are_counted_for_each_pair() -> None:
    splits = {"train": ("p1_0", "p2_0"), "validation": ("p2_1", "p3_0"), "test": ("p3_1", "p2_2")}
    assert shared_patients(splits, patient_of) == {("train", "validation"): 1, ("train", "test"): 1, ("validation", "test"): 2}


def test_digests_notice_a_swapped_pair_that_counts_cannot_see() -> None:
    splits = {"train": ("a", "b", "c"), "validation": ("d",), "test": ("e",)}
    counts = SplitCounts(n_images=3, sha256_sorted=ids_digest("abc"), sha256_ordered=ids_digest("abc", ordered=True))
    assert [c.verdict for c in check_digests(splits, {"train": counts})] == ["ok", "ok", "ok"]
    swapped = check_digests({**splits, "train": ("b", "a", "c")}, {"train": counts})
    assert [(c.what, c.verdict) for c in swapped] == [("train: images", "ok"), ("train: ids", "ok"), ("train: order of ids", "error")]
    assert "order" in swapped[2].hint


def test_prefix_subsets_positives_boxes_and_patients_are_compared() -> None:
    splits = {"train": tuple(f"p{i // 2}_{i}" for i in range(100)), "validation": (), "test": ()}
    expected = {"train_10pct": SplitCounts(n_images=10, n_positive=5, n_boxes=15, n_patients=5)}

    def n_boxes(sample_id: str) -> int:
        return 3 * (int(sample_id.split("_")[1]) % 2)

    def positive(sample_id: str) -> bool:
        return n_boxes(sample_id) > 0

    assert [c.verdict for c in check_digests(splits, expected, n_boxes, positive, patient_of)] == ["ok"] * 4
    wrong = {"train_10pct": SplitCounts(n_images=10, n_positive=4, n_boxes=14, n_patients=6)}
    assert [c.verdict for c in check_digests(splits, wrong, n_boxes, positive, patient_of)] == ["ok", "error", "error", "error"]
    assert [c.verdict for c in check_digests(splits, {"holdout": SplitCounts(n_images=1)})] == ["error"]


# --------------------------------------------------------------------------------------------------------- LoVT's own lists


def write_lists(folder: Path, train: str) -> Path:
    for name, text in {"train": train, "validation": "ID,boxes,classes\nv,,\n", "test": "ID,boxes,classes\nt,,\n"}.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_lovts_lists_are_read_with_boxes_and_classes(tmp_path: Path) -> None:
    lists = lovt_csv(write_lists(tmp_path, "ID,boxes,classes\na,251.0;140.0;207.0;366.0|575.0;161.5;240.0;431.0,1|3\nb,,\n"))
    assert lists.splits == {"train": ("a", "b"), "validation": ("v",), "test": ("t",)}
    assert lists.boxes_xywh["a"].tolist() == [[251, 140, 207, 366], [575, 161.5, 240, 431]]
    assert lists.labels["a"].tolist() == [1, 3]
    assert lists.boxes_xywh["b"].shape == (0, 4)


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ("id,boxes,classes\na,,\n", "columns"),
        ("ID,boxes,classes\na,1;2;3,1\n", "line 2"),
        ("ID,boxes,classes\na,1;2;3;x,1\n", "line 2"),
        ("ID,boxes,classes\na,1;2;3;4,\n", "1 boxes and 0 classes"),
        ("ID,boxes,classes\na\n", "1 fields"),
        ('ID,boxes,classes\n"a,,\nb,,\n', r"train\.csv is not a readable table \(unexpected end of data\)"),
        ('ID,boxes,classes\n"' + "a,,\n" * 80_000, r"train\.csv is not a readable table \(field larger than field limit"),
    ],
)
def test_lists_in_another_format_are_errors(tmp_path: Path, train: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        lovt_csv(write_lists(tmp_path, train))


def test_a_missing_list_and_a_leak_between_lists_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.csv"):
        lovt_csv(tmp_path)
    leaking = lovt_csv(write_lists(tmp_path, "ID,boxes,classes\nt,,\n")).splits
    with pytest.raises(SplitError, match="'train' and in 'test': t"):
        check_disjoint(leaking)


@needs_real_lists
@pytest.mark.parametrize("name", ["rsna", "covid-rural", "siim", "object-cxr", "nih-cxr"])
def test_lovts_real_lists_match_the_cards(name: str) -> None:
    rule = registry.dataset(name).splits["lovt"]
    lists = lovt_csv(SHARED / name)
    expected = {k: v for k, v in rule.expected.items() if k.partition("_")[0] in lists.splits}
    assert {"train", "validation", "test"} <= set(expected)
    n_boxes = (lambda i: len(lists.boxes_xywh[i])) if lists.boxes_xywh else None
    checks = check_digests(lists.splits, expected, n_boxes=n_boxes)
    assert len(checks) >= 6
    assert [c for c in checks if c.verdict != "ok"] == []


@needs_real_lists
def test_lovts_covid_lists_share_no_patient() -> None:
    splits = lovt_csv(SHARED / "covid-rural").splits
    assert set(shared_patients(splits, patient_of).values()) == {0}
    rule = registry.dataset("covid-rural").splits["lovt"]
    everything = sorted(i for ids in splits.values() for i in ids)
    made = split_by_rule(everything, rule, patient_of)
    assert {k: sorted(v) for k, v in made.items()} == {k: sorted(v) for k, v in splits.items()}
