"""The picture of the layers shows every room of the package once, in the order of the contract, and the way of a job leads through code."""

from __future__ import annotations

import ast
import re
from xml.etree import ElementTree

from docsite import architecture
from docsite.addresses import ROOT

SVG = "{http://www.w3.org/2000/svg}"
PACKAGE = ROOT / "benchmark"


def of_class(svg: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in svg.iter() if name in (one.get("class") or "").split()]


def test_picture_shows_every_room_of_the_package_once() -> None:
    svg = ElementTree.fromstring(architecture.picture())
    packages = [one.text for one in of_class(svg, "name")]
    modules = [one.text for one in of_class(svg, "chip")]
    assert sorted(packages) == sorted(init.parent.name for init in PACKAGE.glob("*/__init__.py"))
    assert sorted(modules) == sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def test_packages_stand_in_the_order_of_the_contract() -> None:
    svg = ElementTree.fromstring(architecture.picture())
    drawn = sorted((float(one.get("y", "")), one.text) for one in of_class(svg, "name"))
    ordered = [name for layer in architecture.layers() for name in layer if (PACKAGE / name).is_dir()]
    assert [name for _, name in drawn] == ordered
    assert ordered.index("cli") < ordered.index("training") < ordered.index("metrics") < ordered.index("cards")


def test_every_room_has_a_sentence_of_its_own() -> None:
    sentences = [room.about for layer in architecture.rooms() for room in layer]
    assert [room.name for layer in architecture.rooms() for room in layer if not room.about] == []
    assert len(set(sentences)) == len(sentences)
    assert {room.name: room.about for layer in architecture.rooms() for room in layer}["metrics"] == "Metrics: pure functions of arrays."


def test_steps_of_a_job_are_counted_and_name_functions_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+)`\s+in\s+\[[\w/.]+\]\(\.\./(benchmark/[\w/]+\.py)\)", page)
    assert list(architecture.walk()) == list(range(1, len(named) + 1))
    assert len(named) > 10
    for name, path in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.ClassDef)}, f"{path} has no {name}"


def test_picture_numbers_the_steps_beside_their_rooms() -> None:
    svg = ElementTree.fromstring(architecture.picture())
    numbers = sorted(int(one.text or "") for one in of_class(svg, "number"))
    assert numbers == sorted(architecture.walk())
    rooms = {room.name: room.steps for layer in architecture.rooms() for room in layer if room.steps}
    assert rooms["api"] == (2,)
    assert rooms["store"] == (15,)
    assert len(of_class(svg, "walked")) == sum(not (PACKAGE / name).is_dir() for name in rooms)


def test_nothing_is_drawn_outside_the_picture() -> None:
    svg = ElementTree.fromstring(architecture.picture())
    _, _, width, height = map(float, (svg.get("viewBox") or "").split())
    for box in svg.iter(f"{SVG}rect"):
        x, y, w, h = (float(box.get(side, "")) for side in ("x", "y", "width", "height"))
        assert (x >= 0, y >= 0, x + w <= width, y + h <= height) == (True, True, True, True)
    assert all(float(one.get("cx", "")) >= 11 for one in svg.iter(f"{SVG}circle"))
