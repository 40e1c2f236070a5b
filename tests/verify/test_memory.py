"""The forecast of a job's peak memory at the size of the protocol: frames of 224 px, small and large encoders, frozen and fine-tuned."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.phantom.corpus import CorpusPlan, write_corpus
from tests.peaks import forecast_and_peak

pytestmark = pytest.mark.slow
BATCH = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("forecast")
    for dataset in ("rsna", "covid-rural"):
        write_corpus(CorpusPlan(dataset=dataset, n_patients=80, seed=3), made / dataset)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights and decoded images, for all jobs."""
    return tmp_path_factory.mktemp("forecast-caches")


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
@pytest.mark.parametrize("encoder", ["frozen", "finetune"])
@pytest.mark.parametrize("task", ["covid-rural-linear-frozen-100", "covid-rural-unet-frozen-100", "rsna-yolov3-frozen-100"])
def test_the_forecast_is_right_within_a_quarter(task: str, encoder: str, architecture: str, root: Path, folder: Path, record_property):
    recipe = {"batch_size": BATCH, "max_steps": 2, "max_epochs": 1, "warmup_steps": 0}  # from the second step on the optimiser has moments
    expected, peak = forecast_and_peak(
        folder, root, task, limit=2 * BATCH, card={"encoder": encoder, "fraction": 1.0}, architecture=architecture, **recipe
    )
    record_property("measured", f"{expected / 2**20:,.0f} MiB expected, {peak / 2**20:,.0f} MiB held")
    assert expected == pytest.approx(peak, rel=0.25)
