"""What was measured, as tables and figures: the numbers and tests of the report, for a notebook. Nothing is computed again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from benchmark.cards import Record
from benchmark.errors import UsageError
from benchmark.front import tables
from benchmark.integrity import file_of
from benchmark.kinds.kit.stored import STATISTICS_FILES, read_statistics
from benchmark.report import figures
from benchmark.report.rows import Row
from benchmark.report.tables import Board, boards
from benchmark.stored_results import StoredResults, narrowed

if TYPE_CHECKING:
    import plotly.graph_objects

FigureKind = Literal["scores", "differences"]


class Results:
    """Stored results of one output folder or several.

    Every table is a new data frame. `print(results)` and a notebook's cell show `cells()`.

    Args:
        stored: records, and the folders that hold them.
        problems: (what was asked for, why it could not be used), of an evaluation.
    """

    def __init__(self, stored: StoredResults, problems: Sequence[tuple[str, str]] = ()):
        self._stored, self._problems = stored, tuple(problems)

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of the report: one for each backbone, task, split and protocol (`benchmark.report.rows.Row`)."""
        return self._stored.rows()

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record, failed ones and searches included, without their curves (`benchmark.cards.Record`)."""
        return self._stored.records

    @property
    def backbones(self) -> list[str]:
        """Labels of backbones, as every table names them."""
        return list(dict.fromkeys(row.label for row in self.rows))

    @property
    def tasks(self) -> list[str]:
        """Ids of tasks, in the order of the tables."""
        return list(dict.fromkeys(row.task for row in self.rows))

    def __repr__(self) -> str:
        return f"Results of {len(self.backbones)} backbones on {len(self.tasks)} tasks\n{self._short().to_string(index=False)}"

    def _repr_html_(self) -> str:
        return str(self._short().to_html(index=False))

    # ------------------------------------------------------------------------------------------------------------- tables

    def cells(self, task: str | Sequence[str] = (), backbone: str | Sequence[str] = ()) -> pd.DataFrame:
        """A line for each backbone and task: mean over runs and half width of its 95 % interval, in per cent, and what it rests on.

        A line with a gap has no mean and says why in `missing`.

        Args:
            task, backbone: only lines whose task or backbone holds one of these texts; `*` and `?` as in a shell.

        Raises:
            UsageError: there is no such line.
        """
        return tables.cells(narrowed(self.rows, _listed(task), _listed(backbone)))

    def runs(self) -> pd.DataFrame:
        """A line for each final run: its reported metric in per cent, learning rate, chosen epoch, seconds, and its key."""
        return tables.runs(self.records, self._labels)

    def metrics(self) -> pd.DataFrame:
        """A line for each metric of each final run, on test and validation images; `value` as stored, a fraction for most metrics."""
        return tables.metrics(self.records, self._labels)

    def curves(self) -> pd.DataFrame:
        """A line for each epoch of each job, searches of learning rates included."""
        of = self._stored.of
        known = ((record, of[record.key].curve(record.key)) for record in self.records if record.key in of)
        return tables.curves(known, self._labels)

    def per_image(self, task: str | Sequence[str] = (), backbone: str | Sequence[str] = (), run: int | None = None) -> pd.DataFrame:
        """A line for each test image of each final run: id, patient, view, sex, decade of age, and the metric with it alone.

        What may not be passed on about single images stays with you: ids of restricted datasets are theirs.

        Args:
            task, backbone: as of `cells`.
            run: from 1; None takes all runs.

        Raises:
            UsageError: nothing fits, or the run stored no statistics of images.
        """
        keys = {one.key for row in narrowed(self.rows, _listed(task), _listed(backbone)) for one in row.runs}
        wanted = [r for r in tables.finals(self.records) if r.key in keys and run in (None, r.job.labels.run_number) and r.status == "ok"]
        found = [frame for record in wanted if (frame := self._images_of(record)) is not None]
        if not found:
            raise UsageError("No run that was asked for has statistics of single images: it failed, or there is no such run.")
        return pd.concat(found, ignore_index=True)

    def compare(self, first: str, second: str) -> pd.DataFrame:
        """First backbone minus second, on every task that both have: the differences that the report would show.

        `effect_points` is the difference of the means in percentage points, with the half width of its 95 % interval and its ends; `p` is
        the two-part p-value over runs and test patients, `p_holm` corrected over the tasks, `reading` the verdict in words. Where nothing
        is tested, p is empty and `reading` says why, for example that a backbone has fewer than three runs.

        Args:
            first, second: labels of backbones, or a part of them that only one has.

        Raises:
            UsageError: no such backbone, a part that several have, or no task that both have.
        """
        found = tables.compared(self.rows, self._label(first), self._label(second))
        if found.empty:
            failed = " Jobs failed: `failures()` says why." if len(self.failures()) else ""
            raise UsageError(f"{first} and {second} have no complete row on a common task, with one split, protocol and scale.{failed}")
        return found

    def failures(self) -> pd.DataFrame:
        """A line for each job that failed, with the reason, and for each part of a request that could not be used."""
        return tables.failures(self.records, self._labels)

    @property
    def problems(self) -> Mapping[str, str]:
        """What an evaluation had to leave out, such as a dataset that is not there: name -> sentence."""
        return dict(self._problems)

    # ------------------------------------------------------------------------------------------------------------ figures

    def figure(
        self, kind: FigureKind = "scores", *, against: str | None = None, protocol: str | None = None
    ) -> plotly.graph_objects.Figure:
        """A figure of the report, interactive, to be shown, changed or saved.

        Args:
            kind: "scores" has a line for each task and a mark with its interval for each backbone; "differences" a panel for each other
                backbone with its differences to one.
            against: of differences, the backbone to subtract.
            protocol: where results were made under several.

        Raises:
            UsageError: results of several protocols, scales or kinds of data, which share no figure; or no backbone to subtract.
        """
        import plotly.graph_objects

        if kind == "scores":
            return plotly.graph_objects.Figure(figures.forest(self._board(protocol)))
        if against is None:
            raise UsageError("Differences are to one backbone: say which with against=...")
        board, base = self._board(protocol), self._label(against)
        panels = [self._differences(label, base, board.rows) for label in board.backbones if label != base]
        return plotly.graph_objects.Figure(figures.dots([panel for panel in panels if panel.dots]))

    # ------------------------------------------------------------------------------------------------------------- inside

    @cached_property
    def _labels(self) -> dict[str, str]:
        return {run.key: row.label for row in self.rows for run in row.runs}

    def _short(self) -> pd.DataFrame:
        """What fits on a screen."""
        lines = [
            {"task": row.task, "backbone": row.label, "metric": row.metric_title, "%": row.text, "runs": f"{row.n_ok}/{row.n_expected}"}
            | {"note": row.missing}
            for row in self.rows
        ]
        return pd.DataFrame(lines, columns=["task", "backbone", "metric", "%", "runs", "note"])

    def _label(self, name: str) -> str:
        if name in self.backbones:
            return name
        found = [label for label in self.backbones if name.lower() in label.lower()]
        if len(found) == 1:
            return found[0]
        which = f"{len(found)} backbones are called so" if found else "no backbone is called so"
        raise UsageError(f"{name!r}: {which}. There are: {', '.join(found or self.backbones)}.")

    def _board(self, protocol: str | None) -> Board:
        found = [board for board in boards(self.rows) if protocol in (None, board.protocol)]
        if len(found) != 1:
            there = "; ".join(board.title for board in boards(self.rows)) or "none"
            raise UsageError(f"A figure is of one protocol, one scale and one kind of data; here are: {there}. Name the protocol.")
        return found[0]

    def _differences(self, label: str, base: str, rows: Iterable[Row]) -> figures.Panel:
        dots = tuple(
            figures.Dot(one["task"], points := one["effect_points"], one["half_width_95_points"], f"{points:.2f} points: {one['reading']}")
            for one in tables.compared(rows, label, base).to_dict("records")
        )
        return figures.Panel(f"{label} − {base} (percentage points)", dots, around_zero=True)

    def _images_of(self, record: Record) -> Any | None:
        shelf = self._stored.of.get(record.key)
        paths = [] if shelf is None else [path for name in STATISTICS_FILES if (path := file_of(record, name, shelf.out)) is not None]
        return tables.per_image(record, read_statistics(paths[0]), self._labels) if paths else None


def _listed(given: str | Sequence[str]) -> Sequence[str]:
    return [given] if isinstance(given, str) else given
