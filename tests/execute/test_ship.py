"""What travels to a cluster is enough to plan the same jobs there, and not more than it may be."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmark import own_code, registry, resolve
from benchmark.encoders import describe, python_file, sources
from benchmark.encoders.describe import FactoryDigest
from benchmark.errors import CheckpointChanged, EnvironmentProblem, UsageError
from benchmark.execute import nodes, parcel, ship, submit
from benchmark.execute.connecting import Connection
from benchmark.execute.on_ray import RayExecutor
from benchmark.execute.schedule import Schedule

LINEAR = "rsna-linear-frozen-100"


def test_the_package_the_cards_and_the_authors_folder_travel_together(tiny, tmp_path: Path):
    file = tiny()
    (file.parent / "helper.py").write_text("WIDTH = 4\n")
    (tmp_path / "staged").mkdir()
    named = ship.stage(tmp_path / "staged", ["torchvision:resnet18", f"{file}:build"])
    assert named[0] == "torchvision:resnet18"
    assert re.fullmatch(r"author/[0-9a-f]{16}/mine\.py:build", named[1])
    assert (tmp_path / "staged" / named[1].partition(":")[0]).read_text() == file.read_text()
    look = "import benchmark; from benchmark import registry; from benchmark.own_code import digest as d; "
    look += "print(benchmark.__file__, len(registry.suite('lovt-18').tasks), d())"
    seen = subprocess.run([sys.executable, "-c", look], cwd=tmp_path / "staged", capture_output=True, text=True, check=True).stdout.split()
    assert seen == [str(tmp_path / "staged" / "benchmark" / "__init__.py"), "18", own_code.digest()]


def test_a_worker_finds_the_authors_file_in_what_was_uploaded(small, tiny, tmp_path: Path, monkeypatch):
    file = tiny()
    job, place = small.one(LINEAR, file)
    (tmp_path / "staged").mkdir()
    (named,) = ship.stage(tmp_path / "staged", [f"{file}:build"])
    monkeypatch.chdir(tmp_path / "staged")
    found = ship.found_here(job, place)
    assert {k for k in vars(place) if getattr(place, k) != getattr(found, k)} == set()  # where it is, it is used
    older = file.read_text()
    file.write_text(f"{older}# an older copy, on a node with a home of its own\n")
    assert ship.found_here(job, place).backbone_model == f"{tmp_path / 'staged'}/{named}"
    file.rename(file.with_name("gone.py"))
    assert ship.found_here(job, place).backbone_model == f"{tmp_path / 'staged'}/{named}"
    planned_on_the_cluster = replace(place, backbone_model=f"/elsewhere/{named}")
    assert ship.found_here(job, planned_on_the_cluster).backbone_model == f"{tmp_path / 'staged'}/{named}"


def test_sub_packages_and_data_travel_and_a_worker_computes_the_same_digest(small, tiny, tmp_path: Path, monkeypatch):
    """Names that the package itself leaves at home, and a list of what git ignores, keep nothing of an author's folder back."""
    file = tiny(
        at_build="from content.seed import seed; torch.manual_seed(seed() + len((Path(__file__).parent / 'w' / 'a.bin').read_bytes()))"
    )
    for name, text in {"content/seed.py": "def seed():\n    return 3\n", "w/a.bin": "12", ".gitignore": "w/\ncontent/\n"}.items():
        (file.parent / name).parent.mkdir(exist_ok=True)
        (file.parent / name).write_text(text)
    monkeypatch.setattr(resolve, "describe", lambda model: FactoryDigest.of(describe.observe(model)))  # in this process: it is quicker
    resolved = resolve.backbone(f"{file}:build", tmp_path / "cache")
    assert [one.name for one in resolved.sources] == ["content/seed.py", "mine.py", "w/a.bin"]
    jobs, places = small.plan(LINEAR, [resolved])
    place = places[jobs[0].key]
    (tmp_path / "staged").mkdir()
    (named,) = ship.stage(tmp_path / "staged", [f"{file}:build"])
    assert not list((tmp_path / "staged" / "author").rglob(".gitignore"))  # Ray would leave out what it names
    shutil.rmtree(file.parent)
    monkeypatch.chdir(tmp_path / "staged")
    here = ship.found_here(jobs[0], place)
    assert here.backbone_model == f"{tmp_path / 'staged'}/{named}"
    assert small.fit(jobs[0], here).status == "ok"
    (tmp_path / "staged" / named.partition(":")[0]).with_name("w").joinpath("a.bin").write_text("21")
    with pytest.raises(CheckpointChanged, match=r"not those the job was planned with: w/a\.bin was changed"):
        small.fit(jobs[0], here)


def test_a_factory_inside_a_package_travels_with_the_package(tiny, tmp_path: Path):
    file = tiny(at_build="from .. import SEED; torch.manual_seed(SEED)")
    package = tmp_path / "lab" / "mine"
    package.mkdir(parents=True)
    file = file.rename(package / "net.py")
    (package / "__init__.py").write_text("")
    (package.parent / "__init__.py").write_text("SEED = 4\n")
    (tmp_path / "staged").mkdir()
    (named,) = ship.stage(tmp_path / "staged", [f"{file}:build"])
    names = (f"{tmp_path / 'staged'}/{named}", f"{file}:build")
    there, here = (python_file.modules_of(python_file.build(name)).executed for name in names)
    assert sorted(there.values()) == sorted(here.values())
    assert {Path(path).relative_to(tmp_path / "staged" / "author").parts[1:] for path in there} == {
        ("lab", "__init__.py"),
        ("lab", "mine", "net.py"),
    }


def test_a_single_installed_module_travels_without_what_is_installed_beside_it(tiny, tmp_path: Path, monkeypatch):
    file = tiny()
    (file.parent / "another.py").write_text("")
    monkeypatch.setattr(ship, "installed_folders", lambda: (str(file.parent),))
    (tmp_path / "staged").mkdir()
    (named,) = ship.stage(tmp_path / "staged", [f"{file}:build"])
    assert [path.name for path in (tmp_path / "staged" / "author").rglob("*.py")] == ["mine.py"]
    assert (tmp_path / "staged" / named.partition(":")[0]).is_file()


def test_a_folder_too_large_to_travel_is_refused_with_its_size(tiny, tmp_path: Path, monkeypatch):
    file = tiny()
    with (file.parent / "weights.pt").open("wb") as handle:
        handle.truncate(parcel.MOST_BYTES + 2**20)
    (tmp_path / "staged").mkdir()
    with pytest.raises(UsageError, match="holds 65 MiB; at most 64 MiB"):
        ship.stage(tmp_path / "staged", [f"{file}:build"])


def test_a_folder_is_given_up_before_all_of_it_was_looked_at(tiny, tmp_path: Path, monkeypatch):
    file = tiny()
    (file.parent / "below").mkdir()
    monkeypatch.setattr(parcel, "MOST_FILES", 1)
    with pytest.raises(UsageError, match="more than 1 files"):
        parcel.packed(file.parent, "mine.py:build")
    with (file.parent / "weights.pt").open("wb") as handle:
        handle.truncate(2 * parcel.MOST_BYTES + 1)
    with pytest.raises(UsageError, match="holds more than 128 MiB; at most 64 MiB"):
        parcel.packed(file.parent, "mine.py:build")
    with pytest.raises(UsageError, match=r"gone of mine\.py:build cannot be read: No such file or directory"):
        parcel.packed(tmp_path / "gone", "mine.py:build")


def test_a_folder_that_changes_while_it_is_copied_is_a_sentence(tiny, tmp_path: Path, monkeypatch):
    file = tiny()
    found = parcel.packed(file.parent, "mine.py:build")
    monkeypatch.setattr(parcel, "MOST_BYTES", 100)  # it has grown
    with pytest.raises(UsageError, match="holds more than"):
        found.copy_to(tmp_path / "one", "mine.py:build")
    monkeypatch.undo()
    file.unlink()
    with pytest.raises(UsageError, match=r"The folder of mine\.py:build cannot be copied for the cluster: .*No such file"):
        found.copy_to(tmp_path / "two", "mine.py:build")


@pytest.mark.parametrize("kind", ["folder", "file", "below", "by a second link"])
def test_a_link_that_leads_out_of_the_folder_is_refused_with_its_target(tiny, tmp_path: Path, kind: str):
    file = tiny()
    away = tmp_path / "elsewhere"
    away.mkdir()
    (away / "secret.txt").write_text("42")
    (file.parent / "below").mkdir()
    link = file.parent / {"folder": "data", "file": "notes.txt", "below": "below/data", "by a second link": "data"}[kind]
    if kind == "by a second link":
        (file.parent / "next").symlink_to(away)
        link.symlink_to("next")
    else:
        link.symlink_to(away / "secret.txt" if kind == "file" else away)
    (tmp_path / "staged").mkdir()
    with pytest.raises(UsageError, match=rf"{link} is a link out of the folder.*leads to {away}"):
        ship.stage(tmp_path / "staged", [f"{file}:build"])
    assert not list((tmp_path / "staged").rglob("secret.txt"))


def test_what_links_show_counts_for_the_limit_and_a_circle_is_refused(tiny, tmp_path: Path, monkeypatch):
    file = tiny()
    (file.parent / "weights").mkdir()
    with (file.parent / "weights" / "w.pt").open("wb") as handle:
        handle.truncate(parcel.MOST_BYTES // 2)
    (file.parent / "again").symlink_to("weights")
    (tmp_path / "staged").mkdir()
    with pytest.raises(UsageError, match="holds 64 MiB"):  # twice the half, and the code
        ship.stage(tmp_path / "staged", [f"{file}:build"])
    (file.parent / "again").unlink()
    (file.parent / "weights" / "up").symlink_to("..")
    with pytest.raises(UsageError, match="a circle"):
        parcel.packed(file.parent, "mine.py:build")


def test_dot_files_pipes_and_dead_links_stay_and_the_line_says_what_travels(tiny, tmp_path: Path):
    file = tiny()
    folder = file.parent
    for name in (".env", ".ssh/id", "part/.token", "part/kept.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("secret")
    os.mkfifo(folder / "pipe")
    (folder / "dead").symlink_to("nowhere")
    (folder / "alias").symlink_to(".env")
    (folder / "linked.txt").symlink_to("part/kept.txt")
    (folder / "empty").mkdir()
    (tmp_path / "staged").mkdir()
    said: list[str] = []
    (named,) = ship.stage(tmp_path / "staged", [f"{file}:build"], lists=True, say=said.append)
    there = (tmp_path / "staged" / named.partition(":")[0]).parent
    assert {path.relative_to(there).as_posix() for path in there.rglob("*")} == {"mine.py", "part", "part/kept.txt", "linked.txt", "empty"}
    assert not (there / "linked.txt").is_symlink()
    assert re.match(rf"To the cluster travel 3 files \(0\.00 MiB\) of {folder}, \d+ files \([\d.]+ MiB\) of LOBE itself\.", said[0])
    assert said[0].endswith(" Stay: .env, .ssh, alias, dead, pipe and 1 more.")
    assert f"  travels: part/kept.txt (0.00 MiB) of {folder}" in said
    assert f"  stays: part/.token of {folder}" in said
    quiet: list[str] = []
    (tmp_path / "again").mkdir()
    ship.stage(tmp_path / "again", [f"{file}:build"], say=quiet.append)
    assert quiet == said[:1]


def test_a_dot_file_that_counts_as_a_source_is_refused_where_it_did_not_arrive(tiny, tmp_path: Path):
    file = tiny()
    (file.parent / ".seed").write_text("5")
    counted = sources.files_of(file, [str(file.parent / ".seed")])
    assert [one.name for one in counted] == [".seed", "mine.py"]
    sources.require_unchanged(counted, file.parent, "mine.py")
    (tmp_path / "staged").mkdir()
    (named,) = ship.stage(tmp_path / "staged", [f"{file}:build"], say=lambda _: None)
    with pytest.raises(
        CheckpointChanged, match=r"\.seed, which is not on this machine\. Rename it: names that begin with a dot do not travel"
    ):
        sources.require_unchanged(counted, (tmp_path / "staged" / named.partition(":")[0]).parent, "mine.py")


def test_a_driver_from_a_wheel_finds_its_own_package_on_the_nodes(tmp_path: Path):
    """A wheel holds cards, and a module among them, inside the package; they travel beside it."""
    wheel, staged = tmp_path / "wheel", tmp_path / "staged"
    shutil.copytree(Path(ship.__file__).parents[1], wheel / "benchmark", ignore=shutil.ignore_patterns(*ship.LEFT_BEHIND))
    for name in ship.CONTENT:
        shutil.copytree(registry.content(name), wheel / "benchmark" / "content" / name)
    assert list((wheel / "benchmark" / "content").rglob("*.py"))
    staged.mkdir()
    said = "import json; from benchmark.execute import nodes; print(json.dumps(nodes.identity()))"
    stage = f"from pathlib import Path; from benchmark.execute import ship; ship.stage(Path({str(staged)!r}), [], say=str); "
    driver, worker = (
        json.loads(subprocess.run([sys.executable, "-c", code], cwd=where, capture_output=True, text=True, check=True).stdout)
        for code, where in ((stage + said, wheel), (said, staged))
    )
    assert not (staged / "benchmark" / "content").exists()
    assert nodes.difference(driver, worker, "abcd") is None


def test_a_worker_with_other_versions_is_refused_with_a_sentence():
    mine = nodes.identity()
    assert nodes.difference(mine, dict(mine), "abcd") is None
    other = nodes.difference(mine, {**mine, "torch": "1.0"}, "abcd")
    assert other.startswith(f"Node abcd is not used: torch is 1.0 there and {mine['torch'][:16]} here.")
    assert nodes.difference(mine, {**mine, "gpu_bytes": "1"}, "abcd") is None  # devices may differ


def test_a_package_that_a_node_lacks_is_absent_there_and_another():
    assert nodes._version("no-such-package") == "absent"
    mine = nodes.identity()
    assert "torch is absent there" in nodes.difference(mine, {**mine, "torch": nodes._version("no-such-package")}, "abcd")


class JobServer(BaseHTTPRequestHandler):
    """The pages of Ray's job server that its own client asks for."""

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        if self.path in self.server.pages:
            self._answer(self.server.pages[self.path])
        else:
            self.send_error(404)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({})

    def do_POST(self) -> None:
        if self.path.endswith("/stop"):
            self.server.stopped.append(self.path)
            self._answer({"stopped": len(self.server.stopped) == 1})
        else:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.n_asked += 1
            self.send_error(500, "the disk is full")

    def _answer(self, page: object) -> None:
        content = json.dumps(page).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def job_server():
    import ray

    def job(name: str, start: int | None, metadata: dict | None) -> dict:
        told = {"message": f"{name} runs\nand more"}
        return {
            "type": "SUBMISSION",
            "submission_id": name,
            "status": "RUNNING",
            "entrypoint": "",
            "start_time": start,
            "metadata": metadata,
        } | told

    listed = [
        job("first", 1, {submit.MARK: "one"}),
        job("foreign", 2, {"theirs": "x"}),
        job("bare", 2, None),
        job("last", 3, {submit.MARK: "two"}),
    ]
    server = ThreadingHTTPServer(("127.0.0.1", 0), JobServer)
    server.pages = {
        "/api/version": {"version": "4", "ray_version": ray.__version__, "ray_commit": "", "session_name": ""},
        "/api/jobs/": listed,
        "/api/jobs/last/logs": {"logs": "epoch 1\n"},
    }
    server.stopped, server.n_asked = [], 0
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_evaluations_on_a_cluster_are_listed_followed_and_stopped_by_their_id(job_server, lobe):
    address = f"http://127.0.0.1:{job_server.server_port}"
    found = submit.submissions(address)
    assert [(one.id, one.state, one.title, one.message) for one in found] == [
        ("last", "RUNNING", "two", "last runs"),
        ("first", "RUNNING", "one", "first runs"),
    ]
    assert submit.logs(address, "last") == "epoch 1\n"
    with pytest.raises(UsageError, match=r"has no evaluation 'foreign'; it has last, first"):
        submit.logs(address, "foreign")
    rows = json.loads(lobe("status", "--address", address, "--json")[1])
    assert [row["id"] for row in rows] == ["last", "first"]
    assert lobe("logs", "last", "--address", address)[:2] == (0, "epoch 1\n")
    assert "Stopped." in lobe("cancel", "last", "--address", address)[1]
    assert "It had ended already." in lobe("cancel", "last", "--address", address)[1]
    assert job_server.stopped == ["/api/jobs/last/stop"] * 2
    code, _, err = lobe("cancel", "gone", "--address", address)
    assert (code, "has no evaluation 'gone'" in err) == (2, True)


def test_a_job_server_that_refuses_is_not_asked_again(job_server):
    with pytest.raises(EnvironmentProblem, match=r"did not take the evaluation: .*500"):
        submit.submit(f"http://127.0.0.1:{job_server.server_port}", ["torchvision:resnet18"], [], "T")
    assert job_server.n_asked == 1


def test_a_job_server_that_does_not_answer_as_one_is_a_sentence(job_server, lobe):
    address = f"http://127.0.0.1:{job_server.server_port}"
    del job_server.pages["/api/jobs/"]  # as behind a page of somebody else's
    for command in (("status",), ("logs", "last"), ("cancel", "last")):
        code, _, err = lobe(*command, "--address", address)
        assert (code, "Traceback" in err) == (2, False)
        assert f"The job server at {address} did not answer as one" in " ".join(err.split())


def test_without_ray_nothing_can_be_followed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    with pytest.raises(EnvironmentProblem, match=r"Ray cannot be imported .*`lobe doctor`"):
        submit.submissions("http://head:8265")


def test_a_job_server_that_is_not_there_or_not_one_is_said():
    with pytest.raises(UsageError, match="http://head:8265"):
        submit.submissions("head:6379")
    with pytest.raises(EnvironmentProblem, match="No Ray job server answers"):
        submit.submissions("http://127.0.0.1:9")


class Busy:
    """A job server whose head has no agent for the first few askings."""

    def __init__(self, refusals: int):
        self.left = refusals

    def submit_job(self, **_) -> str:
        if self.left:
            self.left -= 1
            raise RuntimeError("Request failed with status code 500: No available agent to submit job, please try again later..")
        return "taken"


def test_a_job_server_without_an_agent_is_asked_again_and_then_said(monkeypatch):
    monkeypatch.setattr(submit, "PATIENCE_S", (0, 0, 0))
    for refusals in (0, 2):
        monkeypatch.setattr(submit, "_client", lambda _, refusals=refusals: Busy(refusals))
        assert submit.submit("http://head:8265", ["torchvision:resnet18"], [], "T") == "taken"
    monkeypatch.setattr(submit, "_client", lambda _: Busy(9))
    with pytest.raises(EnvironmentProblem, match=r"at http://head:8265 did not take the evaluation: .*No available agent"):
        submit.submit("http://head:8265", ["torchvision:resnet18"], [], "T")


def test_a_cluster_that_asks_for_a_token_gets_a_sentence_and_no_traceback(monkeypatch):
    import ray
    from ray import job_submission
    from ray.exceptions import AuthenticationError

    def refuse(*_, **__):
        raise AuthenticationError("InvalidAuthToken")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(Connection, "_found", lambda self, ray: self.address)
    monkeypatch.setattr(job_submission, "JobSubmissionClient", refuse)
    with pytest.raises(EnvironmentProblem, match="at head:6379 asks for its token: set RAY_AUTH_MODE=token"):
        next(RayExecutor(address="head:6379").run(Schedule([])))
    with pytest.raises(EnvironmentProblem, match="at http://head:8265 asks for its token"):
        submit.submissions("http://head:8265")
