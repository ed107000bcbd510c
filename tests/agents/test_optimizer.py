"""An optimizer step, whatever way the tensors lie in memory."""

import subprocess
import sys

import torch
from conftest import ROOT
from torch import nn

from llmrl.agents.nets import Optimizer


def test_gradients_that_lie_otherwise_than_their_parameters_move_the_right_ones():
    """The fused Adam reads a gradient as it lies in memory, whatever its strides say."""
    gen = torch.Generator().manual_seed(0)
    start, direction = (torch.randn(4, 3, 2, 2, generator=gen) for _ in range(2))
    ours, theirs = nn.ParameterList([start.clone()]), [start.clone().requires_grad_()]
    optimizer, adam = Optimizer(ours, 0.1), torch.optim.Adam(theirs, lr=0.1)
    turned = direction.permute(0, 2, 3, 1).contiguous()
    assert torch.autograd.grad((ours[0].permute(0, 2, 3, 1) * turned).sum(), ours[0])[0].stride() != ours[0].stride()
    for _ in range(3):
        optimizer.step((ours[0].permute(0, 2, 3, 1) * turned).sum())
        adam.zero_grad()
        (theirs[0] * direction).sum().backward()
        adam.step()
    assert torch.allclose(ours[0], theirs[0], atol=1e-6)


STEPS = """
import copy, sys
import torch
from llmrl.agents.nets import Optimizer
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
other = copy.deepcopy(net)
x = torch.linspace(-1, 1, 12).reshape(3, 4)
optimizer = Optimizer(net, 1e-2, eps=1e-5)
for step in range(5):
    optimizer.step(net(x).pow(2).mean())
    optimizer.adam.load_state_dict(optimizer.adam.state_dict())
assert "torch._dynamo" not in sys.modules
adam = torch.optim.Adam(other.parameters(), lr=1e-2, eps=1e-5, fused=True)
for step in range(5):
    adam.zero_grad()
    other(x).pow(2).mean().backward()
    adam.step()
assert "torch._dynamo" in sys.modules  # else torch has mended it, and ours may go
assert all(torch.equal(ours, theirs) for ours, theirs in zip(net.parameters(), other.parameters()))
"""


def test_adam_is_torchs_to_the_bit_without_importing_its_compiler():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
