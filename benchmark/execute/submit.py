"""A whole evaluation handed to a cluster through Ray's job API, and followed from anywhere: the laptop may leave."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import EnvironmentProblem, UsageError
from benchmark.execute.addresses import checked_server, wants_token
from benchmark.execute.ship import included_there, stage

MARK = "lobe"  # in the metadata of our jobs
NO_AGENT = "No available agent"  # a head that has just started, or is busy, has none for a while
PATIENCE_S = (1, 2, 4, 8, 15)
START = "from benchmark.cli import main; main()"


@dataclass(frozen=True)
class Submission:
    """One evaluation on a cluster. `state` is Ray's: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""

    id: str
    state: str
    message: str
    title: str


def submit(address: str, backbones: Sequence[str], arguments: Sequence[str], title: str, *, lists: bool = False) -> str:
    """Starts `lobe run` on the cluster.

    Args:
        address: of the cluster's job server, `http://head:8265`.
        backbones: as named here; the folders of the user's own travel along, and so do included ones.
        arguments: of `lobe run` beside the backbones; paths are the cluster's.
        lists: say which files of the authors travel, beside how many.

    Returns:
        The id to follow it by.

    Raises:
        EnvironmentProblem: the cluster does not answer, or does not take it.
    """
    with tempfile.TemporaryDirectory(prefix="lobe-ship-") as staging:
        named = stage(Path(staging), backbones, lists=lists)
        words = [*(word for folder in included_there() for word in ("--include", folder)), "run"]
        words = [*words, *(word for name in named for word in ("--backbone", name)), *arguments, "--address", "auto"]
        client = _client(address)
        for patience_s in PATIENCE_S:
            try:
                with _reached(address):
                    return client.submit_job(
                        entrypoint=f"python -c {shlex.quote(START)} {shlex.join(words)}",
                        runtime_env={"working_dir": staging, "env_vars": {"RAY_USAGE_STATS_ENABLED": "0"}},
                        metadata={MARK: title},
                    )
            except RuntimeError as error:
                problem = str(error)
                if NO_AGENT not in problem:
                    break
                time.sleep(patience_s)
        raise EnvironmentProblem(f"The job server at {address} did not take the evaluation: {_line(problem)} Try again, or ask its owner.")


def submissions(address: str) -> list[Submission]:
    """Every evaluation the cluster knows, newest first."""
    client = _client(address)
    with _answering(address):
        jobs = [job for job in client.list_jobs() if job.submission_id and MARK in (job.metadata or {})]
    jobs.sort(key=lambda job: -(job.start_time or 0))
    return [Submission(job.submission_id, str(job.status.value), _line(job.message), job.metadata[MARK]) for job in jobs]


def logs(address: str, submission: str) -> str:
    """What it has printed so far."""
    _known(address, submission)
    client = _client(address)
    with _answering(address):
        return client.get_job_logs(submission)


def cancel(address: str, submission: str) -> bool:
    """Stops it; what is stored stays. False when it had ended before."""
    _known(address, submission)
    client = _client(address)
    with _answering(address):
        return bool(client.stop_job(submission))


def _known(address: str, submission: str) -> None:
    known = [s.id for s in submissions(address)]
    if submission not in known:
        raise UsageError(f"The cluster at {address} has no evaluation {submission!r}; it has {', '.join(known) or 'none'}.")


def _client(address: str):
    try:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise EnvironmentProblem(f"Ray cannot be imported ({error}). `lobe doctor` says how to mend it.") from None
    try:
        return JobSubmissionClient(checked_server(address))
    except AuthenticationError:
        raise wants_token(address) from None
    except (ConnectionError, RuntimeError) as error:
        raise EnvironmentProblem(f"No Ray job server answers at {address}: {str(error).splitlines()[0][:200]}") from None


@contextmanager
def _reached(address: str) -> Iterator[None]:
    """Says in a sentence that the server went away meanwhile; its own refusals stay RuntimeErrors."""
    try:
        yield
    except OSError as error:  # as all errors of requests are
        raise EnvironmentProblem(f"The job server at {address} went away: {_line(str(error))} Try again.") from None


@contextmanager
def _answering(address: str) -> Iterator[None]:
    try:
        with _reached(address):
            yield
    except RuntimeError as error:
        raise EnvironmentProblem(f"The job server at {address} did not answer as one: {_line(str(error))} Is the address right?") from None


def _line(message: str | None) -> str:
    return (message or "").splitlines()[0][:200] if message else ""
