"""The tests of `make check`: those whose process imports no torch, Ray or MLflow, and so start and end quickly.

All files of FOLDERS and those of FILES are among them, without EXCEPT. `python -m tests.torch_free` runs them. As a plugin of that run this
module refuses the import of a framework: a test that comes to need one fails here, and goes to EXCEPT unless the code in between is mended.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
FRAMEWORKS = ("torch", "ray", "mlflow")
FOLDERS = ("docsite", "metrics", "readers")
FILES = (
    "test_cards.py",
    "test_citations.py",
    "test_contents.py",
    "test_errors.py",
    "test_grid.py",
    "test_integrity.py",
    "test_layout.py",
    "test_machine.py",
    "test_plan.py",
    "test_rate_search.py",
    "test_registry.py",
    "test_store.py",
    "test_task_rules.py",
    "test_torch_free.py",
)
EXCEPT = frozenset(
    {
        # compared with an implementation in torch, or scored as a job does it
        "metrics/test_classification.py",
        "metrics/test_detection.py",
        "metrics/test_dice.py",
        "metrics/test_grid_oracle.py",
        "metrics/test_grounding.py",
        "metrics/test_mgca.py",
        "metrics/test_retrieval.py",
        "metrics/test_scores.py",
        # train on what they read
        "readers/test_chestx_det.py",
        "readers/test_new_dataset.py",
        "readers/kit/test_identity.py",
        "readers/test_padchest.py",
        "readers/test_transfer.py",
        # plans for the devices of this machine
        "readers/kit/test_image_files.py",
        # takes a minute: every release, linked and littered
        "readers/test_as_people_have_them.py",
    }
)


def files() -> list[Path]:
    """The test files of `make check`."""
    found = [path for folder in FOLDERS for path in sorted((HERE / folder).rglob("test_*.py"))] + [HERE / name for name in FILES]
    return [path for path in found if path.relative_to(HERE).as_posix() not in EXCEPT]


class _Refusing(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name in FRAMEWORKS:
            raise ImportError(f"{name} is imported in `make check`. Import it where it is used, or name the test in tests/torch_free.py.")
        return None


def pytest_configure() -> None:
    loaded = [name for name in FRAMEWORKS if name in sys.modules]
    if loaded:
        raise RuntimeError(f"{', '.join(loaded)}: imported before the tests of `make check` began.")
    sys.meta_path.insert(0, _Refusing())


def main(arguments: Sequence[str]) -> int:
    import pytest

    return int(pytest.main(["-p", "tests.torch_free", *arguments, *map(str, files())]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
