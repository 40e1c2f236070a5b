"""Data that may not be passed on: statistics leave under pseudonyms, in another order, and nothing else leaves."""

from __future__ import annotations

import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark import registry
from benchmark.errors import StoreError, UsageError
from benchmark.kinds.kit.stored import STATISTICS_FILE, ByImage, read_statistics
from benchmark.metrics.label_statistics import ClassificationStatistics, MeanStatistics
from benchmark.metrics.statistics import pooled_metrics
from benchmark.shelf import Shelf
from benchmark.submission import pseudonyms
from benchmark.submission.pack import _under_pseudonyms, pack
from benchmark.submission.pseudonyms import is_pseudonymised, pseudonymised, secret_of
from benchmark.submission.truth import digest_of_truth
from benchmark.submission.validate import validate
from tests.submission.conftest import make_store
from tests.submission.forging import contents, packed, put, records_of

TASKS = ("rsna-linear-frozen-demo", "rsna-yolov3-frozen-demo")


@pytest.fixture
def withheld(monkeypatch: pytest.MonkeyPatch):
    """As if the agreements of the two datasets let nothing be passed on."""
    cards = {name: card.model_copy(update={"redistribution": "none"}) for name, card in registry.datasets().items()}
    monkeypatch.setattr(registry, "datasets", lambda: cards)


@pytest.fixture(scope="session")
def secret_store(corpora: Path, image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("restricted") / "out", corpora, image_cache, TASKS, redistribution="none")


@pytest.fixture
def statistics(made: Path) -> list[ByImage]:
    return [read_statistics(path) for path in sorted(made.glob(f"predictions/*/{STATISTICS_FILE}"))]


def test_no_name_and_no_prediction_leaves_in_an_archive(secret_store: Path, withheld, tmp_path: Path) -> None:
    given = [read_statistics(path) for path in sorted(secret_store.glob(f"predictions/*/{STATISTICS_FILE}"))]
    names = {name.encode() for found in given for name in (*found.ids, *filter(None, found.patients))}
    assert len(names) > 10
    sent = pack(secret_store, tmp_path / "sent.zip", allow_phantom=True)
    assert (sent.n_records, sent.pseudonymised) == (4, ("rsna",))
    files, _ = contents(sent.file)
    assert {name.rpartition("/")[2] for name in files if name.startswith("predictions/")} == {STATISTICS_FILE}
    from benchmark.kinds.kit import parquet

    for name, content in files.items():
        assert not [one for one in names if one in content], name
        if name.startswith("predictions/"):
            (tmp_path / "one.parquet").write_bytes(content)
            assert not names & {text.encode() for text in parquet.names_in(tmp_path / "one.parquet")}
    found = validate(sent.file, allow_phantom=True)
    assert (found.faults, found.trust) == ((), "recomputed")
    assert pack(secret_store, tmp_path / "again.zip", allow_phantom=True).file.read_bytes() == sent.file.read_bytes()


def test_a_split_rule_that_lists_patients_is_not_packed(corpora: Path, image_cache: Path, tmp_path: Path, withheld) -> None:
    out = make_store(tmp_path / "out", corpora, image_cache, ("covid-rural-linear-frozen-demo",), redistribution="none")
    with pytest.raises(UsageError, match="The split rule of covid-rural lists patients"):
        pack(out, tmp_path / "sent.zip", allow_phantom=True)


def test_names_in_an_archive_of_such_data_are_a_fault(secret_store: Path, withheld, tmp_path: Path) -> None:
    files, manifest = contents(pack(secret_store, tmp_path / "sent.zip", allow_phantom=True).file)
    raw = records_of(files)[0]
    name = f"predictions/{raw['key']}/{STATISTICS_FILE}"
    files[name] = (secret_store / name).read_bytes()
    put(files, raw)
    found = validate(packed(files, manifest, tmp_path / "forged.zip"), allow_phantom=True)
    assert any("it holds names or predictions of data that may not be passed on" in one for one in found.faults)


def test_every_metric_follows_in_any_order_but_those_of_batches(statistics: list[ByImage]) -> None:
    for given in statistics:
        found = pseudonymised(given, b"secret", "rsna")
        before, after = pooled_metrics(given.statistics), pooled_metrics(found.statistics)
        assert set(before) - set(after) <= {name for name in before if "batch" in name}
        for name, metric in after.items():
            assert metric(None) == pytest.approx(before[name](None), abs=1e-12), name


def test_pseudonyms_are_of_one_secret_and_one_dataset_and_stand_in_their_own_order(statistics: list[ByImage]) -> None:
    given = statistics[0]
    found = pseudonymised(given, b"secret", "rsna")
    assert is_pseudonymised(found)
    assert not is_pseudonymised(given)
    assert list(found.ids) == sorted(found.ids)
    others = [pseudonymised(given, *more).ids for more in ((b"another", "rsna"), (b"secret", "siim"))]
    assert not set(found.ids) & {name for each in others for name in each}
    assert len(set(found.patients)) == len(set(given.patients))


def test_a_row_keeps_its_patient_and_its_values(statistics: list[ByImage]) -> None:
    given = next(one for one in statistics if hasattr(one.statistics, "counts"))
    found = pseudonymised(given, b"secret", "rsna")
    rows = {(p, tuple(t)) for p, t in zip(_renamed(given), given.statistics.counts.tp.tolist(), strict=True)}
    assert rows == {(p, tuple(t)) for p, t in zip(found.patients, found.statistics.counts.tp.tolist(), strict=True)}
    assert np.array_equal(sorted(given.statistics.counts.fp.ravel()), sorted(found.statistics.counts.fp.ravel()))


def _renamed(given: ByImage) -> list[str | None]:
    """The pseudonym of each image's patient, from statistics of that patient alone."""
    found = pseudonymised(given, b"secret", "rsna")
    by_image = dict(zip(found.ids, found.patients, strict=True))
    import hashlib
    import hmac

    def named(name: str) -> str:
        return "keyed:" + hmac.new(b"secret", f"rsna\0image\0{name}".encode(), hashlib.sha256).hexdigest()[:32]

    return [by_image[named(name)] for name in given.ids]


def test_the_secret_stays_in_the_output_folder_for_its_owner_alone(tmp_path: Path) -> None:
    first = secret_of(tmp_path)
    assert (secret_of(tmp_path), len(first)) == (first, 64)
    path = tmp_path / pseudonyms.SECRET
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    with pytest.raises(StoreError, match="does not hold 64 hex digits"):
        secret_of(tmp_path)


def test_a_secret_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / pseudonyms.SECRET).mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        secret_of(tmp_path)


def test_labels_keep_their_images_and_tell_the_truth_of_named_ones_alone() -> None:
    ids = ("a", "b", "c")
    statistics = ClassificationStatistics(
        ("x", "y"), np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]), np.array([[0, 1], [1, 0], [0, 0]], np.int8), False
    )
    given = ByImage(ids, (None, "p", None), statistics)
    found = pseudonymised(given, b"secret", "rsna")
    before = sorted(zip(statistics.scores.tolist(), statistics.truth.tolist(), strict=True))
    assert sorted(zip(found.statistics.scores.tolist(), found.statistics.truth.tolist(), strict=True)) == before
    assert digest_of_truth(found) is None
    turned = ByImage(ids[::-1], given.patients[::-1], replace(statistics, scores=statistics.scores[::-1], truth=statistics.truth[::-1]))
    assert digest_of_truth(given) == digest_of_truth(turned) != digest_of_truth(replace(given, ids=ids[::-1]))
    means = MeanStatistics(("value",), np.arange(3), np.ones((3, 1)), 3)
    assert digest_of_truth(ByImage(ids, (None,) * 3, means)) is None


def test_of_such_data_statistics_of_an_earlier_form_are_not_packed(secret_store: Path, withheld, tmp_path: Path) -> None:
    out = shutil.copytree(secret_store, tmp_path / "out")
    record = Shelf(out).believable()[0][0]
    name = f"predictions/{record.key}/statistics.json"
    (out / name).write_text("{}")
    with pytest.raises(UsageError, match="statistics in an earlier release's form"):
        _under_pseudonyms(record.model_copy(update={"predictions": (name,)}), tmp_path, out)


def test_of_such_data_a_record_without_statistics_has_no_file_and_one_with_more_metrics_keeps_them(
    secret_store: Path, withheld, tmp_path: Path
) -> None:
    out = shutil.copytree(secret_store, tmp_path / "out")
    record = next(one for one in Shelf(out).believable()[0] if one.job.experiment.dataset.target == "masks")
    more = record.model_copy(update={"metrics": {**record.metrics, "its own": 0.25}})
    kept, files = _under_pseudonyms(more, tmp_path, out)
    assert (kept.metrics["its own"], set(files)) == (0.25, {f"predictions/{record.key}/{STATISTICS_FILE}"})
    shutil.rmtree(out / "predictions" / record.key)
    assert _under_pseudonyms(record, tmp_path, out) == (record, {})
