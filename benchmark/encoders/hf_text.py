"""Images and texts in one space, by local folder or by name: `hf:FOLDER+text`.

A folder of transformers' CLIP or SigLIP (`config.json`), or of open_clip (`open_clip_config.json`, see `open_clip`). Feature levels are
those of `hf:FOLDER`, the image half. The tokenizer is the folder's own. Only classes that transformers ships are built.
CLIP: texts end where their end token stands, and both halves are projected. SigLIP: texts are padded to the limit and read whole; the last
position stands for the text, and a pooling head for the image. Where one vector per place is asked for, SigLIP's head reads each place as
if it were the only one: no released code defines these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, CLIPConfig, PreTrainedConfig, SiglipConfig

from benchmark.encoders import hf, open_clip
from benchmark.encoders.base import Backbone, ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.hf_folder import require_sizes
from benchmark.encoders.library_weights import LibraryWeights
from benchmark.encoders.released_names import use_released_names
from benchmark.encoders.text import ATTENTION
from benchmark.errors import ConformanceError, EnvironmentProblem, LobeError, UsageError
from benchmark.files import require_regular_in

DEFAULT_LAYOUT = "hf-text"
KINDS = (CLIPConfig, SiglipConfig)


def build(model: str) -> Backbone:
    """A randomly initialised backbone of the folder's or repository's configuration.

    Raises:
        UsageError: no configuration in the folder.
        EnvironmentProblem: a repository's name that is not in the hub's cache and cannot be fetched.
        ConformanceError: a model without a text half, or a configuration that describes no network.
    """
    if open_clip.is_folder(model):
        return open_clip.build(model)
    config = _configuration(model)
    if not isinstance(config, KINDS):
        raise ConformanceError(
            f"hf:{model}+text: {config.model_type} is no CLIP and no SigLIP, of which both halves are read. Images alone: hf:{model}."
        )
    try:
        return HuggingFaceTowers(model, config)
    except LobeError:
        raise
    except Exception as error:  # a wrong value fails in as many places as a network has
        raise ConformanceError(
            f"hf:{model}+text: transformers cannot build its configuration ({hf.reason_of(error)}). Is config.json whole?"
        ) from None


def library_weights(model: str, name: str) -> LibraryWeights:
    """As `hf.library_weights`, of both halves."""
    return open_clip.library_weights(model, name) if open_clip.is_folder(model) else hf.library_weights(model, name)


class HuggingFaceTowers(VisionLanguageBackbone):
    """`network` is transformers' own model of both halves, under the names of its released files.

    Args:
        config: one of `KINDS`.
    """

    def __init__(self, name: str, config: Any):
        super().__init__()
        for part in (config, config.text_config, config.vision_config):
            part._attn_implementation = ATTENTION
        self.is_siglip = isinstance(config, SiglipConfig)
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            images = hf.HuggingFaceBackbone(name, config.vision_config)
        self.network = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
        use_released_names(self.network)
        images.network = self.network.vision_model
        self._halves = (images,)  # a tuple, so that its tensors are registered once
        self.max_tokens = config.text_config.max_position_embeddings
        self.input_multiple, self.channels = images.input_multiple, images.channels
        self.spec = images.spec

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        return self._halves[0].pyramid(images, strides)

    def pooled(self, images: Tensor) -> Tensor:
        return self._halves[0].pooled(images)

    def embed_images(self, images: Tensor) -> ImageEmbedding:
        side = images.shape[-1] // self.input_multiple
        tokens = self._halves[0].tokens(images, self.input_multiple)
        if not self.is_siglip:
            joint = self.network.visual_projection(tokens)
            return ImageEmbedding(joint[:, 0], joint[:, 1:].transpose(1, 2).unflatten(2, (side, side)))
        head = self.network.vision_model.head
        alone = head(tokens.flatten(0, 1)[:, None]).unflatten(0, (len(tokens), side**2))
        return ImageEmbedding(head(tokens), alone.transpose(1, 2).unflatten(2, (side, side)))

    def embed_texts(self, texts: Sequence[str]) -> TextEmbedding:
        tokens = self.tokenise(texts, pad_to_limit=self.is_siglip)
        # SigLIP was trained without a mask: what pads a text is read too.
        mask = None if self.is_siglip else tokens.mask.long()
        found = self.network.text_model(input_ids=tokens.ids, attention_mask=mask)
        project = self.network.text_model.head if self.is_siglip else self.network.text_projection
        whole = found.pooler_output if self.is_siglip else project(found.pooler_output)
        return TextEmbedding(whole, project(found.last_hidden_state).transpose(1, 2), tokens.words, tokens.n_truncated)


def _configuration(model: str) -> PreTrainedConfig:
    folder = Path(model)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UsageError(f"hf:{model}+text: there is no config.json in this folder, and no open_clip_config.json.")
    try:
        if folder.is_dir():
            require_regular_in(model)
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
        for part in (config, *(half for key in ("vision_config", "text_config") if (half := getattr(config, key, None)) is not None)):
            require_sizes(part.to_dict(), f"hf:{model}+text")
    except LobeError:
        raise
    except Exception as error:  # malformed values fail in as many ways as there are keys
        advice = "Is its config.json whole?" if folder.is_dir() else "Give a local folder: hf:FOLDER+text."
        raise EnvironmentProblem(f"hf:{model}+text has no configuration that can be read here ({hf.reason_of(error)}). {advice}") from None
    return config
