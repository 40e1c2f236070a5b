"""What `lobe data` and `lobe clean` say and do; a data folder is never written."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from benchmark import data, registry, resolve
from benchmark.errors import DataError, UsageError
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus


def no_bar(title):
    return contextlib.nullcontext(lambda done, total: None)


def listing(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def prepared(corpora: Path, tmp_path_factory) -> tuple[Path, list[dict]]:
    cache = tmp_path_factory.mktemp("cache")
    before = listing(corpora)
    rows = data.prepare(["rsna"], [str(corpora)], cache, 1, no_bar)
    assert listing(corpora) == before
    return cache, rows


def test_status_tells_present_absent_and_cached(corpora: Path, prepared):
    cache, _ = prepared
    rows = {row["dataset"]: row for row in data.status([str(corpora)], cache)}
    assert (rows["rsna"]["state"], rows["rsna"]["phantom"]) == ("ready", True)
    assert rows["rsna"]["images"] > 0
    assert rows["rsna"]["cached_bytes"] > 0
    assert rows["covid-rural"]["cached_bytes"] == 0
    assert rows["siim"]["state"] == "absent"


def test_status_of_a_mistyped_folder_is_a_sentence_and_no_table_of_absent_data(tmp_path: Path):
    with pytest.raises(UsageError, match=r"There is no folder .*mistyped: look at --data, or \$LOBE_DATA\."):
        data.status([str(tmp_path / "mistyped")], tmp_path)
    with pytest.raises(UsageError, match=r"look at --data rsna=PATH\."):
        data.status([str(tmp_path), f"rsna={tmp_path / 'mistyped'}"], tmp_path)


def test_status_of_a_damaged_folder_is_an_error_line_and_the_rest_is_told(corpora: Path, tmp_path: Path):
    shutil.copytree(corpora / "rsna", tmp_path / "rsna")
    (tmp_path / "rsna" / "stage_2_train_labels.csv").unlink()
    shutil.copytree(corpora / "covid-rural", tmp_path / "covid-rural")
    rows = {row["dataset"]: row for row in data.status([str(tmp_path)], tmp_path / "cache")}
    assert rows["rsna"]["state"] == "error"
    assert "stage_2_train_labels.csv" in rows["rsna"]["release"]
    assert rows["covid-rural"]["state"] == "ready"


def test_of_folders_given_by_name_alone_the_others_are_no_error(corpora: Path):
    assert [found.dataset for found in data.verify([], [f"rsna={corpora / 'rsna'}"])] == ["rsna"]


def test_verify_names_lists_that_are_missing_or_say_nothing(corpora: Path, tmp_path: Path):
    def line() -> data.Check:
        (found,) = data.verify(["rsna"], [str(corpora)], tmp_path)
        return next(check for check in found.checks if check.what == "split lists")

    assert (line().verdict, line().found) == ("unknown", "no such folder")
    (tmp_path / "rsna").mkdir()
    (tmp_path / "rsna" / "train.csv").write_text("ID\n")
    assert (line().verdict, line().found) == ("error", "not readable")
    assert "validation.csv" in line().hint or "train.csv" in line().hint


def test_prepare_decodes_every_image_once_and_a_job_finds_them(corpora: Path, prepared):
    from benchmark.readers.kit.cached import cache_recipe
    from benchmark.training.data import fill

    cache, (row,) = prepared
    assert (row["dataset"], row["unreadable"], row["problems"]) == ("rsna", 0, [])
    card = registry.dataset("rsna")
    reader = open_reader(card, corpora / "rsna")
    assert row["images"] == len(reader.ids)
    # The cache a job of that frame opens is this one, complete.
    from benchmark.imaging.cache import ImageCache
    from benchmark.plan import NamedBackbone, Settings, plan

    backbone = resolve.backbone("torchvision:resnet18", cache)
    task, published = registry.task("rsna-linear-frozen-100"), registry.protocol("published")
    found = resolve.dataset(card, corpora / "rsna", published)
    (smaller,) = data.prepare(["rsna"], [str(corpora)], cache, 1, no_bar, size=96)
    for asked, filled in ((task, row), (task.model_copy(update={"frame_size": 96}), smaller)):
        job = plan([asked], [NamedBackbone("x", backbone.named.ref)], {"rsna": found.ref}, published, Settings())[0]
        place = resolve.inputs(backbone, found, cache)
        opened = ImageCache.open(
            place.cache, cache_recipe(reader, job.experiment.dataset.intensity, job.experiment.dataset.frame_size), reader.ids
        )
        assert str(opened.path) == filled["cache"]
        opened._prepare = None  # decoding anything now would fail
        list(fill(opened, [reader.sample(i) for i in reader.ids], place))


def test_what_prepare_has_read_need_not_be_read_again_to_plan(corpora: Path, prepared, monkeypatch):
    from benchmark import contents

    def never(path: Path) -> str:
        raise AssertionError(f"{path.name} was read again")

    monkeypatch.setattr(contents, "sha256_of", never)
    found = resolve.dataset(registry.dataset("rsna"), corpora / "rsna", registry.protocol("published"), cache=prepared[0])
    assert found.n_unhashed == 0


def test_prepare_mends_a_damaged_cache_and_says_so(corpora: Path, tmp_path: Path):
    (row,) = data.prepare(["rsna"], [str(corpora)], tmp_path, 1, no_bar, size=32)
    assert row["notes"] == []
    file = Path(row["cache"]) / "images.u8"
    file.write_bytes(bytes(255 - byte for byte in file.read_bytes()))
    (row,) = data.prepare(["rsna"], [str(corpora)], tmp_path, 1, no_bar, size=32)
    assert (row["images"], row["problems"], len(row["notes"])) == (row["images"], [], 1)


def test_a_frame_that_no_task_can_have_is_refused_before_anything_is_decoded(corpora: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"multiple of 32 pixels, not 100"):
        data.prepare(["rsna"], [str(corpora)], tmp_path, 1, no_bar, size=100)
    assert not list(tmp_path.iterdir())


def test_prepare_lists_unreadable_images_and_goes_on(corpora: Path, tmp_path: Path):
    shutil.copytree(corpora / "rsna", tmp_path / "rsna")
    images = sorted((tmp_path / "rsna" / "stage_2_train_images").glob("*.dcm"))
    images[5].write_bytes(images[5].read_bytes()[:2000])
    (row,) = data.prepare(["rsna"], [str(tmp_path)], tmp_path / "cache", 2, no_bar)
    assert row["unreadable"] == 1
    assert images[5].stem in row["problems"][0]
    assert row["images"] > 10


def test_caches_are_listed_and_removed_and_nothing_else_is(corpora: Path, tmp_path: Path):
    data.prepare(["rsna"], [str(corpora)], tmp_path, 1, no_bar)
    (tmp_path / "digests.json").write_text("{}")
    (tmp_path / "features" / "0123" / "deeper").mkdir(parents=True)
    (tmp_path / "features" / "0123" / "used").write_text("")
    (tmp_path / "features" / "0123" / "recipe.json").write_text('{"dataset": "rsna"}')
    rows = data.caches(tmp_path)
    assert [(row["dataset"], row["bytes"] > 0) for row in rows] == [("rsna", True), ("rsna, features", True)]
    data.remove_caches(rows)
    assert data.caches(tmp_path) == []
    assert (tmp_path / "digests.json").exists()


def test_no_dataset_folder_at_all_says_which_were_expected(tmp_path: Path):
    with pytest.raises(DataError, match=r"Expected one of: .*rsna"):
        data.prepare([], [str(tmp_path)], tmp_path / "cache", 1, no_bar)


def damaged(corpora: Path, folder: Path) -> Path:
    """RSNA with one image listed as negative twice, COVID Rural as it was."""
    for name in ("rsna", "covid-rural"):
        shutil.copytree(corpora / name, folder / name)
    labels = folder / "rsna" / "stage_2_train_labels.csv"
    rows = labels.read_text().splitlines()
    negative = next(row for row in rows if row.endswith(",0"))
    labels.write_text("\n".join([*rows, negative]) + "\n")
    return folder


def test_a_duplicate_id_stops_the_verification_of_its_dataset_only(corpora: Path, tmp_path: Path):
    found = {v.dataset: v for v in data.verify([], [str(damaged(corpora, tmp_path))])}
    assert (found["rsna"].ok, found["covid-rural"].ok) == (False, True)
    (line,) = found["rsna"].checks
    assert "listed as negative once more, first in line" in line.found
    assert (line.verdict, found["rsna"].phantom) == ("error", True)


def test_a_duplicate_id_stops_the_preparation_of_its_dataset_only(corpora: Path, tmp_path: Path):
    rows = {row["dataset"]: row for row in data.prepare([], [str(damaged(corpora, tmp_path / "data"))], tmp_path / "cache", 1, no_bar)}
    assert (rows["rsna"]["images"], rows["rsna"]["cache"]) == (0, None)
    assert "listed as negative once more" in rows["rsna"]["problems"][0]
    assert rows["covid-rural"]["images"] > 0


def test_when_no_dataset_can_be_opened_nothing_is_verified_or_prepared(corpora: Path, tmp_path: Path):
    folder = damaged(corpora, tmp_path)
    for call in (data.verify, lambda *given: data.prepare(*given, tmp_path / "cache", 1, no_bar)):
        with pytest.raises(DataError, match="listed as negative once more"):
            call(["rsna"], [str(folder)])


def test_what_was_checked_before_an_error_stays_in_the_verification(corpora: Path, tmp_path: Path):
    write_corpus(CorpusPlan(dataset="nih-cxr", n_patients=14, seed=3), tmp_path / "nih-cxr")
    reader = open_reader(registry.dataset("nih-cxr"), tmp_path / "nih-cxr")
    drawn = [i for ids in reader.split(reader.card.splits["lovt"]).values() for i in ids]
    normal = next(i for i in drawn if not reader.sample(i).positive)
    reader.sample(normal).files[0].unlink()
    (found,) = data.verify(["nih-cxr"], [str(tmp_path)])
    lines = {check.what: check for check in found.checks}
    assert lines["boxes"].verdict == "ok"
    assert normal in lines["further checks"].found
    assert (found.ok, lines["split lovt"].verdict) == (False, "error")
