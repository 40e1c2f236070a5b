"""Where things lie: every package and content folder is in the wheel, one pin per package, and no machine's address in any file."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterable
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from packaging.requirements import Requirement

from benchmark import cli, registry
from benchmark.cards import DISCLAIMER

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
LEFT_BEHIND = {".venv", ".git", "__pycache__", "build", "dist", "lobe-demo", "lobe-out", "lobe-study", ".hypothesis"} | {
    f".{tool}_cache" for tool in ("pytest", "mypy", "ruff", "import_linter")
}
CONTENT = ("tasks", "datasets", "backbones", "results")

NAME = PROJECT["project"]["name"]
DEPENDENCIES = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
EXTRAS = {
    extra: [Requirement(line) for line in lines if Requirement(line).name != NAME]
    for extra, lines in PROJECT["project"]["optional-dependencies"].items()
}
ASKED_FOR = [*DEPENDENCIES, *(requirement for lines in EXTRAS.values() for requirement in lines)]


@cache
def repository_files() -> tuple[Path, ...]:
    """Files under version control and new ones not ignored; in an unpacked archive, all but what tools leave behind."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        return tuple(ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())
    found: list[Path] = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name not in LEFT_BEHIND and not name.endswith(".egg-info")]
        found += [Path(folder) / name for name in names]
    return tuple(found)


def pins() -> dict[str, list[str]]:
    """Distribution -> its lines in constraints.txt."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            found.setdefault(normal(Requirement(line).name), []).append(line)
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# -------------------------------------------------------------------------------------------------------------- the wheel


def test_every_package_is_listed_for_the_wheel() -> None:
    on_disk = {".".join(init.parent.relative_to(ROOT).parts) for init in (ROOT / "benchmark").rglob("__init__.py")}
    listed = {name for name in SETUPTOOLS["packages"] if not name.startswith("benchmark.content")}
    assert listed == on_disk


@pytest.mark.parametrize("folder", CONTENT)
def test_content_folder_is_mapped_into_the_wheel(folder: str) -> None:
    package = f"benchmark.content.{folder}"
    assert package in SETUPTOOLS["packages"]
    assert SETUPTOOLS["package-dir"][package] == folder
    assert SETUPTOOLS["package-data"][package]
    assert not list((ROOT / folder).rglob("__init__.py"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the repository's files: building leaves traces beside pyproject.toml."""
    copy = tmp_path_factory.mktemp("checkout")
    for path in repository_files():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    out = tmp_path_factory.mktemp("wheel")
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, str(out)], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built)


def test_every_file_of_the_package_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    inside = {path.relative_to(ROOT).as_posix() for path in repository_files() if ROOT / "benchmark" in path.parents}
    assert inside - set(wheel.namelist()) == set()


@pytest.mark.parametrize("folder", CONTENT)
def test_every_file_of_a_content_folder_is_in_the_wheel(wheel: zipfile.ZipFile, folder: str) -> None:
    inside = [path.relative_to(ROOT).as_posix() for path in repository_files() if ROOT / folder in path.parents]
    assert inside, f"{folder}/ is empty"
    expected = {f"benchmark/content/{name}" for name in inside if not name.endswith(".md")}  # notes for editors stay behind
    assert expected - set(wheel.namelist()) == set()


def test_benches_stay_out_of_the_wheel(wheel: zipfile.ZipFile) -> None:
    assert (ROOT / "tests" / "perf" / "__init__.py").is_file()
    assert [name for name in wheel.namelist() if name.startswith(("tests/", "benchmark/bench/", "benchmark/perf/"))] == []


def test_bench_without_a_checkout_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lobe: Callable[..., Any]) -> None:
    monkeypatch.setattr("benchmark.cli.machine.__file__", str(tmp_path / "benchmark" / "cli" / "machine.py"))
    code, _, told = lobe("bench", "startup", "--out", tmp_path / "out")
    assert code == 2
    assert "Get the sources, run `make` there" in " ".join(told.split())


def test_wheel_holds_the_package_its_content_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    assert {name.partition("/")[0].partition("-")[0] for name in wheel.namelist()} == {"benchmark", "lobe_bench"}


@pytest.mark.parametrize("folder", CONTENT)
def test_checkout_finds_content_beside_the_package(folder: str) -> None:
    assert registry.content(folder) == ROOT / folder


def test_installed_wheel_finds_content_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "benchmark" / "content" / "tasks"
    inside.mkdir(parents=True)
    (tmp_path / "tasks").mkdir()
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "benchmark" / "registry.py"))
    assert registry.content("tasks") == inside


def test_no_importable_package_shadows_a_common_name() -> None:
    """A top-level package called `datasets` would hide the one many users have."""
    top_level = {name.partition(".")[0] for name in SETUPTOOLS["packages"]}
    assert top_level == {"benchmark"}


# ---------------------------------------------------------------------------------------------------------------- imports


def _imports(path: Path, modules: Iterable[str]) -> set[str]:
    """Names among `modules` that a file imports, also inside functions; what is imported for types alone is none."""
    found = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{each.name}" if f"{node.module}.{each.name}" in modules else node.module for each in node.names}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        waiting += ast.iter_child_nodes(node)
    return found & set(modules)


def test_no_modules_import_each_other_in_a_circle_not_even_inside_functions() -> None:
    files = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in (ROOT / "benchmark").rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in files.items()}
    imported = {name: _imports(path, modules) - {name} for name, path in modules.items()}
    assert len(imported["benchmark.readers.base"]) > 3  # imports are found at all
    TopologicalSorter(imported).prepare()  # raises CycleError, which names the circle


# ----------------------------------------------------------------------------------------------------------- dependencies


@pytest.mark.parametrize("requirement", ASKED_FOR, ids=lambda requirement: requirement.name)
def test_dependency_has_an_upper_bound_and_a_pin_within_it(requirement: Requirement) -> None:
    assert any(spec.operator in ("<", "==") for spec in requirement.specifier), f"{requirement} has no upper bound"
    lines = pins().get(normal(requirement.name), [])
    assert lines, f"{requirement.name} is not in constraints.txt"
    for line in lines:
        (pin,) = Requirement(line).specifier
        assert pin.operator == "=="
        assert pin.version in requirement.specifier


def test_constraints_pin_each_package_once_for_a_python() -> None:
    for name, lines in pins().items():
        markers = {str(Requirement(line).marker) for line in lines}
        assert len(markers) == len(lines), f"{name} is pinned twice: {lines}"
        assert len(lines) == 1 or "None" not in markers


def test_constraints_hold_versions_only() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert "--" not in text
    assert "@" not in text


COPYLEFT = re.compile(r"\b(A?GPL|LGPL)|General Public License", re.IGNORECASE)


@pytest.mark.parametrize("requirement", ASKED_FOR, ids=lambda requirement: requirement.name)
def test_every_dependency_has_a_line_with_its_licence_and_reason(requirement: Requirement) -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith(f"| `{requirement.name}` |")]
    licence, reason = (cell.strip() for cell in line.strip("|").split("|")[1:])
    assert licence
    assert reason
    about = importlib.metadata.metadata(requirement.name)
    # A package whose metadata holds the whole text of its licence names itself in the first line.
    stated = [about.get("License-Expression"), (about.get("License") or "").split("\n")[0], *(about.get_all("Classifier") or ())]
    copyleft = any(COPYLEFT.search(words) for words in stated if words)
    assert bool(COPYLEFT.search(licence)) == copyleft, stated


# ---------------------------------------------------------------------------------------------------------------- pages


PAGES = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_a_page_exist(page: Path) -> None:
    root = typer.main.get_command(cli.app)
    unknown = []
    for words in re.findall(r"(?:`|^|/)lobe((?: --include \S+)?(?: [a-z][a-z-]*){1,2})", page.read_text(encoding="utf-8"), flags=re.M):
        verb, *rest = re.sub(r" --include \S+", "", words).split()
        group = root.commands.get(verb)
        if group is None or (rest and hasattr(group, "commands") and rest[0] not in group.commands):
            unknown.append(f"lobe{words}")
    assert unknown == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} - {"index.md"}
    assert {page for page in pages if f"]({page})" not in index} == set()


def _rooms() -> dict[str, list[str]]:
    """Change -> the files that CONTRIBUTING says it touches, `*` for what a name stands for."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in page.splitlines() if re.match(r"\| an? |\| how |\| what ", line)]
    return {change.strip(): [re.sub(r"<\w+>", "*", name) for name in re.findall(r"`([^`]+/[^`]*)`", files)] for change, files, _ in rows}


def test_table_of_changes_names_every_kind_of_change() -> None:
    assert set(_rooms()) == {
        "a backbone of a known family",
        "a backbone family",
        "a dataset",
        "a task",
        "a paper's suite",
        "a head",
        "a metric",
        "a kind of task",
        "a protocol",
        "a reference panel",
        "a pretraining method",
        "how jobs are placed",
        "what Python users see",
        "what the leaderboard looks like",
    }


@pytest.mark.parametrize("change", _rooms())
def test_table_of_changes_names_rooms_that_exist(change: str) -> None:
    rooms = _rooms()[change]
    assert rooms
    assert [room for room in rooms if not list(ROOT.glob(room))] == []


LOOSE = re.compile(r"_(?:whatever|however|whichever|somehow|its_like|their_like)(?:_|$)")


def test_every_name_of_a_test_is_a_promise_without_a_loose_word() -> None:
    names = [name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))]
    assert len(names) > 1000
    assert [name for name in names if LOOSE.search(name)] == []


def test_citation_names_the_version_and_licence_of_the_package() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["version"], cited["license"]) == (PROJECT["project"]["version"], PROJECT["project"]["license"])


def test_readme_carries_the_disclaimer() -> None:
    assert DISCLAIMER in (ROOT / "README.md").read_text(encoding="utf-8").replace("\n", " ")


# ------------------------------------------------------------------------------------------------------------ addresses

# A home, scratch or checkout folder of somebody's machine. Public system paths (/usr, /dev, /proc) are not.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:home|Users|root|work|tmp|mnt|scratch)/[\w.-]+")
# Package indexes are a machine's configuration, and belong in no file of the project.
REGISTRIES = re.compile(
    r"(?:index-url|extra-index|find-links|trusted-host)[ =]\S|\bhttps?://[^\s/]*(?:pypi|pythonhosted|artifactory|nexus)", re.I
)


def test_no_file_names_a_path_of_one_machine_or_a_package_index() -> None:
    found = []
    for path in repository_files():
        raw = path.read_bytes()
        if path == Path(__file__).resolve() or b"\0" in raw:  # this page's own examples, and pictures
            continue
        for number, line in enumerate(raw.decode("utf-8").splitlines(), start=1):
            found += [
                f"{path.relative_to(ROOT)}:{number}: {m[0]}" for pattern in (MACHINE_PATHS, REGISTRIES) for m in pattern.finditer(line)
            ]
    assert found == []


@pytest.mark.parametrize("line", ["see /home/anna/data", "root = '/work/main'", "pip --index-url https://x", "https://pypi.example/simple"])
def test_watch_on_addresses_would_notice(line: str) -> None:
    assert MACHINE_PATHS.search(line) or REGISTRIES.search(line)


@pytest.mark.parametrize("line", ["/dev/shm", "GET /results/work/1", "https://github.com/philip-mueller/lovt", "home/of/files"])
def test_watch_on_addresses_lets_public_names_pass(line: str) -> None:
    assert not MACHINE_PATHS.search(line)
    assert not REGISTRIES.search(line)
