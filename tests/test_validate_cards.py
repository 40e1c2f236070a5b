"""`lobe validate-cards`: all faults of a folder at once, each with file, line, what was expected and what was found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.scaffold import head, metric, reader, task
from benchmark.validate_cards import Validated, validate

BROKEN = """\
tasks:
  - id: one
    version: 1
    dataset: rsna
    head: linear
    target: masks
    recipe: {batch_size: 8, patiance: 3}
    select: opacity_dice
  - id: two
    version: first
    title: Two
    dataset: rsna
    head: lineer
    encoder: frozen
    fraction: 1.0
    target: masks
    recipe: {batch_size: 8, learning_rate: 0.01, max_epochs: 2, patience: 2}
    select: opacity_dice
    report: opacity_dice
    protocols: [corrected]
  - id: three
    version: 1
    title: Three
    dataset: rsna
    head: lineer
    encoder: frozen
    fraction: 1.0
    target: masks
    recipe: {batch_size: 8, learning_rate: 0.01, max_epochs: 2, patience: 2}
    select: opacity_dice
    report: opacity_dice
    protocols: [corrected]
suite:
  - name: none
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    before = list(registry._included)
    yield
    registry._included[:] = before
    registry.forget()


def said(found: Validated, folder: Path) -> list[tuple[str, int, str]]:
    return [(str(Path(one.file).relative_to(folder)), one.line, one.sentence) for one in found.faults]


def test_a_folder_as_it_is_written_has_nothing_wrong(tmp_path: Path) -> None:
    for one in (reader, head, metric):
        one.new("first", tmp_path)
    registry.include(tmp_path)
    task.new("all-mine", tmp_path, dataset="first", head="first", report="first")
    registry._included[:] = []
    assert validate(tmp_path) == Validated(n_cards=2, n_modules=3, faults=())


def test_every_fault_of_every_card_is_said_at_once_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "a.yaml").write_text(BROKEN)
    (tmp_path / "tasks" / "b.yaml").write_text("tasks:\n  - id: [\n")
    (tmp_path / "head").mkdir()
    found = said(validate(tmp_path), tmp_path)
    places = {(file, line) for file, line, _ in found}
    sentences: dict[int, str] = {}
    for file, line, sentence in found:
        if file == "tasks/a.yaml":
            sentences[line] = sentences.get(line, "") + sentence
    missing = [sentence for file, line, sentence in found if (file, line) == ("tasks/a.yaml", 2)]
    assert all(any(f"key {key!r}: it is missing" in one for one in missing) for key in ("title", "encoder", "fraction", "report"))
    assert "key 'recipe.patiance'" in sentences[7]
    assert "here it is 3" in sentences[7]
    assert "key 'version'" in sentences[10]
    assert "here it is 'first'" in sentences[10]
    assert "no such head. Did you mean linear" in sentences[25]
    assert "nothing reads the key 'suite'" in sentences[33]
    assert ("head", 1, "nothing reads a folder of this name. Did you mean heads?") in found
    assert any(file == "tasks/b.yaml" for file, _ in places)


def test_faults_of_modules_are_said_beside_those_of_cards(tmp_path: Path) -> None:
    texts = {
        "heads/syntax.py": "FACTS = 1\ndef build(:\n",
        "heads/half.py": "def build(request):\n    return None\n",
        "heads/aims.py": "from benchmark.cards import HeadFacts\nFACTS = HeadFacts(title='x', target='wishes')\nbuild = print\n",
        "readers/bare.py": "from benchmark.readers.base import Reader\n\n\nclass DatasetReader(Reader):\n    pass\n",
        "metrics/number.py": "METRICS = 3\n",
        "encoders/word.py": "\nbuild = 'it'\n",
        "metrics/fails.py": "import numpy\n\nMETRICS = numpy.nothing\n",
        "heads/_helper.py": "def build(:\n",
        "heads/helper.py": "WIDTH = 3\n",
        "heads/unet.py": "FACTS = 1\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {(file, line): sentence for file, line, sentence in said(validate(tmp_path), tmp_path)}
    assert set(found) == {
        ("heads/syntax.py", 2),
        ("heads/half.py", 1),
        ("heads/aims.py", 2),
        ("readers/bare.py", 4),
        ("metrics/number.py", 1),
        ("encoders/word.py", 2),
        ("metrics/fails.py", 3),
        ("heads/unet.py", 1),
    }
    assert "does not define checks, open, sample, split" in found["readers/bare.py", 4]
    assert "expected one of boxes, labels, labels-to-masks, masks" in found["heads/aims.py", 2]
    assert "LOBE has a head unet already" in found["heads/unet.py", 1]


def test_the_command_ends_with_one_and_a_line_for_each(tmp_path: Path, lobe) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "number.py").write_text("METRICS = 3\n")
    code, out, err = lobe("validate-cards", tmp_path)
    assert (code, out.strip()) == (1, "0 cards and 1 modules: one fault.")
    assert err.startswith(f"{tmp_path}/metrics/number.py:1: METRICS is a tuple")
    registry._included[:] = []
    code, out, _ = lobe("validate-cards", tmp_path, "--json")
    assert (code, json.loads(out)["faults"][0]["line"]) == (1, 1)
