"""On-policy rollouts with generalised advantage estimation, GAE (Schulman et al. 2016, arXiv 1506.02438)."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llmrl.contracts.explorer import Clock
from llmrl.contracts.replay import Batch, ReplayBuffer, Ring, Step
from llmrl.replay.ring import Sampling
from llmrl.replay.uniform import UniformReplay

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.contracts.agent import Agent


@runtime_checkable
class ActorCritic(Protocol):
    """What a rollout needs of its agent. Called without gradients."""

    def values(self, obs: Any) -> "Tensor":
        """(batch, *obs) -> V(s) (batch,)"""

    def log_probs(self, obs: Any, action: "Tensor") -> "Tensor":
        """(batch, *obs), (batch, *action) -> log pi(a | s) (batch,)"""


class Rollout(ReplayBuffer):
    """The steps that one policy made: `n_steps` of every environment. When they are all there, `n_epochs` passes are
    made over them in minibatches; then the next rollout overwrites them."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        n_steps: int,
        n_envs: int,
        batch_size: int,
        n_epochs: int,
        gamma: float,
        gae_lambda: float,
    ) -> None:
        self.n_steps, self.n_envs, self.size = n_steps, n_envs, n_steps * n_envs
        self.batch_size, self.n_epochs, self.minibatches = batch_size, n_epochs, -(-self.size // batch_size)
        self.gae_lambda = gae_lambda
        # the rows are those of a replay that is as long as a rollout; of its sampling only gamma is used
        sampling = Sampling(batch_size, 0, 0, gamma, with_replacement=False)
        self.rows = UniformReplay(observation_space, action_space, capacity=self.size, sampling=sampling, n_envs=n_envs)
        self.last = np.zeros(self.size, np.float32)  # whether the episode ended with this step, or was truncated

    def add(self, step: Step) -> None:
        self.rows.add(step)
        self.last[self.rows.newest()] = step.terminated | step.last

    def num_updates(self, clock: Clock) -> int:
        """None until a rollout is full; then all the updates of its epochs at once."""
        return clock.env_steps // self.size * self.n_epochs * self.minibatches - clock.updates

    def batches(self, n: int, rng: np.random.Generator, agent: "Agent") -> Iterator[Batch]:
        """`n` minibatches, as many as are due. Must begin before the agent learns: it judges its own actions."""
        if n == 0:
            return
        rollout = self.judged(agent)
        for _ in range(n // self.minibatches):
            order = rng.permutation(self.size)
            epoch = _each(rollout, lambda column: column[order])  # noqa: B023 (called at once)
            for i in range(0, self.size, self.batch_size):
                yield _each(epoch, lambda column: column[i : i + self.batch_size])  # noqa: B023

    def judged(self, agent: "Agent") -> Batch:
        """The whole rollout, step by step and within a step by environment, with what `agent` says of it."""
        import torch

        if not isinstance(agent, ActorCritic):
            raise TypeError(
                f"{type(agent).__name__} has no values(obs) and log_probs(obs, action): a rollout needs both"
            )
        batch = self.rows.batch(np.arange(self.size), agent)
        with torch.no_grad():
            values, log_prob = agent.values(batch.obs), agent.log_probs(batch.obs, batch.action)
            # delta_t = r_t + gamma (1 - d_t) V(s_t+1) - V(s_t): a truncated episode is bootstrapped, a terminated not
            delta = batch.reward + batch.discount * (1 - batch.terminated) * agent.values(batch.next_obs) - values
        advantage = torch.from_numpy(self._advantages(delta.cpu().numpy())).to(values.device)
        return batch._replace(
            last=torch.from_numpy(self.last).to(values.device),
            log_prob=log_prob,
            advantage=advantage,
            value_target=advantage + values,  # the TD(lambda) return
        )

    def _advantages(self, delta: NDArray) -> NDArray:
        """A_t = delta_t + gamma lambda A_t+1 (size,), where A_t+1 = 0 if step t was its episode's last."""
        delta = delta.reshape(self.n_steps, self.n_envs)
        decay = np.float32(self.rows.sampling.discount * self.gae_lambda) * (1 - self.last.reshape(delta.shape))
        advantages, following = np.empty_like(delta), np.zeros(self.n_envs, np.float32)
        for t in reversed(range(self.n_steps)):
            following = advantages[t] = delta[t] + decay[t] * following
        return advantages.reshape(-1)

    def after(self, batch: Batch, out: Mapping[str, "Tensor"]) -> None:
        """Nothing to take back."""

    def rings(self) -> Mapping[str, Ring]:
        return self.rows.rings()

    def state_dict(self) -> dict:
        return {"last": self.last.copy()}

    def load_state_dict(self, state: dict) -> None:
        self.last[:] = state["last"]


def _each(batch: Batch, function: Callable[["Tensor"], "Tensor"]) -> Batch:
    """The batch with every tensor changed by `function`."""

    def of(leaf: Any) -> Any:
        if isinstance(leaf, Mapping):
            return {key: of(value) for key, value in leaf.items()}
        return leaf if leaf is None or isinstance(leaf, float) else function(leaf)

    return Batch(*map(of, batch))
