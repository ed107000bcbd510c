"""Rainbow (Hessel et al. 2018, arXiv 1710.02298): distributional, double, dueling and noisy Q-learning on prioritised
n-step replay."""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor

from llmrl.agents.capturable import Capturable
from llmrl.agents.configs import RainbowConfig as Config
from llmrl.agents.dqn import epsilon_schedule
from llmrl.agents.nets import Noise, Optimizer, Target, initialised_by, is_frames, tensors
from llmrl.agents.nets_distributional import CategoricalQNetwork
from llmrl.contracts.replay import Batch, OneStepRows
from llmrl.explore.epsilon_greedy import EpsilonGreedy
from llmrl.explore.unchanged import Unchanged
from llmrl.replay.frames import FrameReplay
from llmrl.replay.nstep import NStepReplay
from llmrl.replay.prioritized import PrioritizedReplay
from llmrl.replay.ring import Sampling
from llmrl.replay.uniform import UniformReplay


class Rainbow(Capturable):
    """A network that gives a distribution of returns on the atoms z_i for every action, and a copy of it."""

    actions = "discrete"
    config: Config
    action_space: spaces.Discrete

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        obs = self.observation_space
        with initialised_by(self.gen):
            self.q = CategoricalQNetwork(
                obs,
                int(self.action_space.n),
                config.hidden_after_convolutions if is_frames(obs) else config.hidden,
                atoms=config.atoms,
                v_min=config.v_min,
                v_max=config.v_max,
                sigma0=config.sigma0,
                convolutions=config.convolutions,
            ).to(self.device)
        self.target = Target(self.q)
        self.optimizer = self._optimizer(self.q)
        self.held = self._noise() if config.acting_noise == "every_update" else None  # what acting uses until then

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """argmax_a sum_i z_i p_i(s, a); to explore with noise, either new from `gen` or held since the last update."""
        with torch.inference_mode():
            noise = (self.held or self.q.draw(gen, self.device)) if explore else None
            return self.q.expected(self.q(tensors(obs, self.device), noise)).argmax(1).cpu().numpy()

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        out = super().update(batch)
        if self.held is not None:
            self.held = self._noise()
        return out

    def noise(self, n: int) -> tuple[Any, ...]:
        """eps of noisy layers: for the target, for the choice of a*, and for what learns."""
        return tuple(torch.randn(sum(self.q.noise_sizes), generator=self.gen) for _ in range(3))

    def due(self) -> bool:
        """The target is renewed."""
        return self.updates % self.config.target_update_every == 0

    def learn(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        loss, metrics = self.losses(batch, noise)
        # minimise sum_j w_j loss_j / batch, with the importance weights of prioritised replay
        self.optimizer.step((loss if batch.weight is None else batch.weight * loss).mean())

        if due:
            self.target.track(1.0)
        loss = loss.detach()
        return metrics | {"loss": loss.mean(), "priority": loss}

    def losses(self, batch: Batch, noise: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each transition (batch,), and metrics."""
        row = torch.arange(len(batch.action), device=self.device)
        target_noise, best_noise, own_noise = (self.q.shaped(eps) for eps in noise[:3])
        with torch.no_grad():
            # a* = argmax_a Q(s', a) by the online network, its distribution p'(s', a*) by the target network
            next_p = self.target.net(batch.next_obs, target_noise).softmax(-1)
            best = self.q.expected(self.q(batch.next_obs, best_noise)).argmax(1)
            m = self._project(next_p[row, best], batch)

        # cross-entropy -sum_i m_i log p_i(s, a): its gradient is that of the KL divergence, and it is what the common
        # implementations take as the priority too
        logits = self.q(batch.obs, own_noise)
        log_p = logits[row, batch.action].log_softmax(-1)
        with torch.no_grad():
            q = log_p.exp() @ self.q.z
        return -(m * log_p).sum(1), {"q": q.mean()}

    def _project(self, next_p: Tensor, batch: Batch) -> Tensor:
        """The distribution of R + gamma^k z, z ~ next_p, on the atoms again: (batch, atoms) -> (batch, atoms).

        m_i = sum_j [1 - |[T z_j] - z_i| / dz]_0^1 p_j, with T z_j clipped to the atoms' range (Bellemare et al., eq. 7)
        """
        z, c = self.q.z, self.config
        decay = batch.discount * (1 - batch.terminated)
        tz = (batch.reward[:, None] + decay[:, None] * z).clamp_(c.v_min, c.v_max)
        dz = (c.v_max - c.v_min) / (c.atoms - 1)
        share = (1 - (tz[:, None, :] - z[:, None]).abs_().div_(dz)).clamp_(0, 1)  # (batch, i, j)
        return (share @ next_p[:, :, None]).squeeze(2)

    def _noise(self) -> list[Noise] | None:
        return self.q.draw(self.gen, self.device)

    def _optimizer(self, module: torch.nn.Module) -> Optimizer:
        c = self.config
        return Optimizer(module, c.learning_rate, c.max_grad_norm, eps=c.adam_epsilon)

    def replay_buffer(self) -> PrioritizedReplay:
        c, obs, action = self.config, self.observation_space, self.action_space
        sampling = Sampling(c.batch_size, c.learning_starts, c.updates_per_env_step, c.gamma, with_replacement=True)
        rows: OneStepRows
        if is_frames(obs):
            rows = FrameReplay(obs, action, capacity=c.replay_size, n_envs=c.n_envs, sampling=sampling)
        else:
            rows = UniformReplay(obs, action, capacity=c.replay_size, n_envs=c.n_envs, sampling=sampling)
        return PrioritizedReplay(
            NStepReplay(rows, n=c.n_step, gamma=c.gamma),
            batch_size=c.batch_size,
            alpha=c.priority_exponent,
            beta=c.priority_weight_start,
            anneal_updates=(self.env_steps - c.learning_starts) * c.updates_per_env_step,
        )

    def explorer(self) -> EpsilonGreedy | Unchanged:
        """Noise alone, or epsilon-greedy on top of it."""
        if self.config.epsilon_schedule == "none":
            return Unchanged()
        return EpsilonGreedy(int(self.action_space.n), epsilon=epsilon_schedule(self.config, self.env_steps))

    def state_dict(self) -> dict:
        return {
            "q": self.q.state_dict(),
            "target": self.target.net.state_dict(),
            "adam": self.optimizer.adam.state_dict(),
            "gen": self.gen.get_state(),
            "updates": self.updates,
            "held": self.held,
        }

    def load_state_dict(self, state: dict) -> None:
        self.q.load_state_dict(state["q"])
        self.target.net.load_state_dict(state["target"])
        self.optimizer.adam.load_state_dict(state["adam"])
        self.gen.set_state(state["gen"])
        self.updates = state["updates"]
        self.held = state["held"] and [(f_out.to(self.device), f_in.to(self.device)) for f_out, f_in in state["held"]]


AGENT = Rainbow
