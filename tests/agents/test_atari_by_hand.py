"""Atari's preprocessing on a console that is scripted frame by frame."""

from enum import Enum

import numpy as np
import pytest

from llmrl.envs import atari
from llmrl.envs.atari import AtariEnv, Preprocess

Action = Enum("Action", "NOOP FIRE RIGHT")
ACTIONS = list(Action)
PLAIN = {
    "frame_skip": 2, "max_pool": False, "sticky": 0.0, "noop_max": 0, "fire_reset": False, "life_loss": True,
    "clip_reward": True, "resize": "area84", "frame_stack": 3, "pad": "first", "full_action_space": False,
    "max_frames": 1000,
}  # fmt: skip


class Console:
    """Frame t shows t everywhere, pays points[t] and leaves lives[t]; the game is over at its last frame, or truncated
    after `limit` frames."""

    def __init__(self, points, lives, limit=None, pictures=None):
        self.points, self.left, self.limit, self.pictures = points, lives, limit, pictures
        self.t, self.played, self.restored = 0, [], 0

    def cloneState(self, include_rng):  # noqa: N802
        return "loaded"

    def restoreState(self, state):  # noqa: N802
        self.restored += state == "loaded"

    def reset_game(self):
        self.t = 0

    def getScreenDims(self):  # noqa: N802
        return 210, 160

    def getScreenGrayscale(self, out):  # noqa: N802
        out[:] = self.t if self.pictures is None else self.pictures[self.t]

    def lives(self):
        return self.left[self.t]

    def act(self, action):
        self.played.append(action.name)
        self.t += 1
        return self.points[self.t]

    def game_over(self, with_truncation=True):
        return self.t == len(self.points) - 1 or (with_truncation and self.game_truncated())

    def game_truncated(self):
        return self.t == self.limit


@pytest.fixture
def game(monkeypatch):
    def make(console, *, learning=True, **changes):
        monkeypatch.setattr(atari, "_load", lambda name, options: (console, ACTIONS))
        return AtariEnv("any", Preprocess(**PLAIN | changes), learning=learning, render=False)

    return make


def played(env, n):
    """(newest frame, reward, terminated, truncated, info) of n steps."""
    rows = []
    for _ in range(n):
        obs, *rest = env.step(2)
        rows.append((int(obs[-1, 0, 0]), *rest))
    return rows


def test_an_extra_life_is_no_lost_one_and_a_lost_one_is_told_once(game):
    lives = [3, 3, 3, 3, 4, 4, 4, 4, 3, 3, 3, 2, 3, 3, 3]
    env = game(Console([0] * 15, lives))
    env.reset(seed=0)
    assert [row[4]["life_lost"] for row in played(env, 7)] == [False, False, False, True, False, False, False]
    env.reset(seed=0)
    assert env.step(0)[4] == {"life_lost": False, "reward_env": 0.0}
    env = game(Console([0] * 15, lives), learning=False)
    env.reset(seed=0)
    assert [row[4] for row in played(env, 4)] == [{}] * 4
    env = game(Console([0] * 15, lives), life_loss=False, clip_reward=False)
    env.reset(seed=0)
    assert [row[4] for row in played(env, 4)] == [{}] * 4


def test_a_steps_points_are_those_of_all_its_frames_and_clipping_keeps_the_sign(game):
    points = [0, 3, 4, -5, 1, 2, -2, 0, 0, 1, 0]
    console = Console(points, [0] * 11)
    env = game(console)
    env.reset(seed=0)
    rows = played(env, 5)
    assert [(row[1], row[4]["reward_env"]) for row in rows] == [(1, 7), (-1, -4), (0, 0), (0, 0), (1, 1)]
    assert console.played == ["RIGHT"] * 10 and [row[0] for row in rows] == [2, 4, 6, 8, 10]
    for off in ({"learning": False}, {"clip_reward": False}):
        env = game(Console(points, [0] * 11), **off)
        env.reset(seed=0)
        rows = played(env, 5)
        assert [row[1] for row in rows] == [7, -4, 0, 0, 1] and "reward_env" not in rows[0][4]
    env = game(Console(points, [0] * 11), frame_skip=5)
    env.reset(seed=0)
    assert [row[4]["reward_env"] for row in played(env, 2)] == [5, -1]


def test_game_over_terminates_and_the_frame_limit_truncates(game):
    env = game(Console([0] * 5, [1] * 5))
    env.reset(seed=0)
    assert [row[2:4] for row in played(env, 2)] == [(False, False), (True, False)]
    env = game(Console([0] * 9, [1] * 9, limit=4))
    env.reset(seed=0)
    assert [row[2:4] for row in played(env, 2)] == [(False, False), (False, True)]


@pytest.mark.parametrize("pad", ["first", "zero"])
def test_a_stack_ends_with_the_newest_picture(game, pad):
    pictures = [9, 1, 2, 3, 4, 5, 6, 7, 8]
    env = game(Console([0] * 9, [1] * 9, pictures=pictures), pad=pad)
    obs, info = env.reset(seed=0)
    assert obs[:, 5, 5].tolist() == ([9, 9, 9] if pad == "first" else [0, 0, 9]) and info == {}
    assert [env.step(0)[0][:, 5, 5].tolist() for _ in range(3)] == [
        [9 if pad == "first" else 0, 9, 2], [9, 2, 4], [2, 4, 6]]  # fmt: skip


def test_of_the_last_two_frames_of_a_step_the_brighter_counts(game):
    pictures = [0, 9, 50, 40, 90, 30, 20, 70, 60]
    for pooled, seen in ((True, [90, 70]), (False, [90, 60])):
        env = game(Console([0] * 9, [1] * 9, pictures=pictures), max_pool=pooled, frame_skip=4)
        env.reset(seed=0)
        assert [row[0] for row in played(env, 2)] == seen
    env = game(Console([0] * 9, [1] * 9, pictures=pictures), max_pool=True, frame_skip=3)
    env.reset(seed=0)
    assert [row[0] for row in played(env, 2)] == [50, 30]


def test_an_episode_begins_with_noops_and_fire_where_they_are_asked_for(game):
    console = Console([0] * 99, [1] * 99)
    env = game(console, noop_max=5)
    counts = []
    for seed in range(40):
        console.played.clear()
        env.reset(seed=seed)
        counts.append(len(console.played))
        assert set(console.played) == {"NOOP"}
    assert set(counts) == {1, 2, 3, 4, 5} and console.restored == 40
    console.played.clear()
    env.reset(seed=3)
    assert len(console.played) == counts[3]
    console = Console([0] * 99, [1] * 99)
    game(console, fire_reset=True).reset(seed=0)
    assert console.played == ["FIRE", "FIRE", "RIGHT", "RIGHT"]
    over = Console([0] * 5, [1] * 5)  # FIRE and the action after it end the game: it begins again
    obs, _ = game(over, fire_reset=True).reset(seed=0)
    assert over.restored == 2 and over.t == 0 and obs[-1, 0, 0] == 0


def test_a_sticky_frame_repeats_what_was_executed_before(game):
    console = Console([0] * 99, [1] * 99)
    env = game(console, sticky=0.25)
    env.reset(seed=0)
    twin = np.random.Generator(np.random.PCG64(0))  # gymnasium's generator of seed 0
    held, expected = "NOOP", []
    for action in [1, 2, 0, 1, 2, 2, 0, 1]:
        env.step(action)
        for _ in range(2):
            held = ACTIONS[action].name if twin.random() >= 0.25 else held
            expected.append(held)
    assert console.played == expected and expected[::2] != [
        "FIRE",
        "RIGHT",
        "NOOP",
        "FIRE",
        "RIGHT",
        "RIGHT",
        "NOOP",
        "FIRE",
    ]


def test_nothing_of_an_episode_is_left_in_the_next(game):
    """Neither the action that a sticky frame would repeat nor the picture that the first one is pooled with."""
    console = Console([0] * 99, [1] * 99, pictures=[5, *[200] * 98])
    env = game(console, sticky=1.0, max_pool=True)
    env.reset(seed=0)
    played(env, 3)
    assert set(console.played) == {"NOOP"}, "always repeated, from the start on"
    env._held = Action.RIGHT
    obs, _ = env.reset(seed=0)
    assert obs[:, 0, 0].tolist() == [5, 5, 5]
    env.step(1)
    assert console.played[-2:] == ["NOOP", "NOOP"]


def test_a_crop_of_130x144_is_cut_and_not_scaled(game):
    picture = np.arange(210 * 160).reshape(210, 160) % 251
    env = game(Console([0] * 9, [1] * 9, pictures=[picture] * 9), resize="crop_130x144", frame_stack=1)
    obs, _ = env.reset(seed=0)
    assert env.observation_space.shape == obs.shape == (1, 130, 144)
    np.testing.assert_array_equal(obs[0], picture[28:158, 8:152])


def test_pooling_wants_two_frames():
    assert Preprocess(**PLAIN | {"max_pool": True, "frame_skip": 2}).max_pool
    with pytest.raises(ValueError, match="needs two frames"):
        Preprocess(**PLAIN | {"max_pool": True, "frame_skip": 1})
    assert not Preprocess(**PLAIN | {"frame_skip": 1}).max_pool
