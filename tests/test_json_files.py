"""JSON of any shape in LOBE's own files is no traceback: a sentence where it is evidence, and nothing where it is a mere memory."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark import json_files
from benchmark.errors import DataError, FrameMismatch, StoreError, UsageError
from benchmark.execute.costs import Costs
from benchmark.imaging.cache import list_caches
from benchmark.kinds.detection import read_detections
from benchmark.kinds.segmentation import read_masks
from benchmark.readers.base import Reader
from benchmark.report import stored
from benchmark.store import Store, read_record
from benchmark.tracking.spool import Spool

SHAPES: dict[str, bytes] = {
    "empty": b"",
    "list": b"[]",
    "list of numbers": b"[1, 2]",
    "number": b"3",
    "null": b"null",
    "text": b'"a"',
    "true": b"true",
    "object": b"{}",
    "wrong types": b'{"key": 3, "job": [], "recipe": [], "kind": {}, "given": 1, "found": 2, "checksum": [], "frame": {}, "images": 4}',
    "nested wrong types": b'{"a": {"seconds": "long"}, "b": {"seconds": null}, "counts": [], "job": {"experiment": [[]]}, "recipe": {}}',
    "nested without end": b"[" * 200_000,
    "objects without end": b'{"a":' * 200_000,
    "not a number": b'{"schema_version": NaN, "a": {"seconds": NaN}}',
    "endless number": b'{"schema_version": ' + b"9" * 5000 + b"}",
    "no UTF-8": b'{"a": "\xff"}',
    "cut": b'{"a": ',
}

every_shape = pytest.mark.parametrize("content", SHAPES.values(), ids=SHAPES)


@every_shape
def test_a_record_of_any_shape_is_named_as_damaged(tmp_path: Path, content: bytes) -> None:
    path = Store(tmp_path).path("a" * 32)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"a{32}\.json"):
        read_record(path)
    records, refused = Store(tmp_path).believable()
    assert (records, [one.key for one in refused]) == ([], ["a" * 32])


@every_shape
def test_a_plan_of_any_shape_is_named_as_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "planned.json").write_bytes(content)
    if content == b"[]":  # nothing was planned
        assert Store(tmp_path).planned() == []
        return
    with pytest.raises(StoreError, match=r"planned\.json is damaged"):
        Store(tmp_path).planned()


@every_shape
def test_a_name_of_the_store_of_any_shape_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.id").write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.id does not hold 32 hex digits"):
        Store(tmp_path).identity()


@every_shape
def test_remembered_costs_of_any_shape_are_no_memory(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "costs.json"
    path.write_bytes(content)
    assert Costs(path)._known == {}


def test_what_is_right_among_remembered_costs_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    good = {"seconds": 1.5, "bytes": 3}
    path.write_text(json.dumps({"good": good, "text": {"seconds": "1"}, "list": [1], "below": {"seconds": -1}, "yes": {"seconds": True}}))
    assert Costs(path)._known == {"good": good}


@pytest.mark.parametrize("name", SHAPES)
def test_the_mark_of_a_phantom_of_any_shape_is_a_sentence_or_a_mark(tmp_path: Path, name: str) -> None:
    """A folder whose mark cannot be read is never taken for a public release."""
    (tmp_path / "PHANTOM.json").write_bytes(SHAPES[name])
    reader = SimpleNamespace(root=tmp_path, card=SimpleNamespace(name="rsna"))
    if name in ("object", "wrong types", "not a number"):  # nothing that is read of it is wrong
        assert isinstance(Reader.phantom.func(reader), dict)
        return
    with pytest.raises(DataError, match=r"rsna: PHANTOM\.json is damaged"):
        Reader.phantom.func(reader)


@every_shape
def test_predictions_of_any_shape_are_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "detections.json"
    path.write_bytes(content)
    for read in (read_detections, read_masks):
        with pytest.raises((UsageError, FrameMismatch)):
            read(path)


@every_shape
def test_memories_of_any_shape_are_passed_over(tmp_path: Path, content: bytes) -> None:
    cache = tmp_path / "caches" / "rsna-abc"
    cache.mkdir(parents=True)
    (cache / "recipe.json").write_bytes(content)
    assert [entry.recipe for entry in list_caches(tmp_path / "caches")] == [None]
    (tmp_path / stored.FOLDER).mkdir()
    (tmp_path / stored.FOLDER / "name.json").write_bytes(content)
    assert stored.kept("name", {}, tmp_path) is None
    notes = Spool(tmp_path / "notes")
    notes.folder.mkdir()
    (notes.folder / "1-1-1.json").write_bytes(content)
    assert list(notes.waiting()) == []
    assert [path.name for path in (notes.folder / "rejected").iterdir()] == ["1-1-1.json"]


@every_shape
def test_reading_gives_the_shape_that_was_asked_for_or_one_kind_of_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    for shape in (dict, list):
        with contextlib.suppress(ValueError):
            assert type(json_files.read(path, shape)) is shape


def test_what_is_there_instead_is_said() -> None:
    for text, said in (("[]", "it holds a list where an object belongs"), ("null", "it holds null"), ("[" * 10**5, "nested too deeply")):
        with pytest.raises(ValueError, match=said):
            json_files.parse(text)
