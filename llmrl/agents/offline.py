"""What the agents that learn from a dataset begin with: discrete actions, no replay buffer, nothing to explore."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor

from llmrl.agents.capturable import Capturable
from llmrl.agents.configs import Activation, OfflineEvaluate
from llmrl.agents.nets import MLP, tensors, vector_size
from llmrl.checks import ConfigError
from llmrl.replay.dataset import Transitions, UniformTransitions


class TanhMLP(MLP):
    """Linear layers with tanh between them."""

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x).tanh_()
        return last(x)


def mlp(sizes: Sequence[int], activation: Activation) -> MLP:
    return MLP(sizes) if activation == "relu" else TanhMLP(sizes)


class _Config(Protocol):
    """What the configuration of each of them holds."""

    @property
    def batch_size(self) -> int: ...

    @property
    def evaluate(self) -> OfflineEvaluate: ...


def imitation(log_pi: Tensor, action: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """-log pi(a | s), averaged over the batch, and dL/d(logits) (n, n_actions) of that plus the penalty: L = mean of
    -log pi(a | s) + beta mean over a' of log pi(a' | s)^2. log_pi: (n, n_actions).

    With g = dL/d(log pi), dL/d(logits) = g - pi sum_a' g(a').
    """
    n, n_actions = log_pi.shape
    g = log_pi * (2 * beta / (n * n_actions))
    nll = -log_pi.gather(1, action.unsqueeze(1)).mean()
    g.scatter_add_(1, action.unsqueeze(1), g.new_full((n, 1), -1 / n))
    return nll, g - log_pi.exp() * g.sum(1, keepdim=True)


class OfflineAgent(Capturable):
    """Scores every action, and takes the best. The softmax of the scores is its stochastic policy."""

    actions = "discrete"
    learns_from = "dataset"
    config: _Config
    action_space: spaces.Discrete

    @abstractmethod
    def scores(self, obs: Any) -> Tensor:
        """(n, *obs) -> (n, n_actions)"""

    @abstractmethod
    def source(self, *datasets: Transitions) -> Any:
        """Where its batches come from: one dataset, or of every batch an equal share from each of several."""

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """argmax of the scores, or a ~ softmax(scores) where the evaluation shall be stochastic (evaluate: sample)."""
        with torch.inference_mode():
            scores = self.scores(tensors(obs, self.device)).cpu()
        if explore or self.config.evaluate == "sample":
            return torch.multinomial(scores.softmax(1), 1, generator=gen).squeeze(1).numpy()
        return scores.numpy().argmax(1)

    def check(self, datasets: Sequence[Transitions], obs_size: int) -> None:
        """Raises ConfigError where a dataset is none of this task."""
        n = int(self.action_space.n)
        for data in datasets:
            if data.obs_size != obs_size:
                raise ConfigError(
                    f"{data.source}: its observations have {data.obs_size} numbers, those of the task {obs_size}: "
                    "choose the env that it is from"
                )
            if (largest := int(data.action.max())) >= n:
                raise ConfigError(
                    f"{data.source}: it has the action {largest}, the task has 0 to {n - 1}: choose the env that "
                    "it is from"
                )


class TransitionAgent(OfflineAgent):
    """One that learns from single transitions of vector observations."""

    def source(self, *datasets: Transitions) -> UniformTransitions:
        self.check(datasets, vector_size(self.observation_space))
        return UniformTransitions(
            datasets, batch_size=self.config.batch_size, discount=self.discount, device=self.device
        )

    @property
    def discount(self) -> float | None:
        """Factor of the bootstrap value; None for one that has no values, and needs no next observation."""
        return None
