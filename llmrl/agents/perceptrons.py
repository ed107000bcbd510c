"""Perceptrons with their gradients written out: agents with vector observations learn by these, without autograd."""

import copy
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmrl.agents.configs import Activation
from llmrl.checks import ConfigError

ALIGNED = 16  # numbers in 64 bytes: rows that begin at such a boundary are computed alike, wherever they lie


class FusedAdam:
    """Adam (Kingma and Ba 2015, algorithm 1) on one tensor, in one operation; the gradient is left in `gradient`."""

    def __init__(self, weights: Tensor, learning_rate: float, eps: float = 1e-8) -> None:
        self.learning_rate, self.eps = learning_rate, eps
        self.weights, self.steps = weights, weights.new_zeros(())
        self.gradient, self.mean, self.square = (torch.zeros_like(weights) for _ in range(3))

    @classmethod
    def joined(cls, parts: "Sequence[FusedAdam]") -> "FusedAdam":
        """One for all parts, whose first dimension is joined. The parts go on as views of it."""
        whole = copy.copy(parts[0])
        sizes = [len(part.weights) for part in parts]
        for name in ("weights", "gradient", "mean", "square"):
            tensor = torch.cat([getattr(part, name) for part in parts])
            setattr(whole, name, tensor)
            for part, rows in zip(parts, tensor.split(sizes)):
                setattr(part, name, rows)
        for part in parts:
            part.steps = whole.steps
        return whole

    def step(self) -> None:
        self.steps += 1
        torch._fused_adam_(
            [self.weights], [self.gradient], [self.mean], [self.square], [], [self.steps], lr=self.learning_rate,
            beta1=0.9, beta2=0.999, weight_decay=0.0, eps=self.eps, amsgrad=False, maximize=False,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Tensor]:
        return {name: getattr(self, name).clone() for name in ("steps", "mean", "square")}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if state.keys() != {"steps", "mean", "square"}:
            raise ConfigError("an optimizer's state of an earlier version of llmrl: make the run anew (rerun=true)")
        for name, value in state.items():
            getattr(self, name).copy_(value)


class Perceptrons:
    """MLPs of one shape side by side: two critics, or one network of each of several seeds.

    A layer is one matrix W_i (n_in + 1, n_out) whose last row is the bias, and every x_i has a last column of ones. So
    one product computes a layer, and one the gradient of weights and bias:

        x_0 = (input | 1),  z_i = x_i W_i,  x_i+1 = (f(z_i) | 1),  output = z_last
        dL/dW_i = x_i^T dL/dz_i,  dL/dx_i = dL/dz_i W_i^T,  dL/dz_i-1 = dL/dx_i f'(z_i-1)

    All matrices of a network are one row of `weights`: optimizer and target are one operation each.
    """

    def __init__(
        self,
        nets: Iterable[Iterable[nn.Linear]],
        *,
        learning_rate: float | None = None,
        eps: float = 1e-8,
        max_grad_norm: float | None = None,
        activation: Activation = "relu",
    ) -> None:
        """Takes over the linear layers of each network: their parameters become views of `weights`.

        Args:
            learning_rate, eps: Adam's; no rate for target networks, which do not learn.
            max_grad_norm: a longer gradient of a network is shortened to it.
            activation: f, between the layers.
        """
        self.layers = [list(net) for net in nets]
        self.shapes = [(layer.in_features + 1, layer.out_features) for layer in self.layers[0]]
        self.n_in, self.activation, self.max_grad_norm = self.shapes[0][0] - 1, activation, max_grad_norm
        size = sum(map(math.prod, self.shapes))
        weights = self.layers[0][0].weight.detach().new_zeros(len(self.layers), size + -size % ALIGNED)
        for k, net in enumerate(self.layers):
            for layer, matrices in zip(net, self._matrices(weights)):
                matrices[k, :-1], matrices[k, -1] = layer.weight.detach().t(), layer.bias.detach()
        self._adam = None if learning_rate is None else FusedAdam(weights, learning_rate, eps)
        self._hold(weights)

    @property
    def adam(self) -> FusedAdam:
        assert self._adam is not None, "a target network does not learn"
        return self._adam

    @classmethod
    def joined(cls, parts: "Sequence[Perceptrons]") -> "Perceptrons":
        """The networks of all parts, one part after the other. The parts go on as views of it."""
        whole = copy.copy(parts[0])
        whole.layers = [net for part in parts for net in part.layers]
        if whole._adam is None:
            weights = torch.cat([part.weights for part in parts])
        else:
            whole._adam = FusedAdam.joined([part.adam for part in parts])
            weights = whole.adam.weights
        whole._hold(weights)
        for part, rows in zip(parts, whole.weights.split([len(part.weights) for part in parts])):
            part._hold(rows)
        return whole

    def _hold(self, weights: Tensor) -> None:
        """Works on these weights from now on, (networks, size)."""
        self.weights, self.matrices = weights, self._matrices(weights)
        for k, net in enumerate(self.layers):
            for layer, matrices in zip(net, self.matrices):
                layer.weight.data, layer.bias.data = matrices[k, :-1].t(), matrices[k, -1]
        self.batched = weights.device.type != "cpu"  # all networks at once; on a CPU one after the other is faster
        self._arrays = None if self.batched else [matrices[0].numpy() for matrices in self.matrices]
        self._passes: dict[tuple[int, int, int], _Pass] = {}

    def _matrices(self, rows: Tensor) -> list[Tensor]:
        """(networks, size) -> a view (networks, n_in + 1, n_out) for every layer."""
        sizes = list(map(math.prod, self.shapes))
        parts = rows[:, : sum(sizes)].split(sizes, 1)
        return [part.view(len(rows), *shape) for part, shape in zip(parts, self.shapes)]

    def forward(self, *parts: Tensor, every: int = 1) -> Tensor:
        """(groups, batch, n) each, side by side the input -> (networks, batch, n_out).

        The networks lie in as many groups of the same size, each of which sees one input. With `every` k, of every k
        networks the first one alone is computed.
        """
        groups, batch, _ = parts[0].shape
        key = groups, batch, every
        if (now := self._passes.get(key)) is None:
            now = self._passes[key] = _Pass(self, groups, batch, every, [part.shape[2] for part in parts])
        self._now = now
        for place, part in zip(now.places, parts):
            place.copy_(part.unsqueeze(1))
        return now.forward()

    def backward(self, gradient: Tensor) -> None:
        """Leaves dL/d(weights) for Adam, of dL/d(output) (networks, batch, n_out) of the last `forward`, or of its
        first rows."""
        self._now.backward(gradient, weights=True)

    def backward_to_input(self, gradient: Tensor, columns: slice) -> Tensor:
        """`backward`, and what `input_gradient` of the same would return."""
        return self._now.to_input(self._now.backward(gradient, weights=True), columns)

    def input_gradient(self, gradient: Tensor, columns: slice) -> Tensor:
        """dL/d(output) of the last `forward` -> dL/d(input) of these columns, (networks, batch, columns). What is left
        for Adam stays."""
        found = self._now.backward(gradient, weights=False)
        return self._now.to_input(found, columns)

    def step(self) -> None:
        """One step of Adam along the gradient of the last `backward`."""
        if self.max_grad_norm is not None:
            norm = self.adam.gradient.norm(dim=1, keepdim=True)
            self.adam.gradient.div_(((norm + 1e-6) / self.max_grad_norm).clamp_(min=1))
        self.adam.step()

    def track(self, online: "Perceptrons", tau: float) -> None:
        """theta' <- (1 - tau) theta' + tau theta"""
        if tau == 1:
            self.weights.copy_(online.weights)
        else:
            self.weights.lerp_(online.weights, tau)

    def act(self, x: NDArray) -> NDArray:
        """(batch, n_in) float32 -> (batch, n_out), of the first network. On a CPU in numpy: for one observation that is
        a third of torch's time, most of what acting costs."""
        if self._arrays is None:
            with torch.no_grad():
                return self.forward(torch.from_numpy(x[None]).to(self.weights.device))[0].cpu().numpy()
        *hidden, last = self._arrays
        for w in hidden:
            x = x @ w[:-1] + w[-1]
            x = np.maximum(x, 0, out=x) if self.activation == "relu" else np.tanh(x, out=x)
        return x @ last[:-1] + last[-1]


class _Pass:
    """A forward pass for one size of batch, and its backward pass: all views and intermediate results, made once.

    Networks are computed one after the other, each by products of matrices, or all at once, by batched products.
    `chains` are what is computed at once.
    """

    def __init__(self, net: Perceptrons, groups: int, batch: int, every: int, widths: list[int]) -> None:
        self.batch, self.learns, self.relu = batch, net._adam is not None, net.activation == "relu"
        numbers = range(len(net.weights))[::every]
        self.n, per_group = len(numbers), len(numbers) // groups
        self.product = torch.bmm if net.batched else torch.mm

        def ones(*shape: int) -> Tensor:
            """Whose rows begin every 64 bytes, as products like it."""
            *before, last = shape
            return net.weights.new_ones(*before, last + -last % ALIGNED)[..., :last]

        inputs = ones(groups, per_group if net.batched else 1, batch, net.n_in + 1)
        stops = [sum(widths[: i + 1]) for i in range(len(widths))]
        self.places = [inputs[..., stop - width : stop] for stop, width in zip(stops, widths)]
        hidden = [m for _, m in net.shapes[:-1]]
        self.out_shape = self.n, batch, net.shapes[-1][1]
        gradients = net._matrices(net.adam.gradient) if self.learns else []
        self.chains = []
        if not net.batched:
            shared = None if self.learns else [ones(batch, m + 1) for m in hidden]
            for i, k in enumerate(numbers):
                x = [inputs[i // per_group, 0], *(shared or [ones(batch, m + 1) for m in hidden])]
                self.chains.append(_Chain(x, [w[k] for w in net.matrices], [g[k] for g in gradients]))
        else:
            x = [inputs.flatten(0, 1), *(ones(self.n, batch, m + 1) for m in hidden)]
            self.chains = [_Chain(x, [w[::every] for w in net.matrices], [g[::every] for g in gradients])]

    def forward(self) -> Tensor:
        out = self.chains[0].w[0].new_empty(self.out_shape)
        for chain, its_out in zip(self.chains, self._by_chain(out)):
            for x, w, h in zip(chain.x, chain.w, chain.h):
                self.product(x, w, out=h)
                h.relu_() if self.relu else h.tanh_()
            self.product(chain.x[-1], chain.w[-1], out=its_out)
        return out

    def backward(self, gradient: Tensor, *, weights: bool) -> list[Tensor]:
        """dL/dz_0 of every chain."""
        found = []
        for chain, g in zip(self.chains, self._by_chain(gradient)):
            rows = g.shape[-2]
            for i in range(len(chain.w) - 1, -1, -1):
                if weights:
                    x = chain.x[i] if rows == self.batch else chain.x[i][..., :rows, :]
                    self.product(x.mT, g, out=chain.gradient[i])
                if i:
                    h = chain.h[i - 1] if rows == self.batch else chain.h[i - 1][..., :rows, :]
                    g = self.product(g, chain.w_t[i])
                    if self.relu:
                        torch.ops.aten.threshold_backward.grad_input(g, h, 0, grad_input=g)
                    else:
                        torch.ops.aten.tanh_backward.grad_input(g, h, grad_input=g)
            found.append(g)
        return found

    def to_input(self, gradients: list[Tensor], columns: slice) -> Tensor:
        """dL/dz_0 of every chain -> dL/dx_0 of these columns, (networks, batch, columns)."""
        found = [self.product(g, chain.w_t[0][..., columns]) for g, chain in zip(gradients, self.chains)]
        return found[0] if self.product is torch.bmm else torch.stack(found)

    def _by_chain(self, stacked: Tensor) -> Sequence[Tensor]:
        return [stacked] if self.product is torch.bmm else stacked.unbind()


class _Chain:
    """The layers of what is computed at once: x_i, h_i = x_i+1 without its ones, W_i, and where dL/dW_i goes."""

    def __init__(self, x: list[Tensor], w: list[Tensor], gradient: list[Tensor]) -> None:
        self.x, self.w, self.gradient = x, w, gradient
        self.h = [part[..., :-1] for part in x[1:]]
        self.w_t = [part[..., :-1, :].mT for part in w]
