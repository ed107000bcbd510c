"""Rollouts of CLEVR-Robot, real or imagined, as arrays; and as a Minari dataset on disk.

`save` writes what Minari's own recorder would, one group per episode, so that minari.load_dataset and MinariDataset
read it. Minari opens five tables for each of 100,000 episodes; the same arrays therefore stand once more in one file
beside them, rollouts.npz, which `load` reads. Equal rollouts give equal bytes.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.envs.base import require
from llmrl.envs.clevr_robot.model import ACTIONS

ID = "clevr_robot/rollouts-v0"  # Minari's name of the dataset, below the directory that holds it
ARRAYS = "rollouts.npz"
FILE = f"{ID}/data/{ARRAYS}"  # what `save` returns, below the same directory
WRITTEN_AS = "0.5.4"  # the version of Minari whose layout this is


@dataclass(frozen=True)
class Rollouts:
    """n rollouts, padded with zeros to L steps; the arrays of the authors' file under its names.

    Imagined rollouts know the sentence that each was imagined for; real ones may be told in any sentence of their goal
    (language.base).
    """

    observations: NDArray[np.float32]  # (n, L + 1, 10): row t is seen before action t, the last one after the end
    actions: NDArray[np.int32]  # (n, L)
    rewards: NDArray[np.float32]  # (n, L)
    terminals: NDArray[np.bool_]  # (n, L): True at the last step if the goal was reached; of easy goals always
    lengths: NDArray[np.int32]  # (n,)
    goals: NDArray[np.int32]  # (n, 6), or (n, 36) of the hard tier
    states: NDArray[np.float64] | None  # (n, L + 1, 69), as `observations`
    texts: NDArray[np.int32] | None = None  # (n,): numbers of `sentences`
    sentences: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, which: NDArray) -> "Rollouts":
        """The rollouts at these indices, or under this mask (n,)."""
        return self._with({key: x[which] for key, x in self._columns().items()})

    def first_of_each_goal(self, n: int) -> "Rollouts":
        """n of them, equally many of each goal, in their order: the 6,400 of 100,000 that offline RL gets. Raises
        ConfigError where they cannot be had."""
        _, goal, counts = np.unique(self.goals, axis=0, return_inverse=True, return_counts=True)
        each, left = divmod(n, len(counts))
        if left or each > counts.min():
            raise ConfigError(
                f"method.real_rollouts: {n:,} rollouts, equally many of each goal, cannot be had: there are "
                f"{len(counts)} goals with {counts.min():,} rollouts or more; take a multiple of {len(counts)} up to "
                f"{counts.min() * len(counts):,}"
            )
        order = np.argsort(goal.ravel(), kind="stable")
        place = np.empty(len(self), int)  # of a rollout among those of its goal
        place[order] = np.concatenate([np.arange(count) for count in counts])
        return self.take(place < each)

    def _columns(self) -> dict[str, NDArray]:
        """All arrays that there are."""
        columns = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "sentences"}
        return {key: x for key, x in columns.items() if x is not None}

    def _with(self, columns: dict[str, Any]) -> "Rollouts":
        return replace(self, **columns)


def joined(parts: Sequence[Rollouts]) -> Rollouts:
    """One after the other; all have the same arrays, and the same sentences."""
    columns = [part._columns() for part in parts]
    return parts[0]._with({key: np.concatenate([c[key] for c in columns]) for key in columns[0]})


# --- on disk --------------------------------------------------------------------------------------------------------

LAST = ("observations", "states")  # have a row more, after the end
STEPS = ("actions", "rewards", "terminals")
LAYOUT = {  # of the file of arrays: kind of number, dimensions
    "observations": ("f", 2), "actions": ("i", 1), "rewards": ("f", 1), "terminals": ("b", 1), "lengths": ("i", 1),
    "goals": ("i", 2), "states": ("f", 2), "texts": ("i", 1), "sentences": ("U", 1),
}  # fmt: skip
OPTIONAL = {"states", "texts", "sentences"}


def save(directory: Path, rollouts: Rollouts, about: dict[str, Any]) -> Path:
    """Writes the dataset ID below `directory`, whole or not at all, and returns its file of arrays, whose content
    stands for all of it. `about` (plain values) goes into Minari's metadata.

    With MINARI_DATASETS_PATH=<directory>, minari.load_dataset(ID) reads it. Infos hold goal and, if there, state (as
    those of the environment do) and sentence. Raises ConfigError where h5py is missing.
    """
    target = directory / ID / "data"
    work = target.with_name(".data.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    _write_episodes(work / "main_data.hdf5", rollouts)
    _write_arrays(work / ARRAYS, rollouts)
    (work / "metadata.json").write_text(json.dumps(_metadata(rollouts, about), indent=1, sort_keys=True))
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)
    return target / ARRAYS


def load(directory: Path, *, with_states: bool = False) -> Rollouts:
    """What `save` wrote below `directory`. Full states are large (2.8 GB of 100,000 rollouts), and None unless asked
    for. Raises ConfigError where there is no such dataset, or it is damaged."""
    file = Path(directory) / FILE
    try:
        with np.load(file) as arrays:
            there = {name: arrays[name] for name in arrays.files if with_states or name != "states"}
    except FileNotFoundError:
        raise ConfigError(f"{directory} holds no rollouts: there is no {FILE}") from None
    except (BadZipFile, ValueError, OSError, EOFError) as error:
        raise ConfigError(f"{file} is damaged ({error}); make the dataset anew") from error
    if wrong := _wrong(there):
        raise ConfigError(f"{file} is damaged ({wrong}); make the dataset anew")
    lengths = there["lengths"]
    sentences = tuple(there.pop("sentences").tolist()) if "sentences" in there else None
    padded = {key: _padded(there.pop(key), lengths + 1) for key in LAST if key in there}
    padded |= {key: _padded(there.pop(key), lengths) for key in STEPS}
    return Rollouts(**{"states": None, **there, **padded}, sentences=sentences)


def _wrong(arrays: dict[str, NDArray]) -> str:
    """What is not as `_write_arrays` writes it; empty where all is."""
    if names := (LAYOUT.keys() - OPTIONAL - arrays.keys()) | (arrays.keys() - LAYOUT.keys()):
        return f"missing or unknown: {', '.join(sorted(names))}"
    for name, x in arrays.items():
        if (x.dtype.kind, x.ndim) != LAYOUT[name]:
            return f"{name} are {x.dtype} of the shape {x.shape}"
    n, steps = len(arrays["lengths"]), int(arrays["lengths"].sum())
    if (arrays["lengths"] < 1).any():
        return "a rollout has no step"
    rows = dict.fromkeys(STEPS, steps) | dict.fromkeys(LAST, steps + n) | dict.fromkeys(("goals", "texts"), n)
    for name in rows.keys() & arrays.keys():
        if len(arrays[name]) != rows[name]:
            return f"{len(arrays[name]):,} rows of {name}, not {rows[name]:,}"
    texts, sentences = (arrays.get(name, np.zeros(0, int)) for name in ("texts", "sentences"))
    if not ((texts >= 0) & (texts < len(sentences))).all():
        return f"texts are numbers of the {len(sentences):,} sentences"
    return ""


def _write_arrays(file: Path, rollouts: Rollouts) -> None:
    """Without the padding. numpy gives the members of its archive no time of their own."""
    columns = rollouts._columns()
    step = np.arange(rollouts.actions.shape[1] + 1) < rollouts.lengths[:, None] + 1  # (n, L + 1)
    for key in LAST:
        if key in columns:
            columns[key] = columns[key][step]
    for key in STEPS:
        columns[key] = columns[key][step[:, 1:]]
    if rollouts.sentences is not None:
        columns["sentences"] = np.array(rollouts.sentences)
    np.savez(file, **columns)  # type: ignore[arg-type]  # no column is called allow_pickle


def _padded(rows: NDArray, lengths: NDArray) -> NDArray:
    """(sum of lengths, ...) -> (n, longest, ...)."""
    out = np.zeros((len(lengths), lengths.max(initial=0), *rows.shape[1:]), rows.dtype)
    out[np.arange(out.shape[1]) < lengths[:, None]] = rows
    return out


def _metadata(rollouts: Rollouts, about: dict[str, Any]) -> dict[str, Any]:
    size = rollouts.observations.shape[-1]
    low, high = [float("-inf")] * size, [float("inf")] * size
    box = {"type": "Box", "dtype": "float32", "shape": [size], "low": low, "high": high}
    return {
        "dataset_id": ID,
        "total_episodes": len(rollouts),
        "total_steps": int(rollouts.lengths.sum()),
        "data_format": "hdf5",
        "minari_version": WRITTEN_AS,
        "observation_space": json.dumps(box),
        "action_space": json.dumps({"type": "Discrete", "dtype": "int64", "start": 0, "n": ACTIONS}),
        "about": about,
    }


def _write_episodes(file: Path, rollouts: Rollouts) -> None:
    """One group per episode, with tables that lie in their own headers: Minari's recorder takes three times as long,
    and as much space, for chunks that could grow."""
    h5py = require("h5py", "llmrl[kalm]", "a dataset of rollouts")
    with h5py.File(file, "w", libver="earliest") as out:  # whose groups have no times
        tables = _Tables(h5py)
        for i, length in enumerate(rollouts.lengths.tolist()):
            over = np.zeros((2, length), bool)
            over[0 if rollouts.terminals[i, length - 1] else 1, -1] = True
            episode = tables.group(out.id, f"episode_{i}")
            tables.attribute(episode, "id", i)
            tables.attribute(episode, "total_steps", length)
            tables.write(episode, "observations", rollouts.observations[i, : length + 1])
            tables.write(episode, "actions", rollouts.actions[i, :length].astype(np.int64))
            tables.write(episode, "rewards", rollouts.rewards[i, :length].astype(np.float64))
            tables.write(episode, "terminations", over[0])
            tables.write(episode, "truncations", over[1])
            infos = tables.group(episode, "infos")
            tables.write(infos, "goal", np.repeat(rollouts.goals[i : i + 1].astype(np.int64), length + 1, axis=0))
            if rollouts.states is not None:
                tables.write(infos, "state", rollouts.states[i, : length + 1])
            if rollouts.texts is not None and rollouts.sentences is not None:
                text = rollouts.sentences[rollouts.texts[i]].encode()
                tables.write(infos, "sentence", np.full(length + 1, text))


class _Tables:
    """h5py's low level, which writes without its convenience: bytes for booleans as h5py has them, and no times."""

    COMPACT = 60_000  # bytes that still fit into a header

    def __init__(self, h5py: Any) -> None:
        self._h5 = h5py
        self._compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        self._compact.set_layout(h5py.h5d.COMPACT)
        self._plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        for creation in (self._compact, self._plain):
            creation.set_obj_track_times(False)
        self._types: dict[np.dtype, Any] = {}
        self._scalar = h5py.h5s.create(h5py.h5s.SCALAR)

    def group(self, parent: Any, name: str) -> Any:
        return self._h5.h5g.create(parent, name.encode())

    def write(self, parent: Any, name: str, rows: NDArray) -> None:
        if rows.dtype not in self._types:
            self._types[rows.dtype] = self._h5.h5t.py_create(rows.dtype, logical=True)
        kind, space = self._types[rows.dtype], self._h5.h5s.create_simple(rows.shape)
        layout = self._compact if rows.nbytes < self.COMPACT else self._plain
        table = self._h5.h5d.create(parent, name.encode(), kind, space, layout)
        table.write(self._h5.h5s.ALL, self._h5.h5s.ALL, np.ascontiguousarray(rows))

    def attribute(self, parent: Any, name: str, value: int) -> None:
        h5 = self._h5
        h5.h5a.create(parent, name.encode(), h5.h5t.NATIVE_INT64, self._scalar).write(np.array(value, np.int64))
