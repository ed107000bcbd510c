"""Training a grounded language model, and what it is measured by (docs/papers/kalm.md)."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from llmrl.checks import ConfigError
from llmrl.contracts.agent import Learner
from llmrl.envs.clevr_robot.language import fits
from llmrl.envs.clevr_robot.rollouts import Rollouts
from llmrl.methods.kalm.model.config import Model
from llmrl.methods.kalm.model.llama import Llama
from llmrl.methods.kalm.model.network import Continuation, GroundedLM
from llmrl.methods.kalm.model.tasks import DYNAMICS, EXPLANATION, GENERATION, UNSEEN, Group, Labelled, Writer, joined

NAMES = ("generation", "dynamics", "consequence", "explanation")  # of the tasks, in the rows of evaluations


# Updates from which `compile: auto` compiles. Compiling takes 10 to 60 s, depending on what else the machine does, and
# saves some 10 ms of an update: less than this many would not pay for it, those of tests and of budget=smoke least.
COMPILE_FROM = 3_000


def compiles(config: Model, updates: int, device: torch.device) -> bool:
    """Whether so long a training is compiled. On a GPU, where it was not measured, only on demand."""
    if config.compile == "auto":
        return config.sizes is not None and device.type == "cpu" and updates >= COMPILE_FROM
    return config.compile == "true"


class Grounder(Learner):
    """A Learner: AdamW with a rate that falls linearly to zero, gradients clipped by their norm."""

    def __init__(self, model: GroundedLM, config: Model, *, updates: int, device: torch.device) -> None:
        self.model, self.config, self.device, self.total, self.updates = model, config, device, updates, 0
        self._learned = model.learned()
        if compiles(config, updates, device):
            self._compile()
        self._adam = torch.optim.AdamW(
            self._learned.values(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    def update(self, batch: list[list[Group]]) -> Mapping[str, Tensor]:  # type: ignore[override]  # what Pairs draws
        """One update from parts of equal weight, whose gradients are added up. Raises ConfigError, with the settings
        to change, where the device's memory does not suffice."""
        self.model.eval()  # the dropout of some would draw from a generator that no checkpoint holds
        self._adam.param_groups[0]["lr"] = self.config.learning_rate * (1 - self.updates / self.total)
        totals = torch.zeros(3, device=self.device)
        with enough_memory(TRAINING):
            self._adam.zero_grad(set_to_none=True)
            gen = torch.Generator().manual_seed(self.updates)  # no state of its own, which a checkpoint would hold
            for group in (group for part in batch for group in self._together(part)):
                group = group.to(self.device)
                if self.config.scheduled_sampling:
                    with precision(self.config, self.device):
                        group = with_own_predictions(self.model, group, self.config.scheduled_sampling, gen)
                losses = self._losses(group)
                (losses.sum() / len(batch)).backward()
                totals += losses.detach() / len(batch)
            norm = torch.nn.utils.clip_grad_norm_(self._learned.values(), self.config.clip)
            self._adam.step()
        self.updates += 1
        return dict(zip(("state_loss", "action_loss", "token_loss"), totals)) | {"loss": totals.sum(), "gradient": norm}

    def _compile(self) -> None:
        try:
            with precision(self.config, self.device):
                self.model.lm.compile_blocks()
        except RuntimeError as error:
            print(
                f"The language model is trained uncompiled, which takes longer: torch.compile failed ({error}). "
                "Install a C++ compiler such as g++, or set compile=false of its llm_model",
                file=sys.stderr,
            )

    def _together(self, part: list[Group]) -> list[Group]:
        """Groups as they are trained on: by a small model at once; by others one by one, which takes less memory."""
        return [joined(part)] if isinstance(self.model.lm, Llama) else part

    def _losses(self, group: Group) -> Tensor:
        """(3,): 0.5 MSE of states, 0.5 CE of actions, CE of tokens (with the weights of 5.2). Each is a mean over the
        samples of the batch that have it, and in a sample over what it predicts."""
        c, zero = self.config, torch.zeros((), device=self.device)
        with precision(self.config, self.device):
            asked = (group.states.at, group.actions.at, group.tokens.at)
            before_state, before_action, before_token = self.model(group.sequences, torch.cat(asked)).split(
                [len(at) for at in asked]
            )
            of = {}
            if len(group.states.at):
                predicted = self.model.predicted_states(before_state, group.before)
                of["state"] = ((predicted - group.states.target) / c.state_unit).square().mean(1) @ group.states.weight
            if len(group.actions.at):
                logits = self.model.action_logits(before_action)
                of["action"] = F.cross_entropy(logits, group.actions.target, reduction="none") @ group.actions.weight
            if len(group.tokens.at):
                logits = self.model.token_logits(before_token)
                of["token"] = F.cross_entropy(logits, group.tokens.target, reduction="none") @ group.tokens.weight
        weights = {"state": c.state_weight, "action": c.action_weight, "token": c.token_weight}
        return torch.stack([weight * of.get(kind, zero) for kind, weight in weights.items()])

    def state_dict(self) -> dict:
        learned = {name: p.detach() for name, p in self._learned.items()}
        return {"model": learned, "adam": self._adam.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        load_learned(self.model, state["model"])
        self._adam.load_state_dict(state["adam"])
        self.updates = state["updates"]


@torch.no_grad()
def with_own_predictions(model: GroundedLM, group: Group, share: float, gen: torch.Generator) -> Group:
    """The group in which a share of the states that are predicted are read as the model predicts them, from true ones
    before them (scheduled sampling, Bengio et al. 2015, arXiv 1506.03099): it reads errors as imagining makes them.
    Targets stay; the first state of a rollout is read as it is."""
    sequences, (at, _, _) = group.sequences, group.states
    if not len(at) or not len(sequences.state_at):
        return group

    def read_at(places: Tensor) -> tuple[Tensor, Tensor]:
        """(which of the states that are read stand there, whether one does)"""
        number = torch.searchsorted(sequences.state_at, places).clamp_(max=len(sequences.state_at) - 1)
        return number, sequences.state_at[number] == places

    predicted = model.predicted_states(model(sequences, at), group.before)
    number, is_read = read_at(at + 1)  # a state is predicted from the place before it
    earlier, follows = read_at(at - 1)  # … which is an action's, behind the state before
    chosen = is_read & follows & (torch.rand(len(at), generator=gen).to(at.device) < share)
    states = sequences.states.index_copy(0, number[chosen], predicted[chosen].to(sequences.states.dtype))
    before = torch.where(follows[:, None], states[earlier], group.before)
    return group._replace(sequences=sequences._replace(states=states), before=before)


def load_learned(model: GroundedLM, weights: Mapping[str, Tensor]) -> None:
    """Puts back what was trained. Raises ConfigError where it is another model's."""
    learned = model.learned()
    if learned.keys() != weights.keys() or any(learned[name].shape != x.shape for name, x in weights.items()):
        raise ConfigError(
            "these weights are of another model: its sizes, or what is trained of it, differ, or they are from a "
            "checkpoint of an earlier version of llmrl, whose training cannot be continued"
        )
    with torch.no_grad():
        for name, parameter in learned.items():
            parameter.copy_(weights[name])


def precision(config: Model, device: torch.device) -> torch.autocast:
    """bf16: matrix products in it, all else in float32, and so are the weights that are trained."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


# what helps where memory is short
SMALLER = "precision=bf16, adapter=lora or a smaller llm_model"
TRAINING = (
    "Lower batch_size of the language model (method.model.batch_size; of method=kalm method.rollouts.model.model."
    f"batch_size) and raise its accumulation by as much, or take {SMALLER}. Other settings make another run, "
    "which starts from the beginning"
)


@contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Raises ConfigError with what to change where the device has too little memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"The language model does not fit into the device's memory ({str(error).splitlines()[0][:120]}). {remedy}."
        ) from error


# --- what a model is measured by ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Validation:
    """The same samples at every evaluation: batches by task, and rollouts to explain."""

    batches: dict[int, list[Group]]  # by task
    rollouts: Rollouts

    @staticmethod
    def of(held_back: Labelled, write: Writer, config: Any, rng: np.random.Generator) -> "Validation":
        """The first `validation_rollouts` of those held back, in batches of the training's size."""
        n = min(config.model.validation_rollouts, len(held_back.rollouts))
        first = Labelled(held_back.rollouts.take(np.arange(n)), held_back.texts[:n])
        order = np.argsort(first.rollouts.lengths, kind="stable")
        text = first.texts[np.arange(n), rng.integers(first.texts.shape[1], size=n)]
        at = rng.integers(first.rollouts.lengths)
        chunks = np.array_split(order, -(-n // config.model.batch_size))
        batches = {task: [write(task, first.rollouts, c, text[c], at[c] if task == DYNAMICS else None) for c in chunks]
                   for task in config.tasks}  # fmt: skip
        return Validation(batches, first.rollouts)


def measured(
    learner: Grounder, data: Validation, write: Writer, decode: Callable[[list[int]], str]
) -> dict[str, float]:
    """A row: errors of the states that were predicted (MSE in m^2; s0, which cannot be known, is left out), cross
    entropies, shares of right actions, and of explanations that fit the goal (greedy, in two prompts)."""
    learner.model.eval()
    row: dict[str, float] = {}
    with torch.inference_mode(), precision(learner.config, learner.device), enough_memory(TRAINING):
        for task, groups in data.batches.items():
            sums = sum((_sums(learner, group.to(learner.device), task) for group in groups), torch.zeros(7))
            states, squares, actions, ce, right, tokens, token_ce = sums.tolist()
            row |= {f"{NAMES[task]}_state_mse": squares / states} if states else {}
            row |= {"action_ce": ce / actions, "action_accuracy": right / actions} if actions else {}
            row |= {"token_ce": token_ce / tokens} if tokens else {}
        if EXPLANATION in data.batches:
            rollouts = data.rollouts
            longest = int(write.sentences.length.max()) + 5
            for task, name in ((EXPLANATION, "explanation_accuracy"), (UNSEEN, "explanation_accuracy_unseen_prompt")):
                texts = explained(learner.model, write, rollouts, task, decode, longest)
                row[name] = float(np.mean([fits(t, goal) for t, goal in zip(texts, rollouts.goals)]))
    return row


def _sums(learner: Grounder, group: Group, task: int) -> Tensor:
    """(7,) over a group: n and squared error of states; n, CE and hits of actions; n and CE of tokens."""
    asked = (group.states.at, group.actions.at, group.tokens.at)
    before_state, before_action, before_token = learner.model(group.sequences, torch.cat(asked)).split(
        [len(at) for at in asked]
    )
    known = group.before.any(1) if task == GENERATION else torch.ones(len(group.before), dtype=torch.bool)
    wrong = learner.model.predicted_states(before_state, group.before) - group.states.target
    logits = learner.model.action_logits(before_action)
    words = learner.model.token_logits(before_token)
    action, token = group.actions.target, group.tokens.target
    return torch.stack([x.cpu().float() for x in (
        known.sum(), wrong.square().mean(1)[known.to(wrong.device)].sum(),
        torch.tensor(len(action)), F.cross_entropy(logits, action, reduction="sum"), (logits.argmax(1) == action).sum(),
        torch.tensor(len(token)), F.cross_entropy(words, token, reduction="sum"),
    )])  # fmt: skip


def explained(
    model: GroundedLM, write: Writer, rollouts: Rollouts, task: int, decode: Callable[[list[int]], str], longest: int
) -> list[str]:
    """The model's explanation of each rollout, greedily, up to the full stop or `longest` tokens."""
    device = next(model.parameters()).device
    ids: list[list[int]] = [[] for _ in range(len(rollouts))]
    for length in np.unique(rollouts.lengths):
        which = np.flatnonzero(rollouts.lengths == length)  # of one length, and so nothing is padded
        prompt = write(task, rollouts, which, np.zeros(len(which), int), until="answer").sequences.to(device)
        line = Continuation(model, prompt)
        for _ in range(longest):
            token = model.token_logits(line.hidden).argmax(1)
            for i, number in zip(which.tolist(), token.tolist()):
                ids[i].append(number)
            on = (token != write.stop).nonzero()[:, 0]
            if not len(on):
                break
            which = which[on.cpu().numpy()]
            line.keep(on)
            line.append(model.lm.get_input_embeddings()(token[on]))
    return [decode(words[:-1] if words[-1] == write.stop else words) for words in ids]
