"""What every objective promises: gradients agree with finite differences, and processes that share a group equal one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark import parallel
from benchmark.objectives.kit.group import Group
from tests.objectives.made import OBJECTIVES, encoded, made, own
from tests.test_parallel import joined, run_all

EVERY = sorted(OBJECTIVES)
STEP = 1e-6


# Parameters whose derivative is not whole, because a detached value also comes from them: weights of places, targets, codes.
HELD = {
    "lovt": ("global_aggregator",),
    "g2d": ("attnpool", "proj_v"),
    "mgca": (),
    "prior": ("_attention", "_projection", "predictor", "bank"),
}


@pytest.mark.parametrize("name", EVERY)
def test_gradients_agree_with_finite_differences(name: str):
    """Along random directions of all parameters through which the loss is not held still."""
    objective, pairs, group = made(name), encoded(), Group.alone(5)
    held = HELD.get(name.split()[0], ())
    moved = [one for key, one in objective.named_parameters() if not any(part in key for part in held)]

    def loss() -> torch.Tensor:
        return sum(value for key, value in objective(pairs, group, 1.0).items() if (name[:4], key) != ("mgca", "prototypes"))

    gradients = torch.autograd.grad(loss(), moved, allow_unused=True)
    directions = [torch.randn(one.shape, generator=torch.Generator().manual_seed(k)).double() for k, one in enumerate(moved)]
    expected = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for one, direction in zip(moved, directions, strict=True):
                one += sign * STEP * direction
            values.append(loss().item())
    assert (values[0] - values[1]) / (2 * STEP) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def trained(name: str, n: int) -> dict[str, torch.Tensor]:
    """Losses, gradients of inputs and parameters, and statistics after one step over a group of n, whichever process holds them."""
    objective = parallel.with_global_batchnorm(made(name))
    pairs, group = encoded(n), Group.shared(n)
    mine = own(pairs, group.rows)
    leaves = [mine.maps[16].requires_grad_(), mine.texts.states.requires_grad_()]
    parts = objective(mine, group, 1.0)
    sum(parts.values()).backward()
    gradients = {
        f"gradient {key}": parallel.total(p.grad if p.grad is not None else torch.zeros_like(p)) for key, p in objective.named_parameters()
    }
    images = group.gather(leaves[0].grad)
    texts = torch.zeros(n, *encoded(n).texts.states.transpose(0, 1).shape[1:], dtype=torch.float64)
    texts[group.rows, :, : mine.texts.mask.shape[1]] = leaves[1].grad.transpose(0, 1)
    losses = {f"loss {key}": parallel.total(part.detach().clone()) for key, part in parts.items()}
    buffers = {f"buffer {key}": one.double() for key, one in objective.named_buffers()}
    return {**losses, **gradients, **buffers, "images": images, "texts": parallel.total(texts)}


def one_of(rank: int, size: int, port: int, file: str, arguments: tuple) -> None:
    with joined(rank, size, port):
        found = trained(*arguments)
    if rank == 0:
        torch.save(found, file)


@pytest.mark.parametrize("name", EVERY)
def test_two_processes_equal_one(name: str, tmp_path: Path):
    """Two pairs and three, whose longest reports differ."""
    compare(trained(name, 5), run_all(one_of, tmp_path, (name, 5), 2))


@pytest.mark.parametrize("name", ["lovt", "gloria", "mgca"])
def test_a_process_without_a_pair_takes_part(name: str, tmp_path: Path):
    compare(trained(name, 2), run_all(one_of, tmp_path, (name, 2), 3))


def compare(one: dict[str, torch.Tensor], several: dict[str, torch.Tensor]) -> None:
    assert one.keys() == several.keys()
    for key, value in one.items():
        assert torch.allclose(value, several[key], rtol=1e-10, atol=1e-10), key
    assert float(one["images"].abs().max()) > 1e-6


@pytest.mark.parametrize(("name", "options"), [("gloria", {"local": 0.0}), ("mgca", {"weights": (1.0, 0.0, 0.0)})])
def test_without_a_local_loss_places_and_parts_are_read_by_layers_that_were_trained(name: str, options: dict):
    whole, pairs, group = made(name), encoded(), Group.alone(5)
    whole.options = replace(whole.options, **options)
    sum(whole(pairs, group, 1.0).values()).backward()
    trained = {".".join(key.split(".")[:2]) for key, p in whole.named_parameters() if p.grad is not None and bool(p.grad.any())}
    read = [whole.place_vectors(pairs.maps, group), whole.part_vectors(pairs.texts, pairs.keys, group, 1.0)[0]]
    whole.zero_grad(set_to_none=True)
    sum(one.square().sum() for one in read if one.requires_grad).backward()
    used = {".".join(key.split(".")[:2]) for key, p in whole.named_parameters() if p.grad is not None}
    assert used
    assert used <= trained
    side = pairs.maps[whole.options.deepest].shape[2]
    assert read[0].shape[2:] == (side, side)
