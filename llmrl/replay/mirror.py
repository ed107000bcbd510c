"""Rows of a replay buffer on a GPU, so that a batch is gathered there; checkpoints read those on the host."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmrl.replay.ring import Ring

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def wanted(device: "torch.device") -> bool:
    """Whether batches for this device are gathered on it."""
    return device.type != "cpu"


class Mirror:
    """A column of some rings, one ring behind the other. What was appended is copied when it is asked for."""

    def __init__(self, rings: Sequence[Ring], column: str, device: "torch.device") -> None:
        import torch

        self.rings, self.column = rings, column
        like = rings[0].columns[column]
        shape = len(rings) * rings[0].capacity, *like.shape[1:]
        self.rows = torch.empty(shape, dtype=torch.from_numpy(like[:1]).dtype, device=device)
        self.copied = [(0, 0)] * len(rings)  # of each: its loads and its total when last looked at

    def take(self, place: NDArray) -> "Tensor":
        """(…) places, of ring i from i * capacity on -> (…, *row)"""
        import torch

        for i in range(len(self.rings)):
            self._catch_up(i)
        index = torch.from_numpy(np.ascontiguousarray(place)).to(self.rows.device, non_blocking=True)
        return self.rows.index_select(0, index.flatten()).view(*place.shape, *self.rows.shape[1:])

    def _catch_up(self, i: int) -> None:
        import torch

        ring, (loads, total) = self.rings[i], self.copied[i]
        start = ring.oldest if loads != ring.loads else max(total, ring.oldest)
        while start < ring.total:  # in one piece, or in two where it wraps around
            first = start % ring.capacity
            stop = min(ring.total, start + ring.capacity - first)
            rows = ring.rows(start, stop)[self.column]
            at = i * ring.capacity + first
            # a copy: the ring goes on while the device reads
            self.rows[at : at + stop - start].copy_(torch.from_numpy(rows.copy()), non_blocking=True)
            start = stop
        self.copied[i] = ring.loads, ring.total
