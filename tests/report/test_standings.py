"""Who is ranked, where, and why not: every table from rows, as the front page shows it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import pytest

from benchmark import registry
from benchmark.cards import Contamination, PanelCard, Record, SuiteCard, Words
from benchmark.cards.panels import PanelTask
from benchmark.report import contenders
from benchmark.report.contenders import NOT_SCORED_AGAIN
from benchmark.report.resampling import Resampled
from benchmark.report.rows import Row, rows_of
from benchmark.report.standings import ALONE, AS_PUBLISHED, LIMITED, NO_PANEL, UNTRAINED, Standings, standings
from benchmark.statistics.panel import Panel, PanelScale, panel_scale
from benchmark.submission import history
from benchmark.submission.trust import Trust
from tests.statistics.vectors import DATASET_OF_TASK, N_ROWS, PATIENTS_OF_DATASET, board

# One track of a suite: tasks 0 and 1 of one dataset, 2 and 3 of another, 4 of a third.
TASKS = (
    "rsna-yolov3-frozen-10",
    "rsna-yolov3-frozen-100",
    "siim-unet-frozen-10",
    "siim-unet-frozen-100",
    "object-cxr-yolov3-frozen-100",
)
UNIT = PanelScale(0.4, 0.02)
NAMES = ("anna", "Bea", "carl", "dora", "eve", "fritz")


@dataclass(frozen=True)
class Frozen:
    """A panel as a registry gives it."""

    scales: Mapping[str, PanelScale]
    version: str = "v1"
    suite: str = "mine"
    protocol: str = "corrected"
    phantom: bool = False
    asked: list = field(default_factory=list)

    def as_panel(self, *, phantom: bool | None = None) -> Panel:
        assert phantom == self.phantom
        return Panel(MappingProxyType(dict(self.scales)), tuple(f"b{i}" for i in range(8)))


MACS = {"encoder": 11, "head": 2}
PANEL = Frozen(dict.fromkeys(TASKS, UNIT))


@pytest.fixture
def rows(make) -> Callable[..., list[Row]]:
    """Rows of backbones, name -> score on all tasks or by task; every run moves by `noise`, and so does every resample. Before the tasks of
    `retrained` other weights were written into the files."""

    def made(
        scores: Mapping[str, float | Mapping[str, float]],
        n_runs: int = 5,
        noise: float = 0.002,
        undrawn: bool = False,
        retrained: Sequence[str] = (),
        **options,
    ) -> list[Row]:
        records, drawn = [], {}
        common = {"protocol": "corrected", "order_seed": 1, "suite": "mine", "contamination": Contamination.NONE} | options
        for name, given in scores.items():
            by_task = given if isinstance(given, Mapping) else dict.fromkeys(TASKS, given)
            for task, score in by_task.items():
                weights = f"{name}, again" if task in retrained else name
                digest = None if "random" in name else hashlib.sha256(weights.encode()).hexdigest()
                rng = np.random.default_rng([len(records), *name.encode()])
                moves = rng.normal(size=n_runs)
                for run, move in enumerate(moves - moves.mean()):
                    value = score + noise * move
                    record = make.record(value, task=task, backbone=name, digest=digest, run=run, **common)
                    records.append(record)
                    drawn[record.key] = value + noise * rng.standard_normal((200, 1))

        def resampled(record: Record) -> Resampled:
            return Resampled(drawn[record.key].astype(np.float32), record.job.experiment.dataset.name, 60, True)

        return rows_of(records, resampled=None if undrawn else resampled)

    return made


def only(found: Sequence[Standings]) -> Standings:
    (table,) = found
    return table


def test_known_headlines_bands_and_pairs_of_a_table(make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "sources", dict)  # the vectors' datasets share no images
    runs, resampled = board()
    scales = {task: panel_scale((runs[N_ROWS:, :, t].mean(axis=1) / 100).tolist()) for t, task in enumerate(TASKS)}
    records, drawn = [], {}
    for i, name in enumerate(NAMES):
        for t, task in enumerate(TASKS):
            for run in range(5):
                options = {"protocol": "corrected", "order_seed": 1, "suite": "mine", "contamination": Contamination.NONE}
                record = make.record(runs[i, run, t] / 100, task=task, backbone=name, digest=f"{i:064d}", run=run, **options)
                records.append(record)
                # The vectors give the mean over runs in resamples; so does every run here.
                drawn[record.key] = resampled[:, i, t : t + 1] / 100

    def of(record: Record) -> Resampled:
        n_patients = int(PATIENTS_OF_DATASET[DATASET_OF_TASK[TASKS.index(record.job.labels.task)]])
        return Resampled(drawn[record.key].astype(np.float32), record.job.experiment.dataset.name, n_patients, True)

    table = only(standings(rows_of(records, resampled=of), [Frozen(scales)]))
    assert (table.suite, table.track, table.protocol, table.panel, table.tasks) == ("mine", "head-frozen", "corrected", "v1", TASKS)
    shown = {one.label: (one.headline, one.half_width, str(one.band)) for one in table.rows}
    assert shown == {
        "anna": (pytest.approx(1.789118, abs=1e-6), pytest.approx(0.548754, abs=2e-5), "1-2"),
        "Bea": (pytest.approx(0.450778, abs=1e-6), pytest.approx(0.587818, abs=2e-5), "3"),
        "carl": (pytest.approx(-1.734941, abs=1e-6), pytest.approx(0.577458, abs=2e-5), "6"),
        "dora": (pytest.approx(-0.798194, abs=1e-6), pytest.approx(0.638443, abs=2e-5), "4-5"),
        "eve": (pytest.approx(-0.540438, abs=1e-6), pytest.approx(0.604969, abs=2e-5), "4-5"),
        "fritz": (pytest.approx(2.049089, abs=1e-6), pytest.approx(0.527295, abs=2e-5), "1-2"),
    }
    assert [one.label for one in table.rows] == list(table.ranked) == ["anna", "fritz", "Bea", "dora", "eve", "carl"]
    assert (table.tied_for_best, table.sentence) == (("anna", "fritz"), "Tied for best: anna, fritz.")
    place = {label: i for i, label in enumerate(table.ranked)}
    for first, second, adjusted in (
        ("anna", "fritz", 0.489049),
        ("dora", "eve", 0.489049),
        ("Bea", "dora", 2.398e-4),
        ("Bea", "eve", 1.775e-3),
    ):
        assert table.adjusted_p[place[first]][place[second]] == pytest.approx(adjusted, rel=1e-3)
        assert table.pair_half_widths[place[first]][place[second]] > 0
    assert all(one.why_none == "" and set(one.by_dataset) == {"rsna", "siim", "object-cxr"} for one in table.rows)
    assert max(max(map(abs, one.by_task.values())) for one in table.rows) == 3


def test_rows_stand_by_band_and_alphabetically_inside_one(rows) -> None:
    table = only(standings(rows({"Zoe": 0.42, "adam": 0.42001, "low": 0.38, "mid": 0.40}), [PANEL]))
    assert [(one.label, str(one.band)) for one in table.rows] == [("adam", "1-2"), ("Zoe", "1-2"), ("mid", "3"), ("low", "4")]
    assert table.sentence == "Tied for best: adam, Zoe."
    assert only(standings(rows({"best": 0.42, "low": 0.38}), [PANEL])).sentence == "Best: best."


@pytest.mark.parametrize(
    ("changed", "n_gone"),
    [
        ({}, 2),
        ({"backbones": ("x", "y", "z")}, 3),
        ({"phantom": True}, 0),  # a rehearsal stands in no table of real rows
        ({"levels": dict.fromkeys(TASKS, Trust.RECOMPUTED)}, 0),  # it could not be ranked
        ({"levels": dict.fromkeys(TASKS[1:], Trust.RESCORED)}, 0),  # without all tasks neither
    ],
)
def test_what_was_ranked_and_is_shown_no_more_is_corrected_for(rows, changed: dict, n_gone: int) -> None:
    told = {"levels": dict.fromkeys(TASKS, Trust.RESCORED), "trust": Trust.RESCORED, "backbones": ("x", "y")}
    once = history.entry("accepted", "a" * 64, "sent", **(told | changed))
    mine = rows({"a": 0.42, "b": 0.4185, "c": 0.40})
    before, after = only(standings(mine, [PANEL])), only(standings(mine, [PANEL], [once]))
    assert (before.n_gone, after.n_gone) == (0, n_gone)
    assert [one.headline for one in after.rows] == [one.headline for one in before.rows]
    assert all(one.band.worst <= 3 for one in after.rows)  # what is shown no more holds no rank
    least, least_before = (min(p for row in table.adjusted_p for p in row) for table in (after, before))
    assert least > least_before if n_gone else least == least_before


def test_a_row_with_a_gap_has_no_headline_names_it_and_moves_nobody(rows) -> None:
    gap = dict.fromkeys(TASKS[1:], 0.5)
    before = only(standings(rows({"a": 0.42, "b": 0.40}), [PANEL]))
    after = only(standings(rows({"a": 0.42, "b": 0.40, "gap": gap}), [PANEL]))
    assert [replace(one, why_none="") for one in after.rows[:2]] == list(before.rows)
    last = after.rows[-1]
    assert (last.label, last.headline, last.band) == ("gap", None, None)
    assert last.why_none == f"no headline; not measured: {TASKS[0]}"
    assert set(last.by_task) == set(TASKS[1:])
    assert set(last.by_dataset) == {"siim", "object-cxr"}  # of RSNA one task is missing
    assert after.adjusted_p == before.adjusted_p


def test_tasks_that_were_measured_on_two_networks_of_one_name_make_no_headline(rows) -> None:
    table = only(standings([*rows({"a": 0.42, "b": 0.40}), *rows({"mine": 0.44}, retrained=TASKS[2:])], [PANEL]))
    assert table.ranked == ("a", "b")
    assert [(one.backbone, one.headline, one.unseen) for one in table.rows[2:]] == [("mine", None, None)] * 2
    assert len({one.label for one in table.rows}) == 4
    assert {one.why_none for one in table.rows[2:]} == {f"no headline; not measured: {', '.join(some)}" for some in (TASKS[:2], TASKS[2:])}


@pytest.mark.parametrize("leak", ["", "rsna", "object-cxr"])
def test_a_row_whose_dataset_has_tasks_of_other_numbers_of_runs_is_a_line_without_a_headline(rows, leak: str) -> None:
    def uneven() -> list[Row]:
        some = [*rows({"uneven": {TASKS[0]: 0.44}}), *rows({"uneven": dict.fromkeys(TASKS[1:], 0.44)}, n_runs=3)]
        return [replace(row, contamination="images") if row.dataset == leak else row for row in some]

    before = only(standings(rows({"a": 0.42, "b": 0.40}), [PANEL]))
    after = only(standings([*rows({"a": 0.42, "b": 0.40}), *uneven()], [PANEL]))
    assert list(after.rows[:2]) == list(before.rows)
    last = after.rows[-1]
    assert (last.label, last.headline, last.band, set(last.by_task)) == ("uneven", None, None, set(TASKS))
    said = f"other runs or test patients within rsna: {TASKS[0]} (5 runs, 60 patients), {TASKS[1]} (3 runs, 60 patients)"
    assert last.why_none.endswith(said)
    assert last.why_none.startswith("no headline; ")
    assert (last.unseen is None) == (leak != "rsna")  # over tasks that are even


def test_a_row_that_saw_a_dataset_has_no_headline_and_one_over_the_others(rows) -> None:
    seen = rows({"leaky": dict.fromkeys(TASKS[:4], 0.44)})
    seen += rows({"leaky": {TASKS[4]: 0.60}}, contamination=Contamination.IMAGES)
    table = only(standings([*rows({"a": 0.42, "b": 0.40}), *seen], [PANEL]))
    leaky = table.rows[-1]
    assert (leaky.label, leaky.headline, leaky.half_width, leaky.band) == ("leaky", None, None, None)
    assert leaky.why_none == f"no headline; pretraining has or may have seen the data of: {TASKS[4]} (images)"
    assert leaky.contamination[TASKS[4]] == "images"
    assert leaky.by_task[TASKS[4]] == 3.0  # shown, and never averaged away
    assert leaky.unseen == pytest.approx(2.0)
    assert leaky.unseen_half_width > 0
    assert table.rows[0].unseen is None


def test_unknown_pretraining_counts_as_seen(rows) -> None:
    table = only(standings(rows({"a": 0.42}, contamination=None), [PANEL]))
    assert (table.rows[0].headline, table.rows[0].unseen) == (None, None)
    assert "(unknown)" in table.rows[0].why_none
    assert table.sentence == "No ranking yet: no backbone has a headline."


@pytest.mark.parametrize(
    ("options", "panel", "why"),
    [
        ({}, None, NO_PANEL),
        ({}, replace(PANEL, suite="other"), NO_PANEL),
        ({}, replace(PANEL, protocol="lobe"), NO_PANEL),
        ({}, replace(PANEL, phantom=True), NO_PANEL),
        ({"phantom": True}, PANEL, NO_PANEL),
        ({"limit": 16}, PANEL, LIMITED),
        ({"protocol": "published"}, replace(PANEL, protocol="published"), AS_PUBLISHED),
    ],
)
def test_without_a_panel_of_its_own_kind_a_table_ranks_nobody(rows, options, panel, why) -> None:
    found = standings(rows({"b": 0.42, "a": 0.40}, **options), [] if panel is None else [panel])
    table = next(one for one in found if one.rows)
    assert [(one.label, one.headline, one.band, one.why_none) for one in table.rows] == [(name, None, None, why) for name in "ab"]
    assert (table.sentence, table.tied_for_best, table.adjusted_p, table.panel) == (f"No ranking yet: {why}.", (), [], "")
    assert set(table.tasks) == set(TASKS)


def test_a_phantom_panel_ranks_phantom_rows_and_no_others(rows) -> None:
    phantoms = rows({"a": 0.42, "b": 0.40}, phantom=True)
    real, generated = standings([*phantoms, *rows({"a": 0.42, "b": 0.40})], [replace(PANEL, phantom=True, version="p1")])
    assert (real.phantom, real.panel, real.sentence) == (False, "", f"No ranking yet: {NO_PANEL}.")
    assert (generated.phantom, generated.panel, generated.sentence) == (True, "p1", "Best: a.")


def test_the_newest_panel_of_a_suite_is_the_scale(rows) -> None:
    newer = Frozen(dict.fromkeys(TASKS, PanelScale(0.40, 0.04)), version="v2")
    table = only(standings(rows({"a": 0.42}), [PANEL, newer]))
    assert (table.panel, table.rows[0].headline) == ("v2", pytest.approx(0.5))


def test_untrained_networks_are_anchors_with_a_headline_and_without_a_rank(rows) -> None:
    table = only(standings(rows({"a": 0.42, "b": 0.40, "resnet18 (random)": 0.45}), [PANEL]))
    assert [(one.label, one.band is None) for one in table.rows] == [("a", False), ("b", False), ("resnet18 (random)", True)]
    anchor = table.rows[-1]
    assert (anchor.random, anchor.why_none, anchor.headline) == (True, UNTRAINED, pytest.approx(2.5))
    assert table.ranked == ("a", "b")


def test_rows_with_other_runs_or_other_test_images_are_not_ranked(rows) -> None:
    odd = rows({"three": 0.44}, n_runs=3)
    elsewhere = [replace(row, resampled=replace(row.resampled, test="others")) for row in rows({"elsewhere": 0.44})]
    table = only(standings([*rows({"a": 0.42, "b": 0.40}), *odd, *elsewhere], [PANEL]))
    assert table.ranked == ("a", "b")
    for one in table.rows[2:]:
        assert (one.headline, one.band) == (pytest.approx(2.0), None)
        assert one.why_none == "not ranked: other runs, test images or patients than most rows of the table"


@pytest.mark.parametrize(("n_runs", "why"), [(1, "no backbone has a headline"), (2, "not tested: 2 runs, a test needs 3")])
def test_too_few_runs_rank_nobody(rows, n_runs, why) -> None:
    table = only(standings(rows({"a": 0.42, "b": 0.38}, n_runs=n_runs), [PANEL]))
    assert (table.sentence, table.tied_for_best, table.ranked, table.adjusted_p) == (f"No ranking yet: {why}.", (), (), [])
    assert all(one.band is None and one.why_none for one in table.rows)
    if n_runs == 1:
        assert table.rows[0].why_none == f"no headline; one run: {', '.join(TASKS)}"


def test_one_row_alone_has_no_rank_and_the_sentence_says_why(rows) -> None:
    """Others have headlines: an anchor, and what nobody scored again."""
    sent = [replace(row, trust=Trust.RECOMPUTED) for row in rows({"sent": 0.44})]
    table = only(standings([*rows({"a": 0.42, "resnet18 (random)": 0.39}), *sent], [PANEL]))
    assert (table.sentence, table.ranked, table.tied_for_best) == ("No ranking yet: only a may have a rank.", (), ())
    assert all(one.band is None and one.headline is not None for one in table.rows)
    assert {one.label: one.why_none for one in table.rows}["a"] == ALONE
    assert only(standings(sent, [PANEL])).sentence == "No ranking yet: no backbone may have a rank."


def test_tasks_of_few_images_with_the_finding_rank_nobody(rows) -> None:
    few = [replace(row, n_with_finding=14) if row.task == TASKS[0] else row for row in rows({"a": 0.42, "b": 0.38})]
    table = only(standings(few, [PANEL]))
    assert table.sentence == "No ranking yet: not tested: 14 test patients with the finding, a test needs 15."
    assert all(one.band is None and one.half_width is not None for one in table.rows)


def test_rows_without_statistics_per_image_have_no_headline(rows) -> None:
    table = only(standings(rows({"a": 0.42}, undrawn=True), [PANEL]))
    assert table.rows[0].why_none == f"no headline; no resamples of the test patients: {', '.join(TASKS)}"


def test_a_backbone_of_ones_own_is_ranked_and_a_task_of_ones_own_is_not(rows) -> None:
    own = rows({"mine": 0.42}, custom=("backbone",)) + rows({"other": 0.40}, custom=("backbone", "task"))
    table = only(standings([*own, *rows({"a": 0.41})], [PANEL]))
    assert table.ranked == ("mine", "a")
    assert table.rows[-1].why_none == "not ranked: custom task"
    assert table.rows[-1].custom == ("backbone", "task")


def test_a_row_beyond_the_scale_says_so_and_has_no_interval(rows) -> None:
    table = only(standings(rows({"far": 0.60, "a": 0.42, "b": 0.40}), [PANEL]))
    far = table.rows[0]
    assert (far.headline, far.half_width, str(far.band)) == (pytest.approx(3.0), None, "1")
    assert far.why_none == "off scale: over a quarter of its tasks are clipped"


def test_fixed_weights_on_text_tasks_are_ranked_over_patients(rows) -> None:
    own = {f"words-{i}": UNIT for i in range(len(TASKS))}
    renamed = [replace(row, task=f"words-{TASKS.index(row.task)}") for row in rows({"a": 0.42, "b": 0.38}, n_runs=1, words=Words())]
    table = only(standings(renamed, [Frozen(own)]))
    assert (table.track, table.panel) == ("text", "v1")
    assert [(one.label, str(one.band)) for one in table.rows] == [("a", "1"), ("b", "2")]
    assert table.rows[0].half_width > 0


def test_tracks_and_boards_are_never_ranked_together(rows) -> None:
    linear = rows({"a": {"rsna-linear-frozen-10": 0.5}})
    found = standings([*rows({"a": 0.42}), *linear, *rows({"a": 0.42}, suite=None, limit=8)], [PANEL])
    assert [(one.suite, one.track, one.scale) for one in found] == [
        ("mine", "linear-frozen", "full"),
        ("mine", "head-frozen", "full"),
        ("", "head-frozen", "limited"),
    ]
    assert [len(one.rows) for one in found] == [1, 1, 1]
    everything = [*rows({"a": 0.42}), *linear, *rows({"a": 0.42}, suite=None, limit=8)]
    assert [len(one.rows_in(everything)) for one in found] == [1, 5, 5]


def test_a_task_without_a_scale_is_shown_and_in_no_headline(rows) -> None:
    table = only(standings(rows({"a": 0.42}), [replace(PANEL, scales=dict.fromkeys(TASKS[:4], UNIT))]))
    assert (table.tasks, set(table.shown)) == (TASKS[:4], set(TASKS))
    assert set(table.rows[0].by_task) == set(TASKS[:4])


def test_a_suites_card_says_which_tasks_count_and_in_which_order(rows, monkeypatch: pytest.MonkeyPatch) -> None:
    card = SuiteCard(name="mine", title="T", description="D", tasks=(TASKS[3], TASKS[0], TASKS[2]))
    monkeypatch.setattr(registry, "suites", lambda: {"mine": card})
    found = standings(rows({"a": 0.42}))
    assert [(one.suite, one.shown) for one in found] == [("mine", card.tasks), ("", (TASKS[4], TASKS[1]))]


def card_of(measured: Sequence[Row], task_version: int | None = None) -> PanelCard:
    """A panel that was measured on the images and by the metrics of these rows."""
    scale = {"median": 0.4, "iqr": 0.02, "rises": True, "reliability": 0.9, "task_version": task_version}
    by_task = {row.task: row for row in measured}
    tasks = {task: PanelTask(metric=by_task[task].metric, dataset_digest=by_task[task].dataset_digest, **scale) for task in TASKS}
    return PanelCard(
        version="v9", suite="mine", protocol="corrected", phantom=False, tasks=tasks, rows=(), made_by="T", frozen_on="2026-01-31"
    )


@pytest.fixture
def no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cards of tasks, which have versions of their own."""
    monkeypatch.setattr(registry, "tasks", dict)


def test_rows_on_other_images_than_the_panel_are_not_measured_by_its_scale(rows, no_cards: None) -> None:
    card = card_of(rows({"a": 0.42}))
    elsewhere = [replace(row, dataset_digest="f" * 64) if row.task == TASKS[4] else row for row in rows({"edited": 0.44})]
    table = only(standings([*rows({"a": 0.42, "b": 0.40}), *elsewhere], [card]))
    assert (table.panel, table.ranked) == ("v9", ("a", "b"))
    assert table.rows[-1].why_none == f"no headline; on other images than the panel: {TASKS[4]}"
    assert set(table.rows[-1].by_task) == set(TASKS[:4])


@pytest.mark.parametrize("other", [{"task_version": 2}, {"metric": "another"}])
def test_rows_of_another_version_or_metric_than_the_panel_are_not_ranked(rows, no_cards: None, other: dict) -> None:
    card = card_of(rows({"a": 0.42}), task_version=1)
    apart = [replace(row, **other) if row.task == TASKS[4] else row for row in rows({"apart": 0.44})]
    table = only(standings([*rows({"a": 0.42, "b": 0.40}), *apart], [card]))
    assert table.ranked == ("a", "b")
    assert (table.rows[-1].headline, table.rows[-1].unseen) == (None, None)
    assert table.rows[-1].why_none == f"no headline; of another version or metric than the panel: {TASKS[4]}"
    assert set(table.rows[-1].by_task) == set(TASKS[:4])


def test_a_panel_that_names_no_version_is_of_todays(rows, monkeypatch: pytest.MonkeyPatch) -> None:
    today = {task: card.model_copy(update={"version": 3}) for task, card in registry.tasks().items() if task in TASKS}
    monkeypatch.setattr(registry, "tasks", lambda: today)
    mine = [replace(row, task_version=3) for row in rows({"a": 0.42, "b": 0.40})]
    table = only(standings([*mine, *rows({"earlier": 0.44})], [card_of(mine)]))
    assert table.ranked == ("a", "b")
    known = ", ".join(task for task in TASKS if task in today)
    assert table.rows[-1].why_none == f"no headline; of another version or metric than the panel: {known}"


def test_the_panels_images_choose_the_split(rows, no_cards: None) -> None:
    """However many rows ran on another split: its rows say so, and nobody else loses a rank."""
    mine, others = rows({"a": 0.42, "b": 0.40}), rows({"x": 0.43, "y": 0.41, "z": 0.39}, split="patient-disjoint")
    others = [replace(row, dataset_digest="d" * 64) for row in others]
    table = only(standings([*mine, *others], [card_of(mine)]))
    assert table.ranked == ("a", "b")
    assert {one.why_none for one in table.rows if one.label in "xyz"} == {f"no headline; measured on another split: {', '.join(TASKS)}"}


def test_a_task_under_several_settings_is_not_called_unmeasured(rows) -> None:
    settings = {"threads=1", "threads=2"}
    once, again = rows({"mine": 0.43}), rows({"mine": {TASKS[0]: 0.43}}, threads=2)
    (first,) = [row for row in once if row.task == TASKS[0]]
    both = [replace(row, variant=name, settings=name) for row, name in zip((first, *again), sorted(settings), strict=True)]
    twice = [*both, *(row for row in once if row is not first)]
    table = only(standings([*rows({"a": 0.42, "b": 0.40}), *twice], [PANEL]))
    assert table.ranked == ("a", "b")
    why = {one.label: one.why_none for one in table.rows if one.backbone == "mine"}
    assert why == dict.fromkeys(
        ["mine", *(f"mine [{one}]" for one in settings)], f"no headline; measured under several settings: {TASKS[0]}"
    )


@pytest.mark.parametrize(
    ("dataset", "by_patient", "lists"),
    [
        ("nih-cxr", True, {"nih"}),  # RSNA's patients are ChestX-ray14's
        ("nih-cxr", False, {"rsna", "nih-cxr"}),  # without RSNA's mapping nobody knows whose images they are
        ("rsna-plain", False, {"rsna"}),  # another card of the same release
        ("tbx11k", True, {"nih", "tbx11k"}),
    ],
)
def test_datasets_that_name_the_same_patients_are_one_list_of_them(rows, dataset, by_patient, lists) -> None:
    panel = replace(PANEL, scales={TASKS[0]: UNIT, TASKS[1]: UNIT}).as_panel(phantom=False)
    mine = [row for row in rows({"a": 0.42}) if row.task in panel.by_task]
    known = [replace(row, resampled=replace(row.resampled, by_patient=by_patient)) for row in mine]
    (found,) = contenders.read([known[0], replace(known[1], dataset=dataset)], panel)
    assert set(found.headline.n_patients) == lists


def test_a_standing_is_trusted_as_far_as_its_least_trusted_cell(rows) -> None:
    levels = [Trust.RERUN, Trust.RECOMPUTED, Trust.RESCORED, Trust.RERUN, Trust.RERUN]
    mixed = [replace(row, trust=level) for row, level in zip(rows({"a": 0.42}), levels, strict=True)]
    assert only(standings(mixed, [PANEL])).rows[0].trust is Trust.RECOMPUTED


@pytest.mark.parametrize("level", Trust)
def test_what_is_sent_in_is_ranked_once_somebody_else_has_scored_its_predictions(rows, level: Trust) -> None:
    sent = [replace(row, trust=level) for row in rows({"sent": 0.44})]
    table = only(standings([*rows({"a": 0.42, "b": 0.40}), *sent], [PANEL]))
    (one,) = [one for one in table.rows if one.label == "sent"]
    ranked = level in (Trust.LOCAL, Trust.RESCORED, Trust.RERUN)
    assert (one.band is not None, one.why_none, one.headline) == (ranked, "" if ranked else NOT_SCORED_AGAIN, pytest.approx(2.0))


def test_a_row_of_ones_own_under_the_label_of_an_unchecked_submission_gives_it_no_rank(rows) -> None:
    sent = [replace(row, trust=Trust.LOCAL if number == 0 else Trust.RECOMPUTED) for number, row in enumerate(rows({"sent": 0.44}))]
    table = only(standings([*rows({"a": 0.42, "b": 0.40}), *sent], [PANEL]))
    (one,) = [one for one in table.rows if one.label == "sent"]
    assert (one.trust, one.band, one.why_none) == (Trust.RECOMPUTED, None, NOT_SCORED_AGAIN)


def test_a_standing_says_what_its_cells_took_and_how_large_the_encoder_is(rows) -> None:
    (one,) = only(standings(rows({"a": 0.42}, parameters={"trained": 5, "frozen": 7, "encoder": 7, "head": 5}, macs=MACS), [PANEL])).rows
    assert one.cost_s == pytest.approx(len(TASKS) * 5 * 13.5)
    assert (one.parameters, one.macs, one.trust) == (7, 11, Trust.LOCAL)
