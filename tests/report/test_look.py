"""How a page looks is decided in `benchmark/report/` alone: callers hand over records or rows, and another look computes nothing again."""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path

import benchmark
from benchmark.report import tables
from benchmark.report.rows import rows_of
from benchmark.report.site import write_site

PACKAGE = Path(benchmark.__file__).parent
ROOM = PACKAGE / "report"
# What others may call: what makes rows of records, and what writes or draws rows. None of them takes a colour, a column or an order.
OFFERED = {
    "addresses": {"name_of"},
    "against": {"against"},
    "escape": set(),
    "figures": set(),
    "gallery": set(),
    "line_figures": {"Series"},
    "local_pictures": set(),
    "numbers": {"mean"},
    "pages": {"environment", "write_page"},
    "paper_text": set(),
    "reproduce": {"Reproduction"},
    "reproduce_pages": set(),
    "resampling": {"Resampled"},
    "row_warnings": {"PHANTOM"},
    "rows": {"ResampledOf", "Row", "is_of", "metric_title", "rows_of"},
    "site": {"REPORT", "write_site"},
    "side_by_side": {"lines"},
    "subgroups": set(),
    "tables": {"Board", "boards", "row_dict", "to_dicts", "to_rich"},
    "unchanged": set(),
}


def imported_from_the_room(path: Path) -> set[tuple[str, str]]:
    """(module, name) of every import from `benchmark.report`; the name is empty where the module itself is imported."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "benchmark.report":
            found |= {(each.name, "") for each in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("benchmark.report."):
            found |= {(str(node.module).removeprefix("benchmark.report."), each.name) for each in node.names}
    return found


def test_other_rooms_import_what_makes_pages_and_nothing_of_how_they_look() -> None:
    imports = {(path, *each) for path in PACKAGE.rglob("*.py") if ROOM not in path.parents for each in imported_from_the_room(path)}
    assert {module for _, module, _ in imports} == set(OFFERED)
    assert [(path.name, module, name) for path, module, name in imports if name and name not in OFFERED[module]] == []


def test_templates_and_styles_lie_in_the_room() -> None:
    elsewhere = [path for path in PACKAGE.rglob("*") if path.suffix in (".j2", ".css", ".js", ".html") and ROOM not in path.parents]
    assert (ROOM / "templates" / "index.html.j2").is_file()
    assert elsewhere == []


def test_a_further_column_is_one_entry_and_reaches_csv_and_json_without_new_records(make, tmp_path, monkeypatch) -> None:
    records = make.runs([0.20, 0.22, 0.24], task="rsna-yolov3-frozen-10")
    before = [record.model_dump_json() for record in records]
    monkeypatch.setattr(tables, "_EXPORTED", {"best_run_percent": lambda row: 100 * max(run.value for run in row.runs), **tables._EXPORTED})
    write_site(records, tmp_path, title="Another look")
    (line,) = csv.DictReader(io.StringIO((tmp_path / "report" / "leaderboard.csv").read_text(encoding="utf-8")))
    assert float(line["best_run_percent"]) == 24
    assert tables.to_dicts(rows_of(records))["rows"][0]["best_run_percent"] == 24
    assert [record.model_dump_json() for record in records] == before
