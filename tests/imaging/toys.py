"""Small images whose file holds only a seed, a cache of them, and what it should hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmark.contents import Contents, sha256_of
from benchmark.imaging.cache import ImageCache
from benchmark.imaging.cache_files import CacheRecipe
from benchmark.imaging.prepare import prepare_image

SIZE = 24
RECIPE = CacheRecipe(
    dataset="toy", dataset_digest="d", intensity="as-stored", size=SIZE, n_classes=2, with_masks=True, decoders={"pillow": "1"}
)


@dataclass(frozen=True)
class Toy:
    """A sample as the cache sees it; decoding reads the file, so that edited files show."""

    id: str
    image: Callable[[], np.ndarray]
    masks: Callable[[tuple[int, int]], np.ndarray] | None
    files: tuple[Path, ...]


def draw(path: Path, log: Path | None = None) -> np.ndarray:
    """Reads the seed in `path` and draws the image; notes the call in `log`."""
    if log is not None:
        with log.open("a") as handle:
            handle.write(f"{path.stem}\n")
    random = np.random.RandomState(int(path.read_text()))
    return random.randint(0, 256, (20 + random.randint(30), 20 + random.randint(30))).astype(np.uint8)


def paint(path: Path, shape: tuple[int, int]) -> np.ndarray:
    return np.random.RandomState(int(path.read_text())).rand(2, *shape) > 0.6


def toys(folder: Path, n: int, log: Path | None = None) -> list[Toy]:
    folder.mkdir(exist_ok=True)
    listed = []
    for i in range(n):
        path = folder / f"image-{i}.txt"
        if not path.exists():
            path.write_text(str(i))
        listed.append(Toy(path.stem, partial(draw, path, log), partial(paint, path), (path,)))
    return listed


def opened(folder: Path, samples: list[Toy], recipe: CacheRecipe = RECIPE) -> ImageCache:
    return ImageCache.open(folder / "cache", recipe, [s.id for s in samples])


def assert_holds(cache: ImageCache, samples: list[Toy]) -> None:
    rows = np.array([cache.row_of(s.id) for s in samples])
    for sample, image, masks, frame in zip(samples, cache.images(rows), cache.masks(rows), cache.frames(rows), strict=True):
        prepared = prepare_image(sample, "as-stored", SIZE)
        assert (image == prepared[0]).all()
        assert frame == prepared[1]
        assert (masks == prepared[2]).all()


def expected(samples: list[Toy], listed: bool = False, **changes: str) -> Contents:
    digests = {s.files[0]: changes.get(s.id.replace("-", "_")) or sha256_of(s.files[0]) for s in samples}
    return Contents(digests, {path: f"SHA256SUMS.txt line {n}" for n, path in enumerate(digests, start=1)} if listed else {})
