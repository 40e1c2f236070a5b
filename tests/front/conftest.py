"""An output folder with two backbones on two tasks, three runs each, for all tests of the front."""

from __future__ import annotations

from pathlib import Path

import pytest

LINEAR, NEIGHBOURS = "rsna-linear-frozen-100", "rsna-labels-nearest-neighbour-frozen-100-lobe"


@pytest.fixture(scope="session")
def place_of_front(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("front")


@pytest.fixture
def front(place_of_front: Path, corpora: Path, described_once, small_frames, tiny, monkeypatch: pytest.MonkeyPatch):
    """(lobe, backbones): a `Lobe` whose output folder is filled; the first test that asks fills it."""
    from benchmark import Lobe

    monkeypatch.setattr("benchmark.plan.smoke_steps", lambda head: 4)
    lobe = Lobe(
        place_of_front / "out", data=corpora, cache=place_of_front / "cache", runs=3, limit=12, profile="smoke", protocol="corrected"
    )
    files = [place_of_front / name / "mine.py" for name in ("one", "two")]
    for seed, file in enumerate(files):
        if not file.exists():
            file.parent.mkdir()
            file.write_text(tiny(f"seed-{seed}", at_build=f"torch.manual_seed({seed})").read_text())
    if not (place_of_front / "out").exists():
        lobe.evaluate(files, [LINEAR, NEIGHBOURS])
    return lobe, files
