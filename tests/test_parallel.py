"""Processes or micro-batches that share each batch train the network one process trains: in float64, ragged last batch included."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, nn

from benchmark import generators, parallel, registry
from benchmark.cards import POOLED
from benchmark.errors import TrainingError
from benchmark.generators import seed_all
from benchmark.heads.base import HeadRequest, Targets, seeded_init
from benchmark.registry import plugin
from benchmark.training.checkpoint import Checkpoint, TrainingState
from benchmark.training.micro_batches import losses_of_pieces
from benchmark.training.model import Model

SIZE, CLASSES = 64, 2
CHANNELS = {2: 4, 4: 8, 8: 8, 16: 8, 32: 16}
EVERY = ["unet", "smp_unet", "yolov3", "faster_rcnn", "classifier", "softmax_classifier"]

pytestmark = pytest.mark.usefixtures("narrow_heads")


class Encoder(nn.Module):
    """Five strided convolutions with BatchNorm, fine-tuned with the head."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList()
        incoming = 3
        for width in CHANNELS.values():
            self.stages.append(nn.Sequential(nn.Conv2d(incoming, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()))
            incoming = width
        self.unused = nn.Linear(2, 2)  # like the classifier left on a backbone: it keeps no gradient, and so no weight decay

    def forward(self, images):
        maps = {}
        for stride, stage in zip(CHANNELS, self.stages, strict=True):
            images = stage(images)
            maps[stride] = images
        return {**maps, POOLED: images.mean(dim=(2, 3), keepdim=True)}


def batches(n_steps: int, batch: int, ragged: int) -> list[np.ndarray]:
    """Indices of each step; the last of every fifth is ragged, as at the end of an epoch."""
    draws = np.random.default_rng(3)
    return [draws.permutation(16)[: ragged if step % 5 == 4 else batch] for step in range(n_steps)]


def targets_of(name: str, index: np.ndarray, masks: torch.Tensor, boxes: torch.Tensor) -> Targets:
    if name in ("unet", "smp_unet"):
        return Targets(masks=masks[index])
    if name == "softmax_classifier":
        return Targets(labels=torch.eye(CLASSES)[index % CLASSES])
    if name == "classifier":  # -1 is unknown: images differ in how many labels count
        return Targets(labels=torch.from_numpy(np.stack([index % 3 - 1, (index % 5 > 1) * 1], axis=1)).float())
    labels = torch.from_numpy(index % CLASSES)[:, None].expand(-1, 2)
    valid = torch.from_numpy(np.stack([index % 3 != 0, index % 2 == 0], axis=1))
    draws = tuple((0, int(i)) for i in index)
    return Targets(boxes_xywh=boxes[index], box_labels=labels, box_valid=valid, draws=draws)


class OnTensors(Model):
    """A model whose images, and a part whose targets, are tensors."""

    def __init__(self, name, encoder, head, most, images, masks, boxes):
        super().__init__(encoder, head, None, torch.device("cpu"), most)
        self.name, self.images, self.masks, self.boxes = name, images, masks, boxes

    def outputs_at_once(self, part, index):
        assert self.most is None or len(index) <= self.most
        return self.head(self.encoder(self.images[index]), self.images[index])

    def targets(self, index, device):
        return targets_of(self.name, index, self.masks, self.boxes)


def trained(
    name: str,
    n_steps: int,
    dtype: torch.dtype,
    batch: int = 8,
    ragged: int = 3,
    most: int | None = None,
    batchnorm_trains: bool = True,
    warmup: int = 0,
) -> dict:
    """Losses, first gradients and final parameters after some steps of the loop's own arithmetic."""
    torch.set_num_threads(1)
    torch.manual_seed(5)
    # Coarse patterns, not noise: deep maps of noise hardly vary, and BatchNorm enlarges what rounding leaves of them.
    patterns = torch.rand(16, 3, 4, 4, dtype=torch.float64)
    images = nn.functional.interpolate(patterns, size=(SIZE, SIZE), mode="bilinear").to(dtype)  # the same for every dtype
    masks = (torch.rand(16, CLASSES, SIZE, SIZE) > 0.8).float()
    masks[4:9] = 0  # some shares of a batch hold no positive pixel
    boxes = torch.rand(16, 2, 4) * 30 + 2
    encoder = Encoder()
    request = HeadRequest(CHANNELS, CLASSES, SIZE, registry.protocol("published").switches, embed_dim=CHANNELS[32])
    head = seeded_init(lambda: plugin("heads", name).build(request), 7)
    model = nn.ModuleList([encoder, head]).to(dtype)
    for layer in model.modules():
        layer.training = batchnorm_trains or not isinstance(layer, nn.BatchNorm2d)
    parallel.with_global_batchnorm(model)
    whole = OnTensors(name, encoder, head, most, images, masks, boxes)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-2)
    losses, first = [], []
    for step, index in enumerate(batches(n_steps, batch, ragged)):
        encoder.requires_grad_(step >= warmup)
        optimiser.zero_grad(set_to_none=True)
        parts = []
        for loss in losses_of_pieces(whole, whole, index, contextlib.nullcontext):
            loss.backward()
            parts.append(loss.detach())
        first = first or [p.grad.clone() for p in model.parameters() if p.grad is not None]
        optimiser.step()
        losses.append(float(parallel.total(torch.stack(parts).sum())))
    return {"losses": losses, "gradients": first, "state": dict(model.state_dict())}


@contextlib.contextmanager
def joined(rank: int, size: int, port: int) -> Iterator[None]:
    """Connects processes as Ray Train would."""
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def one_of(rank: int, size: int, port: int, file: str, arguments: tuple) -> None:
    with joined(rank, size, port):
        found = trained(*arguments)
    if rank == 0:
        torch.save(found, file)


def together(folder: Path, *arguments, size: int = 2) -> dict:
    """What the leader of `size` processes holds in the end."""
    return run_all(one_of, folder, arguments, size)


def run_all(target, folder: Path, arguments: tuple, size: int) -> dict:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    torch.set_num_threads(1)  # before the fork: no thread of a pool is lost in it
    file = folder / "found.pt"
    processes = [fork.Process(target=target, args=(rank, size, port, str(file), arguments)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
        assert process.exitcode == 0
    return torch.load(file, weights_only=True)


def within(name: str, exact: float) -> float:
    """How far apart a head's numbers may lie: torch takes the cross-entropy of mmdet's anchors in float32 for every input."""
    return 1e-6 if name == "faster_rcnn" else exact


def compare(one: dict, two: dict) -> tuple[float, float]:
    """Largest difference of losses, and of parameters and statistics."""
    assert one["state"].keys() == two["state"].keys()
    losses = max(abs(a - b) for a, b in zip(one["losses"], two["losses"], strict=True))
    return losses, max(float((one["state"][name].double() - two["state"][name].double()).abs().max()) for name in one["state"])


@pytest.mark.parametrize("name", EVERY)
def test_two_processes_equal_one_in_float64(name: str, tmp_path: Path):
    one = trained(name, 5, torch.float64)
    assert all(np.isfinite(one["losses"]))
    assert one["losses"][0] != one["losses"][1]
    losses, parameters = compare(one, together(tmp_path, name, 5, torch.float64))
    assert losses < within(name, 1e-8)
    assert parameters < within(name, 1e-8)


@pytest.mark.parametrize("name", EVERY)
def test_a_last_batch_of_one_image_leaves_a_process_without_any(name: str, tmp_path: Path):
    arguments = (name, 5, torch.float64, 8, 1)
    losses, parameters = compare(trained(*arguments), together(tmp_path, *arguments))
    assert max(losses, parameters) < within(name, 1e-8)


def test_an_encoder_that_thaws_after_the_warm_up_is_exchanged_from_then_on(tmp_path: Path):
    arguments = ("unet", 5, torch.float64, 8, 3, None, True, 2)
    one = trained(*arguments)
    moved = compare(one, trained(*arguments[:-1], 5))[1]
    assert moved > 1e-3  # the encoder did thaw
    assert max(compare(one, together(tmp_path, *arguments))) < 1e-8


def test_without_sharing_statistics_the_difference_would_be_seen(tmp_path: Path, monkeypatch):
    one = trained("unet", 5, torch.float64)
    monkeypatch.setattr(parallel, "with_global_batchnorm", lambda module: module)
    losses, _ = compare(one, together(tmp_path, "unet", 5, torch.float64))
    assert losses > 1e-6


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("batch", "most"), [(8, 1), (8, 3), (5, 4), (2, 4)])
def test_micro_batches_have_the_gradients_of_the_batch(name: str, batch: int, most: int):
    arguments = (name, 1, torch.float64, batch, 0)
    one, pieces = trained(*arguments, batchnorm_trains=False), trained(*arguments, most, batchnorm_trains=False)
    assert pieces["losses"] == pytest.approx(one["losses"], abs=within(name, 1e-10))
    assert max(float(g.abs().max()) for g in one["gradients"]) > 1e-3
    for g, other in zip(one["gradients"], pieces["gradients"], strict=True):
        assert float((g - other).abs().max()) < within(name, 1e-10)


@pytest.mark.parametrize("name", EVERY)
def test_micro_batches_in_each_of_two_processes_equal_one_batch(name: str, tmp_path: Path):
    """5 and 4 images in one and in two pieces, then a last batch of one: a process has none."""
    arguments = (name, 5, torch.float64, 9, 1)
    one, two = trained(*arguments, None, False), together(tmp_path, *arguments, 4, False)
    assert max(compare(one, two)) < within(name, 1e-8)


def test_micro_batches_with_batchnorm_would_train_another_network():
    one, pieces = trained("unet", 1, torch.float64), trained("unet", 1, torch.float64, most=4)
    assert abs(one["losses"][0] - pieces["losses"][0]) > 1e-6


def failing(rank: int, size: int, port: int, file: str, arguments: tuple) -> None:
    with joined(rank, size, port):
        seen = parallel.led(lambda: "from the leader")
        try:
            parallel.led(lambda: 1 / 0)
        except (ZeroDivisionError, TrainingError) as error:
            text = f"{seen}: {type(error).__name__}: {error}"
    if rank == 1:
        torch.save({"text": text}, file)


def test_what_fails_at_the_leader_fails_everywhere_with_its_reason(tmp_path: Path):
    found = run_all(failing, tmp_path, (), 2)
    assert found["text"].startswith("from the leader: TrainingError: The leading process of the job failed: ZeroDivisionError")


@pytest.mark.parametrize("tracked", [True, False])
def test_evaluation_exchanges_nothing(tracked: bool, monkeypatch):
    """The leader validates while the others wait: an exchange that it asked for would never end."""
    plain = nn.BatchNorm2d(3, track_running_stats=tracked)
    monkeypatch.setattr(parallel, "total", lambda values: pytest.fail("asked the other processes"))
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(parallel.GlobalBatchNorm(plain).eval()(images), plain.eval()(images))


def test_a_batchnorm_without_statistics_of_its_own_keeps_none_in_training():
    plain = nn.BatchNorm2d(3, track_running_stats=False)
    shared = parallel.GlobalBatchNorm(plain).train()
    images = torch.rand(4, 3, 5, 5)
    assert torch.allclose(shared(images), plain.train()(images), atol=1e-6)
    assert dict(shared.named_buffers()) == {}


def test_a_single_process_changes_no_number():
    module = nn.Sequential(nn.BatchNorm2d(3))
    assert isinstance(parallel.with_global_batchnorm(module)[0], nn.BatchNorm2d)
    values = torch.ones(3, requires_grad=True)
    assert parallel.total(values) is values
    index = np.arange(5)
    assert parallel.own(index) is index


def drawing_on(rank: int, size: int, port: int, file: str, arguments: tuple) -> None:
    """Saves, draws on, and puts back; with `lost`, another process does not see the file."""
    folder, lost = arguments
    with joined(rank, size, port):
        seed_all(7 + rank)
        state = TrainingState(nn.Linear(2, 2), {}, torch.Generator().manual_seed(1))
        Checkpoint(folder, "job", 0.1, every_s=0.0).save_if_due(state, {"next_epoch": 3}, parallel.gathered(generators.state()))
        distributed.barrier()
        wanted = torch.rand(3)
        again = Checkpoint(folder / "nothing" if lost and rank else folder, "job", 0.1)
        progress = again.load(state, torch.device("cpu"))
        everywhere = parallel.gathered((torch.equal(torch.rand(3), wanted), progress, again.problem))
        draws = parallel.gathered(wanted)
    if rank == 0:
        torch.save({"everywhere": everywhere, "draws": draws}, file)


def test_a_job_of_two_processes_goes_on_with_the_generators_of_each(tmp_path: Path):
    found = run_all(drawing_on, tmp_path, (tmp_path, False), 2)
    assert found["everywhere"] == [(True, {"next_epoch": 3}, None)] * 2
    assert not torch.equal(*found["draws"])


def test_a_checkpoint_that_one_process_does_not_see_is_used_by_none(tmp_path: Path):
    found = run_all(drawing_on, tmp_path, (tmp_path, True), 2)
    for drawn_again, progress, problem in found["everywhere"]:
        assert (drawn_again, progress) == (False, None)
        assert "Share its folder" in problem
