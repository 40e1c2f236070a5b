"""docs/coverage.md says of every line that no test runs why it is left, or that nobody has said so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import coverage_page
from tests.coverage_page import Block, blocks_of, functions_of, page, pragmas, read_reasons, reason_of, room_of

SOURCE = """\
import sys

def first(x):
    if x:
        return 1
    y = 2
    return y

class Some:
    def method(self):
        try:
            return 1
        except OSError:
            raise ValueError
"""


def measured(missing: list[int], executed: list[int]) -> dict:
    n = len(missing) + len(executed)
    summary = {"num_statements": n, "missing_lines": len(missing), "num_branches": 4, "covered_branches": 3}
    about = {"missing_lines": missing, "executed_lines": executed, "summary": summary}
    return {"files": {"benchmark/heads/made.py": about}, "totals": summary}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "benchmark" / "heads").mkdir(parents=True)
    (tmp_path / "benchmark" / "heads" / "made.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path


def test_missing_lines_are_blocks_of_one_function_between_lines_that_run() -> None:
    found = list(blocks_of("f.py", SOURCE, missing=[5, 7, 13, 14], executed=[1, 3, 4, 6, 9, 10, 11, 12]))
    assert found == [Block("f.py", "first", 5, 5), Block("f.py", "first", 7, 7), Block("f.py", "Some.method", 13, 14)]


def test_a_line_outside_functions_is_the_modules() -> None:
    assert list(blocks_of("f.py", SOURCE, missing=[1], executed=[3])) == [Block("f.py", "", 1, 1)]


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        ({"f.py::Some.method": "inner", "f.py::Some": "outer", "f.py": "file"}, "inner"),
        ({"f.py::Some": "outer", "f.py": "file"}, "outer"),
        ({"f.py": "file"}, "file"),
        ({"g.py": "another"}, None),
    ],
)
def test_the_innermost_reason_holds(reasons: dict[str, str], said: str | None) -> None:
    assert reason_of(Block("f.py", "Some.method", 13, 14), reasons) == said


def test_rooms_are_packages_and_modules_beside_them() -> None:
    assert [room_of(f"benchmark/{name}") for name in ("heads/networks/yolov3.py", "heads/unet.py", "api.py")] == [
        "heads/",
        "heads/",
        "benchmark/*.py",
    ]


def test_the_page_has_shares_of_rooms_reasons_and_what_nobody_explains(tree: Path) -> None:
    text = page(measured([5, 13, 14], [1, 3, 4, 6, 7, 9, 10, 11, 12]), {"benchmark/heads/made.py::Some": "no disk fails here"}, tree)
    assert "| `heads/` | 12 | 3 | 75.0 % | 75.0 % |" in text
    assert "| `benchmark/heads/made.py:13-14` | `Some.method` | no disk fails here |" in text
    assert "1 blocks: a test is missing" in text
    assert "Reasons that nothing needs" not in text
    assert "| `benchmark/heads/made.py:5` | `first` | `return 1` |" in text


def test_a_reason_whose_lines_are_run_by_now_is_named(tree: Path) -> None:
    text = page(
        measured([5], [1]), {"benchmark/heads/made.py::first": "never called", "benchmark/heads/made.py::Some": "no disk fails"}, tree
    )
    assert "## Reasons that nothing needs\n\n- `benchmark/heads/made.py::Some`\n" in text


def test_a_share_is_never_rounded_up_to_all(tree: Path) -> None:
    found = measured([5], [])
    found["totals"] = {"num_statements": 100_000, "missing_lines": 1, "num_branches": 0, "covered_branches": 0}
    assert "| **all** | 100,000 | 1 | 99.9 % | – |" in page(found, {}, tree)


def test_without_a_measurement_the_page_says_so_and_claims_no_share(tree: Path) -> None:
    text = page(None, {}, tree)
    assert "Not measured yet" in text
    assert "%" not in text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x = 1  # pragma: no cover: needs a GPU of its own", "needs a GPU of its own"),
        ("x = 1  # pragma: no cover", None),
        ("x = 1  # pragma: no cover: GPU", None),
        ("x = 1  # pragma: no cover needs a GPU of its own", None),
    ],
)
def test_a_mark_without_a_reason_is_noticed(tree: Path, line: str, reason: str | None) -> None:
    (tree / "benchmark" / "heads" / "made.py").write_text(f"{line}\n", encoding="utf-8")
    assert list(pragmas(tree)) == [("benchmark/heads/made.py", 1, reason)]


def test_every_mark_of_the_package_has_a_reason() -> None:
    found = list(pragmas())
    assert len(found) >= 5  # they are found at all
    assert [f"{file}:{line}" for file, line, reason in found if reason is None] == []


def test_every_reason_is_of_a_file_or_function_that_is_there_and_says_something() -> None:
    gone = []
    for key, reason in read_reasons().items():
        file, _, function = key.partition("::")
        path = coverage_page.ROOT / file
        there = path.is_file() and (not function or function in {name for *_, name in functions_of(path.read_text(encoding="utf-8"))})
        if not there or len(reason) < 10:
            gone.append(key)
    assert gone == []


def test_the_committed_page_is_one_of_this_module() -> None:
    text = coverage_page.PAGE.read_text(encoding="utf-8")
    assert text.startswith(coverage_page.HEAD)
    assert re.search(r"^\| \*\*all\*\* \||Not measured yet", text, flags=re.M)
