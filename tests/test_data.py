"""What `lobe data` and `lobe clean` say and do; a data folder is never written."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from benchmark import data, resolve
from benchmark.errors import DataError


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


def test_status_of_a_damaged_folder_is_an_error_line_and_the_rest_is_told(corpora: Path, tmp_path: Path):
    shutil.copytree(corpora / "rsna", tmp_path / "rsna")
    (tmp_path / "rsna" / "stage_2_train_labels.csv").unlink()
    shutil.copytree(corpora / "covid-rural", tmp_path / "covid-rural")
    rows = {row["dataset"]: row for row in data.status([str(tmp_path)], tmp_path / "cache")}
    assert rows["rsna"]["state"] == "error"
    assert "stage_2_train_labels.csv" in rows["rsna"]["release"]
    assert rows["covid-rural"]["state"] == "ready"


def test_prepare_decodes_every_image_once_and_a_job_finds_them(corpora: Path, prepared):
    from benchmark import registry
    from benchmark.readers.base import open_reader
    from benchmark.training.data import cache_recipe, fill

    cache, (row,) = prepared
    assert (row["dataset"], row["unreadable"], row["problems"]) == ("rsna", 0, [])
    card = registry.dataset("rsna")
    reader = open_reader(card, corpora / "rsna")
    assert row["images"] == len(reader.ids)
    # The cache a job of the published protocol opens is this one, complete.
    found = resolve.dataset(card, corpora / "rsna", registry.protocol("published"))
    from benchmark.imaging.cache import ImageCache
    from benchmark.plan import NamedBackbone, Settings, plan

    backbone = resolve.backbone("torchvision:resnet18", cache)
    job = plan(
        [registry.task("rsna-linear-frozen-100")],
        [NamedBackbone("x", backbone.named.ref)],
        {"rsna": found.ref},
        registry.protocol("published"),
        Settings(),
    )[0]
    (place,) = resolve.places([backbone], [found], cache).values()
    opened = ImageCache.open(place.cache, cache_recipe(job.experiment, place, reader), reader.ids)
    assert str(opened.path) == row["cache"]
    opened._prepare = None  # decoding anything now would fail
    list(fill(opened, [reader.sample(i) for i in reader.ids], place))


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
    rows = data.caches(tmp_path)
    assert [(row["dataset"], row["bytes"] > 0) for row in rows] == [("rsna", True)]
    data.remove_caches(rows)
    assert data.caches(tmp_path) == []
    assert (tmp_path / "digests.json").exists()


def test_no_dataset_folder_at_all_says_which_were_expected(tmp_path: Path):
    with pytest.raises(DataError, match=r"Expected one of: .*rsna"):
        data.prepare([], [str(tmp_path)], tmp_path / "cache", 1, no_bar)
