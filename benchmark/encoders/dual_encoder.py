"""What `lobe pretrain` leaves, text side included: an image encoder, a BERT, and the layers of the method, which define the joint space.

The model is a folder with `dual_encoder.json` (the recipe and the BERT's sizes); its card names the weights and the tokenizer beside it.
Feature levels and the pooled embedding are the image encoder's own. What is a method's vector of a place, a word or a text is said in
`benchmark.objectives`; a text is read whole, its sentences in order. A text without a word is read as one unknown word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from benchmark import json_files, registry
from benchmark.cards.base import Card
from benchmark.cards.pretraining import PretrainingCard
from benchmark.encoders import torchvision
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone, mean_of_parts
from benchmark.encoders.hf_folder import require_sizes
from benchmark.encoders.sentence_rules import RULES
from benchmark.encoders.text import bert
from benchmark.encoders.words import UNKNOWN, Batch, Words
from benchmark.errors import ConformanceError, LobeError, UsageError
from benchmark.objectives.kit.base import EncodedTexts, Objective, Widths
from benchmark.objectives.kit.group import Group

DEFAULT_LAYOUT = "dual-encoder"
CONFIGURATION = "dual_encoder.json"
_NO_SIZES = ("transformers_version", "dtype", "torch_dtype", "architectures")  # of a BERT's configuration


class Configuration(Card):
    """
    Attributes:
        recipe: that made it; its towers, its method and what it reads of a text decide what is built.
        text: what differs from BERT's default sizes, as transformers' `BertConfig` has it.
        done: share of the budget that lay behind: methods with stages are read as in the one that they had come to.
    """

    version: Literal[1] = 1
    recipe: PretrainingCard
    text: dict[str, Any]
    done: Annotated[float, Field(ge=0, le=1)] = 1.0


def build(model: str) -> DualEncoder:
    """A dual encoder of random numbers, as the folder's configuration describes it.

    Raises:
        UsageError: no configuration in the folder, or one that cannot be read.
        ConformanceError: it describes no network.
    """
    found = configuration(Path(model))
    try:
        return DualEncoder(found.recipe, BertConfig.from_dict(found.text), found.done)
    except LobeError:
        raise
    except Exception as error:  # a wrong value fails in as many places as a network has
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConformanceError(f"{CONFIGURATION} of {Path(model).name} describes no network ({reason}). Is it whole?") from None


def configuration(folder: Path) -> Configuration:
    """What the folder's file says; see `build` for errors."""
    file = folder / CONFIGURATION
    if not file.is_file():
        raise UsageError(f"dual_encoder:{folder}: there is no {CONFIGURATION} in this folder. `lobe pretrain` writes it beside the card.")
    try:
        found = Configuration.model_validate(json_files.read(file))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{file.name} is malformed: key {'.'.join(map(str, first['loc']))!r}: {first['msg']}.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file.name} cannot be read ({str(error)[:200]}).") from None
    require_sizes(found.text, CONFIGURATION)
    return found


def described(recipe: PretrainingCard, text: BertConfig, done: float = 1.0) -> dict[str, Any]:
    """Content of a folder's `dual_encoder.json`; nothing in it depends on this machine.

    Args:
        done: see `Configuration.done`; written of an encoder that was kept on the way.
    """
    sizes = {key: value for key, value in text.to_diff_dict().items() if key not in _NO_SIZES and not key.startswith("_")}
    hub = recipe.text.hub
    tower = recipe.text.model_copy(update={"hub": Path(hub).name}) if hub is not None and Path(hub).is_dir() else recipe.text
    told = recipe.model_copy(update={"text": tower, "title": recipe.name, "source": "", "unverified": ()})
    content = {"version": 1, "recipe": told.model_dump(mode="json", exclude_unset=True), "text": sizes}
    return content if done == 1 else {**content, "done": done}


class DualEncoder(VisionLanguageBackbone):
    """`network` holds `image` in torchvision's names, `text` in transformers', and `objective`, the method's layers."""

    def __init__(self, recipe: PretrainingCard, text: BertConfig, done: float):
        super().__init__()
        self.recipe, self.max_tokens, self.done = recipe, recipe.text.tokens, done
        image = torchvision.build(recipe.image.model)
        module = registry.plugin("objectives", recipe.method)
        options = TypeAdapter(module.Options).validate_python(recipe.objective)
        objective = module.build(Widths(dict(image.spec.strides), text.hidden_size), options)
        tower = bert(text)
        if objective.reads_attention:
            tower.set_attn_implementation("eager")
        self.network = Network(image.network, tower, objective)
        self._images = (image,)  # a tuple, so that its tensors are registered once
        known = {"name": f"{recipe.method} {recipe.image.model}", "normalisation": recipe.image.statistics}
        self.spec = image.spec.model_copy(update=known)

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        return self._images[0].pyramid(images, strides)

    def pooled(self, images: Tensor) -> Tensor:
        return self._images[0].pooled(images)

    def embed_images(self, images: Tensor) -> ImageEmbedding:
        objective, group = self.network.objective, Group.alone(len(images))
        maps = self.pyramid(enlarged(images, self.recipe.image.seen_at), objective.strides)
        return ImageEmbedding(objective.image_vectors(maps, group), objective.place_vectors(maps, group))

    def embed_texts(self, texts: Sequence[str]) -> TextEmbedding:
        objective, group = self.network.objective, Group.alone(len(texts))
        said, cut = zip(*(self._said(text) for text in texts), strict=True)
        words = Words(self.required_tokenizer, said, self.recipe.pairs.joined, self.recipe.text.padded_to)
        keys = torch.arange(len(texts))
        batch = words.batch(range(len(texts)), "all", keys.tolist()).to(next(self.parameters()).device)
        read = read_texts(self.network.text, batch, objective)
        parts, mask = objective.part_vectors(read, keys, group, self.done)
        n_truncated = sum(is_cut or sum(map(len, report.ids)) + 2 > words.limit for is_cut, report in zip(cut, words.reports, strict=True))
        return TextEmbedding(objective.text_vectors(read, keys, group, self.done), parts.transpose(1, 2), mask, n_truncated)

    def among_places(self, text: TextEmbedding) -> Tensor:
        return mean_of_parts(text) if self.network.objective.aligns_parts_alone else text.global_

    def _said(self, text: str) -> tuple[tuple[str, ...], bool]:
        """Sentences by the recipe's rule, or the text as it stands where that leaves no token; and whether one is too long alone."""
        by_rule = tuple(RULES[self.recipe.pairs.sentence_rule]([text]))
        for said in (by_rule, (text,)):
            tokens = self.required_tokenizer(said or ("",))
            if any(len(pieces) > 2 for pieces in tokens.pieces):
                return said, tokens.n_truncated > 0
        return (UNKNOWN,), False


class Network(nn.Module):
    def __init__(self, image: nn.Module, text: BertModel, objective: Objective):
        super().__init__()
        self.image, self.text, self.objective = image, text, objective


def enlarged(images: Tensor, side: int | None) -> Tensor:
    """Images (b, C, S, S) at the side that the encoder sees them at; None: as they are."""
    return images if side is None else F.interpolate(images, size=(side, side), mode="bilinear", align_corners=True)


def read_texts(text: BertModel, words: Batch, objective: Objective) -> EncodedTexts:
    """What the objective reads of tokenised texts."""
    found = text(
        input_ids=words.ids, attention_mask=words.mask.long(), output_hidden_states=True, output_attentions=objective.reads_attention
    )
    attention = found.attentions[-1].mean(dim=1)[:, 0] if objective.reads_attention else None
    states = torch.stack(found.hidden_states[-objective.n_layers :])
    return EncodedTexts(states, words.mask, words.word, words.sentence, attention, words.unknown)
