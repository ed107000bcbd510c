"""One step of gradient descent, whatever way the tensors lie in memory."""

import torch
from torch import nn

from llmrl.agents.nets import Descent


def test_gradients_that_lie_otherwise_than_their_parameters_move_the_right_ones():
    """The fused Adam reads a gradient as it lies in memory, whatever its strides say."""
    gen = torch.Generator().manual_seed(0)
    start, direction = (torch.randn(4, 3, 2, 2, generator=gen) for _ in range(2))
    ours, theirs = nn.ParameterList([start.clone()]), [start.clone().requires_grad_()]
    descent, adam = Descent(ours, 0.1), torch.optim.Adam(theirs, lr=0.1)
    turned = direction.permute(0, 2, 3, 1).contiguous()
    assert torch.autograd.grad((ours[0].permute(0, 2, 3, 1) * turned).sum(), ours[0])[0].stride() != ours[0].stride()
    for _ in range(3):
        descent.step((ours[0].permute(0, 2, 3, 1) * turned).sum())
        adam.zero_grad()
        (theirs[0] * direction).sum().backward()
        adam.step()
    assert torch.allclose(ours[0], theirs[0], atol=1e-6)
