"""Rollouts by a declared noisy script, successful ones alone and equally many of each of the 80 base goals.

Nobody has said how the authors collected theirs. Of 80 that they published (docs/papers/kalm.md) all end in success,
the median length is 5 env_steps and the mean 11.2, and 67 % of the pushes are of dst, 28 % of src.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, Probability
from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot.batch import Scenes
from llmrl.envs.clevr_robot.config import Config
from llmrl.envs.clevr_robot.model import ACTIONS, DIRECTIONS, STATE, at_rest, xy_of
from llmrl.envs.clevr_robot.rollouts import Rollouts, joined
from llmrl.envs.clevr_robot.start import sample_xy

REACH = 0.3  # m from dst, where the script wants src
WAVE = 4096  # attempts at most that are played side by side; the result depends on it
COMPASS = DIRECTIONS / np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)


@dataclass(frozen=True)
class Script:
    """Pushes src towards the point REACH beside dst, or dst the other way, and now and then anything anywhere.

    random 0.4 and dst 0 is the noisy greedy policy beside KALM; 0.1 and 0.75 come near the authors' rollouts.
    """

    random: Probability  # share of uniformly random actions
    dst: Probability  # share of pushes of dst among the others

    def act(self, goals: NDArray, xy: NDArray, rng: np.random.Generator) -> NDArray[np.int64]:
        """Base goals (n, 6), xy (n, 5, 2) -> actions (n,)."""
        n = len(goals)
        wanted = REACH * g.UNIT[goals[:, 5]] - g.offset(goals, xy)  # how src has to move, seen from dst
        push_dst = rng.random(n) < self.dst
        wanted[push_dst] *= -1
        ball = np.where(push_dst, (goals[:, :5] == 2).argmax(1), (goals[:, :5] == 1).argmax(1))
        greedy = len(DIRECTIONS) * ball + (wanted @ COMPASS.T).argmax(1)
        return np.where(rng.random(n) < self.random, rng.integers(ACTIONS, size=n), greedy)


def collect(
    config: Config,
    script: Script,
    n: int,
    rng: np.random.Generator,
    *,
    threads: int = 1,
    with_states: bool = False,
    tell: Callable[[int, int], None] = lambda done, n: None,
) -> Rollouts:
    """n successful rollouts, n / 80 of each base goal, in random order.

    Attempts are played in waves, each to its end, and of a goal's successes the first in the order of their starts are
    kept; so a short rollout has no better chance than a long one. `tell` hears how many of n there are. Raises
    ConfigError where n is not a multiple of 80.
    """
    if n <= 0 or n % len(g.BASE):
        raise ConfigError(f"rollouts are balanced over {len(g.BASE)} goals: n is a multiple of it, not {n}")
    missing = np.full(len(g.BASE), n // len(g.BASE))
    scenes, waves, rate = Scenes(config, threads), [], 1.0
    while missing.any():
        order = np.repeat(np.arange(len(g.BASE)), np.ceil(missing / rate).astype(int))
        tried = rng.permutation(order)[:WAVE]
        wave = play(scenes, script, g.BASE[tried], config.max_episode_steps, rng, with_states)
        ended = wave.terminals.any(1)
        rate = max(0.1, float(ended.mean()))
        kept = []
        for i in np.flatnonzero(ended).tolist():
            if missing[tried[i]] > 0:
                missing[tried[i]] -= 1
                kept.append(i)
        waves.append(wave.take(np.array(kept, int)))
        tell(n - int(missing.sum()), n)
    return joined(waves).take(rng.permutation(n))


def play(
    scenes: Scenes, script: Script, goals: NDArray, max_steps: int, rng: np.random.Generator, with_states: bool
) -> Rollouts:
    """An attempt for each goal (n, 6), from random starts to success or max_steps. Those that fail have no terminal."""
    n = len(goals)
    seen = scenes.reset(goals, at_rest(np.stack([sample_xy(rng) for _ in range(n)])))
    out = Rollouts(
        observations=np.zeros((n, max_steps + 1, seen.shape[1]), np.float32),
        actions=np.zeros((n, max_steps), np.int32),
        rewards=np.zeros((n, max_steps), np.float32),
        terminals=np.zeros((n, max_steps), bool),
        lengths=np.full(n, max_steps, np.int32),
        goals=goals.astype(np.int32),
        states=np.zeros((n, max_steps + 1, STATE)) if with_states else None,
    )
    out.observations[:, 0] = seen
    if out.states is not None:
        out.states[:, 0] = scenes.states
    playing = np.arange(n)
    for t in range(max_steps):
        actions = script.act(scenes.goals, xy_of(scenes.states), rng)
        seen, out.rewards[playing, t], over, _ = scenes.step(actions)
        out.actions[playing, t], out.terminals[playing, t] = actions, over
        out.observations[playing, t + 1] = seen
        if out.states is not None:
            out.states[playing, t + 1] = scenes.states
        out.lengths[playing[over]] = t + 1
        scenes.keep(~over)
        playing = playing[~over]
        if not len(playing):
            break
    return out
