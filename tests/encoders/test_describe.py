"""A backbone's identity is every file that its code runs or reads, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmark.encoders import describe, python_file, sources
from benchmark.encoders.describe import FactoryDigest
from benchmark.encoders.sources import SourceFile
from benchmark.errors import CheckpointChanged, ConformanceError, UsageError


def names(found: dict) -> list[str]:
    return [file["name"] for file in found["files"]]


def digest(found: dict) -> str:
    return sources.combined(SourceFile(**file) for file in found["files"])


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


EVERYTHING = """
    import json, sys
    import numpy, safetensors.torch
    from net.blocks import SEED
    here = Path(__file__).parent
    config = json.loads((here / "config" / "net.json").read_text())
    torch.load(here / "w.pt")
    safetensors.torch.load_file(here / "w.safetensors")
    numpy.loadtxt(here / "table.csv")
    torch.manual_seed(SEED)
"""
CODE = ["net/__init__.py", "net/blocks.py", "net/late.py", "net/train.py"]
COUNTED = ["config/net.json", "mine.py", *CODE, "table.csv", "w.pt", "w.safetensors"]


@pytest.fixture
def everything(tiny) -> Path:
    """A factory that imports and opens in every way there is, beside files that it leaves alone."""
    late = "from net import late\n        if self.training: from net import train"
    file = tiny(at_build=EVERYTHING.strip(), at_pyramid=late)
    write(file.parent, dict.fromkeys([*CODE, "net/unused.py", "other.py", "README.md"], "SEED = 5\n"))
    write(file.parent, {"config/net.json": "{}", "table.csv": "1 2\n"})
    torch.save({"w": torch.zeros(2)}, file.parent / "w.pt")
    save_file({"w": torch.zeros(2)}, file.parent / "w.safetensors")
    return file


def test_every_file_that_is_imported_or_opened_counts_and_no_other(everything: Path) -> None:
    """Code below the folder, settings, weights read by libraries in other languages, what a forward pass or training imports."""
    first = describe.observe(f"{everything}:build")
    assert names(first) == COUNTED
    for name in COUNTED:
        path = everything.parent / name
        kept = path.read_bytes()
        path.write_bytes(kept + (b"" if name.startswith("w.") else b"\n"))
        if name == "w.pt":
            torch.save({"w": torch.ones(2)}, path)
        if name == "w.safetensors":
            save_file({"w": torch.ones(2)}, path)
        now = describe.observe(f"{everything}:build")
        assert digest(now) != digest(first), name
        assert now["weights"] == first["weights"], name  # tensors do not tell
        path.write_bytes(kept)
    for name in ("net/unused.py", "other.py", "README.md"):
        (everything.parent / name).write_text("changed = True\n")
    assert digest(describe.observe(f"{everything}:build")) == digest(first)


def test_a_copy_is_the_same_backbone_from_any_working_directory(everything: Path, describing, tmp_path: Path, monkeypatch) -> None:
    """Asked in a process of its own, as a plan does; `python -m` would look into the working directory first. What other tests ask in its
    place finds the same, and says the same of a factory that fails.
    """
    here = FactoryDigest.of(describe.observe(f"{everything}:build"))
    copied = shutil.copytree(everything.parent, tmp_path / "far" / "away")
    write(tmp_path / "cwd", {"net/__init__.py": "raise RuntimeError\n", "late.py": "raise RuntimeError\n"})
    monkeypatch.chdir(tmp_path / "cwd")
    there = describe.describe(f"{copied / 'mine.py'}:build")
    assert (there.weights, there.sources, there.files) == (here.weights, here.sources, here.files)
    assert [file.name for file in here.files] == COUNTED
    (tmp_path / "broken.py").write_text("def build():\n    raise ValueError('no such layer')\n")

    def fault() -> str:
        with pytest.raises(ConformanceError) as told:
            describe.describe(f"{tmp_path / 'broken.py'}:build")
        return str(told.value)

    slowly = fault()
    monkeypatch.setattr(describe, "subprocess", describing)
    assert describe.describe(f"{copied / 'mine.py'}:build") == there
    assert fault() == slowly == "broken.py:build could not be built: ValueError: no such layer"


LOADED_IN_PART = "seed = torch.initial_seed(); torch.manual_seed(5); made = Tiny(); torch.manual_seed(seed)"


def test_a_trained_backbone_with_a_tensor_left_to_chance_is_not_described_as_a_random_one(tiny, describing, monkeypatch) -> None:
    file = tiny(at_build=f"{LOADED_IN_PART}; made.fc = nn.Linear(16, 3); return made")
    monkeypatch.setattr(describe, "subprocess", describing)
    with pytest.raises(ConformanceError, match=r"^mine\.py:build draws fc\.weight, fc\.bias anew at every call.*torch\.manual_seed"):
        describe.describe(f"{file}:build")
    assert describe.observe(f"{tiny('random', at_build='pass')}:build")["weights"] is None


SIBLING = "import sys; sys.path.insert(0, str(Path(__file__).parent.parent / 'lab')); import parts; "
SIBLING += "torch.manual_seed(parts.SEED); (Path(__file__).parent.parent / 'data' / 'prior.txt').read_text()"


def test_files_outside_the_folder_count_under_the_end_of_their_path(tiny, tmp_path: Path) -> None:
    file = tiny("mine", at_build=SIBLING)
    write(tmp_path, {"lab/parts.py": "SEED = 3\n", "data/prior.txt": "0.5\n"})
    found = describe.observe(f"{file}:build")
    assert sorted(names(found)) == ["mine.py", "outside: parts.py", "outside: prior.txt"]
    moved = tmp_path / "elsewhere"
    for name in ("mine", "lab", "data"):
        shutil.copytree(tmp_path / name, moved / name)
    assert digest(describe.observe(f"{moved / 'mine' / 'mine.py'}:build")) == digest(found)
    (moved / "data" / "prior.txt").write_text("0.6\n")
    assert digest(describe.observe(f"{moved / 'mine' / 'mine.py'}:build")) != digest(found)


def test_a_file_that_a_worker_does_not_have_is_a_sentence(tiny, tmp_path: Path) -> None:
    file = tiny("mine", at_build=SIBLING)
    write(tmp_path, {"lab/parts.py": "SEED = 3\n", "data/prior.txt": "0.5\n"})
    files = tuple(SourceFile(**one) for one in describe.observe(f"{file}:build")["files"])
    shutil.rmtree(tmp_path / "lab")
    with pytest.raises(CheckpointChanged, match=r"mine\.py was planned with .*parts\.py, which is not on this machine. Only the folder"):
        sources.require_unchanged(files, file.parent, file.name)


def test_files_outside_that_share_a_name_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, {"mine/mine.py": "", "a/w.txt": "1", "b/w.txt": "2"})
    given = [str(tmp_path / "a" / "w.txt"), str(tmp_path / "b" / "w.txt")]
    found = sources.files_of(tmp_path / "mine" / "mine.py", given)
    assert [file.name for file in found] == ["mine.py", "outside: a/w.txt", "outside: b/w.txt"]
    write(tmp_path, {"a/w.txt": "2", "b/w.txt": "1"})
    assert sources.combined(sources.files_of(tmp_path / "mine" / "mine.py", given)) != sources.combined(found)


def test_what_systems_and_libraries_keep_does_not_count(tiny, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    write(tmp_path, {"hub/models/weights.bin": "1", "home/.config/settings": "1", "home/.netrc": "1"})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    opened = ["/proc/self/status", "/etc/hostname", str(tmp_path / "hub" / "models" / "weights.bin"), str(tmp_path / "home" / ".netrc")]
    at_build = (
        f"[open(name, 'rb').read() for name in {opened!r} if os.path.exists(name)]; import tempfile, xml.dom.minidom, colorsys; "
        "handle = tempfile.NamedTemporaryFile('w+'); handle.write('1'); handle.flush(); open(handle.name).read(); torch.manual_seed(1)"
    )
    assert names(describe.observe(f"{tiny(at_build=at_build)}:build")) == ["mine.py"]


def test_code_counts_also_where_libraries_keep_what_they_fetched(tiny, tmp_path: Path, monkeypatch) -> None:
    """As `torch.hub` does: it puts the folder in front of `sys.path` only while it loads, and runs the file beside it by its path."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home" / "torch"))
    hub = tmp_path / "home" / "torch" / "hub" / "lab_net_main"
    write(hub, {"hubconf.py": "import torch\nfrom net.blocks import SEED\ndef seed():\n    return SEED\n"})
    write(hub, {"net/__init__.py": "", "net/blocks.py": "SEED = 5\n", "w.txt": "1"})
    at_build = f"torch.manual_seed(torch.hub.load({str(hub)!r}, 'seed', source='local')); open({str(hub / 'w.txt')!r}).read()"
    name = f"{tiny(at_build=at_build)}:build"
    first, second = describe.observe(name), describe.observe(name)
    assert digest(second) == digest(first)
    assert sorted(names(first)) == ["mine.py", "outside: __init__.py", "outside: blocks.py", "outside: hubconf.py"]
    planned = tuple(SourceFile(**file) for file in first["files"])
    python_file.require_planned(python_file.build(name), name, planned)
    write(hub, {"net/blocks.py": "SEED = 6\n"})
    with pytest.raises(CheckpointChanged, match=r"blocks\.py, which is not the file the job was planned with"):
        python_file.require_planned(python_file.build(name), name, planned)


def test_a_cache_that_the_first_build_makes_counts_from_the_first_plan_on(tiny, monkeypatch) -> None:
    at_build = "kept = Path(__file__).parent / 'kept.txt'; kept.exists() or kept.write_text('5'); torch.manual_seed(int(kept.read_text()))"
    name = f"{tiny(at_build=at_build)}:build"
    monkeypatch.setattr(describe, "_described", lambda model: json.loads(json.dumps(describe.observe(model))))
    first, second = describe.describe(name), describe.describe(name)
    assert first == second
    assert [file.name for file in first.files] == ["kept.txt", "mine.py"]


def test_a_path_relative_to_the_working_directory_is_refused(tiny, monkeypatch) -> None:
    file = tiny(at_build="torch.manual_seed(int(open('seed.txt').read()))")
    write(file.parent, {"seed.txt": "5"})
    monkeypatch.chdir(file.parent)
    monkeypatch.setattr(describe, "_described", describe.observe)
    with pytest.raises(UsageError, match=r"opens 'seed\.txt', a path relative to the folder the command was started in.*Path\(__file__\)"):
        describe.describe(f"{file}:build")


def test_a_factory_may_go_into_its_own_folder_and_is_brought_back(tiny, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tiny(at_build="os.chdir(Path(__file__).parent); import numpy; torch.manual_seed(int(numpy.memmap('seed.bin', 'uint8')[0]))")
    (file.parent / "seed.bin").write_bytes(b"\x05")
    found = describe.observe(f"{file}:build")
    assert (names(found), found["relative"], Path.cwd()) == (["mine.py", "seed.bin"], [], tmp_path)


def test_what_a_text_side_opens_with_its_first_text_counts(tiny_words) -> None:
    file = tiny_words()
    opens = "        assert (Path(__file__).parent / 'vocab.txt').read_text()\n        split = [text"
    file.write_text("from pathlib import Path\n" + file.read_text().replace("        split = [text", opens))
    write(file.parent, {"vocab.txt": "no\n", "other.txt": "no\n"})
    assert names(describe.observe(f"{file}:build")) == ["mine.py", "vocab.txt"]


def test_a_line_that_python_looks_up_to_show_it_is_not_read_by_the_author(tiny) -> None:
    """As it does for a warning or a traceback."""
    shown = "import linecache; line = linecache.getline(str(Path(__file__).parent / 'shown.py'), 1); torch.manual_seed(len(line))"
    file = tiny(at_build=shown)
    write(file.parent, {"shown.py": "x = 1\n"})
    assert names(describe.observe(f"{file}:build")) == ["mine.py"]


def test_a_module_that_somebody_edits_while_it_is_read_is_refused(tiny) -> None:
    file = tiny(at_build="""import helper, subprocess; subprocess.run(["sh", "-c", "echo >> " + helper.__file__], check=True)""")
    write(file.parent, {"helper.py": "x = 1"})
    with pytest.raises(ConformanceError, match=r"helper\.py was changed while it was read\. Run the same command again"):
        describe.observe(f"{file}:build")


def test_beside_a_module_among_the_installed_packages_nothing_is_the_authors(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path, {"site/mine.py": "", "site/library.py": "", "site/w.txt": "1"})
    beside = [str(tmp_path / "site" / name) for name in ("library.py", "w.txt")]
    factory = tmp_path / "site" / "mine.py"
    assert [file.name for file in sources.files_of(factory, beside)] == ["library.py", "mine.py", "w.txt"]
    monkeypatch.setattr(sources, "installed_folders", lambda: (str(tmp_path / "site"),))
    assert [file.name for file in sources.files_of(factory, beside)] == ["mine.py"]


def test_a_link_in_the_folder_counts_by_its_place_there(tiny, tmp_path: Path) -> None:
    file = tiny(at_build="torch.manual_seed(len((Path(__file__).parent / 'w.bin').read_bytes()))")
    write(tmp_path, {"store/blob-1": "12"})
    (file.parent / "w.bin").symlink_to(tmp_path / "store" / "blob-1")
    assert names(describe.observe(f"{file}:build")) == ["mine.py", "w.bin"]


READS = "import os; use = {how}; torch.manual_seed(5)"
WAYS = ['os.environ.get("POOL", "mean")', 'os.getenv("POOL")', '"POOL" in os.environ', 'os.environ["POOL"]']


@pytest.mark.parametrize("how", WAYS)
def test_a_variable_of_the_environment_that_is_asked_for_counts_with_its_value(tiny, monkeypatch, how: str) -> None:
    file = tiny(at_build=READS.format(how=how))
    found = []
    for value in ("mean", "max", "mean"):
        monkeypatch.setenv("POOL", value)
        found.append(describe.observe(f"{file}:build"))
    assert names(found[0]) == ["mine.py", "$POOL"]
    assert digest(found[0]) == digest(found[2]) != digest(found[1])


def test_a_variable_without_a_value_is_told_apart_from_an_empty_one(tiny, monkeypatch) -> None:
    file = tiny(at_build=READS.format(how='os.environ.get("POOL")'))
    monkeypatch.delenv("POOL", raising=False)
    without = describe.observe(f"{file}:build")
    monkeypatch.setenv("POOL", "")
    assert digest(describe.observe(f"{file}:build")) != digest(without)


@pytest.mark.parametrize("how", ["dict(os.environ)", "{**os.environ}", "os.environ.copy()", 'os.environ.get("HF_HOME")', "os.cpu_count()"])
def test_what_is_copied_whole_or_says_which_machine_it_is_does_not_count(tiny, how: str) -> None:
    assert names(describe.observe(f"{tiny(at_build=READS.format(how=how))}:build")) == ["mine.py"]


def test_a_worker_of_another_environment_builds_no_other_network(tiny, monkeypatch) -> None:
    file = tiny(at_build=READS.format(how='os.environ.get("POOL")'))
    monkeypatch.setenv("POOL", "max")
    planned = [SourceFile(**each) for each in describe.observe(f"{file}:build")["files"]]
    sources.require_unchanged(planned, file.parent, file.name)
    monkeypatch.delenv("POOL")
    with pytest.raises(CheckpointChanged, match=r"mine\.py reads \$POOL, which has another value here.*Write the value into the file"):
        sources.require_unchanged(planned, file.parent, file.name)
