"""G2D: a U-Net pre-trained on its own attention, a torchvision ResNet-50 with the decoder of segmentation-models-pytorch.

`resnet50` is the encoder. `unet` adds the decoder: its maps at strides 16 to 2 stand beside the encoder's deepest. `unet+text` is the whole
checkpoint. No weights were released: the layout is the training code's (docs/sources.md, G2D).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig

from benchmark.cards import IMAGENET, BackboneSpec
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.text import bert, bert_states
from benchmark.encoders.torchvision import ARCHITECTURES, resnet, run_levels
from benchmark.errors import UnknownName
from benchmark.objectives.kit.pooling import at_grid, with_mean_first

DEFAULT_LAYOUT = "g2d"
MODELS = ("resnet50", "unet", "unet+text")
DECODER = {16: 256, 8: 128, 4: 64, 2: 32, 1: 16}  # stride -> channels after each block
JOINT, HEADS = 128, 4
GRID = 8  # of the table of positions: 256 pixels
MAX_TOKENS = 256


def build(model: str) -> G2D:
    """See the top of this page.

    Raises:
        UnknownName: not one of `MODELS`.
    """
    if model not in MODELS:
        raise UnknownName("backbone", f"g2d:{model}", [f"g2d:{one}" for one in MODELS])
    return G2D("resnet50", decoder=model != "resnet50", text=BertConfig(vocab_size=28996) if model.endswith("+text") else None)


class G2D(VisionLanguageBackbone):
    max_tokens = MAX_TOKENS
    network: nn.Module

    def __init__(self, encoder: str, *, decoder: bool = False, text: BertConfig | None = None):
        super().__init__()
        self.levels = ARCHITECTURES[encoder]
        widths = {level.stride: level.channels for level in self.levels}
        unet: nn.Module = _UNet(encoder, widths) if decoder else resnet(encoder)
        self.network = unet if text is None else _Full(unet, widths[32], text)
        strides = {32: widths[32], **{s: c for s, c in DECODER.items() if s > 1}} if decoder else widths
        self.spec = BackboneSpec(
            name=f"g2d {encoder}", input_size=256, strides=strides, embed_dim=widths[32], normalisation=IMAGENET, pretraining=()
        )

    @property
    def _full(self) -> _Full:
        if not isinstance(self.network, _Full):
            raise self._images_alone("g2d:unet+text")
        return self.network

    @property
    def _unet(self) -> nn.Module:
        return self.network.img_model if isinstance(self.network, _Full) else self.network

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        wanted = tuple(self.spec.strides if strides is None else strides)
        unet = self._unet
        if not isinstance(unet, _UNet):
            return run_levels(unet, self.levels, images, wanted)
        if wanted == (32,):
            return run_levels(unet.encoder, self.levels, images, wanted)
        encoded = run_levels(unet.encoder, self.levels, images, (2, 4, 8, 16, 32))
        maps = {32: encoded[32], **unet.decoder(encoded, finest=min(wanted))}
        return {stride: maps[stride] for stride in wanted}

    def pooled(self, images: Tensor) -> Tensor:
        return self.pyramid(images, (32,))[32].mean(dim=(2, 3))

    def embed_images(self, images: Tensor) -> ImageEmbedding:
        full = self._full
        projected = full.proj_v(self.pyramid(images, (32,))[32])
        return ImageEmbedding(full.attnpool(projected), projected)

    def embed_texts(self, texts: Sequence[str]) -> TextEmbedding:
        """Global: the first token's; local: every token's, of which [CLS] and [SEP] are no words."""
        tokens = self.tokenise(texts)
        full = self._full
        projected = full.proj_t(bert_states(full.lm_model, tokens)[0].transpose(1, 2))
        return TextEmbedding(projected[:, :, 0], projected, tokens.words, tokens.n_truncated)


class _UNet(nn.Module):
    def __init__(self, encoder: str, widths: Mapping[int, int]):
        super().__init__()
        self.encoder = resnet(encoder)
        self.decoder = _Decoder(widths)
        self.segmentation_head = nn.Sequential(nn.Conv2d(DECODER[1], 1, kernel_size=3, padding=1))


class _Decoder(nn.Module):
    def __init__(self, widths: Mapping[int, int]):
        super().__init__()
        self.blocks = nn.ModuleList()
        incoming = widths[32]
        for stride, outgoing in DECODER.items():
            self.blocks.append(_Block(incoming + widths.get(stride, 0), outgoing))
            incoming = outgoing

    def forward(self, encoded: Mapping[int, Tensor], finest: int) -> dict[int, Tensor]:
        """Stride -> map of each block down to `finest`."""
        maps: dict[int, Tensor] = {}
        decoded = encoded[32]
        for stride, block in zip(DECODER, self.blocks, strict=True):
            if stride < finest:
                break
            decoded = F.interpolate(decoded, scale_factor=2, mode="nearest")
            if stride in encoded:
                decoded = torch.cat([decoded, encoded[stride]], dim=1)
            decoded = block(decoded)
            maps[stride] = decoded
        return maps


class _Block(nn.Module):
    def __init__(self, incoming: int, outgoing: int):
        super().__init__()
        self.conv1 = _conv(incoming, outgoing)
        self.conv2 = _conv(outgoing, outgoing)

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv2(self.conv1(maps))


class _Full(nn.Module):
    def __init__(self, unet: nn.Module, width: int, text: BertConfig):
        super().__init__()
        self.img_model = unet
        self.attnpool = _AttentionPool()
        self.lm_model = bert(text)
        self.proj_v = _projection(nn.Conv2d, nn.BatchNorm2d, width)
        self.proj_t = _projection(nn.Conv1d, nn.BatchNorm1d, text.hidden_size)


class _AttentionPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(GRID**2 + 1, JOINT) / JOINT**0.5)
        self.mhsa = nn.MultiheadAttention(JOINT, HEADS, batch_first=True)
        self.c_proj = nn.Linear(JOINT, JOINT)

    def forward(self, maps: Tensor) -> Tensor:
        tokens = with_mean_first(maps.flatten(2).transpose(1, 2)) + at_grid(self.positional_embedding, maps.shape[-1])
        return self.c_proj(self.mhsa(tokens[:, :1], tokens, tokens, need_weights=False)[0])[:, 0]


def _conv(incoming: int, outgoing: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(incoming, outgoing, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(outgoing), nn.ReLU())


def _projection(convolution: type[nn.Module], norm: type[nn.Module], width: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(width, JOINT, kernel_size=1, bias=False),
        norm(JOINT, affine=False),
        nn.ReLU(),
        convolution(JOINT, JOINT, kernel_size=1, bias=False),
    )
