"""CQL for discrete actions (Kumar et al. 2020, arXiv 2006.04779): double DQN with values pushed down off the data."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llmrl.agents import offline
from llmrl.agents.configs import CQLConfig as Config
from llmrl.agents.nets import flatten, initialised_by, vector_size, weights
from llmrl.agents.perceptrons import Perceptrons
from llmrl.contracts.replay import Batch


class CQL(offline.TransitionAgent):
    """One network Q(s, .), and a copy of it that is renewed every `target_update_every` updates."""

    config: Config

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        sizes = (vector_size(self.observation_space), *config.hidden, int(self.action_space.n))
        with initialised_by(self.gen):
            self.q = offline.mlp(sizes, config.activation).to(self.device)
        self.target = copy.deepcopy(self.q)
        rate, activation = config.learning_rate, config.activation
        self.values = Perceptrons([self.q.layers], learning_rate=rate, activation=activation)
        self.target_values = Perceptrons([self.target.layers], activation=activation)

    @property
    def discount(self) -> float:
        return self.config.gamma if self.config.discount == "gamma" else 1.0

    def scores(self, obs: Any) -> Tensor:
        """Q(s, .); its softmax is the policy of which the conservative term below is the maximum-entropy optimum."""
        return self.q(flatten(obs))

    def due(self) -> bool:
        """The target is renewed."""
        return self.updates % self.config.target_update_every == 0

    @torch.no_grad()
    def learn(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        obs, next_obs, action = flatten(batch.obs)[None], flatten(batch.next_obs)[None], batch.action.unsqueeze(1)
        # y = r + gamma (1 - d) Q'(s', argmax_a' Q(s', a'))
        best = self.values.forward(next_obs)[0].argmax(1, keepdim=True)
        next_value = self.target_values.forward(next_obs)[0].gather(1, best).squeeze(1)
        y = batch.reward + batch.discount * (1 - batch.terminated) * next_value

        # minimise Huber(Q(s, a) - y) + alpha (log sum_a' exp Q(s, a') - Q(s, a)): equation 4, CQL(H)
        values = self.values.forward(obs)[0]
        q = values.gather(1, action).squeeze(1)
        td_loss = F.huber_loss(q, y)
        log_softmax = F.log_softmax(values, dim=1)
        conservative_loss = F.nll_loss(log_softmax, batch.action)  # is log sum_a' exp Q(s, a') - Q(s, a)
        loss = td_loss + self.config.alpha * conservative_loss

        # n dL/dQ(s, a') = alpha softmax Q(s, .), and for the action of the data clip(Q(s, a) - y, -1, 1) - alpha more
        n, alpha = len(q), self.config.alpha
        gradient = log_softmax.exp().mul_(alpha / n)
        gradient.scatter_add_(1, action, (((q - y).clamp(-1, 1) - alpha) / n).unsqueeze(1))
        self.values.backward(gradient[None])
        self.values.step()

        if due:
            self.target_values.track(self.values, 1.0)
        return {"loss": loss, "td_loss": td_loss, "conservative_loss": conservative_loss, "q": q.mean()}

    def state_dict(self) -> dict:
        return {
            "q": weights(self.q),
            "target": weights(self.target),
            "adam": self.values.adam.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.q.load_state_dict(state["q"])
        self.target.load_state_dict(state["target"])
        self.values.adam.load_state_dict(state["adam"])
        self.updates = state["updates"]


AGENT = CQL
