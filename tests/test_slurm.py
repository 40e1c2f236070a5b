"""The Slurm script, run with stand-ins for Slurm, Ray and `lobe`: what starts where, and that all ends as the driver does."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "docker" / "slurm.sh"
STAND_INS = {
    # A step of Slurm runs until it is ended.
    "srun": 'echo "srun $*" >> "$LOG"; echo $$ >> "$LOG.steps"; exec tail -f /dev/null',
    "scontrol": '[[ $* == "show hostnames $SLURM_JOB_NODELIST" ]] && seq -f node-%g 1 "$N_NODES"',
    # The head answers when it is asked for the second time.
    "ray": 'echo "ray $*" >> "$LOG"; [[ $(grep -c "^ray" "$LOG") -ge ${RAY_ANSWERS_AT:-2} ]]',
    "sleep": 'echo "sleep $*" >> "$LOG"',
    # Here to see every step begin.
    "lobe": """until (($(cat "$LOG.steps" | wc -l) >= (N_NODES > 1 ? 2 : 1))); do :; done
        echo "lobe $*" >> "$LOG"; echo "cache $LOBE_CACHE, token ${RAY_AUTH_MODE:-off}" >> "$LOG"; eval "${DRIVER:-exit 0}" """,
}


@pytest.fixture
def slurm(tmp_path: Path):
    """Starts the script as `sbatch` would, on so many nodes."""
    for name, body in STAND_INS.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    # An environment that is not activated has no `lobe`, as on a cluster.
    (tmp_path / ".venv" / "bin" / "activate").write_text(f'PATH="{tmp_path / "bin"}:$PATH"\n')

    def start(n_nodes: int, *arguments: str, **environment: str) -> subprocess.Popen:
        given = {"SLURM_JOB_ID": "1234", "SLURM_JOB_NODELIST": "node-[1-9]", "SLURM_CPUS_PER_TASK": "64", "SLURM_SUBMIT_DIR": str(tmp_path)}
        given |= {"PATH": os.environ["PATH"], "USER": "someone", "LOG": str(tmp_path / "log"), "N_NODES": str(n_nodes)}
        return subprocess.Popen(
            ["bash", str(SCRIPT), *arguments], env=given | environment, stderr=subprocess.PIPE, text=True, preexec_fn=_hears_interruptions
        )

    def lines() -> list[str]:
        return (tmp_path / "log").read_text().splitlines()

    def steps() -> list[int]:
        return [int(pid) for pid in (tmp_path / "log.steps").read_text().split()]

    return SimpleNamespace(start=start, lines=lines, steps=steps, folder=tmp_path)


def _hears_interruptions() -> None:
    """As under Slurm: bash cannot trap what its parent ignores, as a shell's background does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(script: subprocess.Popen) -> tuple[int, str]:
    _, said = script.communicate(timeout=60)
    return script.returncode, said


def require_ended(steps: list[int]) -> None:
    for pid in steps:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


HEAD = (
    "srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --cpus-per-task=64 --nodelist=node-1 ray start --head --port=21234 "
    "--ray-client-server-port=31234 --include-dashboard=false --num-cpus=64 --block"
)


def test_one_node_starts_a_head_and_no_workers(slurm):
    code, said = finish(slurm.start(1, "--suite", "lovt-18", "--out", "/a folder"))
    assert (code, said) == (0, "")
    assert [line for line in slurm.lines() if line.startswith("srun")] == [HEAD]
    assert "lobe run --suite lovt-18 --out /a folder --address node-1:21234" in slurm.lines()
    assert "cache /var/tmp/lobe-someone, token token" in slurm.lines()
    require_ended(slurm.steps())


def test_several_nodes_start_the_rest_once_the_head_answers(slurm):
    assert finish(slurm.start(3, "--suite", "lovt-18", LOBE_CACHE="/local/me"))[0] == 0
    head, workers = (line for line in slurm.lines() if line.startswith("srun"))
    assert head == HEAD
    assert workers == (
        "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=64 --exclude=node-1 "
        "ray start --address=node-1:21234 --num-cpus=64 --block"
    )
    lines = slurm.lines()
    asked = [i for i, line in enumerate(lines) if line == "ray health-check --address node-1:21234"]
    assert len(asked) > 1
    assert asked[-1] < lines.index(workers)
    assert "cache /local/me, token token" in lines
    require_ended(slurm.steps())


def test_without_cores_per_task_a_node_gives_what_the_job_has_of_it(slurm):
    script = slurm.start(1, SLURM_CPUS_ON_NODE="12", SLURM_CPUS_PER_TASK="")
    assert finish(script)[0] == 0
    (head,) = (line for line in slurm.lines() if line.startswith("srun"))
    assert head == HEAD.replace("=64", "=12")


def test_the_script_ends_as_the_driver_does(slurm):
    assert finish(slurm.start(2, DRIVER="exit 7"))[0] == 7
    require_ended(slurm.steps())


def test_slurms_warning_reaches_the_driver_as_a_polite_end(slurm):
    os.mkfifo(slurm.folder / "ready")
    waits = f'trap "exit 1" TERM; echo here > {slurm.folder / "ready"}; while :; do read -rt 1 <> <(:) || :; done'
    script = slurm.start(2, DRIVER=waits)
    assert (slurm.folder / "ready").read_text() == "here\n"
    script.send_signal(signal.SIGINT)
    assert finish(script)[0] == 1
    require_ended(slurm.steps())


def test_a_driver_that_ends_before_the_script_looks_again_keeps_its_code(slurm):
    """What a signal does to `wait` is no code of the driver's."""
    (slurm.folder / "slowly").write_text(
        'kill() { builtin kill "$@" || return; [[ $1 != -TERM ]] || while builtin kill -0 "$2" 2> /dev/null; do :; done; }\n'
    )
    os.mkfifo(slurm.folder / "ready")
    waits = f'trap "exit 1" TERM; echo here > {slurm.folder / "ready"}; while :; do read -rt 1 <> <(:) || :; done'
    script = slurm.start(2, DRIVER=waits, BASH_ENV=str(slurm.folder / "slowly"))
    assert (slurm.folder / "ready").read_text() == "here\n"
    script.send_signal(signal.SIGINT)
    assert finish(script)[0] == 1
    require_ended(slurm.steps())


def test_a_head_that_never_answers_is_said_and_ends_it(slurm):
    code, said = finish(slurm.start(2, RAY_ANSWERS_AT="1000"))
    assert (code, said) == (2, "No Ray answers on node-1:21234: see above what it said.\n")
    assert not any(line.startswith("lobe") for line in slurm.lines())
    require_ended(slurm.steps())


def test_the_documentation_names_the_script_and_shows_it_as_it_is():
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert SCRIPT.read_text(encoding="utf-8") in page
