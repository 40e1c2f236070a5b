"""The picture of the readme shows what the demo's page shows today, and says so itself: a stale one fails here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import registry
from benchmark.demo import banks, rank, rows
from benchmark.report.resampling import Resampled
from tests import picture
from tests.report.conftest import make_record, make_runs

STALE = "docs/leaderboard.png shows another page than today's: `make picture` draws it anew."

RESAMPLES = {"k": Resampled(np.array([[0.1], [0.2], [0.3]], np.float32), "images", 2, True)}


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A picture of a page of made-up records, without the browser."""
    shown = picture.Shown(make_runs([0.2, 0.3], phantom=True, environment={"device": "cpu", "host": "mine"}), resamples=RESAMPLES).bare
    _, digest = picture.front_page(shown, tmp_path / "site")
    Image.new("RGB", (4, 4)).save(tmp_path / "shot.png")
    picture.hold(tmp_path / "shot.png", shown, digest, tmp_path / "held.png")
    return tmp_path / "held.png"


def test_a_picture_tells_the_page_it_shows_from_any_other(held: Path, tmp_path: Path):
    shown = picture.shown_in(held)
    assert [record.metrics for record in shown.records] == [{"mAP": 0.2}, {"mAP": 0.3}]
    assert shown.resamples["k"].values[:, 0].tolist() == pytest.approx([0.1, 0.2, 0.3], abs=1e-4)
    assert (shown.resamples["k"].test, shown.resamples["k"].n_clusters) == ("images", 2)
    assert picture.front_page(shown, tmp_path / "again")[1] == picture.digest_in(held)
    other = picture.Shown([shown.records[0], make_record(0.4, run=1, phantom=True)])
    assert picture.front_page(other, tmp_path / "other")[1] != picture.digest_in(held)


def test_it_keeps_no_name_of_a_machine(held: Path):
    assert [record.environment for record in picture.shown_in(held).records] == [{"device": "cpu"}] * 2
    assert all(record.curve == () for record in picture.shown_in(held).records)


def test_a_picture_that_was_not_drawn_here_says_nothing(tmp_path: Path):
    Image.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    assert not picture.holds_anything(tmp_path / "plain.png")
    with pytest.raises(KeyError):
        picture.shown_in(tmp_path / "plain.png")


def test_the_readmes_picture_shows_the_page_of_today(tmp_path: Path):
    assert picture.front_page(picture.shown_in(), tmp_path)[1] == picture.digest_in(), STALE


def test_the_readmes_picture_is_of_todays_demo():
    """The cards may change after it was drawn: then the demo is run again, and `make picture DEMO=lobe-demo` draws it."""
    shown = picture.shown_in()
    suites = [registry.suite(name).tasks for name in ("demo", rank.SUITE, "demo-words")]
    assert {record.job.labels.task for record in shown.records} == set().union(*suites), STALE
    for record in shown.records:
        assert (record.phantom, record.status, record.scale) == (True, "ok", "full")
        card, e = registry.task(record.job.labels.task), record.job.experiment
        of_card = (card.version, card.head, card.encoder, card.fraction, card.recipe, card.select, card.report, card.frame_size)
        of_record = (e.task_version, e.head, e.encoder, e.fraction, e.recipe, e.select, e.report, e.dataset.frame_size)
        assert of_card == of_record, STALE
    assert {rows.row_of(record) for record in shown.records} == {rows.RANDOM_ROW, rows.TEXT_ROW, rows.IMAGENET_ROW}
    (panel,) = shown.panels
    assert {row.backbone for row in panel.rows} == {f"banks:{factory.__name__}" for factory in banks.PANEL}, STALE
    assert not any(folder in shown.as_text() for folder in ("/tmp", "/home", "/root"))
