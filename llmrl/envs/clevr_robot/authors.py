"""Rollouts of others: the authors' file (docs/papers/kalm.md), or a Minari dataset recorded in CLEVR-Robot."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, damage_named
from llmrl.envs.base import require
from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot.model import ACTIONS, BALLS, STATE
from llmrl.envs.clevr_robot.rollouts import FILE, Rollouts, load

STEPS = 50  # of every rollout in the authors' file; `masks` says which of them were made
SHAPES = {  # of n rollouts
    "observations": (STEPS, 2 * BALLS), "next_observations": (STEPS, 2 * BALLS), "actions": (STEPS,),
    "rewards": (STEPS, 1), "terminals": (STEPS, 1), "masks": (STEPS,), "goals": (STEPS, BALLS + 1),
}  # fmt: skip


def imported(path: Path) -> Rollouts:
    """The rollouts in the authors' .npy file, or in the directory of a Minari dataset, ours or one that was recorded.
    Raises ConfigError where something is not as it should be, and says what."""
    if path.is_file():
        return checked(_of_authors(_arrays(path), path), path)
    if (path / FILE).exists():
        return checked(load(path, with_states=True), path)
    for folder in (path, path / "data"):
        if (folder / "metadata.json").exists():
            return checked(_of_minari(folder), path)
    raise ConfigError(f"{path} is neither an .npy file of the authors' layout nor the directory of a Minari dataset")


def checked(rollouts: Rollouts, path: Path) -> Rollouts:
    """The same. Raises ConfigError for a number that is none, and for what CLEVR-Robot has not."""
    if not len(rollouts):
        raise ConfigError(f"{path}: there is no rollout in it")
    if (size := rollouts.observations.shape[2]) not in (2 * BALLS, 4 * BALLS):
        raise ConfigError(f"{path}: observations of {size} numbers, and not {2 * BALLS}, the places of the balls")
    if rollouts.states is not None and rollouts.states.shape[2] != STATE:
        raise ConfigError(f"{path}: states of {rollouts.states.shape[2]} numbers, and not {STATE}")
    for key in ("observations", "rewards", "states"):
        if (rows := getattr(rollouts, key)) is not None and (bad := ~np.isfinite(rows)).any():
            rollout, step, *_ = np.argwhere(bad)[0]
            raise ConfigError(f"{path}: {key} hold NaN or infinity, first in rollout {rollout}, step {step}")
    if (rollouts.actions < 0).any() or (rollouts.actions >= ACTIONS).any():
        raise ConfigError(f"{path}: actions are 0 to {ACTIONS - 1}, not {rollouts.actions.min()} to "
                          f"{rollouts.actions.max()}")  # fmt: skip
    for goal in np.unique(rollouts.goals, axis=0):
        try:
            g.tier_of(goal)
        except ConfigError as error:
            raise ConfigError(f"{path}: goals: {error}") from error
    return rollouts


def _of_authors(arrays: dict[str, NDArray], path: Path) -> Rollouts:
    """Their full states are left out: the one after the last step is not among them."""
    if missing := SHAPES.keys() - arrays.keys():
        raise ConfigError(f"{path}: {', '.join(sorted(missing))} missing; it has {', '.join(sorted(arrays))}")
    n = len(arrays["actions"]) if arrays["actions"].ndim else 0
    if not n:
        raise ConfigError(f"{path}: there is no rollout in it")
    for key, shape in SHAPES.items():
        if arrays[key].shape != (n, *shape):
            raise ConfigError(f"{path}: {key} has the shape {arrays[key].shape}, and not {(n, *shape)}")
        if arrays[key].dtype.kind not in "biuf":
            raise ConfigError(f"{path}: {key} are {arrays[key].dtype}, and not numbers")
    for key in ("actions", "goals", "masks", "terminals"):
        if (arrays[key] != np.rint(arrays[key])).any():  # true of NaN
            raise ConfigError(f"{path}: {key} are whole numbers")
    made = arrays["masks"].astype(bool)
    lengths = made.sum(1).astype(np.int32)
    if (lengths < 1).any() or (made != (np.arange(STEPS) < lengths[:, None])).any():
        raise ConfigError(f"{path}: masks are ones and then zeros, at least one of them 1; in rollout "
                          f"{int((made != (np.arange(STEPS) < np.maximum(lengths, 1)[:, None])).any(1).argmax())} "
                          "they are not")  # fmt: skip
    goals = arrays["goals"][:, 0]
    if (arrays["goals"] != goals[:, None])[made].any():
        raise ConfigError(f"{path}: goals change within a rollout")
    seen = np.zeros((n, STEPS + 1, 2 * BALLS), np.float32)
    seen[:, :-1][made] = arrays["observations"][made]
    seen[np.arange(n), lengths] = arrays["next_observations"][np.arange(n), lengths - 1]
    return Rollouts(
        observations=seen,
        actions=np.where(made, arrays["actions"], 0).astype(np.int32),
        rewards=np.where(made, arrays["rewards"][..., 0], 0).astype(np.float32),
        terminals=made & arrays["terminals"][..., 0].astype(bool),
        lengths=lengths,
        goals=goals.astype(np.int32),
        states=None,
    )


def _of_minari(folder: Path) -> Rollouts:
    """Of a recorder's dataset: infos hold the goal, as the environment's do."""
    minari = require("minari", "llmrl[kalm]", "a Minari dataset")
    with damage_named(folder):
        dataset = minari.MinariDataset(folder)
        episodes = list(dataset.iterate_episodes())
    if ((dataset.env_spec and dataset.env_spec.kwargs) or {}).get("goals") == "google":
        raise ConfigError(f"{folder} was recorded with Google's goals (goals=google), whose y axis is the other way up")
    for space, kind, shape in ((dataset.observation_space, "Box", 1), (dataset.action_space, "Discrete", 0)):
        if type(space).__name__ != kind or len(space.shape) != shape or getattr(space, "start", 0) != 0:
            raise ConfigError(f"{folder} was not recorded in CLEVR-Robot, whose observations are rows of numbers and "
                              f"whose actions are 0 to {ACTIONS - 1}: it has {space}")  # fmt: skip
    goals = [np.asarray((episode.infos or {}).get("goal")) for episode in episodes]
    for i, goal in enumerate(goals):
        if goal.ndim != 2 or goal.dtype.kind not in "iu" or (goal != goal[0]).any():
            raise ConfigError(f"{folder}: every episode needs one goal in its infos, which episode {i} has not; it was "
                              "not recorded in CLEVR-Robot")  # fmt: skip
        if goal.shape[1] != goals[0].shape[1]:
            raise ConfigError(f"{folder}: goals of {goals[0].shape[1]} and of {goal.shape[1]} numbers: import hard "
                              "goals apart from the others")  # fmt: skip
    if not episodes:
        raise ConfigError(f"{folder}: there is no rollout in it")
    size = dataset.observation_space.shape[0]
    n, lengths = len(episodes), np.array([len(episode) for episode in episodes], np.int32)
    longest = lengths.max()
    out = Rollouts(
        observations=np.zeros((n, longest + 1, size), np.float32),
        actions=np.zeros((n, longest), np.int32),
        rewards=np.zeros((n, longest), np.float32),
        terminals=np.zeros((n, longest), bool),
        lengths=lengths,
        goals=np.array([goal[0] for goal in goals], np.int32),
        states=None,
    )
    for i, episode in enumerate(episodes):
        out.observations[i, : lengths[i] + 1] = episode.observations
        for key, rows in (("actions", episode.actions), ("rewards", episode.rewards),
                          ("terminals", episode.terminations)):  # fmt: skip
            getattr(out, key)[i, : lengths[i]] = rows
    return out


def _arrays(path: Path) -> dict[str, NDArray]:
    """The dict of arrays that np.save wrote: a pickle, of which nothing but numpy's arrays is accepted, since a pickle
    can run anything."""
    try:
        with open(path, "rb") as file:
            major, _ = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            read(file)
            held = _ArraysOnly(file).load()
    except Exception as error:  # what a damaged pickle raises can be nearly anything
        raise ConfigError(f"{path} is no .npy file of the authors' layout, a dict of arrays ({error})") from error
    held = held.item() if isinstance(held, np.ndarray) and held.shape == () else held
    if not isinstance(held, dict):
        raise ConfigError(f"{path} holds no dict of arrays")
    return {key: value for key, value in held.items() if isinstance(value, np.ndarray)}


class _ArraysOnly(pickle.Unpickler):
    ALLOWED = {"_reconstruct", "scalar", "ndarray", "dtype", "_frombuffer"}

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in self.ALLOWED:
            # the module's name before and after numpy 2
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):  # of bytes, in older protocols
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants {module}.{name}, which is no array")
