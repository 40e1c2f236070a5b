"""Boxes and polygons: COCO's JSON, and YOLO's text files."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from benchmark import json_files, yaml_files
from benchmark.cards.own_split import OwnSplit
from benchmark.files import read_text
from benchmark.readers.kit.own_images import ImageFiles, filled_in
from benchmark.scaffold.guessed import PATIENT_KEYS, Guess, below, common_folder
from benchmark.scaffold.survey import Survey

LOOKED_AT = 200  # text files
MOSTLY = 0.9
_OBJECT = re.compile(r"\s*\d+(\s+-?\d*\.?\d+(e-?\d+)?){4,}\s*", re.IGNORECASE)


def coco(found: Survey) -> Guess | None:
    """JSON files with images, annotations and categories; None without one."""
    contents = {path: content for path in found.documents if (content := _coco_content(found.folder / path)) is not None}
    if not contents:
        return None
    chosen, split = _files_by_split(list(contents))
    pictures = ImageFiles(found.folder, ".", "this folder")
    names = {path: [entry.get("file_name") for entry in contents[path]["images"]] for path in chosen}
    places = [
        place
        for path, listed in names.items()
        for name in listed
        if isinstance(name, str) and (place := pictures.find(name, path.parent.as_posix().removeprefix("."))) is not None
    ]
    if not places:
        return None
    folder = common_folder(places)
    annotations = [entry for path in chosen for entry in contents[path]["annotations"] if isinstance(entry, dict)]
    categories = [entry for path in chosen for entry in contents[path]["categories"] if isinstance(entry, dict)]
    counted = Counter(entry.get("category_id") for entry in annotations)
    classes = tuple(dict.fromkeys(str(entry.get("name")) for entry in categories if counted[entry.get("id")]))
    unused = [str(entry.get("name")) for entry in categories if not counted[entry.get("id")] and str(entry.get("name")) not in classes]
    outlined = sum(bool(entry.get("segmentation")) for entry in annotations)
    given: dict[str, Any] = {
        "annotations": {s: p.as_posix() for s, p in split.items()} if split else chosen[0].as_posix(),
        "images": folder,
    }
    reasons = {
        "annotations": f"{', '.join(path.as_posix() for path in chosen)}: {len(annotations):,} annotations",
        "images": f"where {len(places):,} of {sum(map(len, names.values())):,} listed images are",
        "classes": "categories with an annotation" + (f"; without one: {', '.join(unused)}" if unused else ""),
    }
    if annotations and outlined >= MOSTLY * len(annotations):
        given["masks"] = "segmentation"
        reasons["masks"] = f"{outlined:,} of {len(annotations):,} annotations have an outline"
    keys = {key for path in chosen for entry in contents[path]["images"] if isinstance(entry, dict) for key in entry}
    patient = next((key for key in sorted(keys) if key.lower() in PATIENT_KEYS), None)
    if patient is not None:
        given["patient_key"], reasons["patient_key"] = patient, "a key of the image entries"
    left = [path.as_posix() for path in contents if path not in chosen]
    unknown = [f"What {', '.join(left)} is for: only {', '.join(p.as_posix() for p in chosen)} is read."] if left else []
    by = {"by": "folder"} if split else {}
    if split:
        reasons["split"] = "one annotation file for each"
    return Guess("coco", given, classes, below(folder, sorted(set(places))), by, reasons, tuple(unknown))


def yolo(found: Survey) -> Guess | None:
    """Text files of numbers named as their images; None without one."""
    texts = {path.with_suffix("").as_posix() for path in found.texts}
    places = [path.as_posix() for path in found.images]
    for folder, pattern in (("images", "labels/{stem}"), (".", "{folder}/labels/{name}"), (".", "labels/{stem}"), (".", "{stem}")):
        images = [place for place in places if folder == "." or place.startswith(f"{folder}/")]
        named = {place: filled_in(pattern, place) for place in below(folder, images)}
        held = {place: text for place, text in named.items() if text in texts}
        objects = [line for text in list(held.values())[:LOOKED_AT] for line in _lines(found.folder / f"{text}.txt")]
        if not objects or not all(map(_OBJECT.fullmatch, objects)):
            continue
        numbers = sorted({int(line.split()[0]) for line in objects})
        names, source = _names(found)
        unknown = []
        if not names:
            names = tuple(f"class_{number}" for number in range(max(numbers) + 1))
            unknown.append("The names of the classes: rename class_0 and so on in `classes` and `names`.")
        shown = tuple(name for number, name in enumerate(names) if number in numbers) or names
        given: dict[str, Any] = {"images": folder, "labels": pattern, "names": list(names)}
        reasons = {
            "labels": f"{len(held):,} of {len(named):,} images have such a text file",
            "names": source or "the numbers in the text files",
            "classes": f"numbers in the first {min(len(held), LOOKED_AT):,} text files",
        }
        longer = sum(len(line.split()) > 6 for line in objects)
        if longer >= MOSTLY * len(objects):
            given["masks"], reasons["masks"] = "segmentation", f"{longer:,} of {len(objects):,} lines are polygons"
        return Guess("yolo", given, shown, tuple(named), {}, reasons, tuple(unknown))
    return None


def _coco_content(path: Path) -> dict[str, Any] | None:
    try:
        content = json_files.read(path)
    except (OSError, ValueError):
        return None
    lists = ("images", "annotations", "categories")
    return content if all(isinstance(content.get(name), list) for name in lists) and content["images"] else None


def _files_by_split(paths: list[Path]) -> tuple[list[Path], dict[str, Path]]:
    """The files that are read; and by split, where their names or folders say so."""
    split: dict[str, Path] = {}
    for path in paths:
        words = [*path.parent.parts, *re.split(r"[^A-Za-z]+", path.stem)]
        for word in words:
            name = OwnSplit().split_of(word)
            if name is not None:
                split.setdefault(name, path)
                break
    if "train" in split and len(split) > 1:
        return list(split.values()), split
    return paths[:1], {}


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in read_text(path).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return ["unreadable"]


def _names(found: Survey) -> tuple[tuple[str, ...], str]:
    """Class names by number out of `data.yaml` or `classes.txt`, and from where; nothing without either."""
    for path in found.others:
        if path.suffix.lower() in (".yaml", ".yml"):
            try:
                content = yaml_files.read(found.folder / path)
            except (OSError, UnicodeDecodeError, yaml.YAMLError):
                continue
            names = content.get("names") if isinstance(content, dict) else None
            if isinstance(names, dict) and sorted(names) == list(range(len(names))):
                names = [names[k] for k in range(len(names))]
            if isinstance(names, list) and names:
                return tuple(map(str, names)), f"`names` of {path.as_posix()}"
    for path in found.texts:
        if path.name.lower() in ("classes.txt", "obj.names", "names.txt"):
            return tuple(line.strip() for line in _lines(found.folder / path)), path.as_posix()
    return (), ""
