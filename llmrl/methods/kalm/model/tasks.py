"""The four training tasks (docs/papers/kalm.md) and their batches.

    0 generation   goal -> the whole rollout                        loss: states and actions
    1 dynamics     state, action -> the next state                  loss: that state
    2 consequence  first state, goal -> the last state              loss: that state (v1 and the authors' code only)
    3 explanation  rollout -> its goal in words                     loss: those words and the full stop

A prompt is a line of PROMPTS. {goal} is a sentence to be read, {answer} one to be written; {rollout} stands for
s0 a0 s1 a1 … sT. A batch holds sequences task by task, and of each task rollouts of nearly equal length, so that
little is padded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrl.checks import ConfigError
from llmrl.envs.clevr_robot.rollouts import Rollouts
from llmrl.methods.kalm.model.network import STATE, Sequences

GENERATION, DYNAMICS, CONSEQUENCE, EXPLANATION = range(4)
UNSEEN = 4  # explanation in words that no training has seen
PROMPTS = {
    GENERATION: "Play the goal {goal}. {rollout}",
    DYNAMICS: "State {state} push {action} then {next}",
    CONSEQUENCE: "State {state} goal {goal}. End {last}",
    EXPLANATION: "Explain {rollout} goal {answer}.",
    UNSEEN: "In a game with five balls these were pushed {rollout} Tell me briefly what for: {answer}.",
}
BUCKETS = 32  # of rollouts by length


class Predicted(NamedTuple):
    """What is to be predicted, and from where: `at` are places of the positions before. A sample's weights sum to one
    over the number of samples with a loss of this kind."""

    at: Tensor  # (k,)
    target: Tensor  # (k, 10) m, or (k,) int64
    weight: Tensor  # (k,)

    def to(self, device: torch.device) -> "Predicted":
        return Predicted(*(x.to(device) for x in self))


class Group(NamedTuple):
    """Sequences of one task, and what they are to predict. `before`: the states that the predicted ones come after."""

    sequences: Sequences
    states: Predicted
    before: Tensor  # (k, 10)
    actions: Predicted
    tokens: Predicted

    def to(self, device: torch.device) -> "Group":
        return Group(self.sequences.to(device), self.states.to(device), self.before.to(device),
                     self.actions.to(device), self.tokens.to(device))  # fmt: skip


def joined(groups: Sequence[Group]) -> Group:
    """Groups as one, whose places count through all of them."""
    if len(groups) == 1:
        return groups[0]
    places = [len(group.sequences.tokens) for group in groups]
    begin = [sum(places[:i]) for i in range(len(places))]

    def together(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([part for part in parts if len(part)] or list(parts[:1]))

    def placed(parts: Sequence[Tensor]) -> Tensor:
        return together([part + first for part, first in zip(parts, begin)])

    def predicted(parts: Sequence[Predicted]) -> Predicted:
        at, target, weight = zip(*parts)
        return Predicted(placed(at), together(target), together(weight))

    every, states, before, actions, tokens = zip(*groups)
    columns = list(zip(*(sequences[1:] for sequences in every)))
    sequences = Sequences(
        tuple(shape for sequences in every for shape in sequences.shapes), together(columns[0]),
        *(column for at, value in zip(columns[1::2], columns[2::2]) for column in (placed(at), together(value))),
    )  # fmt: skip
    return Group(sequences, predicted(states), together(before), predicted(actions), predicted(tokens))


class Sentences:
    """A table of sentences as tokens, each without special ones, and as vectors where they enter as such."""

    def __init__(self, texts: Sequence[str], tokenizer: Any, vectors: NDArray | None) -> None:
        self.texts, self.vectors = tuple(texts), vectors
        self.ids = [np.asarray(words(tokenizer, text), np.int64) for text in texts]
        self.length = np.array([len(ids) for ids in self.ids], int)


def words(tokenizer: Any, text: str, *, first: bool = False) -> list[int]:
    """Token ids of a piece of a prompt; all but the first piece follow a space."""
    joined = text.strip() if first or not text.strip()[:1].isalnum() else f" {text.strip()}"
    return tokenizer(joined, add_special_tokens=False)["input_ids"] if joined else []


class Writer:
    """Writes sequences of a task side by side, for rollouts and sentences given by number."""

    def __init__(self, tokenizer: Any, sentences: Sentences, goal_slots: int) -> None:
        self.sentences, self.slots, self._tokenizer = sentences, goal_slots, tokenizer
        begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        self._pieces: dict[int, list[str | list[int]]] = {}
        for task, prompt in PROMPTS.items():
            parts = [part for part in re.split(r"({\w+})", prompt) if part.strip()]
            self._pieces[task] = [begin, *(
                part[1:-1] if part[0] == "{" else words(tokenizer, part, first=i == 0) for i, part in enumerate(parts)
            )]  # fmt: skip
        self.stop = words(tokenizer, ".")[0]  # the token that ends an answer

    def __call__(
        self, task: int, rollouts: Rollouts, which: NDArray, text: NDArray, at: NDArray | None = None,
        shares: tuple[float, float, float] = (1, 1, 1), *, until: str | None = None, read: NDArray | None = None,
    ) -> Group:  # fmt: skip
        """Rollouts (n,) with sentences (n,) -> a Group; `at` (n,): the step whose dynamics is asked for.

        shares: what a sample's weights of states, actions and tokens sum to. until: the prompt ends before this part
        (or, for "rollout", after the first state). read: (n, T + 1, 10) m, the states as they are read, if not as they
        are predicted.
        """
        page = _Page(len(which))
        length, row = rollouts.lengths[which], np.arange(len(which))
        true = rollouts.observations[which]
        read = true if read is None else read
        step = np.zeros(len(which), int) if at is None else at
        for piece in self._pieces[task]:
            if piece == until:
                if until == "rollout":
                    page.states(read[:, 0])
                break
            match piece:
                case "goal" if self.sentences.vectors is not None:
                    page.slots(self.slots, self.sentences.vectors[text])
                case "goal":
                    page.tokens([self.sentences.ids[i] for i in text], self.sentences.length[text])
                case "answer":
                    ids = [np.append(self.sentences.ids[i], self.stop) for i in text]
                    page.tokens(ids, self.sentences.length[text] + 1, predicted=True)
                    break  # the full stop is the answer's last word
                case "rollout":
                    page.rollout(read, true, rollouts.actions[which], length, predicted=task == GENERATION)
                case "state":
                    page.states(read[row, step])
                case "action":
                    page.actions(rollouts.actions[which, step].astype(np.int64))
                case "next" | "last":
                    end = step + 1 if piece == "next" else length
                    page.states(true[row, end], before=read[row, step])
                case ids:
                    page.tokens([ids] * len(which), np.full(len(which), len(ids)))
        return page.done(shares)


class _Page:
    """n rows that are written on from left to right; gathers where what stands, and what is predicted from where."""

    def __init__(self, n: int) -> None:
        self.cursor = np.zeros(n, int)  # (n,): the next free position of each row
        self._there: dict[str, list[tuple]] = {key: [] for key in ("token", "state", "action", "vector")}
        self._asked: dict[str, list[tuple]] = {key: [] for key in ("token", "state", "action")}

    def _advance(self, lengths: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Room for lengths (n,) positions: (rows, positions, numbers from 0 in each row)."""
        row = np.repeat(np.arange(len(lengths)), lengths)
        number = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        position = self.cursor[row] + number
        self.cursor = self.cursor + lengths
        return row, position, number

    def tokens(self, ids: list, lengths: NDArray, *, predicted: bool = False) -> None:
        row, position, _ = self._advance(lengths)
        value = np.concatenate(ids).astype(np.int64) if len(row) else np.empty(0, np.int64)
        self._there["token"].append((row, position, value))
        if predicted:
            self._asked["token"].append((row, position - 1, value, np.repeat(1 / lengths, lengths)))

    def slots(self, n: int, vectors: NDArray) -> None:
        row, position, _ = self._advance(np.full(len(self.cursor), n))
        self._there["vector"].append((row, position, vectors))

    def states(self, states: NDArray, before: NDArray | None = None) -> None:
        """(n, 10), one each; to be predicted where `before` is given."""
        row, position, _ = self._advance(np.ones(len(self.cursor), int))
        if before is None:
            self._there["state"].append((row, position, states))
        else:  # nothing follows it, so it need not be read
            self._asked["state"].append((row, position - 1, states, np.ones(len(row)), before))
            self.cursor = self.cursor - 1

    def actions(self, actions: NDArray) -> None:
        row, position, _ = self._advance(np.ones(len(self.cursor), int))
        self._there["action"].append((row, position, actions))

    def rollout(self, read: NDArray, true: NDArray, acted: NDArray, length: NDArray, *, predicted: bool) -> None:
        """s0 a0 s1 a1 … sT: states (n, T + 1, 10) as they are read and as they are predicted, actions (n, T)."""
        row, position, number = self._advance(2 * length + 1)
        state, step = number % 2 == 0, number // 2
        s_row, s_at, s_step = row[state], position[state], step[state]
        a_row, a_at, a_step = row[~state], position[~state], step[~state]
        actions = acted[a_row, a_step].astype(np.int64)
        self._there["state"].append((s_row, s_at, read[s_row, s_step]))
        self._there["action"].append((a_row, a_at, actions))
        if predicted:
            before = np.where((s_step > 0)[:, None], read[s_row, np.maximum(s_step - 1, 0)], 0)
            self._asked["state"].append((s_row, s_at - 1, true[s_row, s_step], 1 / (length + 1)[s_row], before))
            self._asked["action"].append((a_row, a_at - 1, actions, 1 / length[a_row]))

    def done(self, shares: tuple[float, float, float]) -> Group:
        n, width = len(self.cursor), int(self.cursor.max())
        tokens = np.zeros(n * width, np.int64)
        for row, position, value in self._there["token"]:
            tokens[row * width + position] = value

        def placed(key: str, empty: NDArray) -> tuple[Tensor, Tensor]:
            rows = self._there[key]
            place = np.concatenate([row * width + position for row, position, _ in rows] or [np.empty(0, np.int64)])
            return torch.from_numpy(place), torch.from_numpy(np.concatenate([v for *_, v in rows] or [empty]))

        def asked(key: str, empty: NDArray, share: float) -> tuple[Predicted, Tensor]:
            rows = self._asked[key] or [(*[np.empty(0, np.int64)] * 2, empty, np.empty(0), empty)]
            place = np.concatenate([row * width + position for row, position, *_ in rows])
            target, weight = (np.concatenate([r[i] for r in rows]) for i in (2, 3))
            before = np.concatenate([r[4] for r in rows]) if key == "state" else empty
            weights = torch.from_numpy((share * weight).astype(np.float32))
            return Predicted(torch.from_numpy(place), torch.from_numpy(target), weights), torch.from_numpy(before)

        none, number = np.empty((0, STATE), np.float32), np.empty(0, np.int64)
        sequences = Sequences(
            ((n, width),), torch.from_numpy(tokens), *placed("state", none), *placed("action", number),
            *placed("vector", np.empty((0, 0), np.float32)),
        )  # fmt: skip
        states, before = asked("state", none, shares[0])
        return Group(sequences, states, before.float(), asked("action", number, shares[1])[0],
                     asked("token", number, shares[2])[0])  # fmt: skip


# --- batches --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """Rollouts, and the numbers of the sentences that describe each: (n, 54)."""

    rollouts: Rollouts
    texts: NDArray[np.int64]


def split(rollouts: Rollouts, texts: NDArray, share: float, rng: np.random.Generator) -> tuple[Labelled, Labelled]:
    """(those to train on, those held back): `share` of them, drawn by rollout, so that neither has seen the other's."""
    order, n = rng.permutation(len(rollouts)), max(1, round(share * len(rollouts)))
    if n >= len(rollouts):
        raise ConfigError(f"{len(rollouts)} rollouts are too few to hold {n} of them back: collect more")
    kept, held_back = np.sort(order[n:]), np.sort(order[:n])
    return Labelled(rollouts.take(kept), texts[kept]), Labelled(rollouts.take(held_back), texts[held_back])


class Pairs:
    """A source of batches: `parts` lists of groups, each of `size` samples, as even over the tasks as can be.

    Of a task's rollouts one is drawn uniformly, and the others uniformly from its bucket of equal lengths: every
    rollout is as likely as every other. One of a rollout's sentences is drawn at each use. `noise`: m, the deviation of
    what is added to the states that are read, as an imagined state is off; the first is a real one there too.
    """

    def __init__(
        self, data: Labelled, write: Writer, tasks: Sequence[int], size: int, parts: int = 1, noise: float = 0.0
    ) -> None:
        self._data, self._write, self._parts, self._noise = data, write, parts, noise
        self._sizes = {task: size // len(tasks) + (i < size % len(tasks)) for i, task in enumerate(tasks)}
        order = np.argsort(data.rollouts.lengths, kind="stable")
        self._buckets = np.array_split(order, min(BUCKETS, len(order)))
        self._likely = np.array([len(bucket) for bucket in self._buckets]) / len(order)

    def draw(self, rng: np.random.Generator) -> list[list[Group]]:
        return [self._part(rng) for _ in range(self._parts)]

    def _part(self, rng: np.random.Generator) -> list[Group]:
        with_states = sum(n for task, n in self._sizes.items() if task != EXPLANATION)
        shares = tuple(1 / max(n, 1) for n in (with_states, self._sizes.get(GENERATION, 0),
                                               self._sizes.get(EXPLANATION, 0)))  # fmt: skip
        return [self._group(task, n, shares, rng) for task, n in self._sizes.items() if n]

    def _group(self, task: int, n: int, shares: Any, rng: np.random.Generator) -> Group:
        bucket = self._buckets[rng.choice(len(self._buckets), p=self._likely)]
        which = rng.choice(bucket, n)
        data = self._data
        text = data.texts[which, rng.integers(data.texts.shape[1], size=n)]
        at = rng.integers(data.rollouts.lengths[which]) if task == DYNAMICS else None
        return self._write(task, data.rollouts, which, text, at, shares, read=self._read(which, rng))

    def _read(self, which: NDArray, rng: np.random.Generator) -> NDArray | None:
        """The states of rollouts (n,) with their noise: (n, T + 1, 10) m."""
        if not self._noise:
            return None
        read = self._data.rollouts.observations[which]
        read[:, 1:] += self._noise * rng.standard_normal(read[:, 1:].shape, np.float32)
        return read
