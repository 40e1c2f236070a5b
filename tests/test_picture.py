"""The picture of the readme shows what the demo's page shows today, and says so itself: a stale one fails here."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmark import registry
from tests import picture
from tests.report.conftest import make_record, make_runs

STALE = "docs/leaderboard.png shows another page than today's: `make picture` draws it anew."


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A picture of a page of made-up records, without the browser."""
    records = picture.bare(make_runs([0.2, 0.3], phantom=True, environment={"device": "cpu", "host": "mine"}))
    _, digest = picture.front_page(records, tmp_path / "site")
    Image.new("RGB", (4, 4)).save(tmp_path / "shot.png")
    picture.hold(tmp_path / "shot.png", records, digest, tmp_path / "held.png")
    return tmp_path / "held.png"


def test_a_picture_tells_the_page_it_shows_from_any_other(held: Path, tmp_path: Path):
    records = picture.records_in(held)
    assert [record.metrics for record in records] == [{"mAP": 0.2}, {"mAP": 0.3}]
    assert picture.front_page(records, tmp_path / "again")[1] == picture.digest_in(held)
    assert picture.front_page([records[0], make_record(0.4, run=1, phantom=True)], tmp_path / "other")[1] != picture.digest_in(held)


def test_it_keeps_no_name_of_a_machine(held: Path):
    assert [record.environment for record in picture.records_in(held)] == [{"device": "cpu"}] * 2
    assert all(record.curve == () for record in picture.records_in(held))


def test_a_picture_that_was_not_drawn_here_says_nothing(tmp_path: Path):
    Image.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    assert not picture.holds_records(tmp_path / "plain.png")
    with pytest.raises(KeyError):
        picture.records_in(tmp_path / "plain.png")


def test_the_readmes_picture_shows_the_page_of_today(tmp_path: Path):
    assert picture.front_page(picture.records_in(), tmp_path)[1] == picture.digest_in(), STALE


def test_the_readmes_picture_is_of_todays_demo():
    """The cards may change after it was drawn: then the demo is run again, and `make picture DEMO=lobe-demo/out` draws it."""
    records = picture.records_in()
    assert {record.job.labels.task for record in records} == set(registry.suite("demo").tasks), STALE
    for record in records:
        assert (record.phantom, record.status, record.scale) == (True, "ok", "full")
        card, e = registry.task(record.job.labels.task), record.job.experiment
        of_card = (card.version, card.head, card.encoder, card.fraction, card.recipe, card.select, card.report, card.frame_size)
        of_record = (e.task_version, e.head, e.encoder, e.fraction, e.recipe, e.select, e.report, e.dataset.frame_size)
        assert of_card == of_record, STALE
    assert len({record.job.labels.backbone for record in records}) == 3
    text = "".join(record.model_dump_json() for record in records)
    assert not any(folder in text for folder in ("/tmp", "/home", "/root"))
