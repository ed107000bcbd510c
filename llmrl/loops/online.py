"""The one online training loop. It takes n environments and knows no algorithm, no method and no configuration group.

A pass is: evaluate if due, stop if asked, checkpoint if due, begin episodes, step, store, learn. All that can be
interrupted stands at the top of the pass, where the state is whole, so a checkpoint taken there continues exactly.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from llmrl.contracts.agent import Agent, executed
from llmrl.contracts.env import Wrapper
from llmrl.contracts.explorer import Clock, EpisodeSummary, Explorer
from llmrl.contracts.replay import Step
from llmrl.runs import play, seeding
from llmrl.runs.checkpoint import Checkpoints
from llmrl.runs.files import DiskError
from llmrl.runs.log import RunLog
from llmrl.runs.stop import Stop


class TrainingDiverged(Exception):
    """A metric became infinite or NaN."""


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


@dataclass
class Schedule:
    """When things are due, in env_steps (seconds for checkpoints)."""

    env_steps: int
    evaluate_every: int
    log_every: int
    checkpoint_every_s: float


class OnlineTraining:
    """One training from its first step, or from its newest checkpoint, to its last."""

    def __init__(
        self,
        agent: Agent,
        explorer: Explorer,
        envs: list[gym.Env],
        *,
        seed: int,
        schedule: Schedule,
        evaluate: Callable[[Clock], None],
        log: RunLog,
        checkpoints: Checkpoints,
        stop: Stop,
        report: Callable[[Clock, dict], None],
    ) -> None:
        self.agent, self.explorer, self.replay_buffer = agent, explorer, agent.replay_buffer()
        self.slots = [EnvSlot(env) for env in envs]
        self.seed, self.schedule = seed, schedule
        self.evaluate, self.log, self.checkpoints, self.stop, self.report = evaluate, log, checkpoints, stop, report
        self.clock = Clock()
        self.next_episode = 0
        self.evaluated_at = -1  # env_steps of the last evaluation
        self.last_episode: EpisodeSummary | None = None
        self.last_update: dict[str, torch.Tensor] = {}
        self.rng_explore = seeding.generator(seed, "explore")
        self.rng_replay = seeding.generator(seed, "replay")
        self.gen_act = seeding.torch_generator(seed, "act")
        self._saved_at = self._reported_at = time.monotonic()
        self._reported_steps = 0

    def run(self) -> Clock:
        """Trains to the end of the budget. Whatever interrupts it at the top of a pass leaves a checkpoint behind."""
        for complaint in self._resume():
            self.report(self.clock, {"warning": complaint})
        whole = True  # whether the state is that of the top of a pass
        try:
            while True:
                self._evaluate_if_due()
                self.stop.poll()
                self._checkpoint_if_due()
                if self.clock.env_steps >= self.schedule.env_steps:
                    break
                self._begin_episodes()
                whole = False
                step = self._step()
                self._learn(step)
                self._log_if_due()
                whole = True
        except DiskError:  # another attempt to write would fail as well
            raise
        except BaseException:  # asked to stop, paused, or failed where nothing has been lost yet
            if whole:
                self.save()
            raise
        self._report_progress()
        self.log.flush()
        return self.clock

    # --- a pass -----------------------------------------------------------------------------------------------------

    def _begin_episodes(self) -> None:
        for slot in self.slots:
            if slot.over:
                self.explorer.on_episode_start(self.clock, self.next_episode, self.last_episode)
                slot.obs, slot.info = play.reset(slot.env, seed=self._episode_seed(self.next_episode))
                slot.number, slot.over, slot.episode_return, slot.actions = self.next_episode, False, 0.0, []
                self.next_episode += 1

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
        for i, (slot, action) in enumerate(zip(self.slots, executed(self.agent, actions))):
            slot.obs, paid, ended, truncated, slot.info = play.step(slot.env, action)
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
                out = self.agent.update(batch)
                self.replay_buffer.after(batch, out)
                self.clock.updates += 1
            # kept by name: what only some updates give (TD3's actor loss) is logged as it was last
            self.last_update |= {name: value for name, value in out.items() if value.ndim == 0}

    # --- what is due now and then -----------------------------------------------------------------------------------

    def _due(self, every: int) -> bool:
        """Whether this step, which added one env_step per environment, reached or passed a multiple of `every`."""
        return self.clock.env_steps % every < len(self.slots)

    def _evaluate_if_due(self) -> None:
        end = self.clock.env_steps >= self.schedule.env_steps
        if (self._due(self.schedule.evaluate_every) or end) and self.evaluated_at != self.clock.env_steps:
            self.evaluate(self.clock)
            self.evaluated_at = self.clock.env_steps
            self._report_progress()

    def _log_if_due(self) -> None:
        if self._due(self.schedule.log_every):
            numbers = {k: float(v) for k, v in self.last_update.items()}
            if bad := [k for k, v in numbers.items() if not math.isfinite(v)]:
                raise TrainingDiverged(f"{bad[0]} is {numbers[bad[0]]} at {self.clock.env_steps:,} env_steps")
            more = self.explorer.metrics() | self._env_metrics()
            self.log.metrics({"kind": "train", **asdict(self.clock), **numbers, **more})
        if time.monotonic() - self._reported_at > 1.0:
            self._report_progress()

    def _env_metrics(self) -> dict[str, float]:
        found = [slot.env.metrics() for slot in self.slots if isinstance(slot.env, Wrapper)]
        return {name: float(np.mean([metrics[name] for metrics in found])) for name in found[0]} if found else {}

    def _report_progress(self) -> None:
        now = time.monotonic()
        speed = (self.clock.env_steps - self._reported_steps) / max(now - self._reported_at, 1e-9)
        self._reported_at, self._reported_steps = now, self.clock.env_steps
        self.log.timing({"env_steps": self.clock.env_steps, "env_steps_per_s": round(speed, 1), "time": time.time()})
        self.log.flush()
        last = {"return": self.last_episode.episode_return} if self.last_episode else {}
        self.report(self.clock, last | self.explorer.metrics())

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def _checkpoint_if_due(self) -> None:
        if time.monotonic() - self._saved_at >= self.schedule.checkpoint_every_s:
            self.save()

    def save(self) -> None:
        self.checkpoints.save(self.state_dict(), self.replay_buffer, self.log.offsets())
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict:
        return {
            "clock": asdict(self.clock),
            "slots": [slot.state_dict() for slot in self.slots],
            "next_episode": self.next_episode,
            "evaluated_at": self.evaluated_at,
            "last_episode": self.last_episode,
            "last_update": self.last_update,
            "rng": (self.rng_explore.bit_generator.state, self.rng_replay.bit_generator.state),
            "gen_act": self.gen_act.get_state(),
            "agent": self.agent.state_dict(),
            "explorer": self.explorer.state_dict(),
        }

    def _resume(self) -> list[str]:
        found = self.checkpoints.load(self.replay_buffer)
        self.log.cut(found.offsets)
        if found.state is None:
            return found.complaints
        state = found.state
        self.clock = Clock(**state["clock"])
        self.next_episode, self.evaluated_at = state["next_episode"], state["evaluated_at"]
        self.last_episode, self.last_update = state["last_episode"], state["last_update"]
        self.rng_explore.bit_generator.state, self.rng_replay.bit_generator.state = state["rng"]
        self.gen_act.set_state(state["gen_act"])
        self.agent.load_state_dict(state["agent"])
        self.explorer.load_state_dict(state["explorer"])
        for slot, saved in zip(self.slots, state["slots"], strict=True):
            slot.restore(saved, self._episode_seed(saved["number"]))
        self._reported_steps = self.clock.env_steps
        return found.complaints

    def _episode_seed(self, number: int) -> int:
        return seeding.integer(self.seed, "env", number)


def _stack(leaves: list[Any]) -> Any:
    """Observations of n environments -> one batch; a view where there is one environment."""
    first = leaves[0]
    if isinstance(first, dict):
        return {key: _stack([leaf[key] for leaf in leaves]) for key in first}
    return np.asarray(first)[None] if len(leaves) == 1 else np.stack(leaves)
