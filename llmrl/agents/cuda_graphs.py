"""An update as CUDA graphs: hundreds of small operations become one launch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from llmrl.contracts.replay import Batch

Learn = Callable[..., Mapping[str, Tensor]]  # of a batch, noise, and whether more is due

WARM_UP = 3  # updates before one is captured: libraries set themselves up in the first ones


class CUDAGraphs:
    """A function of (batch, noise, due), a graph for each value of `due` and each shape of the tensors.

    What it reads and writes beside its arguments must stay where it is: weights are loaded in place. The first updates
    of each kind, also after a resume, are made as they are; capturing makes none.
    """

    def __init__(self, learn: Learn) -> None:
        self.learn = learn
        self._kinds: dict[Any, _Graph] = {}

    def __call__(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        # places are the replay buffer's, on the host
        leaves, form = tree_flatten((batch._replace(places=None), noise))
        kind = due, tuple((x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves)
        if kind not in self._kinds:
            self._kinds[kind] = _Graph(lambda *arguments: self.learn(*arguments, due=due), leaves, form)
        return self._kinds[kind](leaves)


class _Graph:
    """One graph, its inputs in memory of its own."""

    def __init__(self, function: Any, leaves: list[Any], form: Any) -> None:
        self.leaves = [x.clone() if isinstance(x, Tensor) else x for x in leaves]
        self.function, self.arguments = function, tree_unflatten(self.leaves, form)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.out: Mapping[str, Tensor] = {}
        self.calls = 0

    def __call__(self, leaves: list[Any]) -> Mapping[str, Tensor]:
        for own, given in zip(self.leaves, leaves):
            if isinstance(own, Tensor):
                own.copy_(given)
        self.calls += 1
        if self.calls <= WARM_UP:
            stream = torch.cuda.Stream()  # as capturing wants it
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                out = self.function(*self.arguments)
            torch.cuda.current_stream().wait_stream(stream)
            return out
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            # other seeds' threads may use the device at the same time
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.out = self.function(*self.arguments)
        self.graph.replay()
        return self.out
