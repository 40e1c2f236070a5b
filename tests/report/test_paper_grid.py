"""A table's shape follows from the facts of its numbers: what differs heads lines or columns, what does not is said once."""

from __future__ import annotations

import pytest

from benchmark.report.paper_grid import FACTS, WIDEST, grid_of

ROWS = ("method", "pretraining")


def line(**facts: str) -> dict[str, str]:
    return dict.fromkeys((*FACTS, "task_id"), "") | {"unit": "percent", "method": "ours"} | facts


def test_what_all_numbers_share_heads_nothing_and_is_told():
    grid = grid_of([line(task="detection", dataset="RSNA", method=name) for name in ("ours", "theirs")], ROWS)
    assert (grid.row_heads, grid.rows) == (("Method",), (("ours",), ("theirs",)))
    assert grid.levels == (("Value",),)
    assert dict(grid.shared) == {"Task": "detection", "Dataset": "RSNA", "Unit": "percent"}


def test_a_fact_that_follows_from_a_head_stands_with_it():
    facts = [("RSNA", "AUC", "percent"), ("SIIM", "AUC", "percent"), ("COVIDx", "kappa", "fraction")]
    lines = [line(dataset=d, metric=m, unit=u, label_fraction=share) for d, m, u in facts for share in ("1%", "10%")]
    grid = grid_of(lines, ROWS)
    assert grid.spans == [[("RSNA (AUC)", 2), ("SIIM (AUC)", 2), ("COVIDx (kappa, fraction)", 2)], [("1%", 1), ("10%", 1)] * 3]
    assert grid.titles[4] == "COVIDx (kappa, fraction) · 1%"


def test_columns_of_a_group_stand_together_and_shares_rise_wherever_they_come_first():
    order = [("A", "100%"), ("B", "10%"), ("A", "1%"), ("B", "1%")]
    grid = grid_of([line(dataset=dataset, label_fraction=share) for dataset, share in order], ROWS)
    assert grid.levels == (("A", "A", "B", "B"), ("1%", "100%", "1%", "10%"))
    assert grid.at == ((0, 1), (0, 3), (0, 0), (0, 2))


def test_lines_stand_as_they_come_unless_shares_head_them():
    lines = [line(method=name, label_fraction=share, metric=m) for name in ("b", "a") for share in ("10%", "1%") for m in ("x", "y")]
    assert grid_of(lines, ROWS).rows == (("b",), ("a",))
    assert grid_of(lines, ("label_fraction", "method")).rows == (("1%", "b"), ("1%", "a"), ("10%", "b"), ("10%", "a"))


@pytest.mark.parametrize(
    ("settings", "heads", "shared"),
    [
        (["frozen; class=A", "frozen; class=B"], ("A", "B"), "frozen"),
        (["recipe: one", "recipe: two"], ("one", "two"), ""),
        (["frozen; 224", "frozen; 512; crop"], ("224", "512; crop"), "frozen"),
    ],
)
def test_of_a_setting_only_what_differs_heads_a_column(settings, heads, shared):
    grid = grid_of([line(setting=setting) for setting in settings], ROWS)
    assert grid.levels == (heads,)
    assert grid.shared.get("Setting", "") == shared


def test_a_long_table_of_one_line_stands_upright():
    datasets = [f"d{i}" for i in range(WIDEST + 1)]
    grid = grid_of([line(dataset=name, metric="AUC") for name in datasets], ROWS)
    assert (grid.row_heads, grid.rows) == (("Dataset",), tuple((name,) for name in datasets))
    assert grid.levels == (("AUC",),)


def test_what_each_line_has_alone_heads_the_line():
    lines = [
        line(task=task, dataset=dataset, pretraining=share) for task, dataset in (("t1", "A"), ("t2", "A")) for share in ("30%", "100%")
    ]
    lines += [line(task="t3", dataset="B", pretraining=share) for share in ("30%", "100%")]
    grid = grid_of(lines, ("task",))
    assert grid.row_heads == ("Task", "Dataset")
    assert grid.rows == (("t1", "A"), ("t2", "A"), ("t3", "B"))
    assert grid.levels == (("30%", "100%"),)


def test_numbers_that_nothing_else_tells_apart_stand_under_the_ids_of_their_tasks():
    grid = grid_of([line(task="detection", task_id=name) for name in ("rsna-a", "rsna-b")], ROWS)
    assert grid.levels == (("rsna-a", "rsna-b"),)
    assert len(set(grid.at)) == 2
