"""A reference panel is frozen from complete, full, real rows alone, and never changes afterwards."""

from __future__ import annotations

import functools
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark import panel_files, registry
from benchmark.cards import Contamination, PanelCard, Record
from benchmark.errors import CardError, UsageError
from benchmark.integrity import sealed
from benchmark.metrics.statistics import pooled_metric
from benchmark.panels import freeze, frozen
from benchmark.report import resampling
from benchmark.report.rows import rows_of
from benchmark.report.standings import standings
from benchmark.statistics.panel import freeze_panel, reliability
from benchmark.store import Store
from tests.report.conftest import make_job, make_record
from tests.skilled_rows import COUNTS, put, statistics

TASKS = {"rsna-linear-frozen-10": "opacity", "siim-unet-frozen-100": "pneumothorax", "covid-rural-unet-frozen-100": "opacity"}
NOISY = "covid-rural-unet-frozen-100"  # on which the rows differ by chance alone
SUITE = f"suites:\n  - {{ name: three, title: Three, description: Made up., tasks: [{', '.join(TASKS)}] }}\n"
N_ROWS, N_RUNS = 8, 3


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of eight trained rows and an untrained one, three runs on three tasks."""
    folder = tmp_path_factory.mktemp("panel") / "out"
    store = Store(folder)
    for row in range(N_ROWS + 1):
        trained = {"backbone": f"b{row}", "digest": f"{row:064}"} if row < N_ROWS else {"backbone": "random"}
        for number, (task, label) in enumerate(TASKS.items()):
            for run in range(N_RUNS):
                skill = 0.0 if task == NOISY else 0.05 * row if row < N_ROWS else -0.3
                made = statistics(label, skill, (row, number, run))
                value = pooled_metric(made, f"{label}_dice")(None)
                record = make_record(value, task=task, run=run, counts=COUNTS, sample_digests={}, **trained)
                put(store, changed(record, contamination=Contamination.NONE), made)
    return folder


@pytest.fixture(scope="module")
def records(out: Path) -> list[Record]:
    return Store(out).all()


@pytest.fixture(scope="module")
def resampled(out: Path) -> Callable:
    """Computed once a record."""
    known: dict[str, resampling.Resampled | None] = {}

    def found(record: Record) -> resampling.Resampled | None:
        if record.key not in known:
            known[record.key] = resampling.of_record(record, out)
        return known[record.key]

    return found


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A user's folder with a suite of the three tasks and room for panels, forgotten afterwards."""
    before = list(registry._included)
    folder = tmp_path / "own"
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks" / "three.yaml").write_text(SUITE, encoding="utf-8")
    registry.include(folder)
    yield folder
    registry._included[:] = before
    registry.forget()


@pytest.fixture(scope="module")
def frozen_once(records: list[Record], resampled: Callable) -> Callable[[], PanelCard]:
    return functools.cache(lambda: freeze(records, "t1", "three", resampled=resampled))


@pytest.fixture
def card(own: Path, frozen_once: Callable[[], PanelCard]) -> PanelCard:
    """The panel of all rows, for tests that look at what it holds."""
    return frozen_once()


def changed(record: Record, **labels: object) -> Record:
    return record.model_copy(update={"job": record.job.model_copy(update={"labels": record.job.labels.model_copy(update=labels)})})


def test_a_stored_panel_has_the_digits_of_the_statistics_it_rests_on(own: Path, out: Path, records: list[Record], resampled: Callable):
    path = panel_files.write(frozen(out, "t1", "three"), own / "results")
    registry.forget()
    card = registry.panel("t1")
    assert path == own / "results" / "panels" / "t1.json"
    assert [row.backbone for row in card.rows] == [f"b{i}" for i in range(N_ROWS)]  # untrained rows give no scale

    means = {f"b{i}": {task: np.mean([r.metrics[f"{TASKS[task]}_dice"] for r in of(records, i, task)]) for task in TASKS} for i in range(8)}
    expected = freeze_panel({name: {t: v for t, v in by_task.items() if t != NOISY} for name, by_task in means.items()}, ())
    panel = card.as_panel(phantom=False)
    assert panel.rows == expected.rows
    assert set(panel.by_task) == set(TASKS) - {NOISY}
    for task, scale in panel.by_task.items():
        assert (scale.median, scale.iqr, scale.rises) == pytest.approx((expected.by_task[task].median, expected.by_task[task].iqr, True))
        assert card.tasks[task].reliability == pytest.approx(_reliability(records, task, resampled), rel=1e-5)
        assert card.rows[2].scores[task] == pytest.approx(means["b2"][task])
        assert set(card.rows[2].records[task]) == {record.key for record in of(records, 2, task)}
    assert (card.suite, card.protocol, card.phantom, card.rows[3].digest) == ("three", "published", False, f"{3:064}")


def test_a_task_on_which_rows_differ_by_chance_gets_no_scale_and_says_so(card: PanelCard, records: list[Record], resampled: Callable):
    assert set(card.left_out) == {NOISY}
    assert _reliability(records, NOISY, resampled) < 0.7
    assert "of the spread between rows is no chance" in card.left_out[NOISY]


def of(records: list[Record], row: int, task: str) -> list[Record]:
    return [r for r in records if (r.job.labels.backbone, r.job.labels.task) == (f"b{row}", task)]


def _reliability(records: list[Record], task: str, resampled: Callable) -> float:
    """By the book: V_seed of paired runs and V_patient of paired resamples, over all pairs of trained rows."""
    runs = [sorted(of(records, row, task), key=lambda r: r.job.labels.run) for row in range(N_ROWS)]
    values = np.array([[r.metrics[r.job.experiment.report] for r in row] for row in runs])
    drawn = np.array([np.mean([resampled(r).values[:, 0] for r in row], axis=0, dtype=np.float64) for row in runs])
    v = [
        np.var(values[a] - values[b], ddof=1) / N_RUNS + np.var(drawn[a] - drawn[b], ddof=1)
        for a in range(N_ROWS)
        for b in range(a + 1, N_ROWS)
    ]
    return reliability(values.mean(axis=1), v)


@pytest.mark.parametrize(("field", "number"), [("median", math.nan), ("iqr", math.inf), ("reliability", -math.inf)])
def test_a_panel_with_a_number_that_is_none_is_refused_with_any_checksum(own: Path, card: PanelCard, field: str, number: float):
    """JSON has no text for it but `null`, so that a checksum over the file fits."""
    edited = {task: scale.model_copy(update={field: number}) for task, scale in card.tasks.items()}
    forged = card.model_copy(update={"tasks": edited}).sealed()
    (own / "results" / "panels").mkdir(parents=True, exist_ok=True)
    (own / "results" / "panels" / "t1.json").write_text(json.dumps(forged.model_dump()), encoding="utf-8")
    registry.forget()
    with pytest.raises(CardError, match="is no reference panel"):
        registry.panels()


def test_a_panel_names_the_version_of_each_task_and_one_that_does_not_is_still_whole(card: PanelCard):
    assert {scale.task_version for scale in card.tasks.values()} == {1}
    unsaid = {task: scale.model_copy(update={"task_version": None}) for task, scale in card.tasks.items()}
    earlier = card.model_copy(update={"tasks": unsaid}).sealed()
    stored = earlier.model_dump_json()
    assert "task_version" not in stored
    assert PanelCard.model_validate_json(stored).is_whole


def test_a_frozen_panel_is_never_written_again_and_an_edited_one_is_refused(
    own: Path, card: PanelCard, records: list[Record], resampled: Callable
):
    path = panel_files.write(card, own / "results")
    with pytest.raises(UsageError, match="never changes"):
        panel_files.write(card, own / "results")
    registry.forget()
    with pytest.raises(UsageError, match="frozen already"):
        freeze(records, "t1", "three", resampled=resampled)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["tasks"]["rsna-linear-frozen-10"]["median"] += 0.01
    path.write_text(json.dumps(content), encoding="utf-8")
    registry.forget()
    with pytest.raises(CardError, match="was edited"):
        registry.panels()
    path.write_text("[]", encoding="utf-8")
    registry.forget()
    with pytest.raises(CardError, match="no reference panel"):
        registry.panels()


def without_one_run(records: list[Record]) -> list[Record]:
    return [r for r in records if not (r.job.labels.backbone == "b3" and r.job.labels.run == 1 and r.job.labels.task == NOISY)]


def seven(records: list[Record]) -> list[Record]:
    return [r for r in records if r.job.labels.backbone != "b3"]


def limited(records: list[Record]) -> list[Record]:
    return [record.model_copy(update={"scale": "limited"}) for record in records]


def mixed(records: list[Record]) -> list[Record]:
    return [record.model_copy(update={"phantom": record.job.labels.backbone == "b1"}) for record in records]


def one_run(records: list[Record]) -> list[Record]:
    return [record for record in records if record.job.labels.run == 0]


def seen(records: list[Record]) -> list[Record]:
    return [changed(r, contamination=Contamination.IMAGES) if r.job.labels.backbone == "b1" else r for r in records]


def of_own_cards(records: list[Record]) -> list[Record]:
    return [changed(record, custom=("task",)) for record in records]


def of_other_files(records: list[Record]) -> list[Record]:
    found = []
    for record in records:
        if record.job.labels.backbone == "b1":
            dataset = record.job.experiment.dataset.model_copy(update={"digest": "f" * 64})
            experiment = record.job.experiment.model_copy(update={"dataset": dataset})
            record = record.model_copy(update={"job": record.job.model_copy(update={"experiment": experiment})})
        found.append(record)
    return found


def of_another_version(records: list[Record]) -> list[Record]:
    found = []
    for record in records:
        if record.job.labels.backbone == "b1":
            experiment = record.job.experiment.model_copy(update={"task_version": 2})
            record = record.model_copy(update={"job": record.job.model_copy(update={"experiment": experiment})})
        found.append(record)
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (of_another_version, "other metrics or versions of rsna-linear-frozen-10"),
        (of_other_files, "other files of rsna-linear-frozen-10"),
        (without_one_run, f"b3: {NOISY} \\(2 of 3 runs, 1 missing"),
        (seven, "at least 8 trained backbones, found 7"),
        (limited, "only limited rows"),
        (mixed, "phantom and real images"),
        (one_run, "one run"),
        (seen, r"b1: rsna-linear-frozen-10 \(images\)"),
        (of_own_cards, "measured with task of your own"),
        (lambda records: [], "no rows"),
    ],
    ids=["other-version", "other-files", "incomplete", "few", "limited", "mixed", "one-run", "contaminated", "own-cards", "none"],
)
def test_rows_that_may_not_make_a_scale_are_refused_by_name(own: Path, records: list[Record], resampled: Callable, change, said: str):
    with pytest.raises(UsageError, match=said):
        freeze(change(records), "t1", "three", resampled=resampled)


def test_a_row_is_left_out_on_request_and_a_strange_name_is_told(own: Path, records: list[Record], resampled: Callable):
    with pytest.raises(UsageError, match="No row is called 'b9'"):
        freeze(records, "t1", "three", resampled=resampled, without=["b9"])
    with pytest.raises(UsageError, match="found 7"):
        freeze(without_one_run(records), "t1", "three", resampled=resampled, without=["b3"])


def test_a_run_that_was_planned_and_is_not_there_is_a_gap(own: Path, out: Path, records: list[Record], tmp_path: Path):
    folder = tmp_path / "stopped"
    shutil.copytree(out, folder)
    one_more = of(records, 3, NOISY)[0].job
    experiment = one_more.experiment.model_copy(update={"head_seed": 12345 + N_RUNS})
    labels = one_more.labels.model_copy(update={"run": N_RUNS})
    planned = [record.job for record in of(records, 3, NOISY)] + [one_more.model_copy(update={"experiment": experiment, "labels": labels})]
    Store(folder).plan(planned)
    with pytest.raises(UsageError, match=f"b3: {NOISY} \\(3 of 4 runs, 1 missing: not run yet"):
        frozen(folder, "t1", "three")
    Store(folder).plan(planned[:N_RUNS])
    assert len(frozen(folder, "t1", "three").rows) == N_ROWS


def test_a_backbone_of_which_nothing_was_run_yet_is_a_gap(own: Path, records: list[Record], resampled: Callable):
    planned = [make_job(task=task, backbone="b9", digest="9" * 64, run=run) for task in TASKS for run in range(N_RUNS)]
    with pytest.raises(UsageError, match=r"b9: rsna-linear-frozen-10 .0 of 3 runs, 3 missing"):
        freeze(records, "t1", "three", resampled=resampled, planned=planned)
    elsewhere = [make_job(task="rsna-yolov3-frozen-10", backbone="b9", digest="9" * 64)]  # no task of the suite
    limited = [make_job(task=task, backbone="b9", digest="9" * 64, limit=8) for task in TASKS]
    card = freeze(records, "t1", "three", resampled=resampled, planned=[*planned, *elsewhere, *limited], without=["b9"])
    assert len(card.rows) == N_ROWS


def test_a_number_that_its_statistics_do_not_give_enters_no_scale_with_any_checksum(own: Path, out: Path, tmp_path: Path):
    folder = tmp_path / "edited"
    shutil.copytree(out, folder)
    store = Store(folder)
    record = next(one for one in store.all() if (one.job.labels.backbone, one.job.labels.task) == ("b7", "rsna-linear-frozen-10"))
    store.path(record.key).write_text(sealed(record.model_copy(update={"metrics": {"opacity_dice": 0.99}})).model_dump_json())
    with pytest.raises(UsageError, match=r"b7: rsna-linear-frozen-10 .2 of 3 runs, 1 missing"):
        frozen(folder, "t1", "three")
    store.plan(one.job for one in Store(out).all())
    with pytest.raises(UsageError, match=f"2 of 3 runs, 1 missing: the stored record {record.key} is refused"):
        frozen(folder, "t1", "three")


def test_a_name_that_stood_for_two_networks_is_two_rows_with_gaps(own: Path, records: list[Record], resampled: Callable):
    def retrained(record: Record) -> Record:
        if (record.job.labels.backbone, record.job.labels.task) != ("b3", NOISY):
            return record
        backbone = record.job.experiment.backbone.model_copy(update={"digest": "e" * 64})
        experiment = record.job.experiment.model_copy(update={"backbone": backbone})
        return record.model_copy(update={"job": record.job.model_copy(update={"experiment": experiment})})

    with pytest.raises(UsageError) as caught:
        freeze([retrained(record) for record in records], "t1", "three", resampled=resampled)
    assert f"b3 [backbone.digest=00000000…]: {NOISY} (not measured)" in str(caught.value)
    assert "b3 [backbone.digest=eeeeeeee…]: rsna-linear-frozen-10 (not measured)" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, "mine"),
        ({"title": "another"}, ""),
        ({"family": "timm"}, ""),
        ({"digest": f"sha256:{3:064}"}, "mine"),
        ({"digest": f"sha256:{4:064}"}, ""),
        ({"digest": "md5:0"}, "mine"),
    ],
    ids=["its-own", "another-name", "another-family", "to-the-bit", "another-file", "nothing-to-hold-it-to"],
)
def test_a_panel_names_a_line_up_where_all_its_rows_are_backbones_of_it(
    own: Path, records: list[Record], resampled: Callable, change: dict, named: str
):
    cards = [{"name": f"c{i}", "title": f"b{i}", "family": "torchvision", "model": "resnet50", "weights": "w.pth"} for i in range(N_ROWS)]
    cards[3] |= change
    lineup = {"name": "mine", "title": "Mine", "suite": "three", "backbones": [card["name"] for card in cards]}
    (own / "backbones").mkdir()
    (own / "backbones" / "mine.yaml").write_text(json.dumps({"backbones": cards, "lineups": [lineup]}), encoding="utf-8")
    registry.forget()
    assert freeze(records, "t1", "three", resampled=resampled, lineup="mine").lineup == named
    assert freeze(records, "t1", "three", resampled=resampled).lineup == ""


def test_rows_without_statistics_per_image_give_no_scale(own: Path, records: list[Record]):
    with pytest.raises(UsageError, match="no statistics per image"):
        freeze(records, "t1", "three", resampled=lambda record: None)


def test_a_task_whose_chance_over_patients_is_not_known_gets_no_scale(own: Path, records: list[Record], resampled: Callable):
    """Resamples that mostly leave a metric undefined are no proof that nothing is chance."""
    task = "siim-unet-frozen-100"

    def undefined(record: Record) -> resampling.Resampled | None:
        found = resampled(record)
        if found is None or record.job.labels.task != task:
            return found
        return replace(found, values=np.full_like(found.values, np.nan))

    card = freeze(records, "t1", "three", resampled=undefined)
    assert "Too few resamples of its test patients define the metric" in card.left_out[task]
    assert task not in card.tasks


def test_rows_tested_on_other_images_give_no_scale(own: Path, records: list[Record], resampled: Callable):
    def other(record: Record) -> resampling.Resampled | None:
        found = resampled(record)
        return found if record.job.labels.backbone != "b1" or found is None else replace(found, test="another")

    with pytest.raises(UsageError, match="Its rows were tested on different images"):
        freeze(records, "t1", "three", resampled=other)


def test_a_phantom_panel_is_marked_and_is_no_scale_for_real_rows(own: Path, records: list[Record], resampled: Callable):
    generated = [changed(record, contamination=None).model_copy(update={"phantom": True}) for record in records]
    card = freeze(generated, "p1", "three", resampled=resampled)
    assert card.phantom
    assert card.as_panel(phantom=True).rows
    with pytest.raises(UsageError, match="measured on phantom images and is no scale for rows of real ones"):
        card.as_panel(phantom=False)
    with pytest.raises(UsageError, match="no scale for rows of phantom"):
        freeze(records, "r1", "three", resampled=resampled).as_panel(phantom=True)


def test_rows_are_ranked_by_the_panel_that_was_frozen_for_their_suite(own: Path, records: list[Record], resampled: Callable):
    mended = [changed(record, protocol="corrected", suite="three") for record in records]
    rows = rows_of(mended, resampled=resampled)
    assert {table.sentence for table in standings(rows)} == {"No ranking yet: no reference panel has been measured for these tasks."}
    card = freeze(mended, "t1", "three", protocol="corrected", resampled=resampled)
    ranked = {table.track: table for table in standings(rows, [card])}
    assert {track: table.panel for track, table in ranked.items()} == {"linear-frozen": "t1", "head-frozen": "t1"}
    for table, task in ((ranked["linear-frozen"], "rsna-linear-frozen-10"), (ranked["head-frozen"], "siim-unet-frozen-100")):
        assert table.tasks == (task,)  # the noisy one is in no headline
        assert "b7" in table.tied_for_best
        (best,) = [row for row in table.rows if row.label == "b7"]
        scale = card.tasks[task]
        assert best.headline == pytest.approx((card.rows[7].scores[task] - scale.median) / scale.iqr)


def test_the_command_freezes_and_lists_what_it_froze(own: Path, out: Path, lobe, tmp_path: Path):
    def call(*arguments: object) -> tuple[int, str, str]:
        registry._included.clear()  # each call is a process of its own
        registry.forget()
        return lobe("--include", own, *arguments)

    code, text, err = call("panel", "freeze", out, "--version", "t1", "--suite", "three", "--to", own / "results")
    assert (code, f"no scale: {NOISY}" in err) == (0, True)
    assert "no line-up: not every row is a backbone of lobe-v1." in err
    assert "Panel t1: 8 backbones, 2 tasks." in text
    rows = {row["name"]: row for row in json.loads(call("list", "panels", "--json")[1])}
    assert (rows["t1"]["kind"], rows["t1"]["left_out"].keys()) == ("panel", {NOISY})
    assert (rows["t1"]["lineup"], rows["lobe-v1"]["kind"]) == ("", "line-up")
    code, text, _ = call("panel", "freeze", out, "--version", "t2", "--suite", "three", "--to", own / "results", "--json")
    assert (code, json.loads(text)["version"], Path(json.loads(text)["file"]).name) == (0, "t2", "t2.json")
    (tmp_path / "other" / "panels").mkdir(parents=True)
    (tmp_path / "other" / "panels" / "t2.json").write_bytes((own / "results" / "panels" / "t2.json").read_bytes())
    with pytest.raises(CardError, match="there is a panel 't2' already; a version stands for one panel"):
        panel_files.read_all([own / "results", tmp_path / "other"])
    code, _, err = call("panel", "freeze", out, "--version", "t1", "--suite", "three", "--to", own / "results")
    assert (code, "frozen already" in err) == (2, True)


def test_a_panel_card_says_when_it_is_not_whole(card: PanelCard):
    assert card.is_whole
    assert not PanelCard.model_validate(card.model_dump() | {"phantom": True}).is_whole
