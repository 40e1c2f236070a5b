"""LOBE's labelled reconstruction of the idea behind LRCLR, of which only the abstract is public: never listed under that name.

Whole images and texts find each other, and texts find what they found in the image's best patches. The layers are those of
`benchmark.encoders.local_region_clip`, whose CLIP is frozen.
"""

from __future__ import annotations

from torch import Tensor

from benchmark.pretraining.group import Group
from benchmark.pretraining.losses import contrast_sum


def losses(
    image: Tensor, text: Tensor, text_of_regions: Tensor, scale: float | Tensor, group: Group, local_weight: float = 1.0
) -> dict[str, Tensor]:
    """Two symmetric contrasts of (b, D) vectors; each is the mean of its directions."""
    return {
        "images and texts": contrast_sum(image, text, scale, group) / 2,
        "texts and regions": local_weight * contrast_sum(text_of_regions, text, scale, group) / 2,
    }
