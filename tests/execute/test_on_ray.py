"""On Ray: the numbers of any other executor, and a killed process costs what it was doing and nothing else.

All tests that need the Ray of this machine are here, those of gang.py too: starting it takes longer than most of them.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards import VOLATILE_FIELDS, EncoderMode
from benchmark.errors import UsageError
from benchmark.events import EpochEnded, Finished
from benchmark.execute import pretrain, submit
from benchmark.execute.connecting import QUIET, session_folder, start_here
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.on_ray import RayExecutor
from benchmark.execute.remote import on_this_node
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import units
from benchmark.own import catalogue
from benchmark.pretraining.run import Telling
from benchmark.request import Request, Silent, plan_request
from tests.own.written import write_data, write_folder
from tests.planted import told_in, write_whole_and_damaged
from tests.pretraining.small import corpus, recipe

pytestmark = pytest.mark.long(40)

LINEAR = "rsna-linear-frozen-100"
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
FINETUNE = {"encoder": EncoderMode.FINETUNE}
FOLLOWS = "torch.distributed.is_initialized() and torch.distributed.get_rank() == 1"


@pytest.fixture(scope="module")
def ray():
    os.environ.update(QUIET)
    import ray

    start_here(ray, 2)
    yield ray
    ray.shutdown()


def counting(counter: Path, then: str = "pass") -> str:
    """Lines of a backbone's build(): notes the call, and may end the process."""
    return f"calls = Path({str(counter)!r}); calls.open('a').write('x'); n = len(calls.read_text())\n    {then}"


def records(executor, planned) -> dict:
    return {e.record.key: e.record for e in executor.run(Schedule(planned)) if isinstance(e, Finished)}


def test_a_cache_budget_is_divided_between_the_units_of_a_node(ray, small, tiny):
    (unit,) = units(*small.plan(LINEAR, [tiny()]))
    unit = replace(unit, options=replace(unit.options, feature_budget_bytes=1000))
    shares = [ray.get(ray.remote(on_this_node).remote(unit, n)).options.feature_budget_bytes for n in (1, 2, 3)]
    assert shares == [1000, 500, 500]  # the fixture's node has two cores


def listening(process) -> set[str]:
    """Addresses on which a process listens, as a peer on IPv4 sees them."""
    found = [each for each in process.net_connections("inet") if each.status == "LISTEN"]
    return {each.laddr.ip.removeprefix("::ffff:") for each in found}


def test_the_ray_of_this_machine_listens_on_loopback_alone_and_its_token_and_folder_are_private(ray):
    import psutil  # Ray brings it, and knows where it is once it was imported

    ray.get(ray.remote(lambda: None).remote())  # a worker is there, and listens too
    tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = {f"{process.pid} {process.name()}": listening(process) for process in tree}
    assert {"raylet", "gcs_server"} <= {process.name() for process in tree}
    assert len([addresses for addresses in found.values() if addresses]) >= 5
    assert {name: addresses for name, addresses in found.items() if not addresses <= {"127.0.0.1", "::1"}} == {}
    token = Path.home() / ".ray" / "auth_token"
    assert (os.environ["RAY_AUTH_MODE"], token.stat().st_mode & 0o777) == ("token", 0o600)
    assert session_folder().stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("ray")
def test_a_killed_process_repeats_only_unfinished_jobs_and_a_hopeless_one_fails_alone(small, tiny, tmp_path: Path):
    once, always, never = tmp_path / "once", tmp_path / "always", tmp_path / "never"
    files = {
        # A random backbone is built anew for every run: the second run of this unit is killed the first time.
        "once": tiny("a", at_build=counting(once, f"if n == 2: {KILL}")),
        "always": tiny("b", at_build=counting(always, KILL)),
        "never": tiny("c", at_build=counting(never)),
    }
    # Planned as random backbones without being built here.
    backbones = [small.backbone(file, random=True, label=name) for name, file in files.items()]
    jobs, places = small.plan(LINEAR, backbones, runs=3)
    planned = units(jobs, places)
    assert [len(unit.jobs) for unit in planned] == [3, 3, 3]

    found = records(RayExecutor(), planned)

    assert set(found) == {job.key for job in jobs}
    status = {name: [found[j.key].status for j in jobs if j.labels.backbone == name] for name in files}
    assert status == {"once": ["ok"] * 3, "always": ["failed"] * 3, "never": ["ok"] * 3}
    assert len(once.read_text()) == 4  # run 0, run 1 (killed), run 1 again, run 2
    assert len(never.read_text()) == 3
    assert len(always.read_text()) == 3  # the first attempt and two more
    lost = next(r for r in found.values() if r.job.labels.backbone == "always")
    assert (lost.failure.kind, lost.failure.environment) == ("WorkerLost", True)  # told, and never stored
    assert "died 3 times" in lost.failure.sentence

    unharmed = [unit for unit in planned if unit.jobs[0].labels.backbone == "never"]
    for key, record in records(InlineExecutor(), unharmed).items():
        assert found[key].model_dump(exclude=VOLATILE_FIELDS) == record.model_dump(exclude=VOLATILE_FIELDS)


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_reader_head_metric_and_family_of_ones_own_give_the_numbers_they_give_here(tmp_path: Path):
    registry.include(write_folder(tmp_path / "mine"))  # here: a worker knows what it was given, and includes nothing
    try:
        request = Request(["cut-8"], ["clinic-mine"], data=[str(write_data(tmp_path / "data"))], cache=tmp_path / "cache", limit=12)
        request = replace(request, out=tmp_path / "out", executor="inline")
        mine = plan_request(request, Silent(), InlineExecutor(), hashing=True, adopting=False).todo
        there, here = records(RayExecutor(), mine), records(InlineExecutor(), mine)
    finally:
        catalogue.FOLDERS.clear()
        registry.forget()
    assert [record.status for record in there.values()] == ["ok"]
    assert {key: record.metrics for key, record in there.items()} == {key: record.metrics for key, record in here.items()}
    assert all("boldness" in record.metrics for record in there.values())


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_two_folders_that_one_process_builds_from_give_each_its_own_number(small, tiny, tmp_path: Path):
    """Units for the CPU share processes, and both authors call their module `model`."""
    planned, plain, built = [], [], tmp_path / "built"
    for name, seed in {"a": 5, "b": 6}.items():
        noting = f"import os; from model import SEED; open({str(built)!r}, 'a').write(f'{name} {{os.getpid()}}\\n')"
        file = tiny(name, at_build=f"{noting}; torch.manual_seed(SEED)")
        (file.parent / "model.py").write_text(f"SEED = {seed}\n")
        planned += units(*small.plan(LINEAR, [file]))
        plain += units(*small.plan(LINEAR, [tiny(f"{name} in one file", at_build=f"torch.manual_seed({seed})")]))
    built.write_text("")  # planning builds too, here

    # One after another, and each twice: Ray gives the process that was idle last, though not by contract.
    found = [record for unit in planned * 2 for record in records(RayExecutor(), [unit]).values()]

    assert [record.failure for record in found] == [None] * 4
    processes: dict[str, str] = {}
    for name, process in map(str.split, built.read_text().splitlines()):
        processes[process] = processes.get(process, "") + name
    assert any({"a", "b"} <= set(names) for names in processes.values()), processes
    a, b = [record for unit in plain for record in records(InlineExecutor(), [unit]).values()]
    assert (a.failure, b.failure) == (None, None)
    assert a.validation != b.validation
    for one, other in zip(found, [a, b, a, b], strict=True):
        assert (one.validation, one.metrics) == (other.validation, other.metrics)


@pytest.mark.usefixtures("ray")
def test_a_job_too_large_for_its_node_comes_back_in_micro_batches(small, tiny):
    file = tiny(at_pyramid="if len(images) > 2: raise torch.OutOfMemoryError('CUDA out of memory.')")
    jobs, places = small.plan(LINEAR, [file], batch_size=6)
    (record,) = records(RayExecutor(), units(jobs, places)).values()
    assert (record.key, record.status, record.micro_batches) == (jobs[0].key, "ok", 4)


@pytest.mark.usefixtures("ray")
def test_the_entry_point_of_a_handed_over_evaluation_prints_no_planted_word(lobe, tmp_path: Path, monkeypatch):
    """What a job server would start, started here: its output is the job's log."""
    tasks, words = write_whole_and_damaged(tmp_path / "data")
    handed, there, out = [], tmp_path / "there", tmp_path / "out"

    class Server:
        def submit_job(self, *, entrypoint: str, runtime_env: dict, metadata: dict) -> str:
            shutil.copytree(runtime_env["working_dir"], there)
            handed.append((entrypoint, metadata))
            return "id"

    monkeypatch.setattr(submit, "_client", lambda _: Server())
    run = ["run", "--backbone", "torchvision:resnet18", *(word for task in tasks for word in ("--task", task)), "--protocol", "corrected"]
    run += ["--data", tmp_path / "data", "--out", out, "--limit", 8, "--profile", "smoke", "--seeds", 1, "--no-tracking"]
    assert lobe(*run, "--address", "http://head:8265", "--detach")[0] == 0
    ((entry, metadata),) = handed
    python, option, program, *arguments = shlex.split(entry)
    assert (python, option, program) == ("python", "-c", submit.START)
    monkeypatch.chdir(there)

    code, stdout, stderr = lobe(*arguments)

    records = [json.loads(path.read_text()) for path in (out / "records").glob("*.json")]
    assert (code, sorted(record["status"] for record in records)) == (1, ["failed", "ok"]), stderr
    assert "Pneumothorax_reports.csv line" in stdout + stderr  # where whoever holds the data finds the image
    told = (stdout + stderr + entry + json.dumps(metadata)).encode()
    assert [word for word in words if word in told] == []
    assert told_in(session_folder() / "logs", words) == []


# ------------------------------------------------------------------------------------------- several processes for one job


def trained(executor, jobs, places, workers: int = 1) -> list:
    return list(executor.run(Schedule([replace(unit, workers=workers) for unit in units(jobs, places)])))


@pytest.mark.usefixtures("ray")
def test_two_processes_train_the_network_of_one_though_one_of_them_is_killed_first(small, tiny, tmp_path: Path):
    killed = tmp_path / "killed"
    dies = f"if {FOLLOWS} and not Path({str(killed)!r}).exists(): Path({str(killed)!r}).touch(); os.kill(os.getpid(), signal.SIGKILL)"
    jobs, places = small.plan(LINEAR, [tiny(at_build=f"torch.manual_seed(5)\n    {dies}")], card=FINETUNE, batch_size=5, drop_last=False)
    (one,) = (e for e in trained(InlineExecutor(), jobs, places) if isinstance(e, Finished))
    assert not killed.exists()
    events = trained(RayExecutor(), jobs, places, workers=2)
    (two,) = (e for e in events if isinstance(e, Finished))
    assert killed.exists()
    assert (two.record.status, two.record.steps) == ("ok", one.record.steps), two.record.failure
    assert [line.train_loss for line in two.record.curve] == pytest.approx([line.train_loss for line in one.record.curve], abs=1e-4)
    assert two.record.metrics["opacity_dice"] == pytest.approx(one.record.metrics["opacity_dice"], abs=1e-2)
    assert sum(isinstance(e, EpochEnded) for e in events) == len(two.record.curve)
    assert two.files.keys() == one.files.keys()
    assert "trained by 2 processes that shared each batch: equal to one process up to rounding" in two.record.warnings
    assert not any("processes" in text for text in one.record.warnings)


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_what_fails_in_one_process_fails_the_job_with_its_own_sentence(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny(at_pyramid=f"if {FOLLOWS}: raise ValueError('bad weather')")], card=FINETUNE)
    (event,) = (e for e in trained(RayExecutor(), jobs, places, workers=2) if isinstance(e, Finished))
    assert event.record.failure.kind == "ConformanceError"  # the contract of an author's backbone is checked in every process
    assert event.record.failure.sentence.endswith("ValueError: bad weather")


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_two_processes_pretrain_the_backbone_of_one_and_it_is_told_and_found_again(tmp_path: Path):
    card = recipe("convirt", steps=3)
    data = corpus(tmp_path / "data" / "mimic-cxr")
    call = pretrain.Call(card, data, tmp_path / "one")
    steps: dict[str, list] = {"one": [], "two": []}
    one = pretrain.start(call, 1, Telling(step=lambda step, n: steps["one"].append(step)))
    two = pretrain.start(replace(call, out=tmp_path / "two"), 2, Telling(step=lambda step, n: steps["two"].append(step)))
    assert [step.number for step in steps["two"]] == [0, 1, 2]
    # Each process draws its own dropout: the same at the first step but for that. That all else is equal, test_loop.py shows.
    assert steps["two"][0].loss == pytest.approx(steps["one"][0].loss, rel=0.15)
    assert (two.key, sorted(two.curve), two.was_there) == (one.key, [1, 2, 3], False)
    assert "by 2 processes" in two.card.read_text()
    assert pretrain.start(replace(call, out=tmp_path / "two"), 2, Telling(step=lambda *_: pytest.fail("trained again"))).was_there


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_what_stops_a_pretraining_in_its_processes_is_the_sentence_that_is_told(tmp_path: Path):
    data = corpus(tmp_path / "data" / "mimic-cxr")
    with pytest.raises(UsageError, match="no whole number of groups of 4"):
        pretrain.start(pretrain.Call(recipe("convirt", group=4), data, tmp_path / "out"), 2, Telling())
