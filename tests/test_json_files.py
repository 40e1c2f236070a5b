"""JSON of any shape in LOBE's own files is no traceback: a sentence where it is evidence, and nothing where it is a mere memory."""

from __future__ import annotations

import ast
import contextlib
import gzip
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark import json_files, registry, yaml_files
from benchmark.driver_lock import _named, _owner
from benchmark.encoders import hf, hf_folder, shards
from benchmark.errors import CheckpointError, DataError, FrameMismatch, LobeError, StoreError, UsageError
from benchmark.execute.costs import Costs
from benchmark.imaging.cache_files import list_caches
from benchmark.kinds.detection import read_detections
from benchmark.kinds.segmentation import read_masks
from benchmark.readers import chestx_det, rsna, tbx11k
from benchmark.readers.base import Reader
from benchmark.readers.kit import chexpert_5x200
from benchmark.readers.kit.text import read_json
from benchmark.report import stored
from benchmark.shelf import Shelf, read_record
from benchmark.store import Store
from benchmark.submission.score import _names_in
from benchmark.tracking.spool import Spool
from tests import perf

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
    records, refused = Shelf(tmp_path).believable()
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


# What may call the parser itself: its one home, and texts that the calling process or its own parent has just written.
OWN_TEXTS = {
    "json_files.py": ["text"],
    "integrity.py": ["record.model_dump_json()"],
    "encoders/describe.py": ["sys.argv[1]"],
    "scaffold/card_text.py": ["json.dumps(value)"],
}
PACKAGE = Path(json_files.__file__).parent


def parsed_by(path: Path) -> list[str]:
    """What a module gives to `json.load`, `json.loads` or the like, under any name it imports them by."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules, functions = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {each.asname or each.name for each in node.names if each.name in ("json", "orjson", "simplejson", "ujson")}
        elif isinstance(node, ast.ImportFrom) and node.module == "json":
            functions |= {each.asname or each.name for each in node.names}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        is_method = isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id in modules
        is_read = is_method and called.attr in ("load", "loads", "JSONDecoder")
        if is_read or (isinstance(called, ast.Name) and called.id in functions - {"dump", "dumps"}):
            found.append(ast.unparse(node.args[0]))
    return found


def test_no_module_parses_json_of_others_by_itself() -> None:
    found = {str(path.relative_to(PACKAGE)): parsed_by(path) for path in sorted(PACKAGE.rglob("*.py"))}
    assert {name: texts for name, texts in found.items() if texts} == OWN_TEXTS


@pytest.mark.parametrize("code", ["import json\njson.load(f)", "import json as j\nj.loads(f)", "from json import loads as l\nl(f)"])
def test_a_module_that_does_is_found(tmp_path: Path, code: str) -> None:
    (tmp_path / "a.py").write_text(code)
    assert parsed_by(tmp_path / "a.py") == ["f"]


NESTED = {"list": SHAPES["nested without end"], "object": SHAPES["objects without end"], "closed": b"[" * 50_000 + b"]" * 50_000}
nested = pytest.mark.parametrize("content", NESTED.values(), ids=NESTED)


def reads_labels(reader: type, method: str, *given: object):
    """A reader's method on a folder, without the rest of its release."""

    def read(path: Path) -> None:
        made = object.__new__(reader)
        made.card, made._base = SimpleNamespace(name="a dataset"), path.parent
        getattr(made, method)(*(path if one is Path else one for one in given))

    return read


LABELS = {
    "ChestX_Det_train.json": reads_labels(chestx_det.DatasetReader, "_read", "train"),
    rsna.MAPPING: reads_labels(rsna.DatasetReader, "_read_mapping", Path),
    tbx11k.BOXES.format("train"): reads_labels(tbx11k.DatasetReader, "_read_boxes", "train"),
    "chexpert_5x200.json": chexpert_5x200.prior_set,
}


@nested
@pytest.mark.parametrize("name", LABELS)
def test_label_files_nested_without_end_are_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(DataError, match=path.name):
        LABELS[name](path)


@nested
def test_label_files_packed_by_gzip_are_read_as_carefully(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "a.json.gz", "a dataset", list)


@every_shape
def test_a_lock_of_any_shape_names_nobody(content: bytes) -> None:
    owner = _owner(content)
    assert isinstance(owner, dict)
    assert "process" in _named(owner)


@nested
def test_files_beside_weights_nested_without_end_are_a_sentence(tmp_path: Path, content: bytes) -> None:
    for name in ("preprocessor_config.json", "config.json", "model.safetensors.index.json"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=r"preprocessor_config\.json .* is malformed \(it is nested too deeply\)"):
        hf_folder.own_normalisation(str(tmp_path))
    with pytest.raises(LobeError, match=r"no configuration that can be read here .*Is its config\.json whole"):
        hf.configuration(str(tmp_path))
    with pytest.raises(CheckpointError, match="no index of weights"):
        shards.shards_of(tmp_path / "model.safetensors.index.json")


@nested
def test_a_file_to_score_that_is_nested_without_end_names_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "detections.json").write_bytes(content)
    assert _names_in(registry.task("rsna-yolov3-frozen-100"), tmp_path / "detections.json") == set()


@every_shape
def test_reports_of_benches_of_any_shape_are_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"metrics\.json is no report of a bench .*lobe bench metrics"):
        perf.read(tmp_path)


YAML = {
    "flow": "a: " + "[" * 100_000,
    "closed": "[" * 50_000 + "]" * 50_000,
    "blocks": "- " * 50_000 + "a",
    "steps": "{a: " * 400 + "1" + "}" * 400,
}


@pytest.mark.parametrize("content", YAML.values(), ids=YAML)
def test_cards_nested_without_end_are_a_sentence(tmp_path: Path, content: str) -> None:
    """In a process of their own: composed, some would end it."""
    (tmp_path / "card.yaml").write_text(content)
    code = (
        "import sys; from pathlib import Path; from benchmark import card_files; from benchmark.encoders import naming; "
        "from benchmark.errors import CardError\n"
        "for read in (card_files._load, naming._card_in):\n"
        "    try: read(Path(sys.argv[1]))\n"
        "    except CardError as error: print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "card.yaml")], capture_output=True, text=True, check=True)
    assert [line.rpartition(": ")[2] for line in ended.stdout.splitlines()] == ["it is nested too deeply"] * 2


def test_a_long_card_that_is_not_deep_is_read(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text("backbones: [" + ", ".join("[1, {a: 2}]" for _ in range(2000)) + "]")
    assert len(yaml_files.read(tmp_path / "card.yaml")["backbones"]) == 2000
