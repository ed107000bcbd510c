"""Evaluation: own environments, fixed seeds, every episode kept. It leaves no trace in training."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.runs import play, seeding
from llmrl.runs.stop import Stop

Act = Callable[[Any, np.random.Generator], NDArray]  # ((1, *obs), the episode's generator) -> (1, *action)
SUCCESS = ("success", "success_authors", "success_official")  # keys of infos: the task's goal is reached, by a rule


class SideBySide(Protocol):
    """Episodes in lockstep, for environments that have them; `step` and `keep` are about those that are left."""

    def reset(self, cases: Sequence[tuple[int, dict | None]]) -> NDArray: ...

    def step(self, actions: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray, dict[str, NDArray]]: ...

    def keep(self, mask: NDArray) -> NDArray: ...


@dataclass(frozen=True)
class Case:
    """One evaluation episode: it is determined by its seed and options, whoever plays it."""

    seed: int
    options: dict | None = None


@dataclass
class Scores:
    """What the episodes of an evaluation set came to."""

    returns: list[float] = field(default_factory=list)  # undiscounted, the environment's own reward
    lengths: list[int] = field(default_factory=list)  # env_steps
    capped: int = 0  # episodes that neither terminated nor truncated within the step cap
    successes: dict[str, list[bool]] = field(default_factory=dict)  # by rule: was the goal reached at any step?
    measures: dict[str, list[float]] = field(default_factory=dict)  # sums over an episode of info["measures"]

    def add(
        self,
        total: float,
        length: int,
        over: bool,
        reached: dict[str, bool],
        measured: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """One episode; `reached`: what `reached_in` made of its infos; `measured`: the sums of its measures."""
        self.returns.append(total)
        self.lengths.append(length)
        self.capped += not over
        for rule, success in reached.items():
            self.successes.setdefault(rule, []).append(success)
        for name, value in measured.items():
            self.measures.setdefault(name, []).append(value)

    @classmethod
    def joined(cls, parts: Sequence["Scores"]) -> "Scores":
        """The episodes of all parts, in their order."""
        whole = cls()
        for part in parts:
            whole.returns += part.returns
            whole.lengths += part.lengths
            whole.capped += part.capped
            for rule, successes in part.successes.items():
                whole.successes.setdefault(rule, []).extend(successes)
            for name, values in part.measures.items():
                whole.measures.setdefault(name, []).extend(values)
        return whole

    def row(self) -> dict[str, Any]:
        return {"return_mean": float(np.mean(self.returns)), "returns": self.returns, "lengths": self.lengths,
                "capped": self.capped, **self.successes, **self.measures}  # fmt: skip


def reached_in(info: dict[str, Any], before: dict[str, bool]) -> dict[str, bool]:
    """Which of the task's goals an episode has reached, with this step's `info`; {} for a task that says nothing."""
    return {rule: bool(info[rule]) or before.get(rule, False) for rule in SUCCESS if rule in info}


def cases(seed: int, role: str, episodes: int, first: int = 0) -> list[Case]:
    """The cases of an evaluation set, from number `first` on: case i depends on (evaluation seed, role, i) alone, so
    every run plays the same ones."""
    return [Case(seeding.integer(seed, "eval", role, first + i)) for i in range(episodes)]


def batch_of_one(obs: Any) -> Any:
    return {k: v[None] for k, v in obs.items()} if isinstance(obs, dict) else np.asarray(obs)[None]


def evaluate(act: Act, env: gym.Env, evaluation_set: Sequence[Case], max_steps: int, stop: Stop) -> Scores:
    """Plays every case once, at most `max_steps` env_steps each. A signal cuts it short and leaves nothing behind."""
    scores = Scores()
    with stop.interruptible():
        for case in evaluation_set:
            rng = seeding.generator(case.seed, "act")
            obs, _ = play.reset(env, seed=case.seed, options=case.options)
            total, length, over = 0.0, 0, False
            reached: dict[str, bool] = {}
            measured: Counter[str] = Counter()
            while not over and length < max_steps:
                stop.poll()
                obs, reward, terminated, truncated, info = play.step(env, act(batch_of_one(obs), rng)[0])
                total += float(info.get("reward_env", reward))
                length += 1
                over = terminated or truncated
                reached = reached_in(info, reached)
                measured.update(info.get("measures", {}))
            scores.add(total, length, over, reached, measured)
    return scores


def evaluate_together(
    act: Act,
    episodes: SideBySide,
    evaluation_set: Sequence[Case],
    max_steps: int,
    stop: Stop,
    history_of: Callable[[NDArray], Any] | None = None,
) -> Scores:
    """`evaluate`, with all cases in lockstep. `history_of` makes an envs.history.History of the first observations, for
    a policy that acts by what happened before."""
    totals, lengths = np.zeros(len(evaluation_set)), np.zeros(len(evaluation_set), int)
    over, reached = np.zeros(len(evaluation_set), bool), np.zeros(len(evaluation_set), bool)
    playing = np.arange(len(evaluation_set))
    rng = seeding.generator(evaluation_set[0].seed, "act")
    with stop.interruptible():
        obs = episodes.reset([(case.seed, case.options) for case in evaluation_set])
        history = None if history_of is None else history_of(obs)
        for _ in range(max_steps):
            stop.poll()
            actions = act(obs if history is None else history.seen(), rng)
            obs, rewards, terminated, truncated, info = episodes.step(actions.copy())
            totals[playing] += rewards
            lengths[playing] += 1
            reached[playing] |= info["success"]
            ended = terminated | truncated
            over[playing] = ended
            if history is not None:
                history.add(actions, rewards, obs)
                history.keep(~ended)
            playing = playing[~ended]
            if not len(playing):
                break
            obs = episodes.keep(~ended)
    return Scores(totals.tolist(), lengths.tolist(), int((~over).sum()), {"success": reached.tolist()})


def uniform_policy(space: gym.Space) -> Act:
    """The random policy: every action of the space equally likely."""
    if isinstance(space, gym.spaces.Discrete):
        return lambda obs, rng: rng.integers(space.n, size=1)
    assert isinstance(space, gym.spaces.Box)  # as check_spaces has it
    low, high, shape, dtype = space.low, space.high, space.shape, space.dtype
    return lambda obs, rng: rng.uniform(low, high, (1, *shape)).astype(dtype)


def with_epsilon(act: Act, epsilon: float, space: gym.Space) -> Act:
    """Follows `act`, but with probability `epsilon` a random action: 0.001 or 0.05 is customary on Atari."""
    random = uniform_policy(space)

    def mixed(obs: Any, rng: np.random.Generator) -> NDArray:
        return random(obs, rng) if rng.random() < epsilon else act(obs, rng)

    return mixed if epsilon > 0 else act
