"""Promises of the hold-out splits: scikit-learn's and pandas' own draws, and every published digest the files at hand allow."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from benchmark import registry
from benchmark.cards import SplitRule
from benchmark.errors import DataError, SplitError
from benchmark.readers.base import ids_digest
from benchmark.readers.covidx import COVID, mgca_split, read_list
from benchmark.readers.kit.holdout import hold_out, sampled, sorted_holdout, sorted_holdout_balanced
from benchmark.readers.kit.splits import check_digests
from benchmark.readers.rsna import read_labels


def test_draws_are_those_of_scikit_learn_and_pandas() -> None:
    for n in (2, 7, 100, 1001):
        ids = [f"{i:05d}" for i in range(n)]
        for n_held in {1, n // 3 or 1}:
            assert [*hold_out(ids, n_held, 0)] == [list(part) for part in train_test_split(ids, test_size=n_held, random_state=0)]
        for fraction in (0.01, 0.1, 1.0):
            drawn = pd.Series(ids).sample(frac=fraction, random_state=42).tolist()
            assert sampled(ids)[: len(drawn)] == drawn


def test_the_first_positions_of_glorias_rsna_split() -> None:
    """GLoRIA's rule, worked out with scikit-learn (docs/sources.md, GLoRIA)."""
    ids = [f"{i:05d}" for i in range(26_684)]
    train, held = hold_out(ids, 8_006, 0)
    assert [int(i) for i in train[:5]] == [7729, 18294, 1437, 10884, 1977]
    splits = sorted_holdout(ids, registry.dataset("rsna-labels").splits["gloria"])
    assert [int(i) for i in splits["validation"][:3]] == [13610, 15308, 13503]
    assert [int(i) for i in splits["test"][:3]] == [25106, 18356, 8000]
    assert len(held) == 8_006


@pytest.mark.parametrize(("card", "name"), [("rsna-labels", "gloria"), ("rsna-labels", "mgca-localized"), ("rsna-plain", "mgca-localized")])
def test_rsna_splits_have_the_published_digests(real_files: Path, card: str, name: str) -> None:
    labels = read_labels(real_files / "labels" / "rsna_stage_2_train_labels_semicolon.csv", "rsna")
    rule = registry.dataset(card).splits[name]
    checks = check_digests(sorted_holdout(labels.ids, rule), rule.expected, positive=lambda i: len(labels.boxes_xywh[i]) > 0)
    assert len(checks) >= 9
    assert {c.verdict for c in checks} == {"ok"}


def test_covidx_lists_and_split_have_the_published_digests(real_files: Path) -> None:
    card = registry.dataset("covidx")
    train, test = (read_list(real_files / "labels" / f"covidx_{part}_9A.txt", "covidx", card.classes) for part in ("train", "test"))
    assert ids_digest([line.name for line in train]) == "a4758724fafe46b54848d02bd5b34fb9c89fd4a05aa325141ceba094f43922fe"
    assert len({line.patient_id for line in train}) == 16_424
    lines = {line.name: line for line in (*train, *test)}
    rule = card.splits["mgca"]
    splits = mgca_split([line.name for line in train], [line.name for line in test], rule)
    checks = check_digests(splits, rule.expected, positive=lambda i: lines[i].label == COVID, patient_of=lambda i: lines[i].patient_id)
    assert len(checks) == 12
    assert {c.verdict for c in checks} == {"ok"}
    shared = {lines[i].patient_id for i in splits["train"]} & {lines[i].patient_id for i in splits["validation"]}
    assert len(shared) == 865


def test_a_patient_with_blanks_is_read_from_the_right_and_other_lines_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("COVID 1 COVID-1.png COVID-19 sirm\n\n3 a.jpg normal rnsa\n")
    lines = read_list(path, "covidx", ("normal", "pneumonia", "COVID-19"))
    assert (lines[0].patient_id, lines[0].name) == ("COVID 1", "COVID-1.png")
    path.write_text("3 a.jpg positive cohen\n")
    with pytest.raises(DataError, match=r"line 1: class 'positive'"):
        read_list(path, "covidx", ("normal",))


def test_a_rule_without_its_numbers_is_refused() -> None:
    with pytest.raises(SplitError, match="needs seed"):
        sorted_holdout(["a"], SplitRule(rule="sorted holdout"))


def test_a_balanced_training_list_keeps_all_positives_and_as_many_negatives_and_leaves_the_rest_alone() -> None:
    ids = [f"{i:04d}" for i in range(1000)]
    rule = registry.dataset("siim-plain").splits["by-image"]
    whole = sorted_holdout(ids, rule.model_copy(update={"rule": "sorted holdout"}))

    def positive(i: str) -> bool:
        return int(i) % 5 == 0

    splits = sorted_holdout_balanced(ids, rule, positive)
    assert (splits["validation"], splits["test"]) == (whole["validation"], whole["test"])
    assert not set(splits["train"]) & (set(splits["validation"]) | set(splits["test"]))
    n_positive = sum(map(positive, whole["train"]))
    assert {i for i in splits["train"] if positive(i)} == {i for i in whole["train"] if positive(i)}
    assert len(splits["train"]) == len(set(splits["train"])) == 2 * n_positive
    assert set(splits["train"]) <= set(whole["train"])
    # The head of the list, 1 % or 10 % of it, is balanced, too.
    assert 0.3 < sum(map(positive, splits["train"][:50])) / 50 < 0.7
    assert splits == sorted_holdout_balanced(ids[::-1], rule, positive)


def test_balancing_keeps_all_negatives_where_they_are_few_and_needs_a_positive() -> None:
    ids = [f"{i:04d}" for i in range(100)]
    rule = registry.dataset("siim-plain").splits["by-image"]
    assert len(sorted_holdout_balanced(ids, rule, lambda i: int(i) % 10 > 0)["train"]) == 70
    with pytest.raises(SplitError, match="None of the 70 training images is positive"):
        sorted_holdout_balanced(ids, rule, lambda i: False)


def test_rules_are_not_taken_for_each_other() -> None:
    balanced, plain = registry.dataset("siim-plain").splits["by-image"], registry.dataset("rsna-plain").splits["mgca-localized"]
    with pytest.raises(SplitError, match="no split rule 'sorted holdout, balanced' here"):
        sorted_holdout(["a"], balanced)
    with pytest.raises(SplitError, match="no split rule 'sorted holdout' here"):
        sorted_holdout_balanced(["a"], plain, bool)
