"""BCQ for discrete actions (Fujimoto et al. 2019, arXiv 1910.01708): Q-learning among actions that the data support."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llmrl.agents import offline
from llmrl.agents.configs import BCQConfig as Config
from llmrl.agents.nets import flatten, initialised_by, vector_size, weights
from llmrl.agents.perceptrons import Perceptrons
from llmrl.contracts.replay import Batch


class BCQ(offline.TransitionAgent):
    """One network with two heads: Q(s, .), and G(. | s), which imitates the data and rules actions out. A copy of it
    gives the targets, and is renewed every `target_update_every` updates."""

    config: Config

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        sizes = (vector_size(self.observation_space), *config.hidden, 2 * int(self.action_space.n))
        with initialised_by(self.gen):
            self.net = offline.mlp(sizes, config.activation).to(self.device)
        self.target = copy.deepcopy(self.net)
        rate, activation = config.learning_rate, config.activation
        self.heads = Perceptrons([self.net.layers], learning_rate=rate, activation=activation)
        self.target_heads = Perceptrons([self.target.layers], activation=activation)

    @property
    def discount(self) -> float:
        return self.config.gamma if self.config.discount == "gamma" else 1.0

    def scores(self, obs: Any) -> Tensor:
        """Q(s, a) where G(a | s) / max_a' G(a' | s) > threshold, elsewhere minus infinity."""
        return self._allowed(self.net(flatten(obs)))

    def _allowed(self, heads: Tensor) -> Tensor:
        """The network's two heads (n, 2 n_actions) -> Q(s, a) where G allows a, elsewhere minus infinity."""
        q, logits = heads.chunk(2, dim=1)
        log_g = F.log_softmax(logits, dim=1)
        ruled_out = log_g - log_g.amax(1, keepdim=True) <= math.log(self.config.threshold)
        return q.masked_fill(ruled_out, -math.inf)

    def due(self) -> bool:
        """The target is renewed."""
        return self.updates % self.config.target_update_every == 0

    @torch.no_grad()
    def learn(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        obs, next_obs, action = flatten(batch.obs)[None], flatten(batch.next_obs)[None], batch.action.unsqueeze(1)
        # y = r + gamma (1 - d) Q'(s', a'), a' = the allowed action with the largest Q(s', a')
        best = self._allowed(self.heads.forward(next_obs)[0]).argmax(1, keepdim=True)
        next_q, _ = self.target_heads.forward(next_obs)[0].chunk(2, dim=1)
        y = batch.reward + batch.discount * (1 - batch.terminated) * next_q.gather(1, best).squeeze(1)

        # minimise Huber(Q(s, a) - y) - log G(a | s) + beta mean over a' of log G(a' | s)^2, the last two as in BC
        values, logits = self.heads.forward(obs)[0].chunk(2, dim=1)
        log_g = F.log_softmax(logits, dim=1)
        q = values.gather(1, action).squeeze(1)
        td_loss = F.huber_loss(q, y)
        nll, imitator_gradient = offline.imitation(log_g, batch.action, self.config.beta)
        imitator_loss = nll + self.config.beta * log_g.square().mean()

        # n dL/dQ(s, a) = clip(Q(s, a) - y, -1, 1)
        slope = (q - y).clamp(-1, 1) / len(q)
        td_gradient = torch.zeros_like(imitator_gradient).scatter_(1, action, slope.unsqueeze(1))
        self.heads.backward(torch.cat([td_gradient, imitator_gradient], dim=1)[None])
        self.heads.step()

        if due:
            self.target_heads.track(self.heads, 1.0)
        return {"loss": td_loss + imitator_loss, "td_loss": td_loss, "imitator_loss": imitator_loss, "q": q.mean()}

    def state_dict(self) -> dict:
        return {
            "net": weights(self.net),
            "target": weights(self.target),
            "adam": self.heads.adam.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.target.load_state_dict(state["target"])
        self.heads.adam.load_state_dict(state["adam"])
        self.updates = state["updates"]


AGENT = BCQ
