"""The promise of `benchmark.imaging.equalise`: the bytes of scikit-image's equalisation, from a table."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.exposure import equalize_hist

from benchmark.imaging.equalise import equalise
from benchmark.imaging.picture import read_grey

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "real"


def reference(grey: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-image warns of narrow pictures that they may be colour
        return (255 * equalize_hist(grey / np.iinfo(grey.dtype).max)).astype(np.uint8)


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 255)))
def test_equal_to_the_byte_with_scikit_image(grey: np.ndarray) -> None:
    assert (equalise(grey) == reference(grey)).all()


@pytest.mark.parametrize("levels", [(0, 256), (3, 60), (100, 130), (254, 256), (17, 18)])
def test_equal_for_narrow_and_constant_histograms(levels: tuple[int, int]) -> None:
    grey = np.random.RandomState(1).randint(*levels, (120, 90)).astype(np.uint8)
    assert (equalise(grey) == reference(grey)).all()


def test_equal_for_twelve_bits_in_sixteen() -> None:
    grey = np.random.RandomState(2).binomial(4095, 0.3, (120, 90)).astype(np.uint16)
    assert equalise(grey).dtype == np.uint8
    assert (equalise(grey) == reference(grey)).all()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not beside the checkout")
@pytest.mark.parametrize("name", ["16747_3_1.jpg", "nih_00000001_000.png", "nih_00027426_000.png"])
def test_equal_on_real_radiographs(name: str) -> None:
    grey = read_grey(REAL / name, name)
    equalised = equalise(grey)
    assert (equalised == reference(grey)).all()
    assert equalised.mean() == pytest.approx(127.5, abs=8)  # LoVT's equalised sets have a mean near 0.505
