"""Any reader that gives texts is a source of pairs: a folder of captions, a table of reports, Open-I. Test images are never among them."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from benchmark import registry
from benchmark.cards.pretraining import PairsCard
from benchmark.errors import DataError
from benchmark.phantom.corpus import CorpusPlan
from benchmark.pretraining import frames, pairs, sources
from benchmark.readers.base import open_reader
from tests import own_folders
from tests.corpora import write_corpus
from tests.own_cards import opened

SPLITS = ["train"] * 4 + ["valid"] * 4 + ["test"] * 2
TABLE = {"table": "reports.csv", "image": "path", "patient": "who", "sections": {"findings": "findings", "impression": "impression"}}


@pytest.fixture
def own(tmp_path):
    """A table of reports as CheXpert's has them: a column for each section, one for the patient, and one for the official split."""
    folder = tmp_path / "own"
    rows = [("path", "findings", "impression", "who", "split")]
    for k, split in enumerate(SPLITS):
        # Wider than tall, and two images of each patient.
        own_folders.save(folder / f"{k}.png", np.vstack([own_folders.picture(k), own_folders.picture(k)])[:96, :])
        rows.append((f"{k}.png", f"Opacity number {k}." if k else "", f"Mild edema {k}.", f"p{k // 2}", split))
    own_folders.table(folder / "reports.csv", rows)
    return folder


@pytest.fixture
def registered(own, tmp_path):
    """The table as a dataset of one's own, by name."""
    card = {"name": "mine", "redistribution": "ids", "folder": "own", "pairs": TABLE, "split": {"by": "column", "column": "split"}}
    (tmp_path / "cards" / "datasets").mkdir(parents=True)
    (tmp_path / "cards" / "datasets" / "mine.yaml").write_text(yaml.safe_dump({"datasets": [card]}))
    registry.include(tmp_path / "cards")
    yield PairsCard(dataset="mine")
    registry._included.clear()
    registry.forget()


def test_a_table_of_reports_gives_sections_and_its_test_images_are_refused(own, registered):
    train, held_out = pairs.load(registered, own, 32, 0)
    assert sorted(train.ids) == [f"{k}.png" for k in range(4)]
    assert sorted(held_out.ids) == ["4.png", "5.png", "6.png", "7.png"]
    assert len(set(train.patients.tolist())) == 2
    assert dict(zip(train.ids, train.reports, strict=True))["1.png"] == ("Opacity number 1.", "Mild edema 1.")
    reader = open_reader(registry.dataset("mine"), own)
    assert isinstance(reader, sources.TellsSections)
    assert not isinstance(reader, sources.TellsStudies)
    assert sources.sections_of(reader, "0.png") == {"impression": "Mild edema 0."}


def test_a_recipe_picks_sections_of_a_table(own, registered):
    train, _ = pairs.load(registered.model_copy(update={"sections": ("findings",), "fewest_words": 1}), own, 32, 0)
    assert sorted(train.ids) == ["1.png", "2.png", "3.png"]
    assert train.dropped["without a report"] == 1
    assert all(report[0].startswith("Opacity") for report in train.reports)


def test_the_first_part_of_a_release_is_no_draw(own, registered):
    first = pairs.load(registered.model_copy(update={"share": 0.5, "share_of": "first"}), own, 32, 7)[0]
    ids = sources.images_of(open_reader(registry.dataset("mine"), own))[0]
    assert first.ids == ids[:2]


def test_frames_of_the_cache_are_those_of_memory(own, registered, tmp_path):
    for frame in ("padded", "resized", "cut", "cut-released"):
        card = registered.model_copy(update={"frame": frame})
        held, mapped = (pairs.load(card, own, 24, 0, cache=cache) for cache in (None, tmp_path / "cache"))
        for one, other in zip(held, mapped, strict=True):
            assert isinstance(other.frames, frames.Mapped)
            assert one.digest == other.digest
            index = np.array([1, 0, 1])
            assert np.array_equal(one.shown(index, index), other.shown(index, index))
            assert one.frames.shape == other.frames.shape
    again = pairs.load(registered, own, 24, 0, lambda done, of: None, tmp_path / "cache")
    assert again[0].digest == pairs.load(registered, own, 24, 0)[0].digest


def test_a_caption_in_a_file_of_its_own_is_the_whole_report(tmp_path):
    for name in "abcdef":
        own_folders.save(tmp_path / "own" / f"{name}.png", own_folders.picture(ord(name)))
        (tmp_path / "own" / f"{name}.txt").write_text(f"Report {name} says little.", encoding="utf-8")
    reader = opened(tmp_path / "own", "pairs", {"texts": "{stem}"})
    assert sources.sections_of(reader, "a.png") == {"report": "Report a says little."}
    train, validation = sources.images_of(reader)
    tested = set(reader.split(reader.card.splits["own"])["test"])
    assert tested
    assert not tested & {*train, *validation}
    assert len(train) + len(validation) + len(tested) == 6


def test_captions_and_sections_are_one_or_the_other(tmp_path):
    own_folders.save(tmp_path / "own" / "a.png", own_folders.picture(1))
    with pytest.raises(ValueError, match="or `sections` in place of `caption`"):
        opened(tmp_path / "own", "pairs", {**TABLE, "caption": "findings"})


def test_open_i_is_a_source_of_pairs_and_a_backbones_card_says_that_its_images_were_seen(tmp_path):
    write_corpus(CorpusPlan(dataset="open-i", n_patients=12, seed=3), tmp_path / "open-i")
    train, held_out = pairs.load(PairsCard(dataset="open-i"), tmp_path / "open-i", 24, 0)
    reader = open_reader(registry.dataset("open-i"), tmp_path / "open-i")
    tested = reader.split(registry.dataset("open-i").splits["all-reports"])["test"]
    assert {*train.ids, *held_out.ids} <= {*tested}
    assert not {*train.ids} & {*held_out.ids}
    impressions = pairs.load(PairsCard(dataset="open-i", sections=("impression",), fewest_words=1), tmp_path / "open-i", 24, 0)[0]
    assert all(len(one) <= len(whole) for one, whole in zip(impressions.reports, train.reports, strict=True))


def test_a_study_of_several_images_is_one_pair_of_which_a_visit_shows_one(own, registered, monkeypatch):
    from benchmark.readers import pairs as reader_of_pairs

    monkeypatch.setattr(reader_of_pairs.DatasetReader, "study_of", lambda self, i: self.patient_of(i), raising=False)
    train, held_out = pairs.load(registered.model_copy(update={"unit": "study"}), own, 24, 0)
    assert (len(train), len(held_out)) == (2, 2)
    assert train.frames.shape[0] == 4
    shown = {train.shown([0], [key]).tobytes() for key in range(20)}
    assert shown == {train.frames[rows : rows + 1].tobytes() for rows in (0, 1)}
    assert np.array_equal(train.shown([0, 1], [7, 8])[0], train.shown([0], [7])[0])
    assert {held_out.shown([0], [key]).tobytes() for key in range(20)} == {held_out.frames[:1].tobytes()}
    drawn = pairs.load(registered.model_copy(update={"unit": "study", "held_out_view": "drawn"}), own, 24, 0)[1]
    assert len({drawn.shown([0], [key]).tobytes() for key in range(20)}) == 2
    assert drawn.digest != held_out.digest


def test_the_brightest_pixel_of_a_released_frame_is_black():
    square = np.full((8, 8), 50, np.uint8)
    square[3, 3], square[0, 0] = 200, 1
    assert (frames.cut(square, 8)[3, 3], frames.cut(square, 8, levels=256)[3, 3]) == (255, 0)


def test_a_cut_frame_leaves_out_what_is_black_around():
    grey = np.zeros((40, 60), np.uint8)
    grey[10:30, 5:45] = np.random.default_rng(0).integers(20, 200, (20, 40))
    assert np.array_equal(frames.cut(grey, 20), frames.cut(grey[10:30, 5:45], 20))
    assert not frames.cut(np.zeros((6, 4), np.uint8), 5).any()
    assert frames.resized(grey, 20).shape == (20, 20)


def test_a_test_image_among_those_to_pretrain_on_is_refused(own, registered, monkeypatch):
    reader = open_reader(registry.dataset("mine"), own)
    monkeypatch.setattr(type(reader), "split", lambda self, rule: {"train": ("0.png", "1.png"), "validation": (), "test": ("1.png",)})
    with pytest.raises(DataError, match="1 test images are among those to pretrain on"):
        sources.images_of(reader)


def test_a_patient_of_a_held_out_pair_is_never_trained_on(own, registered):
    rows = [line.split(",") for line in (own / "reports.csv").read_text(encoding="utf-8").splitlines()]
    rows[1][3] = rows[5][3]  # the first training image is of the first held-out patient
    own_folders.table(own / "reports.csv", rows)
    train, held_out = pairs.load(registered, own, 24, 0)
    assert sorted(train.ids) == ["1.png", "2.png", "3.png"]
    assert sorted(held_out.ids) == ["4.png", "5.png", "6.png", "7.png"]
    assert train.dropped["images of patients who are held out"] == 1
