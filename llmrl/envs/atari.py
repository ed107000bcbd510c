"""Atari 2600 games: ALE, and the usual preprocessing as named options (conf/env/atari/preprocess/)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, Count, NonNegativeInt, Probability
from llmrl.contracts.env import Role, Task
from llmrl.envs.base import require

SIDES = {"area84": (84, 84), "crop_110x84": (84, 84), "crop_130x144": (130, 144)}  # height, width of an image, pixels


@dataclass(frozen=True)
class Preprocess:
    frame_skip: Count
    max_pool: bool
    sticky: Probability
    noop_max: NonNegativeInt
    fire_reset: bool
    life_loss: bool
    clip_reward: bool
    resize: Literal["area84", "crop_110x84", "crop_130x144"]
    frame_stack: Count
    pad: Literal["first", "zero"] = field(metadata={"neutral": "first"})  # runs from before this key keep their ids
    full_action_space: bool
    max_frames: Count

    def __post_init__(self) -> None:
        if self.max_pool and self.frame_skip < 2:
            raise ValueError("max_pool: needs two frames; set frame_skip to 2 or more, or max_pool to false")


@dataclass(frozen=True)
class Config:
    suite: str
    game: str
    preprocess: Preprocess
    task: Task

    @property
    def frames_per_step(self) -> int:
        return self.preprocess.frame_skip


def make(config: Config, role: Role, *, render: bool = False) -> "AtariEnv":
    """The game. Raises ConfigError where ale-py or OpenCV is missing, or where ALE has no such game."""
    return AtariEnv(config.game, config.preprocess, learning=role == "train", render=render)


class AtariEnv(gym.Env):
    """uint8 observations (frame_stack, height, width), newest last; a new array at every step: keep it unchanged.

    An episode is exact from its seed. No-op starts and sticky actions draw from the generator of `reset(seed=…)`, ALE
    draws nothing. ALE's reset alone is not exact: in a third of the games (Assault, Krull, Seaquest, …) it leaves
    traces of what was played before, so the state just after loading the ROM is put back first. That makes a reset of
    7 ms; loading the ROM again would take 110 ms.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}
    observation_space: gym.spaces.Box

    def __init__(self, game: str, preprocess: Preprocess, *, learning: bool, render: bool) -> None:
        self.ale, self._actions = _load(game, preprocess)
        self._just_loaded = self.ale.cloneState(include_rng=True)
        self._noop = self._actions[0]
        self._options = preprocess
        self._count_lives = learning and preprocess.life_loss
        self._clip = learning and preprocess.clip_reward
        self._fire = self._actions[1:3] if preprocess.fire_reset and self._actions[1].name == "FIRE" else []
        self._pool_at = preprocess.frame_skip - 2 if preprocess.max_pool else -1  # the frame before the last
        self._resize = _resizer(preprocess.resize)
        self._frame, self._before = np.empty((2, *self.ale.getScreenDims()), np.uint8)
        self.render_mode = "rgb_array" if render else None
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": max(1, round(60 / preprocess.frame_skip))}
        self.action_space = gym.spaces.Discrete(len(self._actions))
        self.observation_space = gym.spaces.Box(0, 255, (preprocess.frame_stack, *SIDES[preprocess.resize]), np.uint8)

    @property
    def action_meanings(self) -> list[str]:
        """ALE's names of the actions, by index."""
        return [action.name for action in self._actions]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[NDArray, dict]:
        super().reset(seed=seed)
        self._rng = self.np_random
        self._held = self._noop
        self._start_game()
        if self._options.noop_max:
            for _ in range(self._rng.integers(1, self._options.noop_max + 1)):
                self._play_frame(self._noop)
        self.ale.getScreenGrayscale(self._before)
        for action in self._fire:
            self._play(action)
        if self.ale.game_over():
            self._start_game()
        self._lives = self.ale.lives()
        self._obs = np.zeros(self.observation_space.shape, np.uint8)
        self._look(self._obs[-1])
        if self._options.pad == "first":
            self._obs[:-1] = self._obs[-1]
        return self._obs, {}

    def step(self, action: int) -> tuple[NDArray, float, bool, bool, dict]:
        reward = float(self._play(self._actions[action]))
        obs = np.empty_like(self._obs)
        obs[:-1] = self._obs[1:]
        self._look(obs[-1])
        self._obs = obs
        info: dict[str, Any] = {}
        if self._count_lives:
            lives = self.ale.lives()
            info["life_lost"] = lives < self._lives
            self._lives = lives
        if self._clip:
            info["reward_env"] = reward
            reward = float(np.sign(reward))
        # ALE stops the game after max_frames, which is no end of the game
        return obs, reward, self.ale.game_over(with_truncation=False), self.ale.game_truncated(), info

    def render(self) -> NDArray:
        """The screen in colour, (height, width, 3) uint8."""
        return self.ale.getScreenRGB()

    def _start_game(self) -> None:
        self.ale.restoreState(self._just_loaded)
        self.ale.reset_game()

    def _play(self, action: Any) -> int:
        """One action: frame_skip frames. Returns the points; ALE plays on no further once the game is over."""
        points = 0
        for frame in range(self._options.frame_skip):
            points += self._play_frame(action)
            if frame == self._pool_at:
                self.ale.getScreenGrayscale(self._before)
        return points

    def _play_frame(self, action: Any) -> int:
        # sticky actions (Machado et al. 2018): with probability p a frame repeats what was executed before
        if self._options.sticky == 0 or self._rng.random() >= self._options.sticky:
            self._held = action
        return self.ale.act(self._held)

    def _look(self, out: NDArray) -> None:
        """Write the current image into `out` (height, width)."""
        self.ale.getScreenGrayscale(self._frame)
        if self._options.max_pool:
            np.maximum(self._frame, self._before, out=self._frame)
        self._resize(self._frame, out)


def _load(game: str, options: Preprocess) -> tuple[Any, list]:
    """ALE with the game in it, and the game's actions."""
    ale_py = require("ale_py", "ale-py", "Atari")
    roms = require("ale_py.roms", "ale-py", "Atari")
    if game not in roms.get_all_rom_ids():
        raise ConfigError(f"env.game: ALE has no game {game!r}. Its games: {', '.join(sorted(roms.get_all_rom_ids()))}")
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", 0)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("max_num_frames_per_episode", options.max_frames)
    ale.loadROM(roms.get_rom_path(game))
    return ale, ale.getLegalActionSet() if options.full_action_space else ale.getMinimalActionSet()


def _resizer(resize: str) -> Callable[[NDArray, NDArray], Any]:
    """A function (frame, out) that writes the image of a (210, 160) frame into out."""
    cv2 = require("cv2", "opencv-python-headless", "Atari")
    if resize == "area84":
        return lambda frame, out: cv2.resize(frame, (84, 84), dst=out, interpolation=cv2.INTER_AREA)

    def crop(frame: NDArray, out: NDArray) -> None:
        if resize == "crop_130x144":
            out[:] = frame[28:158, 8:152]
        else:
            out[:] = cv2.resize(frame, (84, 110), interpolation=cv2.INTER_AREA)[18:102]

    return crop
