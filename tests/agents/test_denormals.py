"""Denormal numbers: Adam's moments of units without gradients become such, and flushing them changes no weight."""

import pytest
import torch
from conftest import CART_POLE, compose
from torch import nn

from llmrl.agents.perceptrons import Perceptrons
from llmrl.build import set_up_torch
from llmrl.config import from_node

pytestmark = pytest.mark.usefixtures("one_thread")


def flushed():
    return not torch.tensor([1e-40]).mul(1.0).any()


@pytest.fixture(autouse=True)
def as_before():
    before = flushed()
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(before)


def denormal(tensor):
    """How many of its numbers are denormal. By their bits: arithmetic may take them for 0."""
    bits = tensor.view(torch.int32)
    return ((bits & 0x7F800000 == 0) & (bits & 0x007FFFFF != 0)).sum().item()


def trained(updates=1000):
    """A network of which half of the hidden units die after a few updates; what of its moments was ever denormal."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 1)])
    net = Perceptrons([layers], learning_rate=1e-3)
    gen = torch.Generator().manual_seed(1)
    most = 0
    with torch.no_grad():
        for i in range(updates):
            if i == 5:
                layers[0].bias[:4] = -100
            x = torch.randn(1, 16, 4, generator=gen)
            net.backward((net.forward(x) - x.sum(2, keepdim=True)) / 16)
            net.step()
            most = max(most, denormal(net.adam.mean))
    return net, most


def test_flushing_denormal_numbers_changes_no_weight():
    net, denormals = trained()
    assert denormals >= 4 * 5
    torch.set_flush_denormal(True)
    flushed_net, flushed_denormals = trained()
    assert flushed_denormals == 0
    assert torch.equal(net.weights, flushed_net.weights)
    assert torch.equal(net.adam.square, flushed_net.adam.square)
    alive = net.adam.mean.abs() > 1e-37
    assert alive.any() and torch.equal(net.adam.mean[alive], flushed_net.adam.mean[alive])


def test_a_run_flushes_them():
    assert not flushed()
    set_up_torch(from_node(compose(CART_POLE)))
    assert flushed()
