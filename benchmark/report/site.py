"""The leaderboard as a folder that opens in any browser, without a server and without a network.

The first page says who stands where; every task, every backbone and every job has a place of its own, and what is long is loaded when
somebody looks. Everything shown was computed in `material`; the modules of the pages only arrange it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from benchmark.cards import Job, Record
from benchmark.files import writing
from benchmark.report import (
    assets,
    backbone_pages,
    beside,
    compare_page,
    gallery_page,
    papers_page,
    ranking_page,
    records_page,
    subgroups,
    table_files,
    tables,
    task_pages,
    typeset,
)
from benchmark.report.curve_data import CurveOf
from benchmark.report.gallery_page import Overlays
from benchmark.report.material import gathered
from benchmark.report.pages import write_page
from benchmark.report.recipes import recipe_rows
from benchmark.report.rows import ResampledOf, Row
from benchmark.report.shell import Shell
from benchmark.report.standings import FrozenPanel
from benchmark.report.subgroups import Subgroup
from benchmark.shelf import Refused
from benchmark.submission.history import Entry
from benchmark.submission.trust import Trust

GroupsOf = Callable[[Sequence[Row]], list[Subgroup]]

REPORT = "report"  # folder of the pages, in the output folder


def write_site(
    records: Iterable[Record],
    out: Path,
    *,
    title: str,
    overlays: Overlays | None = None,
    planned: Iterable[Job] = (),
    resampled: ResampledOf | None = None,
    refused: Sequence[Refused] = (),
    curve_of: CurveOf | None = None,
    trust: Mapping[str, Trust] | None = None,
    panels: Sequence[FrozenPanel] = (),
    gone: Sequence[Entry] = (),
    groups_of: GroupsOf | None = None,
    recipes: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Writes `<out>/report/` and returns its index.html.

    Beside pages with their data and assets: leaderboard.{csv,json,md,tex}, metrics.csv, curves.csv and the tables of `table_files`;
    where they are asked for, groups.csv and recipes.csv.

    Args:
        records: of any kind; phantom, limited and real ones get tables of their own.
        overlays: task id -> name of a row -> PNG files, copied into the site unless the dataset forbids it.
        planned: jobs that were to run; without a record they show as missing.
        resampled: record -> its test score in resamples of the patients; None: intervals cover runs only.
        refused: stored records that may not be believed: named, and counted as gaps of the rows they were planned for.
        curve_of: gives a record's training curve, where records were read without; None takes the record's own.
        trust: level of each record by key; those that it does not name are one's own.
        panels: frozen reference panels, the newest of a suite last; without one nothing is ranked.
        gone: submissions that were accepted and are shown no more; ranks are corrected for them too.
        groups_of: rows -> their scores on parts of the test images, for tasks' pages and groups.csv; None shows none.
        recipes: name -> labels of the checkpoints that were pretrained alike, for recipes.csv.

    Raises:
        UsageError: an overlay is no PNG file, or a recipe has fewer than three checkpoints or one without a row.
    """
    report = out / REPORT
    with writing(report, "Give an --out whose folder report may be written."):
        report.mkdir(parents=True, exist_ok=True)
    material = gathered(
        records, title=title, planned=list(planned), resampled=resampled, refused=refused, trust=trust, panels=panels, gone=gone
    )
    shell = Shell(report, title)
    shell.written.update(assets.write(report))
    galleries = gallery_page.collect(shell, material, overlays or {})
    groups = None if groups_of is None else groups_of(material.rows)
    task_pages.write(shell, material, galleries, groups or ())
    curves = backbone_pages.write(shell, material, curve_of or (lambda record: record.curve))
    compare_page.write(shell, material)
    gallery_page.write(shell, material, galleries)
    records_page.write(shell, material)
    write_page(report / "leaderboard.csv", tables.to_csv(material.rows))
    write_page(report / "leaderboard.json", json.dumps(tables.to_dicts(material.rows), indent=1, ensure_ascii=False) + "\n")
    write_page(report / "leaderboard.md", typeset.to_markdown(material.rows, title=title))
    write_page(report / "leaderboard.tex", typeset.to_latex(material.rows))
    write_page(report / "metrics.csv", beside.to_csv(material.values))
    write_page(report / "curves.csv", curves.text())
    for name, text in table_files.all_of(material).items():
        write_page(report / name, text)
    _write_or_remove(report / "groups.csv", None if groups is None else subgroups.to_csv(groups))
    _write_or_remove(report / "recipes.csv", tables.to_csv(recipe_rows(material.rows, recipes)) if recipes else None)
    ranking_page.write(shell, material)
    papers_page.write(report)
    shell.prune()
    return report / "index.html"


def _write_or_remove(path: Path, text: str | None) -> None:
    """None takes away what an earlier report wrote."""
    if text is None:
        path.unlink(missing_ok=True)
    else:
        write_page(path, text)
