"""What every test may rely on: quiet libraries, one thread, compiled imports in child processes, and the shared real files where present.

Nothing about any one room lives here.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before any import of torch, Ray or Hugging Face, and inherited by every child process and Ray worker.
os.environ.update(
    NO_ALBUMENTATIONS_UPDATE="1",
    RAY_USAGE_STATS_ENABLED="0",
    MLFLOW_DISABLE_TELEMETRY="true",
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.pop("LOBE_DATA", None)
os.environ.pop("LOBE_CACHE", None)


@pytest.fixture(scope="session")
def real_files() -> Path:
    """Folder `shared/data` beside the checkout: small public files that are never committed. Skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder of real files beside the checkout")
    return folder


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small phantom corpora of RSNA and COVID Rural, made once; tests that damage files copy them first."""
    from benchmark.phantom.corpus import Plan, write_corpus

    root = tmp_path_factory.mktemp("corpora")
    write_corpus(Plan(dataset="rsna", n_patients=24, seed=3), root / "rsna")
    write_corpus(Plan(dataset="covid-rural", n_patients=14, seed=3), root / "covid-rural")
    return root
