"""Features of arrays are those of jobs, beside any other images, and are computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.cards import Normalisation
from benchmark.encoders import python_file
from benchmark.errors import UsageError
from benchmark.front import features
from benchmark.front.pictures import framed
from tests.front.conftest import LINEAR, NEIGHBOURS

pytestmark = pytest.mark.long(8)


def pictures(n: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 90, 70), dtype=np.uint8)


@pytest.fixture
def mine(described_once, tiny) -> Path:
    return tiny("mine")


def test_they_are_those_of_the_backbone_itself(mine: Path, tmp_path: Path):
    backbone, own = python_file.build(f"{mine}:build").eval(), Normalisation(mean=(0.4,), std=(0.2,))
    given = torch.from_numpy(framed(pictures(), 64).pixels)[:, None].expand(-1, 3, -1, -1).float() / 255
    with torch.no_grad():
        maps, pooled = backbone.pyramid((given - 0.4) / 0.2, (16,))[16], backbone.pooled((given - 0.4) / 0.2)
    for level, expected in (("pooled", pooled), (16, maps)):
        found = features.of_images(mine, pictures(), level=level, frame_size=64, normalisation=own, cache=tmp_path)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert found.dtype == np.float32


def test_a_map_of_one_place_is_still_a_map(mine: Path, tmp_path: Path):
    map_, pooled = (features.of_images(mine, pictures(), level=level, frame_size=16, cache=tmp_path) for level in (16, "pooled"))
    assert (map_.shape[2:], pooled.ndim) == ((1, 1), 2)


def test_an_image_has_the_same_beside_any_others(mine: Path, tmp_path: Path):
    many = pictures(20)
    whole = features.of_images(mine, many, frame_size=64, cache=tmp_path)
    alone = np.concatenate([features.of_images(mine, many[i : i + 1], frame_size=64, cache=tmp_path) for i in (0, 17)])
    np.testing.assert_array_equal(whole[[0, 17]], alone)


def test_they_are_kept_and_a_damaged_file_is_computed_again(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    computed, compute = [], features._computed
    monkeypatch.setattr(features, "_computed", lambda *given: computed.append(1) or compute(*given))
    first = features.of_images(mine, pictures(), frame_size=64, cache=tmp_path)
    second = features.of_images(mine, pictures(), frame_size=64, cache=tmp_path)
    assert len(computed) == 1
    np.testing.assert_array_equal(first, second)
    (file,) = (tmp_path / features.FOLDER).glob("*.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    np.testing.assert_array_equal(features.of_images(mine, pictures(), frame_size=64, cache=tmp_path), first)
    assert len(computed) == 2


@pytest.mark.parametrize("changed", [{"frame_size": 96}, {"level": "deepest"}, {"normalisation": Normalisation(mean=(0.1,), std=(1.0,))}])
def test_another_question_is_not_answered_from_the_cache(mine: Path, tmp_path: Path, changed: dict):
    given = {"frame_size": 64, "cache": tmp_path}
    first, second = (features.of_images(mine, pictures(), **(given | more)) for more in ({}, changed))
    assert first.shape != second.shape or not np.array_equal(first, second)


def test_a_backbone_in_memory_is_taken_and_left_as_it_was(mine: Path, tmp_path: Path):
    backbone = python_file.build(f"{mine}:build").train()
    found = features.of_images(backbone, pictures(), frame_size=64, cache=tmp_path)
    np.testing.assert_array_equal(found, features.of_images(mine, pictures(), frame_size=64, cache=tmp_path))
    assert backbone.training
    with pytest.raises(UsageError, match=r"no level 5\. It has pooled, deepest, and the strides 2, 4, 8, 16, 32"):
        features.of_images(backbone, pictures(), level=5)


def test_those_of_a_split_come_with_its_truth_and_agree_with_those_of_its_pictures(front):
    lobe, files = front
    found = lobe.split_features(files[0], NEIGHBOURS, "train")
    assert found.values.shape == (12, 16)
    assert found.truth.shape == (12, len(found.classes))
    assert set(np.unique(found.truth)) <= {-1, 0, 1}
    assert len(set(found.ids)) == 12
    again = lobe.split_features(files[0], NEIGHBOURS, "train")
    np.testing.assert_array_equal(found.values, again.values)
    assert lobe.split_features(files[0], LINEAR, "test", level="deepest").values.shape[1:] == (16, 2, 2)
