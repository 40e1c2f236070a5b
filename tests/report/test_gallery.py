"""Which pictures a page gets: of the first run, of every task and backbone, and none of a dataset whose agreement forbids it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import private
from benchmark.api import draw_local_pictures, write_report
from benchmark.integrity import sealed
from benchmark.kinds.kit.stored import EXAMPLES_FILE, N_EXAMPLES, read_examples
from benchmark.report import gallery
from benchmark.store import Store
from tests.corpora import CorpusPlan, write_corpus


@pytest.fixture
def stored(small, tiny, tmp_path: Path):
    """Trains the runs of a task and stores them below `tmp_path/out`."""
    file = tiny()

    def make(task: str, runs: int = 1, **options) -> list:
        jobs, places = small.plan(task, [file], runs=runs, batch_size=4, **options)
        place = places[jobs[0].key]
        records = []
        for job in jobs:
            folder = tmp_path / job.key
            record = small.fit(job, place, produced=folder)
            records.append(Store(tmp_path / "out").put(record, {p.name: p.read_bytes() for p in folder.iterdir()}))
        return records

    return make


def pictures(drawn) -> list[Path]:
    return [picture.path for backbones in drawn.values() for found in backbones.values() for picture in found]


def test_pictures_are_of_the_first_run_only(stored, tmp_path: Path):
    records = stored("covid-rural-linear-frozen-100", runs=2)
    drawn = gallery.draw(reversed(records), tmp_path / "out", tmp_path / "pictures")
    assert set(drawn) == {"covid-rural-linear-frozen-100"}
    paths = drawn["covid-rural-linear-frozen-100"]["tiny"]
    assert len(paths) == N_EXAMPLES
    assert all(records[0].key[:8] in one.path.name for one in paths)
    assert all(Image.open(one.path).mode == "RGB" for one in paths)
    assert len({one.image for one in paths}) == N_EXAMPLES
    assert all(one.score is not None and 0 <= one.score <= 1 for one in paths)


def test_boxes_and_masks_are_both_drawn(stored, tmp_path: Path):
    records = stored("rsna-yolov3-frozen-100") + stored("rsna-linear-frozen-100")
    drawn = gallery.draw(records, tmp_path / "out", tmp_path / "pictures")
    assert set(drawn) == {"rsna-yolov3-frozen-100", "rsna-linear-frozen-100"}
    assert all(len(np.unique(np.asarray(Image.open(path)).reshape(-1, 3), axis=0)) > 10 for path in pictures(drawn))


def test_datasets_without_redistribution_are_refused_with_a_reason(make):
    assert gallery.refusal(make.record(0.1)) == ""
    assert "rsna" in gallery.refusal(make.record(0.1, redistribution="none"))


@pytest.mark.parametrize(
    ("redistribution", "phantom", "on_a_page", "here"),
    [
        ("open", False, True, True),
        ("ids", False, False, True),
        ("ids", True, True, True),
        ("none", False, False, False),
        ("none", True, False, False),
    ],
)
def test_one_rule_says_what_may_be_shown_and_to_whom(make, redistribution: str, phantom: bool, on_a_page: bool, here: bool):
    """Radiographs stand on pages where they may be passed on; generated ones are nobody's. MLflow asks the same rule for predictions."""
    record = make.record(0.1, redistribution=redistribution, phantom=phantom)
    assert (gallery.refusal(record) == "") == on_a_page
    assert (gallery.refusal_here(record) == "") == here
    assert private.may_be_published(redistribution) == (redistribution == "open")


def test_what_may_not_be_published_is_drawn_into_a_folder_of_its_own(stored, tmp_path: Path):
    (record,) = stored("rsna-linear-frozen-100")
    real = record.model_copy(update={"phantom": False, "redistribution": "ids", "checksum": ""})
    (tmp_path / "out" / "records" / f"{record.key}.json").write_text(sealed(real).model_dump_json())
    page = write_report(tmp_path / "out").page
    assert not list(page.parent.rglob("*.png"))
    assert "lobe report --with-images" in (page.parent / "gallery.html").read_text(encoding="utf-8")
    local = draw_local_pictures(tmp_path / "out")
    assert local.parent.parent == tmp_path / "out"
    assert 0 < len(list(local.parent.glob("*.png"))) <= N_EXAMPLES
    assert local.parent.stat().st_mode & 0o077 == 0
    assert "Not for publication" in local.read_text(encoding="utf-8")
    assert (local.parent / "NOT-FOR-PUBLICATION.txt").is_file()
    closed = sealed(real.model_copy(update={"redistribution": "none"}))
    (tmp_path / "out" / "records" / f"{record.key}.json").write_text(closed.model_dump_json())
    assert not list(draw_local_pictures(tmp_path / "out").parent.glob("*.png"))


def test_nothing_is_drawn_where_the_agreement_forbids_it_even_if_examples_lie_there(stored, tmp_path: Path):
    (record,) = stored("rsna-linear-frozen-100")
    assert (tmp_path / "out" / "predictions" / record.key / EXAMPLES_FILE).exists()
    kept_in = record.model_copy(update={"redistribution": "none"})
    assert gallery.draw([kept_in], tmp_path / "out", tmp_path / "pictures") == {}
    assert not (tmp_path / "pictures").exists()


def test_a_job_under_such_an_agreement_keeps_no_example(small, tiny, tmp_path: Path):
    import dataclasses

    job, place = small.one("rsna-linear-frozen-100", tiny())
    closed = dataclasses.replace(place, card=place.card.model_copy(update={"redistribution": "none"}))
    record = small.fit(job, closed, produced=tmp_path / "produced")
    assert record.redistribution == "none"
    assert not (tmp_path / "produced" / EXAMPLES_FILE).exists()


def test_failed_and_selection_runs_have_no_pictures(stored, tmp_path: Path):
    records = stored("rsna-linear-frozen-100", grid=(0.01, 0.1))
    only_search = [r for r in records if r.job.experiment.role == "selection"]
    assert len(only_search) == 2
    failed = [r.model_copy(update={"status": "failed"}) for r in records]
    assert gallery.draw(only_search + failed, tmp_path / "out", tmp_path / "pictures") == {}


def test_records_whose_predictions_were_not_copied_are_skipped(stored, tmp_path: Path):
    records = stored("rsna-linear-frozen-100")
    assert gallery.draw(records, tmp_path / "elsewhere", tmp_path / "pictures") == {}


def test_two_rows_of_one_label_keep_their_own_pictures(make):
    lovt, disjoint = (make.record(0.1, split=split) for split in ("lovt", "patient-disjoint"))
    assert [name for name, _ in gallery._named(gallery._first_runs([lovt, disjoint]))] == [
        "resnet50 (random)",
        "resnet50 (random) · patient-disjoint split",
    ]
    same_label = [make.record(0.1, digest=digit * 64, backbone="mine", run=run) for digit in "ab" for run in (1, 0)]
    named = gallery._named(gallery._first_runs(same_label))
    assert len({name for name, _ in named}) == 2
    assert all(name.startswith("mine · published · ") and record.job.labels.run == 0 for name, record in named)
    protocols = [make.record(0.1, protocol="published"), make.record(0.1, protocol="corrected", order_seed=1)]
    assert {name for name, _ in gallery._named(gallery._first_runs(protocols))} == {
        "resnet50 (random) · published",
        "resnet50 (random) · corrected",
    }


def test_similarity_maps_are_drawn_over_the_boxes_they_are_scored_against(small, tiny_words, tmp_path: Path):
    write_corpus(CorpusPlan(dataset="nih-cxr", n_patients=10, seed=5, images_per_patient=(1, 1)), tmp_path / "data" / "nih-cxr")
    job, place = small.one("nih-cxr-grounding-lobe", tiny_words(), root=tmp_path / "data", limit=8)
    record = small.fit(job, place, produced=tmp_path / "produced")
    stored = Store(tmp_path / "out").put(record, {p.name: p.read_bytes() for p in (tmp_path / "produced").iterdir()})
    (example, *rest) = read_examples(tmp_path / "produced" / EXAMPLES_FILE)
    assert len({one.index for one in (example, *rest)}) == 1 + len(rest) <= N_EXAMPLES
    assert example.similarity.shape == (2, 2)  # 64 pixels at stride 32
    assert (example.boxes_xywh >= 0).all()
    assert (example.boxes_xywh[:, :2] + example.boxes_xywh[:, 2:] <= 64).all()
    drawn = gallery.draw([stored], tmp_path / "out", tmp_path / "pictures")
    assert len(drawn["nih-cxr-grounding-lobe"]["tiny"]) == 1 + len(rest)
    kept_in = stored.model_copy(update={"redistribution": "none"})
    assert gallery.draw([kept_in], tmp_path / "out", tmp_path / "more") == {}


def test_the_image_that_rows_disagree_on_comes_first_and_each_row_has_a_best_and_a_worst(make, tmp_path: Path):
    from benchmark.report import gallery_page
    from benchmark.report.shell import Shell

    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    scores = {"first": (0.5, 0.9, None), "second": (0.52, 0.1, 0.3)}
    rows = {name: [gallery.Picture(path, "t", i, score) for i, score in enumerate(mine)] for name, mine in scores.items()}
    images = gallery_page._images(Shell(tmp_path / "report", "T"), "task", rows)
    assert [image.title for image in images] == ["Test image 2, most disagreed on", "Test image 1", "Test image 3"]
    assert [(one.label, one.score, one.mark) for one in images[0].pictures] == [
        ("first", "90.0 %", gallery_page.BEST),
        ("second", "10.0 %", gallery_page.WORST),
    ]
    assert [one.mark for one in images[2].pictures] == ["", ""]


def test_of_many_rows_the_first_of_each_task_are_drawn(make, monkeypatch):
    records = [
        make.record(0.1, task=task, backbone=f"method {i}", digest=f"{i:064x}")
        for task in ("rsna-yolov3-frozen-10", "siim-unet-frozen-100")
        for i in range(5)
    ]
    named = gallery._named(gallery._first_runs(reversed(records)))
    assert len(gallery._few(named)) == 10
    monkeypatch.setattr(gallery, "MOST_PICTURES", 24)
    kept = gallery._few(named)
    assert sorted(name for name, _ in kept) == ["method 0", "method 0", "method 1", "method 1", "method 2", "method 2"]


def test_without_statistics_of_an_image_its_score_is_not_known(stored, tmp_path: Path):
    (record,) = stored("covid-rural-linear-frozen-100")
    assert gallery._scores(record, [10_000], tmp_path / "out") == [None]
    assert gallery._scores(record, [0, 1], tmp_path / "elsewhere") == [None, None]
