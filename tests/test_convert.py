"""A store of an earlier release is given today's files: the same to the bit, or not at all, wherever it is stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark import kinds, store
from benchmark.api import write_report
from benchmark.cards import Record
from benchmark.convert import convert
from benchmark.errors import StoreError, UsageError
from benchmark.integrity import file_digest, sealed
from benchmark.kinds.detection import DETECTIONS_FILE, DETECTIONS_JSON
from benchmark.kinds.kit import coco_json
from benchmark.kinds.kit.stored import STATISTICS_FILE, STATISTICS_JSON, read_statistics
from benchmark.kinds.segmentation import MASKS_FILE, MASKS_JSON
from benchmark.metrics.columns import identical
from benchmark.shelf import Shelf
from benchmark.store import Store
from tests.test_earlier_store import COMMITS, EARLIER, digits, shown_by

pytestmark = pytest.mark.long(15)

COMMIT = COMMITS[0]
OLD = (DETECTIONS_JSON, MASKS_JSON, STATISTICS_JSON)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store, for reading alone."""
    out = tmp_path_factory.mktemp("earlier") / "out"
    with tarfile.open(EARLIER / f"{COMMIT}.tar.xz") as archive:
        archive.extractall(out, filter="data")
    return out


@pytest.fixture
def out(packed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(packed, tmp_path / "out")


def digests(out: Path) -> dict[str, str]:
    """Of every record and file."""
    files = [path for folder in ("records", "predictions") for path in (out / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def of_target(out: Path, target: str) -> Record:
    """The first of the records of a kind of task."""
    return next(record for record in Store(out).all() if record.job.experiment.dataset.target == target)


def edited(out: Path, record: Record, name: str, change: Callable[[dict], object]) -> Record:
    """Changes a stored file and gives the record its new digest."""
    path = out / "predictions" / record.key / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    relative = f"predictions/{record.key}/{name}"
    changed = sealed(record.model_copy(update={"file_digests": {**record.file_digests, relative: file_digest(path)}}))
    Store(out).path(record.key).write_text(changed.model_dump_json())
    return changed


def test_every_file_becomes_columns_that_hold_the_same_and_records_keep_key_and_numbers(out: Path, packed: Path) -> None:
    before = {record.key: record for record in Store(out).all()}
    seen: list[tuple[int, int]] = []
    found = convert(out, lambda done, total: seen.append((done, total)))
    assert (found.n_records, found.n_converted, found.kept) == (len(before), len(before), ())
    assert found.bytes_after < found.bytes_before
    assert seen[-1] == (len(before), len(before))
    assert not list((out / "predictions").rglob("*.json"))
    for record in Store(out).all():
        old = before[record.key]
        changed = {"predictions", "file_digests", "checksum", "schema_version"}
        assert record.model_dump(exclude=changed) == old.model_dump(exclude=changed)
        for name in (Path(each).name for each in old.predictions):
            was = packed / "predictions" / record.key / name
            if name == STATISTICS_JSON:
                kept, given = read_statistics(out / "predictions" / record.key / STATISTICS_FILE), read_statistics(was)
                assert identical(kept, given)
            elif name in OLD:
                kind = kinds.of_experiment(record.job.experiment)
                _, text = kind.export(out / "predictions" / record.key / kind.earlier_forms[name], "task")
                assert json.loads(text) == coco_json.as_of_today(json.loads(was.read_text()))
            else:
                assert (out / "predictions" / record.key / name).read_bytes() == was.read_bytes()


@pytest.mark.parametrize("mixed", [False, True], ids=["all converted", "one kept"])
def test_reports_show_the_same_digits_afterwards(out: Path, mixed: bool) -> None:
    if mixed:
        edited(out, of_target(out, "boxes"), DETECTIONS_JSON, lambda content: content.update(note="by hand"))
    assert len(convert(out).kept) == mixed
    assert write_report(out).refused == ()
    shown = json.loads((out / "report" / "leaderboard.json").read_text(encoding="utf-8"))
    assert digits(shown["rows"]) == shown_by(COMMIT)["rows"]
    assert list((out / "report").rglob("*.png"))


def test_a_second_time_nothing_changes(out: Path) -> None:
    convert(out)
    before = digests(out)
    found = convert(out)
    assert (found.n_converted, found.kept, digests(out)) == (0, (), before)


def test_wherever_it_is_stopped_the_store_is_whole_and_a_second_time_ends_in_the_same_bytes(
    out: Path, packed: Path, tmp_path: Path, monkeypatch
) -> None:
    convert(shutil.copytree(packed, tmp_path / "at once"))
    at_once, real = digests(tmp_path / "at once"), store.write_atomically
    real_unlink = Path.unlink

    class Stopped(BaseException):
        pass

    steps, stop_at = [0], [0]

    def step() -> None:
        steps[0] += 1
        if steps[0] == stop_at[0]:
            raise Stopped

    def write(*given, **named) -> None:
        step()
        real(*given, **named)

    def unlink(self: Path, **named) -> None:
        if self.name in OLD:
            step()
        real_unlink(self, **named)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_atomically", write)
        patch.setattr(Path, "unlink", unlink)
        for stop_at[0] in range(1, 9):  # in the first record, between its files, before and after the record, and in the next
            steps[0] = 0
            with pytest.raises(Stopped):
                convert(out)
            records, refused = Shelf(out).believable((*OLD, DETECTIONS_FILE, MASKS_FILE, STATISTICS_FILE))
            assert (len(records), refused) == (5, [])
    convert(out)
    assert digests(out) == at_once


def test_a_file_that_is_not_what_was_stored_stays_as_it_is_and_the_others_are_converted(out: Path) -> None:
    record = of_target(out, "boxes")
    path = out / "predictions" / record.key / DETECTIONS_JSON
    path.write_bytes(path.read_bytes() + b" ")
    found = convert(out)
    ((key, why),) = found.kept
    assert (key, found.n_converted) == (record.key, 4)
    assert "is not the file that was stored" in why
    assert Store(out).get(record.key) == record


def test_a_damaged_record_and_one_whose_file_is_gone_stay_and_the_others_are_converted(out: Path) -> None:
    boxes, masks = of_target(out, "boxes"), of_target(out, "masks")
    Store(out).path(masks.key).write_text("{")
    (out / "predictions" / boxes.key / DETECTIONS_JSON).unlink()
    found = convert(out)
    why = dict(found.kept)
    assert (found.n_converted, why.keys()) == (3, {boxes.key, masks.key})
    assert "is damaged" in why[masks.key]
    assert f"{DETECTIONS_JSON} is missing. Bring it back from a copy." in why[boxes.key]
    assert (out / "predictions" / masks.key / MASKS_JSON).exists()
    assert Store(out).path(masks.key).read_text() == "{"


@pytest.mark.parametrize(
    ("target", "name", "change"),
    [
        ("boxes", DETECTIONS_JSON, lambda content: content.update(note="by hand")),
        ("boxes", DETECTIONS_JSON, lambda content: content["annotations"][0].update(area=3)),
        ("boxes", DETECTIONS_JSON, lambda content: content["images"][0].update(date="today")),
        ("masks", MASKS_JSON, lambda content: content["annotations"].reverse()),
        ("masks", STATISTICS_JSON, lambda content: content.update(more=[1])),
        ("boxes", STATISTICS_JSON, lambda content: content["detections"].update(age=[1])),
    ],
)
def test_what_columns_would_not_hold_stays_as_it_is_with_a_sentence(out: Path, target: str, name: str, change) -> None:
    record = edited(out, of_target(out, target), name, change)
    found = convert(out)
    ((key, why),) = found.kept
    assert key == record.key
    assert f"{name} holds more than" in why
    assert Store(out).get(record.key) == record


def test_a_file_that_makes_no_sense_is_named_and_stays(out: Path) -> None:
    record = edited(out, of_target(out, "boxes"), DETECTIONS_JSON, lambda content: content["annotations"][2].update(score="high"))
    ((_, why),) = convert(out).kept
    assert "annotation 3: score is 'high'" in why
    assert Store(out).get(record.key) == record


def test_of_data_that_may_not_be_passed_on_files_stay_private_and_sentences_name_nobody(out: Path) -> None:
    record = of_target(out, "boxes")
    hidden = sealed(record.model_copy(update={"redistribution": "none"}))
    Store(out).path(record.key).write_text(hidden.model_dump_json())
    name = json.loads((out / "predictions" / record.key / DETECTIONS_JSON).read_text())["images"][0]["name"]
    broken = edited(out, hidden, DETECTIONS_JSON, lambda content: content["annotations"][0].update(image_id=name))
    ((_, why),) = convert(out).kept
    assert "withheld" in why
    assert name not in why
    edited(out, broken, DETECTIONS_JSON, lambda content: content["annotations"][0].update(image_id=1))
    assert convert(out).n_converted == 1
    folder = out / "predictions" / record.key
    assert {path.stat().st_mode & 0o077 for path in (folder, Store(out).path(record.key), *folder.iterdir())} == {0}


def test_while_another_process_writes_there_nothing_is_touched(out: Path) -> None:
    before = digests(out)
    with Store(out).lock(), pytest.raises(StoreError, match="is in use by"):
        convert(out)
    assert digests(out) == before


def test_a_folder_without_results_is_named_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no results"):
        convert(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_was_saved_and_what_was_kept(out: Path, lobe) -> None:
    edited(out, of_target(out, "boxes"), DETECTIONS_JSON, lambda content: content.update(note="by hand"))
    code, said, err = lobe("convert", out)
    assert (code, "4 of 5 records converted: " in said, "MB now" in said) == (1, True, True)
    assert "kept as it is:" in err
    code, said, _ = lobe("convert", out, "--json")
    assert (code, json.loads(said)["n_converted"], len(json.loads(said)["kept"])) == (1, 0, 1)
