"""Every tensor is accounted for, and a checkpoint that fits badly is refused."""

from __future__ import annotations

import re
from collections import OrderedDict

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from benchmark.encoders import torchvision as family
from benchmark.encoders.checkpoints import TensorAccount, layout_of, load_checkpoint
from benchmark.errors import CardError, CheckpointError

LOVT = "model_a.encoder.feature_extractor.backbone_layers."


@pytest.fixture(scope="module")
def resnet18():
    """Another ResNet-18 than the ones loaded into, classifier included, with its own BatchNorm statistics."""
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
    return network.state_dict()


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return family.build("resnet18").network


def _save(tmp_path, tensors):
    torch.save(tensors, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def test_plain_torchvision_file_is_loaded_whole_and_the_classifier_ignored(tmp_path, encoder, resnet18):
    account = load_checkpoint(encoder, _save(tmp_path, resnet18), "torchvision", 1.0)
    assert account.counts == {"loaded": 100, "ignored": 2, "missing": 0, "unexpected": 0, "wrong_shape": 0}
    assert account.share_loaded == 1
    assert all(torch.equal(tensor, resnet18[name]) for name, tensor in encoder.state_dict().items())


def test_densenet_file_as_torchvision_publishes_it_is_loaded_whole(tmp_path):
    """Its names have a point that today's modules lack (`denselayer1.norm.1.weight`); torchvision takes it out in its own download."""
    torch.manual_seed(1)
    source = torchvision.models.densenet121(weights=None).state_dict()
    published = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): tensor for name, tensor in source.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in published
    torch.manual_seed(0)
    encoder = family.build("densenet121").network
    account = load_checkpoint(encoder, _save(tmp_path, published), "torchvision", 1.0)
    assert (account.share_loaded, account.unexpected, len(account.ignored)) == (1, (), 2)
    assert all(torch.equal(tensor, source[name]) for name, tensor in encoder.state_dict().items())


def test_lightning_checkpoint_of_lovt_is_loaded_and_its_other_parts_ignored(tmp_path, encoder, resnet18):
    tensors = {LOVT + name: tensor for name, tensor in resnet18.items() if not name.startswith("fc.")}
    others = ("model_b.encoder.x", "ll_attention.norm.weight", "model_a.project_local.norm.weight", "chexpert_bin_scan.weight")
    tensors |= dict.fromkeys(
        (*others, "loss_module.ll_alignments_a.0.pos_weights", "model_a.encoder.global_aggregator.attention.w"), torch.ones(1)
    )
    account = load_checkpoint(encoder, _save(tmp_path, {"epoch": 1, "state_dict": tensors}), "lovt", 1.0)
    assert account.counts == {"loaded": 100, "ignored": 6, "missing": 0, "unexpected": 0, "wrong_shape": 0}
    assert torch.equal(encoder.conv1.weight, resnet18["conv1.weight"])


def test_prefix_can_be_given_in_the_layout(tmp_path, encoder, resnet18):
    tensors = {f"encoder_q.{name}": tensor for name, tensor in resnet18.items()} | {"queue": torch.ones(3)}
    account = load_checkpoint(encoder, _save(tmp_path, tensors), "prefix:encoder_q.", 1.0)
    assert account.counts == {"loaded": 100, "ignored": 2, "missing": 0, "unexpected": 1, "wrong_shape": 0}


def test_wrong_prefix_is_refused_with_the_right_one(tmp_path, encoder, resnet18):
    tensors = {f"encoder_q.{name}": tensor for name, tensor in resnet18.items()}
    with pytest.raises(CheckpointError, match=r"0 of 100.*(?s:.*)prefix:encoder_q\."):
        load_checkpoint(encoder, _save(tmp_path, tensors), "torchvision", 1.0)


def test_less_than_the_minimum_is_refused_and_changes_nothing(tmp_path, encoder, resnet18):
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    part = {name: tensor for name, tensor in resnet18.items() if not name.startswith("layer4.")}
    with pytest.raises(CheckpointError, match="75 of 100") as refused:
        load_checkpoint(encoder, _save(tmp_path, part), "torchvision", 0.9)
    assert "layer4.0.conv1.weight" in str(refused.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert load_checkpoint(encoder, _save(tmp_path, part), "torchvision", 0.7).counts["missing"] == 25


def test_larger_architecture_that_fills_every_tensor_is_refused(tmp_path, encoder):
    """A ResNet-34 holds a ResNet-18 by name and shape."""
    larger = torchvision.models.resnet34(weights=None).state_dict()
    with pytest.raises(CheckpointError, match=r"layer1\.2\.conv1\.weight"):
        load_checkpoint(encoder, _save(tmp_path, larger), "torchvision", 1.0)


def test_other_shapes_are_counted_as_such(tmp_path, encoder, resnet18):
    other = dict(resnet18, **{"conv1.weight": resnet18["conv1.weight"][:, :2]})
    with pytest.raises(CheckpointError, match=r"wrong shape\s+1  conv1\.weight"):
        load_checkpoint(encoder, _save(tmp_path, other), "torchvision", 1.0)
    assert load_checkpoint(encoder, _save(tmp_path, other), "torchvision", 0.99).wrong_shape == ("conv1.weight",)


@pytest.mark.parametrize(
    ("layout", "stem"),
    [("torchvision", "conv1"), ("timm", "patch_embed.proj"), ("clip", "visual.conv1"), ("hf", "embeddings.patch_embeddings.projection")],
)
def test_grey_stem_gives_the_same_on_three_equal_channels_in_every_layout(tmp_path, layout, stem):
    torch.manual_seed(0)
    grey = nn.Conv2d(1, 4, 3)
    encoder = _nested(stem, nn.Conv2d(3, 4, 3))
    account = load_checkpoint(
        encoder, _save(tmp_path, {f"{stem}.{name}": tensor for name, tensor in grey.state_dict().items()}), layout, 1.0
    )
    assert (account.share_loaded, account.resampled) == (1, (f"{stem}.weight",))
    image = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(encoder.get_submodule(stem)(image.expand(-1, 3, -1, -1)), grey(image))


def _nested(name, module):
    for part in reversed(name.split(".")):
        outer = nn.Module()
        outer.add_module(part, module)
        module = outer
    return module


SMALL = {"conv.weight": torch.randn(4, 3, 3, 3), "norm.weight": torch.randn(4), "norm.bias": torch.randn(4)}


def _small():
    torch.manual_seed(5)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3, bias=False), norm=nn.GroupNorm(2, 4)))


def test_file_with_several_sets_is_refused_until_one_is_named_and_the_account_says_which(tmp_path):
    averaged = {name: tensor + 1 for name, tensor in SMALL.items()}
    path = _save(tmp_path, {"state_dict": SMALL, "state_dict_ema": averaged})
    encoder = _small()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"'state_dict' .*'state_dict_ema' .*--container state_dict_ema"):
        load_checkpoint(encoder, path, "torchvision", 1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    account = load_checkpoint(encoder, path, "torchvision", 1.0, "state_dict_ema")
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in encoder.state_dict().items())
    assert (account.container, account.other_sets, account.counts["other_sets"]) == ("state_dict_ema", ("state_dict",), 1)
    assert "container           state_dict_ema" in account.table()


def test_second_copy_under_names_of_its_own_is_refused_until_the_layout_says_which(tmp_path):
    both = SMALL | {f"ema.{name}": tensor + 1 for name, tensor in SMALL.items()}
    path = _save(tmp_path, both)
    with pytest.raises(CheckpointError, match=r"twice.*'ema\.'.*--layout prefix: or --layout prefix:ema\."):
        load_checkpoint(_small(), path, "torchvision", 1.0)
    for layout, prefix in (("prefix:", ""), ("prefix:ema.", "ema.")):
        encoder = _small()
        load_checkpoint(encoder, path, layout, 1.0)
        assert all(torch.equal(tensor, both[prefix + name]) for name, tensor in encoder.state_dict().items())
    same = _save(tmp_path, SMALL | {f"ema.{name}": tensor for name, tensor in SMALL.items()})
    assert load_checkpoint(_small(), same, "torchvision", 1.0).share_loaded == 1


def test_an_average_of_parameters_alone_beside_the_raw_network_is_a_second_copy(tmp_path, resnet18, encoder):
    """A third of a ResNet's tensors are BatchNorm's statistics, of which such an average holds none."""
    raw = {name: tensor for name, tensor in resnet18.items() if not name.startswith("fc.")}
    parameters = {name for name, _ in encoder.named_parameters()}
    averaged = {f"ema.{name}": tensor + 1 for name, tensor in raw.items() if name in parameters}
    path = _save(tmp_path, raw | averaged)
    with pytest.raises(CheckpointError, match=r"twice.*'ema\.'.*--layout prefix: or --layout prefix:ema\."):
        load_checkpoint(encoder, path, "torchvision", 1.0)
    load_checkpoint(encoder, path, "prefix:", 1.0)
    assert torch.equal(encoder.state_dict()["conv1.weight"], raw["conv1.weight"])


def test_two_tensors_that_are_one_of_the_encoder_are_refused_by_both_names(tmp_path):
    encoder = nn.Sequential(OrderedDict(denselayer1=nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 3, bias=False)))))
    old, new = "denselayer1.conv.1.weight", "denselayer1.conv1.weight"
    before = encoder.state_dict()[new].clone()
    twice = rf"holds {re.escape(new)} twice: as {re.escape(old)} and as {re.escape(new)}\. Only its author knows"
    for second in (torch.ones(4, 3, 3, 3), torch.ones(4, 3, 1, 1), torch.zeros(4, 3, 3, 3, dtype=torch.float16)):
        with pytest.raises(CheckpointError, match=twice):
            load_checkpoint(encoder, _save(tmp_path, {old: torch.full((4, 3, 3, 3), 2.0), new: second}), "torchvision", 1.0)
        assert torch.equal(encoder.state_dict()[new], before)
    same = {old: torch.full((4, 3, 3, 3), 2.0), new: torch.full((4, 3, 3, 3), 2.0)}
    assert load_checkpoint(encoder, _save(tmp_path, same), "torchvision", 1.0).counts["loaded"] == 1


def test_a_tensor_beside_its_own_pieces_is_refused_by_both_names(tmp_path):
    encoder = nn.Sequential(OrderedDict(blocks=nn.ModuleList([_nested("attn.qkv", nn.Linear(2, 6, bias=False))])))
    given = {f"transformer.encoder.layer.0.attn.{part}.weight": torch.ones(2, 2) for part in ("query", "key", "value")}
    assert load_checkpoint(encoder, _save(tmp_path, given), "refers", 1.0).share_loaded == 1
    whole = "transformer.blocks.0.attn.qkv.weight"
    with pytest.raises(CheckpointError, match=rf"holds blocks\.0\.attn\.qkv\.weight twice: as {re.escape(whole)} and as "):
        load_checkpoint(encoder, _save(tmp_path, given | {whole: torch.zeros(6, 2)}), "refers", 1.0)


@pytest.mark.parametrize("form", ["safetensors", "pytorch"])
def test_weight_matrices_of_zeros_are_an_interrupted_download(tmp_path, form, resnet18, encoder):
    tensors = {name: tensor.clone() for name, tensor in resnet18.items() if not name.startswith("fc.")}
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    if form == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(tensors, path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    else:
        path = _save(tmp_path, tensors | {"layer4.1.conv2.weight": torch.zeros(512, 512, 3, 3)})
    with pytest.raises(CheckpointError, match=r"\d+ weight matrices are all zeros \(first: layer\d\S+weight\): is the download complete\?"):
        load_checkpoint(encoder, path, "torchvision", 1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_zeros_that_training_may_leave_are_loaded(tmp_path):
    """Scales of a residual branch; a matrix that was zero before training; RoBERTa's types of a text."""

    def made() -> nn.Module:
        parts = {
            "conv": nn.Conv2d(3, 4, 3),
            "norm": nn.GroupNorm(2, 4),
            "adapter": nn.Linear(4, 4),
            "token_type_embeddings": nn.Embedding(1, 4),
        }
        nn.init.zeros_(parts["adapter"].weight)
        return nn.Sequential(OrderedDict(parts))

    tensors = made().state_dict() | {"norm.weight": torch.zeros(4), "token_type_embeddings.weight": torch.zeros(1, 4)}
    assert load_checkpoint(made(), _save(tmp_path, tensors), "torchvision", 1.0).share_loaded == 1


TWO = {"one": SMALL, "other": {name: tensor + 1 for name, tensor in SMALL.items()}}


def _under(prefix: str, which: str = "one") -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in TWO[which].items()}


@pytest.mark.parametrize("other", ["vit_ema.", "teacher.vit.", "deit.", ""])
def test_second_copy_beside_a_prefix_that_was_tried_is_refused_until_the_layout_says_which(tmp_path, other):
    """The first of two prefixes of the layout's own that are equally full would win, and any of them over the author's."""
    path = _save(tmp_path, _under("vit.") | _under(other, "other"))
    with pytest.raises(CheckpointError, match=r"weights\.pt holds the encoder twice: .* Choose with --layout prefix:") as refused:
        load_checkpoint(_small(), path, "hf", 1.0)
    assert all(f"--layout prefix:{prefix}" in str(refused.value) for prefix in ("vit.", other))
    for prefix, which in (("vit.", "one"), (other, "other")):
        encoder = _small()
        load_checkpoint(encoder, path, f"prefix:{prefix}", 1.0)
        assert all(torch.equal(tensor, TWO[which][name]) for name, tensor in encoder.state_dict().items())
    same = _save(tmp_path, _under("vit.") | _under(other))
    assert load_checkpoint(_small(), same, "hf", 1.0).share_loaded == 1


def test_second_copy_under_names_that_the_layout_changes_is_refused(tmp_path):
    encoder = _nested("stem", nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3, bias=False), norm=nn.GroupNorm(2, 4))))
    released = {"convs.0.proj.weight": "conv.weight", "convs.0.norm.weight": "norm.weight", "convs.0.norm.bias": "norm.bias"}
    one = {f"image_encoder.{theirs}": SMALL[name] for theirs, name in released.items()}
    other = {f"image_encoder_ema.{theirs}": SMALL[name] + 1 for theirs, name in released.items()}
    with pytest.raises(CheckpointError, match=r"twice: with 'image_encoder\.' .*'image_encoder_ema\.' .*Save that one"):
        load_checkpoint(encoder, _save(tmp_path, one | other), "medimageinsight", 1.0)
    assert load_checkpoint(encoder, _save(tmp_path, one), "medimageinsight", 1.0).share_loaded == 1


@pytest.mark.parametrize(
    ("layout", "own", "other"),
    [
        ("hf", "vision_model.", "text_model."),  # SigLIP: the blocks of both towers have the same shapes
        ("mgca", "img_encoder_q.model.", "img_encoder_k.model."),  # the layout's one prefix says which
    ],
)
def test_another_tower_that_the_layout_tells_apart_is_no_second_copy(tmp_path, layout, own, other):
    encoder = _small()
    load_checkpoint(encoder, _save(tmp_path, _under(own) | _under(other, "other")), layout, 1.0)
    assert all(torch.equal(tensor, SMALL[name]) for name, tensor in encoder.state_dict().items())


def test_student_and_teacher_under_names_of_their_own_are_both_named(tmp_path):
    both = {f"{who}.{name}": tensor for who in ("student", "teacher") for name, tensor in SMALL.items()}
    with pytest.raises(CheckpointError, match=r"--layout prefix:student\..*'teacher\.'"):
        load_checkpoint(_small(), _save(tmp_path, both), "torchvision", 1.0)


NO_WEIGHTS = {
    "whole numbers": lambda t: (t * 10).to(torch.int8),
    "whole numbers (torch.bool)": lambda t: t > 0,
    "complex": lambda t: t.to(torch.complex64),
    "sparse": lambda t: t.to_sparse(),
    "sparse or nested (torch.sparse_csr)": lambda t: t.flatten(1).to_sparse_csr(),
    "quantised": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
    "no values": lambda t: t.to("meta"),
    "8 bits": lambda t: t.to(torch.float8_e4m3fn),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_tensor_that_is_no_plain_floating_one_is_refused_by_name(tmp_path, kind):
    broken = SMALL | {"conv.weight": NO_WEIGHTS[kind](SMALL["conv.weight"])}
    with pytest.raises(CheckpointError, match=rf"tensor conv\.weight .*{re.escape(kind)}"):
        load_checkpoint(_small(), _save(tmp_path, broken), "torchvision", 1.0)


def test_a_count_of_batches_with_a_fraction_is_refused_by_name(tmp_path, encoder, resnet18):
    whole = dict(resnet18, **{"bn1.num_batches_tracked": torch.tensor(3.0)})
    assert load_checkpoint(encoder, _save(tmp_path, whole), "torchvision", 1.0).share_loaded == 1
    assert encoder.bn1.num_batches_tracked.item() == 3
    broken = dict(resnet18, **{"bn1.num_batches_tracked": torch.tensor(0.5)})
    with pytest.raises(CheckpointError, match=r"tensor bn1\.num_batches_tracked .*holds fractions where the encoder takes torch\.int64"):
        load_checkpoint(encoder, _save(tmp_path, broken), "torchvision", 1.0)


def test_a_layer_saved_without_its_axes_of_length_one_is_the_same_layer(tmp_path):
    weight = torch.randn(4, 3)
    encoder = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 1, bias=False)))
    account = load_checkpoint(encoder, _save(tmp_path, {"conv.weight": weight}), "torchvision", 1.0)
    assert (account.share_loaded, account.resampled) == (1, ())
    assert torch.equal(encoder.conv.weight[:, :, 0, 0], weight)


def test_a_table_of_positions_of_no_square_grid_has_a_wrong_shape(tmp_path):
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.pos_embed, self.norm = nn.Parameter(torch.zeros(1, 50, 8)), nn.LayerNorm(8)

    file = _save(tmp_path, {"pos_embed": torch.randn(1, 11, 8), "norm.weight": torch.randn(8), "norm.bias": torch.randn(8)})
    assert load_checkpoint(Positions(), file, "torchvision", 0.5).wrong_shape == ("pos_embed",)
    with pytest.raises(CheckpointError, match=r"wrong shape\s+1  pos_embed"):
        load_checkpoint(Positions(), file, "torchvision", 1.0)


def test_half_and_double_precision_are_loaded_and_a_double_beyond_float32_is_refused(tmp_path):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        encoder = _small()
        load_checkpoint(encoder, _save(tmp_path, {name: tensor.to(dtype) for name, tensor in SMALL.items()}), "torchvision", 1.0)
        assert torch.equal(encoder.conv.weight, SMALL["conv.weight"].to(dtype).float())
    with pytest.raises(CheckpointError, match=r"norm\.bias .*range of torch\.float32"):
        load_checkpoint(_small(), _save(tmp_path, SMALL | {"norm.bias": torch.full((4,), 1e200, dtype=torch.float64)}), "torchvision", 1.0)


def test_share_is_never_rounded_up_to_all():
    account = TensorAccount(loaded=tuple(map(str, range(603))), missing=("one",))
    with pytest.raises(CheckpointError, match=r"603 of 604 encoder tensors \(99%\).* demands 99\.9%") as refused:
        account.require(0.999)
    assert "100%" not in str(refused.value)


@pytest.mark.parametrize("statistic", ["running_mean", "running_var"])
def test_missing_batchnorm_statistics_are_refused_at_any_minimum(tmp_path, encoder, resnet18, statistic):
    without = {name: tensor for name, tensor in resnet18.items() if name != f"layer2.0.bn1.{statistic}"}
    with pytest.raises(CheckpointError, match=rf"{statistic}.*layer2\.0\.bn1"):
        load_checkpoint(encoder, _save(tmp_path, without), "torchvision", 0.1)


def test_missing_batch_counters_are_no_loss(tmp_path, encoder, resnet18):
    without = {name: tensor for name, tensor in resnet18.items() if not name.endswith("num_batches_tracked")}
    assert load_checkpoint(encoder, _save(tmp_path, without), "torchvision", 1.0).share_loaded == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tensor_that_is_not_finite_is_refused(tmp_path, encoder, resnet18, value):
    broken = dict(resnet18, **{"layer3.0.conv1.weight": resnet18["layer3.0.conv1.weight"].clone()})
    broken["layer3.0.conv1.weight"][0, 0, 0, 0] = value
    with pytest.raises(CheckpointError, match=r"NaN or infinity.*layer3\.0\.conv1\.weight"):
        load_checkpoint(encoder, _save(tmp_path, broken), "torchvision", 1.0)


def test_loading_what_is_already_there_is_refused(tmp_path, encoder):
    with pytest.raises(CheckpointError, match="changed no tensor"):
        load_checkpoint(encoder, _save(tmp_path, encoder.state_dict()), "torchvision", 1.0)


def test_file_of_another_architecture_says_that_nothing_fits(tmp_path, encoder):
    with pytest.raises(CheckpointError, match="another architecture"):
        load_checkpoint(encoder, _save(tmp_path, {"blocks.0.attn.qkv.weight": torch.ones(3, 3)}), "torchvision", 0.0)


def test_unknown_layout_names_the_known():
    with pytest.raises(CardError, match="lovt"):
        layout_of("lovtt")


def test_account_of_nothing_has_share_zero():
    account = TensorAccount()
    assert account.share_loaded == 0
    assert set(account.counts.values()) == {0}
