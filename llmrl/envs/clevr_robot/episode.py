"""How an episode begins, and what is seen of it: alike for one scene (ClevrRobot) and for many (SideBySide)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.envs import text
from llmrl.envs.clevr_robot import goals, language
from llmrl.envs.clevr_robot.config import Config
from llmrl.envs.clevr_robot.model import BALLS, STATE, at_rest, xy_of
from llmrl.envs.clevr_robot.start import sample_xy

OPTIONS = ("positions", "state", "goal", "sentence")


class Episode(NamedTuple):
    """The start of one."""

    state: NDArray[np.float64]  # (69,), the full one
    goal: NDArray[np.int64]
    sentence: str | None  # None where the goal is in no words
    believed_xy: NDArray[np.float64]  # (5, 2), where the first push looks for the balls


def begin(config: Config, rng: np.random.Generator, options: Mapping[str, Any] | None) -> Episode:
    """What reset's options give, and the rest drawn from `rng`. Raises ConfigError for options that cannot be."""
    options = options or {}
    if unknown := set(options) - set(OPTIONS):
        raise ConfigError(f"reset takes the options {', '.join(OPTIONS[:-1])} and {OPTIONS[-1]}, not {sorted(unknown)}")
    given, drawn = _state(options), sample_xy(rng)
    state = at_rest(drawn) if given is None else given
    sentence = options.get("sentence")
    if not isinstance(sentence, str | None):
        raise ConfigError(f"the option sentence is a string, not {sentence!r}")
    if sentence is not None and config.goals == "google":
        raise ConfigError("the option sentence is for KALM's goals; Google's (goals=google) have no words")
    if "goal" in options:
        goal = _numbers("goal", options["goal"]).astype(np.int64)
    elif sentence is not None:
        goal = language.goal_of(sentence)
    else:
        goal = goals.draw(config.goals, rng, xy_of(state))
    if sentence is None and config.language is not None:
        told = language.of(goal)
        sentence = told[rng.integers(len(told))]
    believed = xy_of(state)
    if config.stale_first_push:
        # the authors' evaluator sets a scene up and forgets to tell the first push, which starts where balls were
        # before; where nothing is given these are drawn last, so that the episode is otherwise what it would be
        believed = drawn if given is not None else sample_xy(rng)
    return Episode(state, goal, sentence, believed)


def _state(options: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """The full state (69,), None where it is not given."""
    if {"positions", "state"} <= set(options):
        raise ConfigError("reset takes the option positions or state, not both: a state holds the positions")
    state = None
    for key, shape in (("positions", (BALLS, 2)), ("state", (STATE,))):
        if key in options:
            value = _numbers(key, options[key], shape)
            state = at_rest(value) if key == "positions" else value
    return state


def _numbers(key: str, given: Any, shape: tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """Finite numbers of this shape; without one, a row of whole numbers. Raises ConfigError."""
    try:
        value = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        value = np.array(np.nan)
    fits = value.shape == shape if shape else value.ndim == 1 and (value == np.rint(value)).all()
    if not fits or not np.isfinite(value).all():
        wanted = f"an array {shape} of finite numbers" if shape else "a row of whole numbers"
        raise ConfigError(f"the option {key} is {wanted}, not {given!r}")
    return value


def size(config: Config) -> int:
    """Numbers in an observation. Raises ConfigError where the encoder cannot be had."""
    balls = 4 * BALLS if config.obs_velocity else 2 * BALLS
    return balls + (text.width(config.language) if config.language is not None else 0)


def observed(config: Config, seen: NDArray[np.float32], sentences: Sequence[str | None]) -> NDArray[np.float32]:
    """What is seen of n scenes (n, 10), and behind it the encoding of each one's sentence, if the config has any."""
    if config.language is None:
        return seen
    given = [sentence for sentence in sentences if sentence is not None]  # all of them, where there is a language
    return np.concatenate([seen, text.encode(config.language, given)], axis=1)
