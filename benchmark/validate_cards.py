"""`lobe validate-cards`: everything that is wrong with a folder of one's own, cards and modules, at once, each with file and line.

Cards are read and judged as a run would, but for one thing: what cannot be used is noted and left out. Modules are run, as a job runs them.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark import kinds, registry, task_rules, yaml_files
from benchmark.card_files import CardFault
from benchmark.cards import HeadFacts
from benchmark.errors import CardError, LobeError
from benchmark.metrics import spec
from benchmark.own import catalogue
from benchmark.own.contract import names_in
from benchmark.own.loading import load
from benchmark.own.rooms import ROOMS, OwnModule
from benchmark.readers.base import Reader

SECTIONS = {
    "tasks": ("tasks", "suites", "grids", "protocols", "prompts"),
    "datasets": ("datasets", "collections"),
    "backbones": ("backbones", "lineups"),
    "results": ("papers",),
}
_PLACED = re.compile(r"(?P<file>.+?\.(?:py|yaml)):(?P<line>\d+): (?P<sentence>.+)", re.DOTALL)
_YAML_LINE = re.compile(r"line (\d+)")
_KEY = re.compile(r"`([\w.]+)")


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong: where, and what."""

    file: str
    line: int
    sentence: str


@dataclass(frozen=True)
class Validated:
    """What a folder holds, and everything that is wrong with it, by file and line."""

    n_cards: int
    n_modules: int
    faults: tuple[Fault, ...]


def validate(folder: Path) -> Validated:
    """Reads and judges a folder as `--include` takes it.

    Raises:
        CardError: there is no such folder.
    """
    registry.include(folder)
    base = folder.resolve()
    with registry.collecting() as unusable:
        found = list(_of_modules(base))
        n_cards = 0
        try:
            for section, name, faults in task_rules.included_faults():
                file = registry.file_of(name, section)
                if file is not None and file.is_relative_to(base):
                    n_cards += 1
                    found += [_of_card(file, section, name, sentence) for sentence in faults]
        except CardError as error:  # a suite or grid that the other cards make impossible: nothing more can be judged
            if str(error) not in catalogue.taken_twice():  # which are told already
                found.append(Fault(str(base / "tasks"), 1, str(error)))
        found += [Fault(str(one.file), _line(one), one.sentence) for one in unusable if one.file.is_relative_to(base)]
    found += list(_of_names(base))
    modules = [one for one in catalogue.every() if one.base == base]
    return Validated(n_cards, len(modules), tuple(sorted(set(found))))


def _of_card(file: Path, section: str, name: str, sentence: str) -> Fault:
    """A fault of a whole card at the key that its sentence begins with."""
    key = _KEY.match(sentence)
    steps = tuple(key[1].split(".")) if key else ()
    entries = (yaml_files.read(file) or {}).get(section) or []
    place = next((n for n, entry in enumerate(entries) if isinstance(entry, dict) and name in (entry.get("id"), entry.get("name"))), 0)
    return Fault(str(file), yaml_files.line_of(file, (section, place, *steps)), f"{section.rstrip('s')} {name}: {sentence}")


def _line(fault: CardFault) -> int:
    if not fault.place:  # the file as a whole cannot be read
        said = _YAML_LINE.search(fault.sentence)
        return int(said[1]) if said else 1
    return yaml_files.line_of(fault.file, fault.place)


def _of_names(base: Path) -> Iterator[Fault]:
    """Folders and sections that nothing reads, where their names are near to those that are."""
    known = (*SECTIONS, *ROOMS)
    for path in sorted(base.iterdir()):
        near = difflib.get_close_matches(path.name, known, n=1, cutoff=0.8)
        if path.is_dir() and path.name not in known and near:
            yield Fault(str(path), 1, f"nothing reads a folder of this name. Did you mean {near[0]}?")
    for folder, sections in SECTIONS.items():
        for path in sorted((base / folder).glob("[!.]*.yaml")):
            try:
                content = yaml_files.read(path)
            except Exception:  # told already, as a file that cannot be read
                continue
            for key in content if isinstance(content, dict) else ():
                if not str(key).startswith("x-") and key not in sections:
                    there = ", ".join(sections)
                    yield Fault(
                        str(path), yaml_files.line_of(path, (key,)), f"nothing reads the key {key!r} here; there are {there}, and x-…."
                    )


def _of_modules(base: Path) -> Iterator[Fault]:
    twice = [sentence for sentence in catalogue.taken_twice() if sentence.startswith(f"{base}/")]
    yield from (_placed(sentence, base) for sentence in twice)
    for module in catalogue.every():
        if module.base == base and not any(sentence.startswith(f"{module.file}:") for sentence in twice):
            try:
                _require_usable(module)
            except LobeError as error:
                yield _placed(str(error), module.file)


def _placed(sentence: str, file: Path) -> Fault:
    found = _PLACED.fullmatch(sentence)
    return Fault(str(file), 1, sentence) if found is None else Fault(found["file"], int(found["line"]), found["sentence"])


def _require_usable(module: OwnModule) -> None:
    """Runs a module and holds it to its contract. Raises LobeError with the place in front."""
    found = load(module.planned())
    lines = names_in(module.file)
    if module.room == "readers":
        reader = found.DatasetReader
        where = f"{module.file}:{lines.get('DatasetReader', 1)}"
        if not inspect.isclass(reader) or not issubclass(reader, Reader):
            raise CardError(f"{where}: DatasetReader is {reader!r:.60}; a class derived from benchmark.readers.base.Reader is expected.")
        if reader.__abstractmethods__:
            raise CardError(f"{where}: DatasetReader does not define {', '.join(sorted(reader.__abstractmethods__))}.")
    elif module.room == "metrics":
        for one in spec.own_specs(module.planned()):
            _require_target(f"{module.file}:{lines.get('METRICS', 1)}: the metric {one.name}", one.target)
    else:
        if not callable(found.build):
            raise CardError(f"{module.file}:{lines.get('build', 1)}: build is {found.build!r:.60}; a function is expected.")
        if module.room == "heads":
            facts: HeadFacts = registry.head(module.name)
            _require_target(f"{module.file}:{lines.get('FACTS', 1)}: FACTS", facts.target)


def _require_target(what: str, target: str) -> None:
    known = sorted({kind.target for kind in kinds.every()})
    if target not in known:
        raise CardError(f"{what} has the target {target!r}; expected one of {', '.join(known)}.")
