"""The recipe of a dataset's image cache: what decides its bytes, as jobs and `lobe data prepare` ask for it."""

from __future__ import annotations

from benchmark.cards import canonical_json
from benchmark.imaging.cache_files import CacheRecipe
from benchmark.imaging.dicom import decoder_versions
from benchmark.imaging.prepare import Intensity
from benchmark.readers.base import Reader


def cache_recipe(reader: Reader, intensity: Intensity, size: int) -> CacheRecipe:
    """Of padded frames, `size` pixels a side, with masks where the dataset has some.

    A mask has a channel for each class, in the order of the card: a class renamed in a card is another mask under the same files.
    """
    card, outline = reader.card, f"{reader.outline_digest()}:{reader.shapes}"
    with_masks = "masks" in card.targets
    return CacheRecipe(
        dataset=card.name,
        dataset_digest=f"{outline}:{canonical_json(list(card.classes))}" if with_masks else outline,
        intensity=intensity,
        size=size,
        n_classes=len(card.classes),
        with_masks=with_masks,
        decoders=decoder_versions(),
    )
