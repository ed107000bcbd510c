"""Decision Transformer (Chen et al. 2021, arXiv 2106.01345) for discrete actions: return-conditioned actions.

A sequence of returns-to-go, states and actions, (R_1, s_1, a_1, R_2, s_2, a_2, …), goes through a causal transformer,
and what stands behind s_t predicts a_t. Where there is a goal's sentence it is part of every state.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from llmrl.agents import offline
from llmrl.agents.configs import DecisionTransformerConfig as Config
from llmrl.agents.nets import Optimizer, initialised_by
from llmrl.checks import ConfigError
from llmrl.contracts.replay import Batch
from llmrl.replay.dataset import Transitions, Windows


class DecisionTransformer(offline.OfflineAgent):
    """Its observation is the history that envs/history.py keeps: state, action, earned, length."""

    config: Config

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        seen = self.observation_space
        if not (isinstance(seen, spaces.Dict) and {"state", "action", "earned", "length"} == set(seen)):
            raise ConfigError(f"DecisionTransformer acts by what has happened so far, this task shows {seen} alone")
        state = seen["state"]
        assert isinstance(state, spaces.Box)
        self.state_size = state.shape[1]
        with initialised_by(self.gen):
            self.net = Sequences(self.state_size, int(self.action_space.n), config).to(self.device)
        self.optimizer = Optimizer(self.net, config.learning_rate, config.max_grad_norm)

    def source(self, *datasets: Transitions) -> Windows:
        """Also sets the return that it will ask for when it acts, and the unit of returns, from the data."""
        self.check(datasets, self.state_size)
        returns = np.concatenate([data.returns for data in datasets])
        self.net.target_return.fill_(float(np.quantile(returns, self.config.target_quantile)))
        self.net.unit.fill_(max(float(np.abs(returns).max()), 1e-6))
        return Windows(datasets, batch_size=self.config.batch_size, context=self.config.context, device=self.device)

    def scores(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Logits of the next action conditioned on the target return: R_t is what is not earned yet."""
        last = obs["length"].long() - 1
        logits = self.net(obs["state"], obs["action"].long(), self.net.target_return - obs["earned"])
        return logits[torch.arange(len(last), device=last.device), last]

    def learn(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        seen = batch.obs
        # R_t = sum of r_t' from t on = the episode's return minus what it earned before t
        logits = self.net(seen["state"], seen["action"], batch.reward[:, None] - seen["earned"])
        # minimise -log pi(a_t | R_<=t, s_<=t, a_<t), the mean over all that is no padding
        there = torch.arange(logits.shape[1], device=logits.device) < seen["length"][:, None]
        nll = F.cross_entropy(logits.flatten(0, 1), seen["action"].flatten(), reduction="none")
        loss = (nll * there.flatten()).sum() / there.sum()
        self.optimizer.step(loss)
        return {"loss": loss.detach()}

    def state_dict(self) -> dict:
        return {
            "net": self.net.state_dict(),  # with the target return
            "adam": self.optimizer.adam.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.adam.load_state_dict(state["adam"])
        self.updates = state["updates"]


AGENT = DecisionTransformer


class Sequences(nn.Module):
    """The causal transformer. Padding stands behind everything else, so causality alone keeps it unseen.

    No dropout, which would draw from a generator that is nobody's; small data want a small network instead.
    """

    target_return: Tensor  # the return that actions are conditioned on
    unit: Tensor  # of returns

    def __init__(self, state_size: int, n_actions: int, config: Config) -> None:
        super().__init__()
        width = config.width
        self.embed_return = nn.Linear(1, width)
        self.embed_state = nn.Linear(state_size, width)
        self.embed_action = nn.Embedding(n_actions, width)
        self.place = nn.Parameter(torch.zeros(config.context, width))
        nn.init.normal_(self.embed_action.weight, std=0.02)
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.head = nn.Linear(width, n_actions)
        self.register_buffer("target_return", torch.zeros(()))
        self.register_buffer("unit", torch.ones(()))

    def forward(self, state: Tensor, action: Tensor, to_go: Tensor) -> Tensor:
        """(n, T, state), (n, T), (n, T) -> (n, T, n_actions) logits of each action, given all before it."""
        n, length = action.shape
        embedded = (
            self.embed_return((to_go / self.unit)[..., None]),
            self.embed_state(state),
            self.embed_action(action),
        )
        x = torch.stack(embedded, dim=2) + self.place[:length, None]  # (n, T, 3, width)
        x = self.norm_in(x.view(n, 3 * length, -1))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm_out(x[:, 1::3]))  # what stands behind the states


class Block(nn.Module):
    """x + attention(x), then x + MLP(x), each of the normalised x."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        each = self.query_key_value(self.norm_attention(x)).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = each.permute(2, 0, 3, 1, 4)  # (n, heads, length, width / heads)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(n, length, width))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x))))
