"""What a Q network computes, in numpy: acting on one observation takes less time than in torch."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from llmrl.agents.nets import QNetwork


class NumpyMLP:
    """What an MLP computes, in numpy: for one observation on a CPU a third of torch's time, most of what acting costs.

    Works on views of the layers' parameters, which optimisers and load_state_dict write in place.
    """

    def __init__(self, layers: Iterable[nn.Linear]) -> None:
        self.affine = [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in layers]

    def __call__(self, x: NDArray) -> NDArray:
        """(batch, n_in) -> (batch, n_out)"""
        *hidden, (last_weight, last_bias) = self.affine
        for weight, bias in hidden:
            x = np.maximum(x @ weight + bias, 0)
        return x @ last_weight + last_bias


class NumpyCNN:
    """What a NatureCNN computes, in numpy: like NumpyMLP on views, and for one observation in 0.7 of torch's time."""

    def __init__(self, layers: Iterable[nn.Conv2d]) -> None:
        self.layers = []
        for conv in layers:
            weight, bias = (parameter.detach() for parameter in conv.parameters())
            weight = weight.permute(0, 2, 3, 1).view(conv.out_channels, -1)  # it lies channels last
            self.layers.append((weight.numpy().T, bias.numpy(), conv.kernel_size[0], conv.stride[0]))

    def __call__(self, frames: NDArray) -> NDArray:
        """(batch, stack, height, width) uint8 -> (batch, size)"""
        n, stack, *sides = frames.shape
        x = np.empty((n, *sides, stack), np.float32)
        for i in range(stack):  # a copy of the transposed array takes 2.5 times as long: its innermost axis is this one
            x[..., i] = frames[:, i]
        x /= 255
        for weight, bias, size, stride in self.layers:
            # im2col: what the kernel sees at one place becomes a row
            _, *sides, channels = x.shape
            places = [(side - size) // stride + 1 for side in sides]
            image, down, right, channel = x.strides
            strides = (image, stride * down, stride * right, down, right, channel)
            patches = np.ndarray((n, *places, size, size, channels), np.float32, x, strides=strides)
            y = patches.reshape(-1, len(weight)) @ weight
            y += bias
            x = np.maximum(y, 0, out=y).reshape(n, *places, -1)
        return x.transpose(0, 3, 1, 2).reshape(n, -1)


class NumpyQ:
    """What a QNetwork computes, in numpy: one without dueling and noisy layers, on a CPU."""

    def __init__(self, q: QNetwork) -> None:
        self.convolutions = None if q.convolutions is None else NumpyCNN(q.convolutions.layers)
        self.linear = NumpyMLP(q.advantage)

    def __call__(self, obs: NDArray) -> NDArray:
        """(batch, *obs) -> (batch, n_actions)"""
        flat = obs.reshape(len(obs), -1).astype(np.float32) if self.convolutions is None else self.convolutions(obs)
        return self.linear(flat)
