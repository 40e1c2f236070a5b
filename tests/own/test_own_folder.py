"""Reader, head, metric and backbone family of one's own in one folder: planned, keyed by their code, run, marked, and shipped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import registry, resolve
from benchmark.cards import Job
from benchmark.errors import CardError, CheckpointChanged, UnknownName
from benchmark.execute import ship
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.work import run_unit
from benchmark.metrics import spec
from benchmark.own import catalogue, loading
from benchmark.request import Request, Silent, plan_request
from tests.own.written import write_data, write_folder

pytestmark = pytest.mark.long(15)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    """A folder of one's own, to include; forgotten again afterwards."""
    before = list(registry._included)
    yield write_folder(tmp_path / "mine")
    registry._included[:] = before
    registry.forget()


def planned(data: Path, out: Path):
    request = Request(["cut-8"], ["clinic-mine"], data=[str(data)], out=out / "out", cache=out / "cache", executor="inline", limit=12)
    return plan_request(request, Silent(), InlineExecutor(), hashing=True, adopting=False)


def job_of(found) -> Job:
    (job,) = found.jobs
    return job


def test_the_code_of_each_module_is_in_the_key_and_the_row_is_marked(mine: Path, data: Path, tmp_path: Path) -> None:
    registry.include(mine)
    job = job_of(planned(data, tmp_path))
    assert set(job.experiment.own_code) == {"heads/mine", "metrics/boldness", "readers/clinic"}
    assert job.labels.custom == ("task", "dataset", "backbone")
    assert job.experiment.backbone.model == f"8:{catalogue.planned('encoders', 'cut').code.digest}"


@pytest.mark.parametrize("name", ["readers/clinic.py", "heads/mine.py", "metrics/boldness.py", "encoders/cut.py"])
def test_a_changed_line_is_another_key(mine: Path, data: Path, tmp_path: Path, name: str) -> None:
    registry.include(mine)
    before = job_of(planned(data, tmp_path))
    assert job_of(planned(data, tmp_path)).key == before.key
    (mine / name).write_text((mine / name).read_text() + "\n# another\n")
    after = job_of(planned(data, tmp_path))
    assert after.key != before.key
    assert (after.experiment.dataset.digest != before.experiment.dataset.digest) == (name == "readers/clinic.py")


def test_a_copied_folder_is_the_same_code_and_a_job_of_shipped_code_alone_names_none(mine: Path, data: Path, tmp_path: Path) -> None:
    registry.include(mine)
    key = job_of(planned(data, tmp_path)).key
    shutil.copytree(mine, tmp_path / "copy")
    registry._included[:] = []
    registry.include(tmp_path / "copy")
    assert job_of(planned(data, tmp_path)).key == key
    text = (tmp_path / "copy" / "tasks" / "mine.yaml").read_text()
    (tmp_path / "copy" / "tasks" / "mine.yaml").write_text(text.replace("head: mine", "head: linear").replace("boldness", "avg_dice"))
    registry.forget()
    assert set(job_of(planned(data, tmp_path)).experiment.own_code) == {"readers/clinic"}


def test_what_a_module_imports_from_its_folder_counts_and_what_it_hides_is_refused(mine: Path, data: Path, tmp_path: Path) -> None:
    head = mine / "heads" / "mine.py"
    (mine / "heads" / "_layers.py").write_text("from shared import WIDTH\n")
    (mine / "shared.py").write_text("WIDTH = 64\n")
    text = head.read_text().replace("64", "WIDTH").replace("from torch import nn\n", "from torch import nn\nfrom _layers import WIDTH\n")
    head.write_text(text)
    registry.include(mine)
    code = catalogue.planned("heads", "mine").code
    assert [name for name, _ in code.files] == ["heads/_layers.py", "heads/mine.py", "shared.py"]
    before = job_of(planned(data, tmp_path)).key
    (mine / "shared.py").write_text("WIDTH = 32\n")
    assert job_of(planned(data, tmp_path)).key != before
    hidden = "import importlib\nWIDTH = importlib.import_module('shared').WIDTH\n"
    head.write_text(text.replace("from _layers import WIDTH\n", hidden))
    with pytest.raises(CheckpointChanged, match=r"mine\.py imports \.\./shared\.py, which was not among the files"):
        registry.plugin("heads", "mine")


def test_helpers_of_one_name_in_two_folders_are_two_modules(tmp_path: Path, mine: Path) -> None:
    for name, value in (("one", 1), ("two", 2)):
        (tmp_path / name / "metrics").mkdir(parents=True)
        (tmp_path / name / "metrics" / "_helper.py").write_text(f"VALUE = {value}\n")
        (tmp_path / name / "metrics" / f"{name}.py").write_text("from _helper import VALUE\nMETRICS = ()\n")
        registry.include(tmp_path / name)
    assert [registry.plugin("metrics", name).VALUE for name in ("one", "two", "one")] == [1, 2, 1]


def test_a_name_means_one_module_and_both_places_are_said(mine: Path, tmp_path: Path) -> None:
    shutil.copytree(mine / "heads", tmp_path / "other" / "heads")
    shutil.copy(mine / "heads" / "mine.py", mine / "heads" / "unet.py")
    registry.include(mine)
    registry.include(tmp_path / "other")
    with pytest.raises(CardError, match=rf"{tmp_path}/other/heads/mine\.py:1: there is a head mine already, {mine}/heads/mine\.py"):
        registry.head("mine")
    with pytest.raises(CardError, match=rf"{mine}/heads/unet\.py:1: LOBE has a head unet already, benchmark/heads/unet\.py"):
        registry.plugin("heads", "unet")
    assert registry.head("linear").title == "linear"


def test_a_broken_module_is_a_sentence_with_file_and_line_and_stops_only_who_needs_it(mine: Path, data: Path, tmp_path: Path) -> None:
    (mine / "heads" / "broken.py").write_text("FACTS = 1\ndef build(:\n")
    (mine / "metrics" / "broken.py").write_text("METRICS = (\n    1 / 0,\n)\n")
    (mine / "metrics" / "taken.py").write_text("from benchmark.metrics.dice import METRICS\n")
    registry.include(mine)
    assert job_of(planned(data, tmp_path)).experiment.head == "mine"
    assert "broken" not in registry.heads()
    with pytest.raises(CardError, match=rf"{mine}/heads/broken\.py:2: it is no Python"):
        registry.head("broken")
    with pytest.raises(CardError, match=rf"{mine}/metrics/broken\.py:2: ZeroDivisionError"):
        registry.plugin("metrics", "broken")
    with pytest.raises(CardError, match=r"taken\.py:1: LOBE has a metric \{class\}_dice already"):
        spec.own_specs(catalogue.planned("metrics", "taken"))
    (mine / "heads" / "half.py").write_text("def build(request):\n    return None\n")
    registry.forget()
    with pytest.raises(CardError, match=r"half\.py:1: it has no FACTS; a head has FACTS and build"):
        registry.head("half")


def test_facts_are_read_and_the_module_is_not_run(mine: Path) -> None:
    head = mine / "heads" / "mine.py"
    head.write_text("raise RuntimeError('run')\n" + head.read_text().replace("smoke_steps=20", "smoke_steps=2 * 2**4"))
    registry.include(mine)
    assert registry.head("mine").smoke_steps == 32
    head.write_text(head.read_text().replace("smoke_steps=2 * 2**4", "smoke_steps='many'"))
    with pytest.raises(CardError, match=r"mine\.py:\d+: FACTS, key 'smoke_steps'"):
        registry.head("mine")


def test_the_command_runs_them_and_other_tasks_do_not_compute_the_metric(mine: Path, data: Path, tmp_path: Path, lobe) -> None:
    plain = (mine / "tasks" / "mine.yaml").read_text().replace("clinic-mine", "clinic-plain").replace("boldness", "avg_dice")
    (mine / "tasks" / "plain.yaml").write_text(plain)
    given = ["--include", mine, "run", "--backbone", "cut-8", "--task", "clinic-mine", "--task", "clinic-plain", "--data", data]
    given += ["--out", tmp_path / "out", "--cache", tmp_path / "cache", "--limit", 12, "--executor", "inline", "--no-tracking", "--json"]
    code, out, problem = lobe(*given)
    assert code == 0, out + problem
    records = [json.loads(path.read_text()) for path in (tmp_path / "out" / "records").glob("*.json")]
    by_task = {record["job"]["labels"]["task"]: record for record in records}
    assert {name: "boldness" in record["metrics"] for name, record in by_task.items()} == {"clinic-mine": True, "clinic-plain": False}
    assert "metrics/boldness" not in by_task["clinic-plain"]["job"]["experiment"]["own_code"]
    registry._included[:] = []
    registry.forget()
    code, out, problem = lobe("report", "--out", tmp_path / "out")  # where the folder is not included
    assert code == 0, out + problem


def test_a_worker_builds_from_the_copy_that_travelled(mine: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    (mine / "private.bin").write_text("data")
    registry.include(mine)
    found = planned(data, tmp_path)
    (unit,) = found.todo
    (tmp_path / "staged").mkdir()
    ship.stage(tmp_path / "staged", [], say=lambda _: None)
    (there,) = ship.included_there()
    assert not list((tmp_path / "staged").rglob("private.bin"))
    assert (tmp_path / "staged" / there / "tasks" / "mine.yaml").is_file()
    monkeypatch.chdir(tmp_path / "staged")
    here = ship.found_here(unit.jobs[0], unit.inputs)
    assert {one.module.base for one in here.own} == {tmp_path / "staged" / there}
    registry._included[:] = []
    registry.forget()
    shutil.rmtree(mine)
    (mine / "heads").mkdir(parents=True)
    (mine / "heads" / "mine.py").write_text("raise RuntimeError('another')\n")
    events = list(run_unit(replace(unit, inputs=here)))
    assert events[-1].record.status == "ok", events[-1].record.failure
    with pytest.raises(UnknownName):  # it was there for these jobs alone
        registry.plugin("heads", "mine")
    staged = tmp_path / "staged" / there / "heads" / "mine.py"
    staged.write_text(staged.read_text() + "# edited\n")
    monkeypatch.setattr(loading, "_LOADED", {})  # as a process that has not run it yet
    events = list(run_unit(replace(unit, inputs=here)))
    assert "was planned with another heads/mine.py" in events[-1].record.failure.sentence


def test_a_link_out_of_an_included_folder_does_not_travel(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (mine / "results").symlink_to(tmp_path / "elsewhere")
    registry.include(mine)
    (tmp_path / "staged").mkdir()
    with pytest.raises(resolve.UsageError, match="is a link out of the folder of --include"):
        ship.stage(tmp_path / "staged", [], say=lambda _: None)


def test_installed_packages_offer_modules_by_entry_points(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "lab" / "heads").mkdir(parents=True)
    info = tmp_path / "lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lobe.heads]\ntheirs = lab.heads.theirs\n")
    for name, text in {"__init__.py": "", "heads/__init__.py": "", "heads/width.py": "WIDTH = 3\n"}.items():
        (tmp_path / "lab" / name).write_text(text)
    module = "from benchmark.cards import HeadFacts\nfrom lab.heads.width import WIDTH\nFACTS = HeadFacts(title='Theirs', target='masks')\n"
    (tmp_path / "lab" / "heads" / "theirs.py").write_text(module + "def build(request):\n    return WIDTH\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.forget()
    try:
        assert registry.head("theirs").title == "Theirs"
        assert registry.plugin("heads", "theirs").build(None) == 3
        code = catalogue.planned("heads", "theirs").code
        assert [name for name, _ in code.files] == ["lab/__init__.py", "lab/heads/__init__.py", "lab/heads/theirs.py", "lab/heads/width.py"]
    finally:
        monkeypatch.undo()
        registry.forget()
