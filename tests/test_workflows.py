"""Workflows that meet pull requests of strangers: what reads them may write nothing, and what may write runs nothing of theirs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from benchmark import yaml_files

FOLDER = Path(__file__).resolve().parents[1] / ".github" / "workflows"
READS, WRITES = "submission-validate.yml", "submission-comment.yml"
CHECKS, RELEASE = "checks.yml", "release.yml"
MAKEFILE = FOLDER.parents[1] / "Makefile"
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40}")
# What a stranger decides, and so may stand in no script: a title or a branch's name is run by the shell that it is pasted into.
PASTED = re.compile(r"\$\{\{")


def workflow(name: str) -> dict[str, Any]:
    found = yaml_files.read(FOLDER / name)
    return {"on" if key is True else key: value for key, value in found.items()}  # YAML takes the word for a yes


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def permissions(name: str) -> list[dict[str, str]]:
    """Of the workflow, and of each job that has its own."""
    found = workflow(name)
    return [found["permissions"], *(job["permissions"] for job in found["jobs"].values() if "permissions" in job)]


def test_every_workflow_is_looked_at_here() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {READS, WRITES, CHECKS, RELEASE}


@pytest.mark.parametrize("name", [CHECKS, RELEASE])
def test_every_step_is_an_action_or_a_make_target_that_is_there_with_a_token_that_can_read(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    for step in steps(name):
        assert ("uses" in step) != ("run" in step), step
        made = re.fullmatch(r'make ([a-z-]+)( TAG="\$\{GITHUB_REF_NAME\}")?', step.get("run", "make test").strip())
        assert made, step
        assert made[1] in targets, step
        assert not step.get("uses", "").startswith("actions/checkout@") or step["with"] == {"persist-credentials": False}
    assert permissions(name) == [{"contents": "read"}]
    assert "secrets." not in (FOLDER / name).read_text(encoding="utf-8")


def test_every_change_is_held_to_tests_types_docs_wheel_and_lowest_versions() -> None:
    assert set(workflow(CHECKS)["on"]) == {"push", "pull_request"}
    jobs = workflow(CHECKS)["jobs"]
    assert [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step] == [
        "make test",
        "make types",
        "make docs",
        "make wheel",
        "make lowest",
    ]
    project = tomllib.loads((MAKEFILE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    spoken = [line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == spoken
    assert jobs["lowest"]["steps"][1]["with"]["python-version"] == spoken[0]


def test_a_tag_of_a_version_makes_its_notes_before_its_wheel() -> None:
    assert workflow(RELEASE)["on"] == {"push": {"tags": ["v*"]}}
    assert [step["run"].split()[1] for step in steps(RELEASE) if "run" in step] == ["release-notes", "wheel"]


def test_what_reads_a_pull_request_has_a_token_that_can_read_and_no_secret() -> None:
    assert set(workflow(READS)["on"]) == {"pull_request"}, "pull_request_target would give it the project's own rights"
    assert permissions(READS) == [{"contents": "read"}]
    assert "secrets." not in (FOLDER / READS).read_text(encoding="utf-8")


def test_what_reads_a_pull_request_checks_out_the_base_branch_and_keeps_no_credentials() -> None:
    (checkout,) = [step for step in steps(READS) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert checkout["with"]["persist-credentials"] is False


def test_code_is_installed_before_anything_of_the_pull_request_is_on_the_disk() -> None:
    said = [step.get("run", "") for step in steps(READS)]
    installed = next(k for k, run in enumerate(said) if "install" in run)
    fetched = next(k for k, run in enumerate(said) if "git fetch" in run)
    assert installed < fetched
    after = "\n".join(said[fetched:])
    assert not re.search(r"git (checkout|switch|merge|reset|worktree|pull)|pip install|make |python (?!-)", after), "its files are data"
    assert "cat-file blob" in after


def test_what_writes_runs_no_code_and_checks_nothing_out() -> None:
    assert set(workflow(WRITES)["on"]) == {"workflow_run"}
    assert [step["uses"].partition("@")[0] for step in steps(WRITES)] == ["actions/download-artifact", "actions/github-script"]
    assert not [step for step in steps(WRITES) if "run" in step]
    assert permissions(WRITES) == [{}, {"actions": "read", "pull-requests": "write"}]


def test_what_writes_takes_the_other_workflows_file_for_text_of_an_enemy() -> None:
    (script,) = [step["with"]["script"] for step in steps(WRITES) if "script" in step.get("with", {})]
    assert "require(" in script
    assert set(re.findall(r"require\(\"(\w+)\"\)", script)) == {"fs"}
    assert not re.search(r"eval|exec|spawn|import\(", script)
    for word in ("issue_number: pull.number", "plain(", "```text", ".slice(0,"):
        assert word in script
    assert "said.number" not in script, "which pull request it is comes from the event"


@pytest.mark.parametrize("name", [READS, WRITES, CHECKS, RELEASE])
def test_actions_are_pinned_to_a_commit_and_scripts_hold_nothing_that_is_pasted_in(name: str) -> None:
    for step in steps(name):
        assert "uses" not in step or PINNED.fullmatch(step["uses"]), step
        assert not PASTED.search(step.get("run", "") + step.get("with", {}).get("script", "")), step
    assert all("timeout-minutes" in job for job in workflow(name)["jobs"].values())
