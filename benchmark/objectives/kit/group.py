"""Pairs that are contrasted with each other, and which of them this process holds.

A step's batch is one group or several. Where a group lies inside one process nothing is exchanged. Where processes share a group, vectors
cross with their gradient: each process returns its own pairs' part of a mean over the group, and gradients are summed
(`benchmark.parallel.Replica`), so the result is that of one process, up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from benchmark import parallel


@dataclass(frozen=True)
class Group:
    """
    Attributes:
        n: pairs of the group.
        first: number of this process's first pair; its pairs are consecutive.
        own: pairs of this process, 0 or more.
    """

    n: int
    first: int
    own: int

    @classmethod
    def alone(cls, n: int) -> Group:
        """A group inside this process."""
        return cls(n, 0, n)

    @classmethod
    def shared(cls, n: int) -> Group:
        """A group over all processes, cut as `parallel.own` cuts a batch."""
        quotient, rest = divmod(n, parallel.size())
        rank = parallel.rank()
        return cls(n, rank * quotient + min(rank, rest), quotient + (rank < rest))

    @property
    def is_exchanged(self) -> bool:
        return self.own < self.n

    @property
    def rows(self) -> slice:
        """Where this process's pairs stand in what `gather` gives."""
        return slice(self.first, self.first + self.own)

    def gather(self, values: Tensor) -> Tensor:
        """(n, ...) values of all pairs in order, of this process's (own, ...). Gradients reach the process that holds the pair."""
        if not self.is_exchanged:
            return values
        whole = values.new_zeros(self.n, *values.shape[1:])
        whole[self.rows] = values
        return parallel.total(whole)

    def total(self, values: Tensor) -> Tensor:
        """Sum over the processes that share the group; the value itself where nobody else does."""
        return parallel.total(values) if self.is_exchanged else values

    def mean(self, per_pair: Tensor) -> Tensor:
        """This process's part of the mean over the group, of (own,) values."""
        return per_pair.sum() / self.n

    def longest(self, lengths: Tensor) -> int:
        """The largest of (b,) lengths and of those of the processes that share the group, at least 1: what is gathered is padded alike."""
        most = torch.cat([lengths.new_ones(1), lengths]).amax()
        if self.is_exchanged:
            distributed.all_reduce(most, op=distributed.ReduceOp.MAX)
        return int(most)
