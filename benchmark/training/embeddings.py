"""Embeddings of images in a joint space, computed once per image and read by every job that compares them with words.

They are computed in the batches in which the job that asks would compute them: the last is smaller than the others, and a product of
matrices may round otherwise with fewer rows. A stored row therefore says in how large a batch its image passed.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

import numpy as np
import torch

from benchmark.encoders.base import ImageEmbedding
from benchmark.encoders.sealed import SealedEncoder
from benchmark.encoders.text_contract import require_image_embedding
from benchmark.kinds.base import Part
from benchmark.kinds.kit.embedding import consecutive
from benchmark.training.feature_store import FeatureSet
from benchmark.training.features import PACED_BATCHES, STEP_S, is_slower

LEVELS = ("global", "local")


class Embedder:
    """Embeds images of a part, or reads what is stored of them.

    Args:
        most: images that pass at once.
        autocast: the job's precision.
        stored: embeddings on the node's disk; None embeds whatever is asked for.
        notices: sentences for a person; more come while it works.
    """

    def __init__(
        self,
        encoder: SealedEncoder,
        most: int,
        autocast: Callable[[], AbstractContextManager],
        stored: FeatureSet | None,
        notices: list[str],
    ):
        self.encoder, self.most, self.autocast, self.stored, self.notices = encoder, most, autocast, stored, notices
        self._n_damaged = 0
        self._computing_s: list[float] = []  # of an image
        self._reading_s: list[float] = []

    def __call__(self, part: Part, index: np.ndarray) -> ImageEmbedding:
        """Embeddings of the given images: bits and strides are those of embedding them now."""
        found = self._read(part, index)
        return found if found is not None else self._embed(part, index)[0]

    def prepare_in_steps(self, part: Part) -> Iterator[tuple[int, int]]:
        """Embeds and stores what is missing, with every other process that wants the same.

        Yields (done, total) images about once a second, also while another process embeds.
        """
        blocks, done = list(consecutive(len(part), self.most)), 0
        damaged = {int(block[0]) for block in blocks if self._is_there(part, block) and self._read(part, block) is None}
        if self.stored is None:  # from the start, or given up because it reads too slowly
            return

        def is_there(index: np.ndarray) -> bool:
            return int(index[0]) not in damaged and self._is_there(part, index)

        told = time.monotonic()
        for mine in self.stored.in_turn(blocks, lambda index: int(part.rows[index[0]]), is_there, most=1):
            for index in mine:
                levels = self._embed(part, index)[1]
                if not self._write(part, index, levels):
                    return
                damaged.discard(int(index[0]))
                done += len(index)
            if time.monotonic() - told >= STEP_S:
                told = time.monotonic()
                yield done, len(part)
        if self._computing_s:
            self.stored.note_pace(min(self._computing_s))

    def mended(self) -> list[str]:
        """A sentence where stored embeddings were damaged and computed again; else nothing."""
        if not self._n_damaged:
            return []
        return [f"{self._n_damaged:,} rows of stored embeddings were damaged and were computed again. Does the disk of --cache fail?"]

    def _embed(self, part: Part, index: np.ndarray) -> tuple[ImageEmbedding, Mapping[str, torch.Tensor]]:
        device, began = self.encoder.mean.device, time.perf_counter()
        with torch.no_grad(), self.autocast():
            found = self.encoder.embed_images(part.images(index).to(device))
        require_image_embedding(found, len(index), self.encoder.backbone)
        if device.type == "cuda":  # pragma: no cover: needs CUDA, to be waited for before the clock is read
            torch.cuda.synchronize(device)
        self._computing_s.append((time.perf_counter() - began) / len(index))
        return found, dict(zip(LEVELS, (found.global_, found.local), strict=True))

    def _is_there(self, part: Part, index: np.ndarray) -> bool:
        return self.stored is not None and bool(self.stored.has(LEVELS, part.rows[index], _images(part, index)).all())

    def _read(self, part: Part, index: np.ndarray) -> ImageEmbedding | None:
        """None where they are not there, not sound, or quicker to compute."""
        if self.stored is None or not self._is_there(part, index):
            return None
        began, images = time.perf_counter(), _images(part, index)
        rows = [self.stored.read(name, part.rows[index], images, self.encoder.mean.device) for name in LEVELS]
        self._reading_s.append((time.perf_counter() - began) / len(index))
        sound = np.logical_and.reduce([np.zeros(len(index), bool) if found is None else found.sound for found in rows])
        if not sound.all():
            self._n_damaged += int((~sound).sum())
            return None
        if len(self._reading_s) == PACED_BATCHES:
            self._weigh(self.stored.compute_s, statistics.median(self._reading_s))
        return ImageEmbedding(*(found.level for found in rows if found is not None))

    def _weigh(self, compute_s: float | None, reading_s: float) -> None:
        if compute_s is not None and is_slower(reading_s, compute_s):
            self.stored = None
            self.notices.append(
                f"Embeddings are computed again: reading those of an image takes {reading_s * 1e3:.1f} ms, computing them "
                f"{compute_s * 1e3:.1f} ms."
            )

    def _write(self, part: Part, index: np.ndarray, levels: Mapping[str, torch.Tensor]) -> bool:
        """False where the disk takes no more, or memory lies in a way that cannot be kept: then nothing is stored from here on."""
        assert self.stored is not None
        try:
            if self.stored.make_room(sum(level.nbytes for level in levels.values())):
                images = _images(part, index)
                if all(self.stored.write(name, part.rows[index], images, level) for name, level in levels.items()):
                    return True
                self.notices.append("Embeddings are not stored: an image's are no dense piece of memory.")
            else:
                self.notices.append(f"Embeddings are not stored on the disk of {self.stored.path.parent}: it would get too full.")
        except OSError as error:
            self.notices.append(f"Embeddings are not stored on the disk of {self.stored.path.parent}: {error.strerror or error}.")
        self.stored = None
        return False


def _images(part: Part, index: np.ndarray) -> np.ndarray:
    """(n, 32) uint8: what a row is made of: the image's bytes, in a batch of that many."""
    digests = part.cache.source_digests(part.rows[index])
    return np.stack([np.frombuffer(hashlib.sha256(f"{digest} of {len(index)}".encode()).digest(), np.uint8) for digest in digests])
