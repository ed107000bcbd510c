"""A fixed dataset of transitions with discrete actions, and the sources that draw batches from one or from two of them.

An observation is a state, and behind it the vector of a sentence where there are sentences. The vectors of all
sentences stand once, in a table, and a transition knows rows of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, damage_named
from llmrl.contracts.replay import Batch

if TYPE_CHECKING:
    import torch

# What the end of a rollout that did not reach its goal counts as: truncated, which is right (its last value is
# bootstrapped), or terminated, as in the authors' code (docs/papers/kalm.md).
Timeouts = Literal["truncated", "terminated"]


class Padded(Protocol):
    """n episodes, padded to L steps, as envs/clevr_robot/rollouts.py keeps them."""

    observations: NDArray  # (n, L + 1, d): row t is seen before action t
    actions: NDArray  # (n, L)
    rewards: NDArray  # (n, L)
    terminals: NDArray  # (n, L) bool
    lengths: NDArray  # (n,)


@dataclass(frozen=True)
class Transitions:
    """N transitions, those of an episode one after the other. Raises ConfigError for what cannot be learnt from."""

    state: NDArray[np.float32]  # (N, d)
    action: NDArray[np.int64]  # (N,) 0, 1, …
    reward: NDArray[np.float32]  # (N,)
    next_state: NDArray[np.float32]  # (N, d)
    terminated: NDArray[np.bool_]  # (N,)
    step: NDArray[np.int32]  # (N,) place in its episode: 0, 1, …
    text: NDArray[np.int32] | None = None  # (N,) row of `table`: the first of the sentences that say its goal
    table: NDArray[np.float32] | None = None  # (m, w) vectors of sentences
    wordings: int = 1  # sentences of a transition, at rows text, text + 1, …; every draw takes one of them
    source: str = "dataset"  # where they are from, for messages

    def __post_init__(self) -> None:
        n = len(self.action)
        for name in ("state", "reward", "next_state", "terminated", "step", "text"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise ConfigError(f"{self.source}: {n:,} actions, but {name} has the shape {column.shape}")
        if n == 0:
            raise ConfigError(f"{self.source}: it holds no transition")
        if self.state.ndim != 2 or self.state.shape != self.next_state.shape:
            raise ConfigError(
                f"{self.source}: states {self.state.shape}, next states {self.next_state.shape}: not (N, d)"
            )
        for name in ("state", "reward", "next_state"):
            bad = ~np.isfinite(getattr(self, name).reshape(n, -1)).all(1)
            self._refuse(bad, f"{name} is not finite")
        self._refuse(self.action < 0, "the action is negative")
        before = np.concatenate([[-1], self.step[:-1]])
        self._refuse((self.step != 0) & (self.step != before + 1), "it does not follow on the step before it")
        if (self.text is None) != (self.table is None):
            raise ConfigError(f"{self.source}: text and table are given together, or neither")
        if self.text is not None and self.table is not None:
            out = (self.text < 0) | (self.text + self.wordings > len(self.table))
            self._refuse(out, f"its sentences are not in the table of {len(self.table):,} rows")

    def _refuse(self, bad: NDArray, why: str) -> None:
        if bad.any():
            at = int(bad.argmax())
            raise ConfigError(f"{self.source}: episode {self.episode[at]}, step {self.step[at]}: {why}")

    @classmethod
    def of(
        cls,
        rollouts: Padded,
        *,
        texts: NDArray | None = None,
        table: NDArray | None = None,
        wordings: int = 1,
        timeouts: Timeouts = "truncated",
        source: str = "dataset",
    ) -> "Transitions":
        """The steps of n rollouts without their padding; `texts` (n,): the first row of each rollout's sentences."""
        there = np.arange(rollouts.actions.shape[1]) < rollouts.lengths[:, None]  # (n, L)
        row, step = np.nonzero(there)
        terminated = rollouts.terminals[there].astype(bool)
        if timeouts == "terminated":
            terminated |= step == rollouts.lengths[row] - 1
        return cls(
            state=rollouts.observations[:, :-1][there].astype(np.float32),
            action=rollouts.actions[there].astype(np.int64),
            reward=rollouts.rewards[there].astype(np.float32),
            next_state=rollouts.observations[:, 1:][there].astype(np.float32),
            terminated=terminated,
            step=step.astype(np.int32),
            text=None if texts is None else texts[row].astype(np.int32),
            table=None if table is None else table.astype(np.float32),
            wordings=wordings,
            source=source,
        )

    def __len__(self) -> int:
        return len(self.action)

    @property
    def obs_size(self) -> int:
        """Numbers in an observation."""
        return self.state.shape[1] + (0 if self.table is None else self.table.shape[1])

    @cached_property
    def episode(self) -> NDArray[np.int64]:
        """(N,) number of the episode that a transition is from."""
        return np.cumsum(self.step == 0) - 1

    @cached_property
    def earned(self) -> NDArray[np.float64]:
        """(N,) sum of the rewards of its episode before it."""
        before = np.cumsum(self.reward, dtype=np.float64) - self.reward
        return before - before[self.step == 0][self.episode]

    @cached_property
    def returns(self) -> NDArray:
        """(episodes,) float64, undiscounted."""
        return np.bincount(self.episode, weights=self.reward)


class Columns:
    """One or several datasets under each other, as tensors: (state | action | reward | terminated | next state)."""

    def __init__(self, parts: Sequence[Transitions], device: "torch.device") -> None:
        import torch

        if len({(part.state.shape[1], part.obs_size) for part in parts}) > 1:
            shapes = " and ".join(f"{part.state.shape[1]} of {part.obs_size}" for part in parts)
            raise ConfigError(f"dataset: the parts' observations differ: {shapes} numbers are the state")
        self.device, self.size = device, parts[0].state.shape[1]
        rows = [
            np.column_stack([p.state, np.float32(p.action), p.reward, np.float32(p.terminated), p.next_state])
            for p in parts
        ]
        self.rows = torch.from_numpy(np.concatenate(rows)).to(device)
        self.lengths = [len(part) for part in parts]
        self.starts = np.cumsum([0, *self.lengths[:-1]]).tolist()  # where each part begins
        self.text: NDArray | None = None
        self.table: torch.Tensor | None = None
        if tables := [part.table for part in parts if part.table is not None]:
            texts = [part.text for part in parts if part.text is not None]
            above = np.cumsum([0, *map(len, tables[:-1])])
            self.text = np.concatenate([text + first for text, first in zip(texts, above)])
            self.table = torch.from_numpy(np.concatenate(tables)).to(device)

    def take(self, place: NDArray) -> "torch.Tensor":
        """Rows (n, 2 d + 3) at these places, (n,)."""
        import torch

        return self.rows.index_select(0, torch.from_numpy(place).to(self.device))

    def vectors(self, place: NDArray, wording: NDArray | int) -> "torch.Tensor | None":
        """(n, w) of the sentences, `wording` (n,) of each transition; None where there are no sentences."""
        import torch

        if self.text is None or self.table is None:
            return None
        return self.table.index_select(0, torch.from_numpy(self.text[place] + wording).to(self.device))


def shares(batch_size: int, parts: int) -> NDArray[np.int64]:
    """How much of a batch is of which part: the halves of KALM's batches. What cannot be shared is the first one's."""
    each = np.full(parts, batch_size // parts)
    each[0] += batch_size % parts
    return each


class _Draws:
    """What the sources have in common: which transitions, and in which words."""

    def __init__(self, parts: Sequence[Transitions], batch_size: int, device: "torch.device") -> None:
        self.columns = Columns(parts, device)
        each = shares(batch_size, len(parts))
        self._start, self._length, self._wordings = (
            np.repeat(x, each) for x in (self.columns.starts, self.columns.lengths, [p.wordings for p in parts])
        )

    def _places(self, rng: np.random.Generator) -> tuple[NDArray, NDArray | int]:
        """(batch,) places, every transition of a part equally likely, and wordings."""
        place = self._start + rng.integers(self._length)
        many = self.columns.text is not None and (self._wordings > 1).any()
        return place, rng.integers(self._wordings) if many else 0


class UniformTransitions(_Draws):
    """Single transitions: from one dataset, or of each batch equal parts from several."""

    def __init__(
        self,
        parts: Sequence[Transitions],
        *,
        batch_size: int,
        discount: float | None,
        device: "torch.device | str" = "cpu",
    ) -> None:
        """`discount`: factor of the bootstrap value; None for imitation, which needs no next observation either."""
        import torch

        super().__init__(parts, batch_size, torch.device(device))
        self.discount = discount

    def draw(self, rng: np.random.Generator) -> Batch:
        place, wording = self._places(rng)
        rows, vectors, d = self.columns.take(place), self.columns.vectors(place, wording), self.columns.size
        return Batch(
            obs=_joined(rows[:, :d], vectors),
            action=rows[:, d].long(),
            reward=rows[:, d + 1],
            next_obs=_joined(rows[:, d + 3 :], vectors) if self.discount is not None else None,
            terminated=rows[:, d + 2],
            discount=self.discount or 0.0,
        )


class Windows(_Draws):
    """Stretches of episodes, each from up to `context` transitions before a drawn one to it, padded at their ends.

    obs is what envs/history.py shows an agent that acts: {"state": (batch, context, obs), "action" (batch, context),
    "earned" (batch, context): the episode's rewards before the step, "length" (batch,)}, except that all actions are
    known. Beside it `returns` (batch,) of the whole episodes stand in `reward`.
    """

    def __init__(
        self, parts: Sequence[Transitions], *, batch_size: int, context: int, device: "torch.device | str" = "cpu"
    ) -> None:
        import torch

        super().__init__(parts, batch_size, torch.device(device))
        self.context = np.arange(context)
        self._step = np.concatenate([part.step for part in parts])
        self._earned = np.concatenate([part.earned for part in parts]).astype(np.float32)
        self._return = np.concatenate([part.returns[part.episode] for part in parts]).astype(np.float32)

    def draw(self, rng: np.random.Generator) -> Batch:
        import torch

        last, wording = self._places(rng)
        length = np.minimum(self._step[last] + 1, len(self.context))
        # left to right from the oldest; what lies behind the last one repeats it, as the length says
        place = last[:, None] + np.minimum(self.context - length[:, None] + 1, 0)
        n, d = place.shape, self.columns.size
        rows = self.columns.take(place.ravel()).view(*n, -1)
        vectors = self.columns.vectors(last, wording)
        if vectors is not None:
            vectors = vectors[:, None].expand(*n, -1)
        action = rows[..., d].long()
        numbers = (torch.from_numpy(x).to(self.columns.device) for x in (self._earned[place], length.astype(np.int64)))
        state = _joined(rows[..., :d], vectors)
        obs: dict[str, Any] = dict(zip(("state", "action", "earned", "length"), (state, action, *numbers)))
        whole = torch.from_numpy(self._return[last]).to(self.columns.device)
        return Batch(obs, action, whole, next_obs=None, terminated=rows[:, -1, d + 2], discount=1.0)


def _joined(state: "torch.Tensor", vectors: "torch.Tensor | None") -> "torch.Tensor":
    import torch

    return state if vectors is None else torch.cat([state, vectors], dim=-1)


# --- Minari ---------------------------------------------------------------------------------------------------------


def minari_file(dataset: str) -> Path:
    """The main file of a Minari dataset, given its directory or its id. Raises ConfigError where it is not there."""
    try:
        from minari.storage.local import get_dataset_path
    except ImportError:
        raise ConfigError('A Minari dataset needs the package minari: pip install "llmrl[kalm]"') from None
    tried = [Path(dataset) / "data", Path(dataset)]
    if not Path(dataset).is_absolute():
        tried.append(Path(get_dataset_path(dataset)) / "data")
    for folder in tried:
        for name in ("main_data.hdf5", "metadata.json"):
            if (folder / "metadata.json").exists() and (folder / name).exists():
                return folder / name
    raise ConfigError(
        f"dataset: there is no Minari dataset {dataset}: neither a directory with data/metadata.json nor an id below "
        f"{get_dataset_path('')}. `minari list remote` shows ids and `minari download <id>` brings one."
    )


def load_minari(dataset: str, *, timeouts: Timeouts = "truncated") -> Transitions:
    """A Minari dataset of discrete actions and vector observations (also dicts of them, joined by sorted key), by its
    directory or its id. Raises ConfigError where it is missing, or holds something else."""
    file = minari_file(dataset)
    from gymnasium import spaces
    from minari import MinariDataset

    with damage_named(file.parent):
        data = MinariDataset(str(file.parent))
    space = data.action_space
    if not (isinstance(space, spaces.Discrete) and space.start == 0):
        raise ConfigError(f"dataset: {dataset} has the actions {space}; offline agents here need actions 0, 1, …, n-1")
    seen = data.observation_space
    parts = [part for _, part in sorted(seen.items())] if isinstance(seen, spaces.Dict) else [seen]
    if not all(isinstance(part, spaces.Box) and len(part.shape) <= 1 for part in parts):
        raise ConfigError(f"dataset: {dataset} has the observations {seen}; vectors, or a dict of vectors, are needed")

    columns: dict[str, list[NDArray]] = {name: [] for name in ("seen", "action", "reward", "terminated")}
    with damage_named(file.parent):
        for episode in data.iterate_episodes():
            columns["seen"].append(_flat(episode.observations))
            columns["action"].append(np.asarray(episode.actions, np.int64))
            columns["reward"].append(np.asarray(episode.rewards, np.float32))
            over = np.array(episode.terminations, bool)
            if timeouts == "terminated":
                over[-1:] = True
            columns["terminated"].append(over)
    if not columns["action"]:
        raise ConfigError(f"dataset: {dataset} holds no episode")
    return Transitions(
        state=np.concatenate([seen[:-1] for seen in columns["seen"]]),
        action=np.concatenate(columns["action"]),
        reward=np.concatenate(columns["reward"]),
        next_state=np.concatenate([seen[1:] for seen in columns["seen"]]),
        terminated=np.concatenate(columns["terminated"]),
        step=np.concatenate([np.arange(len(a), dtype=np.int32) for a in columns["action"]]),
        source=f"dataset {dataset}",
    )


def _flat(observations: Any) -> NDArray[np.float32]:
    """(T + 1, d) of an episode's observations, or of a dict of them by sorted key."""
    if isinstance(observations, dict):
        return np.concatenate([_flat(observations[key]) for key in sorted(observations)], axis=1)
    return np.asarray(observations, np.float32).reshape(len(observations), -1)
