"""Files of the documented layouts load completely into the five methods' encoders, and into nothing else.

Every file is made from the documented list of names with random values; the encoder is then compared with an independent construction of
the same weights. Small ResNets and BERTs stand for the large ones: names and shapes follow from the same rules, and the documented counts
are checked on shapes alone.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torchvision
import transformers

from benchmark.cards import IMAGENET
from benchmark.encoders import conformance, g2d, gloria, lovt, prior
from benchmark.encoders import torchvision as resnets
from benchmark.encoders.checkpoints import load_checkpoint
from benchmark.encoders.layouts import layout_of
from benchmark.encoders.sealed import SealedEncoder
from benchmark.encoders.text import Tokenizer
from benchmark.errors import CheckpointError, UsageError

BERT = transformers.BertConfig(vocab_size=16, hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "pneumo", "##thorax", "mild", "edema", "left", "lung", ".", "effusion"]
ROOT = Path(__file__).resolve().parents[2]
LOVT = "model_a.encoder.feature_extractor.backbone_layers."


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    transformers.BertConfig(vocab_size=len(WORDS)).save_pretrained(folder)  # a folder as Bio_ClinicalBERT's: configuration and vocabulary
    return lambda length: Tokenizer(folder, length)


@pytest.fixture(scope="module")
def source():
    """torchvision's own ResNet-18 with random statistics: the independent construction."""
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    network.fc = torch.nn.Identity()
    return network.eval()


def _random_like(network, prefix=""):
    generator = torch.Generator().manual_seed(3)
    return {
        prefix + name: torch.rand(tensor.shape, generator=generator) * 0.1 + 0.01 if tensor.is_floating_point() else tensor.clone()
        for name, tensor in network.state_dict().items()
    }


def _saved(tmp_path, content):
    torch.save(content, tmp_path / "weights.ckpt")
    return tmp_path / "weights.ckpt"


def _equal_features(backbone, source, images=None):
    images = torch.randn(2, 3, 64, 64) if images is None else images
    with torch.no_grad():
        deepest = backbone.eval().pyramid(images, (32,))[32]
        reference = torch.nn.Sequential(*list(source.children())[:-2])(images)
    torch.testing.assert_close(deepest, reference, atol=1e-6, rtol=1e-6)


FILES = {  # layout: how the method's file wraps and names the ResNet, and other tensors documented beside it
    "gloria": (
        lambda: gloria.Gloria("resnet18"),
        "state_dict",
        "gloria.img_encoder.model.",
        ("gloria.text_encoder.model.pooler.dense.bias",),
    ),
    "g2d": (lambda: g2d.G2D("resnet18"), "model_state_dict", "img_model.encoder.", ("pseudo_conv.bias", "lm_model.pooler.dense.bias")),
    "lovt": (lambda: resnets.build("resnet18"), "state_dict", LOVT, ("model_b.encoder.x", "chexpert_bin_scan.weight")),
}


def _file_of(layout, source):
    build, wrapper, prefix, others = FILES[layout]
    torch.manual_seed(0)
    backbone = build()
    tensors = {prefix + name: tensor for name, tensor in source.state_dict().items()} | dict.fromkeys(others, torch.ones(1))
    if layout == "gloria":
        embedders = {n: t for n, t in _random_like(backbone.network, "gloria.").items() if "embedder" in n}
        tensors |= embedders
    return backbone, {wrapper: tensors, "epoch": 1}, prefix


@pytest.mark.parametrize("layout", sorted(FILES))
def test_file_of_the_documented_layout_loads_whole_and_equals_torchvision(tmp_path, source, layout):
    backbone, content, _ = _file_of(layout, source)
    account = load_checkpoint(backbone.network, _saved(tmp_path, content), layout, 1.0)
    assert account.share_loaded == 1
    assert account.unexpected == ()
    _equal_features(backbone, source)


@pytest.mark.parametrize("layout", sorted(FILES))
def test_renamed_prefix_is_refused_with_the_account(tmp_path, source, layout):
    backbone, content, prefix = _file_of(layout, source)
    (wrapper,) = content.keys() - {"epoch"}
    renamed = {wrapper: {name.replace(prefix, "other." + prefix): tensor for name, tensor in content[wrapper].items()}}
    with pytest.raises(CheckpointError, match=r"(?s)loaded .*missing .*unexpected"):
        load_checkpoint(backbone.network, _saved(tmp_path, renamed), layout, 1.0)


@pytest.mark.parametrize("layout", sorted(FILES))
def test_missing_layer_is_refused_by_name(tmp_path, source, layout):
    backbone, content, prefix = _file_of(layout, source)
    (wrapper,) = content.keys() - {"epoch"}
    del content[wrapper][prefix + "layer3.1.conv2.weight"]
    with pytest.raises(CheckpointError, match=r"layer3\.1\.conv2\.weight"):
        load_checkpoint(backbone.network, _saved(tmp_path, content), layout, 1.0)


@pytest.mark.parametrize("layout", ["gloria", "g2d"])
def test_layer_too_many_under_the_prefix_is_refused(tmp_path, source, layout):
    backbone, content, prefix = _file_of(layout, source)
    (wrapper,) = content.keys() - {"epoch"}
    content[wrapper][prefix + "layer5.0.conv1.weight"] = torch.ones(1)
    with pytest.raises(CheckpointError, match=r"larger or different architecture"):
        load_checkpoint(backbone.network, _saved(tmp_path, content), layout, 1.0)


# ------------------------------------------------------------------------------------------------------------ PRIOR's stem


@pytest.mark.parametrize("prefix", ["", "encoder.", "image_encoder.encoder."])
def test_prior_reads_one_channel_and_equals_the_same_resnet_on_three(tmp_path, source, prefix):
    """The released stem is the sum of the RGB kernels; on grey images the two are the same function."""
    tensors = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    tensors[prefix + "conv1.weight"] = source.conv1.weight.detach().sum(dim=1, keepdim=True)
    backbone = prior.Prior("resnet18")
    account = load_checkpoint(backbone.network, _saved(tmp_path, tensors), "prior", 1.0)
    assert account.counts["loaded"] == 100
    assert backbone.network.conv1.weight.shape == (64, 1, 7, 7)
    # In double precision: the sum of three kernels is rounded once more than three sums.
    grey = torch.randn(2, 1, 64, 64, dtype=torch.float64).expand(-1, 3, -1, -1)
    rgb = copy.deepcopy(source).double()
    rgb.conv1.weight.data = backbone.network.conv1.weight.data.double().repeat(1, 3, 1, 1) / 3
    with torch.no_grad():
        reference = torch.nn.Sequential(*list(rgb.children())[:-2])(grey)
        torch.testing.assert_close(backbone.double().eval().pyramid(grey, (32,))[32], reference, atol=1e-6, rtol=1e-6)


def test_prior_takes_a_stem_of_three_channels_as_their_sum(tmp_path, source):
    backbone = prior.Prior("resnet18")
    load_checkpoint(backbone.network, _saved(tmp_path, source.state_dict()), "prior", 1.0)
    torch.testing.assert_close(backbone.network.conv1.weight, source.conv1.weight.sum(dim=1, keepdim=True))
    conformance.check(SealedEncoder(backbone, IMAGENET), 64)


# --------------------------------------------------------------------------------------------- whole files with their text


WHOLE = {
    "gloria": (lambda: gloria.Gloria("resnet18", BERT), "gloria", "gloria."),
    "prior": (lambda: prior.Prior("resnet18", BERT), "prior-text", ""),
    "g2d": (lambda: g2d.G2D("resnet18", decoder=True, text=BERT), "g2d-text", ""),
    "lovt": (lambda: lovt.Lovt("lovt", "resnet18", BERT), "lovt-text", ""),
    "convirt": (lambda: lovt.Lovt("convirt", "resnet18", BERT), "lovt-text", ""),
    "clip": (lambda: lovt.Lovt("clip", "resnet18", BERT), "lovt-text", ""),
}


@pytest.fixture(params=sorted(WHOLE))
def whole(request, tmp_path):
    build, layout, prefix = WHOLE[request.param]
    torch.manual_seed(0)
    backbone = build()
    return request.param, backbone, layout, _random_like(backbone.network, prefix), tmp_path


def test_whole_file_loads_strictly_and_one_tensor_less_does_not(whole):
    _, backbone, layout, tensors, tmp_path = whole
    account = load_checkpoint(backbone.network, _saved(tmp_path, {"state_dict": tensors}), layout, 1.0)
    assert account.share_loaded == 1
    assert not account.unexpected
    gone = next(name for name in tensors if "layer.2.output.dense.weight" in name)
    less = {name: tensor for name, tensor in tensors.items() if name != gone}
    with pytest.raises(CheckpointError, match=r"layer\.2\.output\.dense\.weight"):
        load_checkpoint(backbone.network, _saved(tmp_path, {"state_dict": less}), layout, 1.0)


def test_both_sides_meet_in_one_space_and_padding_changes_nothing(whole, tokenizer):
    _, backbone, *_ = whole
    backbone.eval()
    backbone.tokenizer = tokenizer(97)
    # Tables of positions are those of 224 px (7 x 7) and 256 px; other sizes are interpolated.
    images = torch.randn(2, 3, 96, 96)
    long = "No pneumothorax. Mild edema left lung. No effusion."
    assert "##thorax" in backbone.tokenizer([long]).pieces[0]
    with torch.no_grad():
        seen, alone = backbone.embed_images(images), backbone.embed_texts(["Mild edema."])
        together = backbone.embed_texts(["Mild edema.", long])
        scores = backbone.similarity(seen, together)
        backbone.tokenizer = tokenizer(6)
        cut = backbone.embed_texts(["Mild edema.", long])
    assert (together.n_truncated, cut.n_truncated) == (0, 1)
    assert scores.shape == (2, 2)
    assert scores.isfinite().all()
    assert seen.global_.shape[1] == seen.local.shape[1] == together.global_.shape[1] == together.local.shape[1]
    assert together.mask.shape == (2, together.local.shape[2])
    torch.testing.assert_close(together.global_[0], alone.global_[0], atol=1e-5, rtol=1e-4)  # whatever texts stand beside it


def test_text_without_a_tokenizer_is_a_sentence(whole):
    with pytest.raises(UsageError, match="tokenizer"):
        whole[1].embed_texts(["edema"])


# --------------------------------------------------------------------------------------------------------- documented sizes


def test_documented_counts_of_tensors_and_parameters():
    with torch.device("meta"):
        encoder = resnets.resnet("resnet50")
        images, whole = gloria.build("resnet50"), gloria.build("resnet50+text")
        unet = g2d.build("unet")
        stem = prior.build("resnet50")
    assert len(encoder.state_dict()) == 318
    assert sum(p.numel() for p in encoder.parameters()) == 23_508_032
    assert sum(p.numel() for p in images.network.img_encoder.global_embedder.parameters()) == 1_573_632
    assert sum(p.numel() for p in images.network.img_encoder.local_embedder.parameters()) == 786_432
    assert len(whole.network.state_dict()) == 521 - 1  # without BERT's buffer of positions, which newer libraries do not keep
    assert len(unet.network.state_dict()) == 380
    assert sum(p.numel() for p in unet.network.parameters()) == 32_521_105
    assert unet.network.decoder.blocks[0].conv1[0].weight.shape == (256, 3072, 3, 3)
    assert stem.network.conv1.weight.shape == (64, 1, 7, 7)
    assert len(stem.network.state_dict()) == 318


def test_unet_equals_the_library_whose_names_it_has():
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    reference = smp.Unet("resnet18", encoder_weights=None).eval()
    backbone = g2d.G2D("resnet18", decoder=True).eval()
    backbone.network.load_state_dict(reference.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        encoded = resnets.run_levels(reference.encoder, backbone.levels, images, (2, 4, 8, 16, 32))
        logits = backbone.network.segmentation_head(backbone.network.decoder(encoded, finest=1)[1])
        torch.testing.assert_close(logits, reference(images), atol=1e-6, rtol=1e-6)
    assert backbone.spec.strides == {32: 512, 16: 256, 8: 128, 4: 64, 2: 32}
    conformance.check(SealedEncoder(backbone, IMAGENET), 64)


def test_layouts_of_whole_files_drop_an_old_librarys_buffer_of_positions(tmp_path):
    backbone = gloria.Gloria("resnet18", BERT)
    tensors = _random_like(backbone.network, "gloria.") | {"gloria.text_encoder.model.embeddings.position_ids": torch.arange(512)[None]}
    account = load_checkpoint(backbone.network, _saved(tmp_path, tensors), "gloria", 1.0)
    assert account.ignored == ("gloria.text_encoder.model.embeddings.position_ids",)
    assert layout_of("gloria").closed
