"""The one online training loop. It takes n environments and knows no algorithm, no method and no configuration group.

A pass is: begin episodes, step, store, learn.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Unpack

import gymnasium as gym
import numpy as np

from llmrl.contracts.agent import Agent, executed
from llmrl.contracts.env import Wrapper
from llmrl.contracts.explorer import EpisodeSummary, Explorer
from llmrl.contracts.replay import ReplayBuffer, Step
from llmrl.loops.lockstep import Update
from llmrl.loops.training import Services, Training
from llmrl.runs import play, seeding


@dataclass
class EnvSlot:
    """One environment and where its episode stands. An episode is its seed and its actions: they are what is saved."""

    env: gym.Env
    number: int = -1  # of the current episode; -1 before the first
    over: bool = True
    episode_return: float = 0.0
    actions: list = field(default_factory=list)
    obs: Any = None
    info: dict = field(default_factory=dict)

    def state_dict(self) -> dict:
        own = self.env.state_dict() if hasattr(self.env, "state_dict") else None  # what an env keeps across episodes
        actions = np.asarray(self.actions)
        return {
            "number": self.number, "over": self.over, "return": self.episode_return, "actions": actions, "env": own
        }  # fmt: skip

    def restore(self, state: dict, seed: int) -> None:
        """Resets with the episode's seed and replays its actions; exact where simulator snapshots are not."""
        self.number, self.over, self.episode_return = state["number"], state["over"], state["return"]
        self.actions = list(state["actions"])
        if not self.over:
            self.obs, self.info = play.reset(self.env, seed=seed)
            for action in self.actions:
                self.obs, _, _, _, self.info = play.step(self.env, action)
        if state["env"] is not None:  # last: the replay would count twice
            assert hasattr(self.env, "load_state_dict")  # it has a state_dict
            self.env.load_state_dict(state["env"])


class OnlineTraining(Training):
    """Steps n environments side by side, and learns from what they bring."""

    unit = "env_steps"
    replay_buffer: ReplayBuffer

    def __init__(
        self,
        agent: Agent,
        explorer: Explorer,
        envs: list[gym.Env],
        *,
        seed: int,
        update: Update | None = None,
        **services: Unpack[Services],
    ) -> None:
        """`update`: the agent's own where None."""
        super().__init__(**services)
        self.update = update or agent.update
        self.agent, self.explorer, self.replay_buffer = agent, explorer, agent.replay_buffer()
        self.slots = [EnvSlot(env) for env in envs]
        self.stride = len(self.slots)
        self.seed = seed
        self.next_episode = 0
        self.last_episode: EpisodeSummary | None = None
        self.rng_explore = seeding.generator(seed, "explore")
        self.rng_replay = seeding.generator(seed, "replay")
        self.gen_act = seeding.torch_generator(seed, "act")

    def _begin_pass(self) -> None:
        """Begins the episodes that are to begin."""
        for slot in self.slots:
            if slot.over:
                self.explorer.on_episode_start(self.clock, self.next_episode, self.last_episode)
                slot.obs, slot.info = play.reset(slot.env, seed=self._episode_seed(self.next_episode))
                slot.number, slot.over, slot.episode_return, slot.actions = self.next_episode, False, 0.0, []
                self.next_episode += 1

    def _pass(self) -> None:
        self._learn(self._step())

    def _step(self) -> Step:
        obs = _stack([slot.obs for slot in self.slots])
        infos = [slot.info for slot in self.slots]
        proposed = self.explorer.propose(
            obs, lambda: self.agent.act(obs, explore=True, gen=self.gen_act), self.clock, infos, self.rng_explore
        )
        actions = np.array(proposed)  # a copy: whoever proposed them may reuse the array
        n = len(self.slots)
        reward = np.empty(n, np.float32)
        terminated, last = np.empty(n, bool), np.empty(n, bool)
        stepped = play.step_all([slot.env for slot in self.slots], taken := executed(self.agent, actions))
        for i, (slot, action, outcome) in enumerate(zip(self.slots, taken, stepped)):
            slot.obs, paid, ended, truncated, slot.info = outcome
            slot.actions.append(action)
            reward[i] = paid
            slot.episode_return += float(slot.info.get("reward_env", paid))
            terminated[i] = ended or slot.info.get("life_lost", False)
            last[i] = slot.over = ended or truncated
        step = Step(obs, actions, reward, _stack([slot.obs for slot in self.slots]), terminated, last)
        self.clock.env_steps += n
        for slot in self.slots:
            if slot.over:
                self._end_episode(slot)
        return step

    def _end_episode(self, slot: EnvSlot) -> None:
        summary = EpisodeSummary(slot.number, slot.episode_return, len(slot.actions), np.asarray(slot.actions))
        self.last_episode = summary
        self.clock.episodes += 1
        row = {"kind": "episode", **asdict(self.clock), "number": summary.number}
        self.log.metrics(row | {"return": summary.episode_return, "length": summary.length})

    def _learn(self, step: Step) -> None:
        self.replay_buffer.add(step)
        num_updates = self.replay_buffer.num_updates(self.clock)
        if num_updates > 0:
            for batch in self.replay_buffer.batches(num_updates, self.rng_replay, self.agent):
                out = self.update(batch)
                self.replay_buffer.after(batch, out)
                self.clock.updates += 1
            self._note_update(out)

    def _metrics(self) -> Mapping[str, Any]:
        found = [slot.env.metrics() for slot in self.slots if isinstance(slot.env, Wrapper)]
        means = {name: float(np.mean([metrics[name] for metrics in found])) for name in found[0]} if found else {}
        return self.explorer.metrics() | means

    def _facts(self) -> dict[str, Any]:
        last = {"return": self.last_episode.episode_return} if self.last_episode else {}
        return last | self.explorer.metrics()

    def _own_state(self) -> dict[str, Any]:
        return {
            "slots": [slot.state_dict() for slot in self.slots],
            "next_episode": self.next_episode,
            "last_episode": self.last_episode,
            "rng": (self.rng_explore.bit_generator.state, self.rng_replay.bit_generator.state),
            "gen_act": self.gen_act.get_state(),
            "agent": self.agent.state_dict(),
            "explorer": self.explorer.state_dict(),
        }

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        self.next_episode, self.last_episode = state["next_episode"], state["last_episode"]
        self.rng_explore.bit_generator.state, self.rng_replay.bit_generator.state = state["rng"]
        self.gen_act.set_state(state["gen_act"])
        self.agent.load_state_dict(state["agent"])
        self.explorer.load_state_dict(state["explorer"])
        for slot, saved in zip(self.slots, state["slots"], strict=True):
            slot.restore(saved, self._episode_seed(saved["number"]))

    def _episode_seed(self, number: int) -> int:
        return seeding.integer(self.seed, "env", number)


def _stack(leaves: list[Any]) -> Any:
    """Observations of n environments -> one batch; a view where there is one environment."""
    first = leaves[0]
    if isinstance(first, dict):
        return {key: _stack([leaf[key] for leaf in leaves]) for key in first}
    return np.asarray(first)[None] if len(leaves) == 1 else np.stack(leaves)
