"""What was to run is kept an evaluation a line: a plan costs its own jobs, replaces its own evaluations, and loses nobody else's."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from benchmark import planned
from benchmark.cards import Job
from benchmark.errors import StoreError
from tests.full_disk import full_disk
from tests.perf.many_records import many_jobs


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    return list(islice(many_jobs(), 300))  # of three backbones


def keys(jobs: list[Job]) -> list[str]:
    return sorted(job.key for job in jobs)


def test_plans_come_back_and_share_their_cards(tmp_path: Path, jobs: list[Job]):
    planned.write(tmp_path, iter(jobs))
    found = planned.read(tmp_path)
    assert found == sorted(jobs, key=lambda job: job.key)
    assert len({id(job.experiment.dataset) for job in found}) == len({job.experiment.dataset.canonical for job in jobs})
    text = (tmp_path / planned.PLANNED).read_text()
    for line in text.splitlines():
        json.loads(line)
    assert text.count(jobs[0].experiment.dataset.canonical) == 1


def test_the_same_plan_again_changes_no_byte(tmp_path: Path, jobs: list[Job]):
    planned.write(tmp_path, jobs)
    before = (tmp_path / planned.PLANNED).read_bytes()
    planned.write(tmp_path, jobs[:136])
    planned.write(tmp_path, jobs)
    assert (tmp_path / planned.PLANNED).read_bytes() == before


def test_a_plan_adds_what_it_changes_and_rewrites_nothing(tmp_path: Path, jobs: list[Job]):
    planned.write(tmp_path, jobs)
    before = (tmp_path / planned.PLANNED).read_bytes()
    task = [job for job in jobs[:136] if job.labels.task == jobs[0].labels.task]
    planned.write(tmp_path, task[:-1])
    after = (tmp_path / planned.PLANNED).read_bytes()
    assert after.startswith(before)
    assert len(after) - len(before) < len(before) / 20
    assert keys(planned.read(tmp_path)) == keys([job for job in jobs if job.key != task[-1].key])


def test_a_line_that_was_cut_off_says_nothing_and_is_written_over(tmp_path: Path, jobs: list[Job]):
    planned.write(tmp_path, jobs[:136])
    whole = (tmp_path / planned.PLANNED).read_bytes()
    planned.write(tmp_path, jobs)
    path = tmp_path / planned.PLANNED
    path.write_bytes(path.read_bytes()[: len(whole) + 5_000])
    assert set(keys(jobs[:136])) <= set(keys(planned.read(tmp_path))) < set(keys(jobs))
    planned.write(tmp_path, jobs)
    assert keys(planned.read(tmp_path)) == keys(jobs)


def test_a_plan_of_an_earlier_release_is_read_and_moves_into_lines(tmp_path: Path, jobs: list[Job]):
    earlier = tmp_path / planned.EARLIER
    earlier.write_text(json.dumps([job.model_dump(mode="json") for job in jobs[:200]]))
    assert keys(planned.read(tmp_path)) == keys(jobs[:200])
    planned.write(tmp_path, jobs[136:138])
    replaced = {job.key for job in jobs[138:200] if job.labels.task == jobs[136].labels.task}
    assert not earlier.exists()
    assert keys(planned.read(tmp_path)) == keys([job for job in jobs[:200] if job.key not in replaced])


def test_an_evaluation_whose_jobs_do_not_follow_each_other_keeps_them_all(tmp_path: Path, jobs: list[Job]):
    shuffled = [*jobs[:5], *jobs[20:40], *jobs[5:20]]
    for _ in range(2):
        planned.write(tmp_path, shuffled)
        assert keys(planned.read(tmp_path)) == keys(shuffled)
    planned.write(tmp_path, jobs[:3])
    task = jobs[0].labels.task
    assert {job.key for job in planned.read(tmp_path) if job.labels.task == task} == {job.key for job in jobs[:3]}


def test_lines_that_no_longer_count_are_dropped_when_they_are_the_larger_half(tmp_path: Path, jobs: list[Job], monkeypatch):
    monkeypatch.setattr(planned, "SPARE_BYTES", 0)
    sizes = []
    for n in (136, 135, 134, 133, 136, 135, 134, 133):
        planned.write(tmp_path, [*jobs[:n], *jobs[136:140]] if n < 136 else jobs)
        planned.write(tmp_path, [job.model_copy(update={"labels": job.labels.model_copy(update={"suite": f"suite {n}"})}) for job in jobs])
        sizes.append((tmp_path / planned.PLANNED).stat().st_size)
    assert keys(planned.read(tmp_path)) == keys(jobs)
    assert max(sizes) < 3 * min(sizes)


@pytest.mark.parametrize("damage", [b"[]\n", b'["lobe","plans",1]\n{}\n', b'["lobe","plans",1]\n["jobs","0",1]\n'])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes):
    (tmp_path / planned.PLANNED).write_bytes(damage)
    with pytest.raises(StoreError, match=r"planned\.jsonl is damaged"):
        planned.read(tmp_path)


def test_a_full_disk_is_a_sentence_and_the_plan_before_stays(tmp_path: Path, jobs: list[Job]):
    planned.write(tmp_path, jobs[:136])
    with full_disk(), pytest.raises(StoreError, match=r"Cannot write .*planned\.jsonl: File too large\. Make room .* same command again"):
        planned.write(tmp_path, jobs)
    assert keys(planned.read(tmp_path)) == keys(jobs[:136])
    planned.write(tmp_path, jobs)
    assert keys(planned.read(tmp_path)) == keys(jobs)


def test_what_a_report_asks_changes_with_the_plan(tmp_path: Path, jobs: list[Job]):
    nothing = planned.stamps(tmp_path)
    planned.write(tmp_path, jobs[:3])
    assert planned.stamps(tmp_path) != nothing
    assert planned.stamps(tmp_path) == planned.stamps(tmp_path)
