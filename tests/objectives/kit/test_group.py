"""Pairs over several processes: vectors cross with their gradient, and a group inside a process asks nobody. Numbers: the reference's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark import parallel
from benchmark.objectives.gloria import local_losses
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.layers import RowNorm
from benchmark.objectives.kit.losses import contrast
from tests.pretraining.numbers import RELATIVE, leaf, norm, r
from tests.test_parallel import joined, run_all


def contrasted(group: Group) -> dict[str, torch.Tensor]:
    one, other = (r(seed, (4, 8))[group.rows].requires_grad_() for seed in (1, 2))
    there, back = contrast(one, other, 10.0, group)
    loss = 0.75 * there + 0.25 * back
    loss.backward()
    return {"loss": parallel.total(loss.detach()), "one": group.gather(one.grad).norm(), "other": group.gather(other.grad).norm()}


def half(rank: int, size: int, port: int, file: str, arguments: tuple) -> None:
    with joined(rank, size, port):
        found = contrasted(Group.shared(4))
    if rank == 0:
        torch.save(found, file)


def test_gathered_vectors_carry_the_gradient_of_all_rows(tmp_path: Path):
    """A gather that detaches the others' rows would give gradients of 1.210161 and 1.644219."""
    expected = pytest.approx([0.820427, 1.238347, 2.107277], rel=RELATIVE)
    assert [float(one) for one in contrasted(Group.alone(4)).values()] == expected
    assert [float(one) for one in run_all(half, tmp_path, (), 2).values()] == expected


def test_groups_inside_a_process_have_their_own_negatives():
    one, other = leaf(1, (4, 8)), leaf(2, (4, 8))
    halves = []
    for rows in (slice(0, 2), slice(2, 4)):
        there, back = contrast(one[rows], other[rows], 10.0, Group.alone(2))
        halves.append(0.75 * there + 0.25 * back)
    loss = sum(halves) / 2
    loss.backward()
    assert [loss.item(), *norm(one, other)] == pytest.approx([0.104879, 0.287868, 0.420070], rel=RELATIVE)


def test_words_of_other_halves_are_negatives_too():
    regions, words, counted = r(21, (4, 6, 3, 3)).flatten(2), r(22, (4, 6, 7)), torch.tensor([4, 6, 5, 7])
    whole = local_losses(regions, words, counted, 10.0, Group.alone(4))
    assert [float(one) for one in whole] == pytest.approx([13.067822, 12.904934], rel=RELATIVE)
    halves = [local_losses(regions[h], words[h], counted[h], 10.0, Group.alone(2)) for h in (slice(0, 2), slice(2, 4))]
    assert [float(sum(one)) / 2 for one in zip(*halves, strict=True)] == pytest.approx([7.677129, 8.350260], rel=RELATIVE)


@pytest.mark.parametrize(("counted", "variance"), [("all", 0.852814), ("valid", 1.129139)])
def test_padded_rows_enter_a_norms_statistics_only_as_released(counted, variance):
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    rows = r(6, (2, 4, 8)) * mask[..., None]
    layer = RowNorm(8, counted, momentum=1.0)
    layer(rows, Group.alone(2), mask)
    n = 8 if counted == "all" else 6
    assert float(layer.running_var[0]) * (n - 1) / n == pytest.approx(variance, rel=RELATIVE)


def test_a_norm_of_rows_is_batchnorm_where_nothing_is_padded():
    rows, plain, layer = r(1, (6, 8)), torch.nn.BatchNorm1d(8), RowNorm(8)
    group = Group.alone(6)
    assert torch.allclose(layer(rows, group), plain(rows), atol=1e-6)
    assert torch.allclose(layer.running_mean, plain.running_mean)
    assert torch.allclose(layer.running_var, plain.running_var)
    assert torch.allclose(layer.eval()(rows, group), plain.eval()(rows), atol=1e-6)
    assert layer.state_dict().keys() == plain.state_dict().keys()


def test_shares_are_those_that_a_batch_is_cut_into(monkeypatch):
    monkeypatch.setattr(parallel, "size", lambda: 3)
    found = []
    for rank in range(3):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        found.append(Group.shared(7))
    assert [(one.first, one.own) for one in found] == [(0, 3), (3, 2), (5, 2)]
    assert [len(part) for part in torch.arange(7).tensor_split(3)] == [3, 2, 2]
