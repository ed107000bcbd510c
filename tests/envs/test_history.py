"""What an agent with history sees, step by step."""

import gymnasium as gym
import numpy as np
import pytest

from llmrl.checks import ConfigError
from llmrl.envs.history import History, WithHistory


def test_a_history_fills_up_and_then_moves_on():
    """Two episodes of context 3: states and actions from left to right, what was earned before each state."""
    history = History(np.array([[1.0], [10.0]]), 3)
    seen = history.seen()
    assert seen["state"][:, :, 0].tolist() == [[1, 0, 0], [10, 0, 0]] and seen["length"].tolist() == [1, 1]
    assert seen["action"].tolist() == seen["earned"].tolist() == [[0, 0, 0]] * 2
    for t in (1, 2, 3):
        history.add(np.array([t, 4 + t]), np.array([0.5, -1.0]), np.array([[1.0 + t], [10.0 + t]]))
        after = history.seen()
        if t == 2:
            assert after["state"][:, :, 0].tolist() == [[1, 2, 3], [10, 11, 12]] and after["length"].tolist() == [3, 3]
            assert after["action"].tolist() == [[1, 2, 0], [5, 6, 0]]
            assert after["earned"].tolist() == [[0, 0.5, 1.0], [0, -1, -2]]
    assert after["state"][:, :, 0].tolist() == [[2, 3, 4], [11, 12, 13]] and after["length"].tolist() == [3, 3]
    assert after["action"].tolist() == [[2, 3, 0], [6, 7, 0]]
    assert after["earned"].tolist() == [[0.5, 1.0, 1.5], [-1, -2, -3]]
    assert seen["length"].tolist() == [1, 1], "what was seen is a copy"
    history.keep(np.array([False, True]))
    history.add(np.array([1]), np.array([5.0]), np.array([[14.0]]))
    assert history.seen()["earned"].tolist() == [[-2, -3, 2]] and history.seen()["state"].shape == (1, 3, 1)


class Counted(gym.Env):
    observation_space = gym.spaces.Dict(b=gym.spaces.Box(-9, 9, (1,)), a=gym.spaces.Box(-9, 9, (2,)))
    action_space = gym.spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self._seen(), {"seed": seed}

    def step(self, action):
        self.t += 1
        return self._seen(), 2.0, self.t == 2, False, {"t": self.t}

    def _seen(self):
        return {"b": np.float32([7]), "a": np.float32([self.t, -self.t])}


def test_an_environment_with_history_begins_anew_at_a_reset_and_sorts_its_parts():
    env = WithHistory(Counted(), 2)
    numbers = gym.spaces.Box(-np.inf, np.inf, (2, 3)), gym.spaces.Box(-np.inf, np.inf, (2,))
    assert env.observation_space == gym.spaces.Dict(
        state=numbers[0], action=gym.spaces.Box(0, 3, (2,), np.int64), earned=numbers[1],
        length=gym.spaces.Box(1, 2, (), np.int64),
    )  # fmt: skip
    for _ in range(2):
        obs, info = env.reset(seed=4)
        assert info == {"seed": 4} and obs["state"].tolist() == [[0, 0, 7], [0, 0, 0]] and obs["length"] == 1
        obs, *rest = env.step(3)
        assert rest == [2.0, False, False, {"t": 1}] and obs["state"].tolist() == [[0, 0, 7], [1, -1, 7]]
        assert obs["action"].tolist() == [3, 0] and obs["earned"].tolist() == [0, 2] and obs["length"] == 2
        obs, *rest = env.step(1)
        assert rest[1] is True and obs["action"].tolist() == [1, 0] and obs["earned"].tolist() == [2, 4]


def test_other_actions_and_observations_are_refused():
    env = Counted()
    env.action_space = gym.spaces.Box(-1, 1, (1,))
    with pytest.raises(ConfigError, match="discrete actions"):
        WithHistory(env, 2)
    env = Counted()
    env.observation_space = gym.spaces.Dict(a=gym.spaces.Discrete(3))
    with pytest.raises(ConfigError, match="holds vectors"):
        WithHistory(env, 2)
