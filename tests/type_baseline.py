"""Types: runs mypy over `benchmark` and compares what it finds with the baseline in pyproject.toml, which may only shrink.

`[tool.lobe.type-errors]` says of each module how many errors are left. More than that fails, anywhere; fewer fails too, until
`python -m tests.type_baseline --lower` has written the new numbers, so that what was won is kept. Modules that are not listed have none.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "pyproject.toml"
TABLE = "[tool.lobe.type-errors]"
_ERROR = re.compile(r"^(?P<path>benchmark/.+?\.py):\d+: error: ")


def by_module(output: str) -> dict[str, list[str]]:
    """Module below `benchmark` -> lines of mypy's output that are errors in it."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in output.splitlines():
        if error := _ERROR.match(line):
            module = error["path"].removeprefix("benchmark/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            found[module].append(line)
    return dict(found)


def compared(found: Mapping[str, Sequence[str]], baseline: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Errors of modules that have more than their number, and modules that have fewer."""
    more = [line for module, lines in found.items() if len(lines) > baseline.get(module, 0) for line in lines]
    return more, sorted(module for module, number in baseline.items() if len(found.get(module, ())) < number)


def lowered(project: str, found: Mapping[str, Sequence[str]], baseline: Mapping[str, int]) -> str:
    """pyproject.toml with each number at what was found, where that is less."""
    left = {module: min(number, len(found.get(module, ()))) for module, number in baseline.items()}
    lines = [f'"{module}" = {number}' for module, number in sorted(left.items()) if number]
    head, after = project.split(f"{TABLE}\n")
    _, blank, rest = after.partition("\n\n")
    return f"{head}{TABLE}\n" + "\n".join(lines) + (blank + rest if blank else "\n")


def baseline_in(project: str) -> dict[str, int]:
    numbers: dict[str, int] = tomllib.loads(project)["tool"]["lobe"]["type-errors"]
    return numbers


def main(arguments: Sequence[str]) -> int:
    from mypy import api

    output, problems, code = api.run(["--config-file", str(PROJECT), *(word for word in arguments if word != "--lower")])
    if code not in (0, 1):
        print(output, problems, file=sys.stderr)
        return code
    project = PROJECT.read_text(encoding="utf-8")
    baseline = baseline_in(project)
    found = by_module(output)
    more, fewer = compared(found, baseline)
    if "--lower" in arguments:
        PROJECT.write_text(lowered(project, found, baseline), encoding="utf-8")
        fewer = []
    if more:
        print(*more, sep="\n")
        for module, lines in found.items():
            if len(lines) > baseline.get(module, 0):
                print(f"{module}: {len(lines)} type errors, at most {baseline.get(module, 0)} allowed.")
        return 1
    if fewer:
        print(f"Fewer type errors than pyproject.toml allows in {', '.join(fewer)}. Keep it: python -m tests.type_baseline --lower")
        return 1
    print(f"Types: no new errors; {sum(map(len, found.values()))} are left in {len(found)} modules.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
