"""A grounded language model imagines rollouts: action, state, action, state, … until the goal is reached on imagined
states (docs/papers/kalm.md)."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.envs.clevr_robot import rewards
from llmrl.envs.clevr_robot.model import BALLS
from llmrl.envs.clevr_robot.rollouts import Rollouts
from llmrl.methods.kalm.model.network import Continuation, GroundedLM
from llmrl.methods.kalm.model.tasks import GENERATION, Writer
from llmrl.methods.kalm.model.training import enough_memory
from llmrl.methods.kalm.rollouts.metrics import BOX_X, BOX_Y

REMEDY = "Lower method.batch_size, rollouts imagined side by side (of method=kalm: method.rollouts.batch_size)"


class Imagination:
    """How to imagine. tier: of the goals ("base", "easy" or "hard"); steps: at the most, of which an easy goal has one.

    lag: as in the authors' code, whose a_t comes from the position of s_(t-1), so that a_0 = a_1 always. ball_first: as
    `ball_first_action`. walls: balls stay on the workbench. cache: False reads all positions again at every step, for
    comparison.
    """

    def __init__(
        self, model: GroundedLM, write: Writer, tier: Any, *, steps: int, tolerance: float, batch: int,
        lag: bool = False, ball_first: bool = False, walls: bool = False, cache: bool = True,
    ) -> None:  # fmt: skip
        self.model, self.write, self.tier, self.batch = model, write, tier, batch
        self.steps = 1 if tier == "easy" else steps
        self.tolerance, self.walls, self.cache = tolerance, walls, cache
        self.lag, self.chosen = lag, ball_first_action if ball_first else likeliest_action

    def __call__(self, goals: NDArray, text: NDArray, start: NDArray) -> Rollouts:
        """Goals (n, k), the numbers of their sentences (n,), first states (n, 10) m -> n rollouts, greedily. Rows that
        hold NaN are among them."""
        n = len(goals)
        out = Rollouts(
            observations=np.zeros((n, self.steps + 1, 2 * BALLS), np.float32),
            actions=np.zeros((n, self.steps), np.int32),
            rewards=np.zeros((n, self.steps), np.float32),
            terminals=np.zeros((n, self.steps), bool),
            lengths=np.zeros(n, np.int32),
            goals=goals.astype(np.int32),
            states=None,
            texts=text.astype(np.int32),
            sentences=self.write.sentences.texts,
        )
        out.observations[:, 0] = start
        length = self.write.sentences.length[text] * (self.write.sentences.vectors is None)
        with torch.inference_mode(), enough_memory(REMEDY):
            for size in np.unique(length):  # prompts of one length go together, so that nothing is padded
                alike = np.flatnonzero(length == size)
                for first in range(0, len(alike), self.batch):
                    self._together(out, alike[first : first + self.batch], text)
        return out

    def _together(self, out: Rollouts, row: NDArray, text: NDArray) -> None:
        """Fills in rows `row` of `out`; text (n,): the sentences of all rows."""
        model, device = self.model, next(self.model.parameters()).device
        prompt = self.write(GENERATION, out, row, text[row], until="rollout").sequences.to(device)
        line = Continuation(model, prompt, cache=self.cache)
        state = torch.from_numpy(out.observations[row, 0]).to(device)
        earlier = logits = model.action_logits(line.hidden)  # from the position of s_0
        for t in range(self.steps):
            # a_t = argmax pi(. | …, s_t); the authors' lag takes the logits from the position of s_(t-1)
            action = self.chosen(earlier if self.lag else logits)
            line.append(model.embed_actions(action))
            state = model.predicted_states(line.hidden, state)  # s_(t+1), from the position of a_t
            if self.walls:
                state = on_workbench(state)
            out.actions[row, t] = action.cpu().numpy()
            out.observations[row, t + 1] = state.cpu().numpy()
            out.lengths[row] = t + 1
            before, after = (out.observations[row, i].reshape(-1, BALLS, 2).astype(float) for i in (t, t + 1))
            out.rewards[row, t], success = rewards.judge(
                self.tier, out.goals[row], out.actions[row, t], before, after, easy_judge="action",
                tolerance=self.tolerance, form="imaginary",
            )  # fmt: skip
            out.terminals[row, t] = success | (self.tier == "easy")
            on = np.flatnonzero(~success & np.isfinite(after).all((1, 2)))
            if not len(on) or t + 1 == self.steps:
                return
            if len(on) < len(row):
                which = torch.from_numpy(on).to(device)
                line.keep(which)
                row, state, logits = row[on], state[which], logits[which]
            line.append(model.embed_states(state))
            earlier, logits = logits, model.action_logits(line.hidden)


def likeliest_action(logits: torch.Tensor) -> torch.Tensor:
    """(n, 40) -> (n,)"""
    return logits.argmax(1)


def ball_first_action(logits: torch.Tensor) -> torch.Tensor:
    """(n, 40) -> (n,): of the ball that is pushed most likely, whichever way, the likeliest push. Where a goal names a
    ball and leaves the way open, the likeliest pair may be another ball's."""
    pushes = logits.unflatten(1, (BALLS, -1))  # a = 8 ball + direction
    ball = pushes.logsumexp(2).argmax(1)
    return pushes.shape[2] * ball + pushes[torch.arange(len(ball), device=ball.device), ball].argmax(1)


def on_workbench(states: torch.Tensor) -> torch.Tensor:
    """(n, 10) m, with balls that lie outside at the walls."""
    low, high = (states.new_tensor([x, y]).repeat(BALLS) for x, y in zip(BOX_X, BOX_Y))
    return states.clamp(low, high)


def sound(rollouts: Rollouts) -> tuple[Rollouts, int]:
    """(the rollouts without NaN or infinity, how many had some). Raises ConfigError where none is left."""
    whole = np.all(np.isfinite(rollouts.observations), axis=(1, 2))
    if not whole.any():
        raise ConfigError(
            f"every one of the {len(rollouts):,} imagined rollouts has a state with NaN: the language model's training "
            "diverged, or its precision is too low. Look at its losses, and train another with a lower "
            "learning_rate of its method.model.model (of method=kalm: method.rollouts.model.model)"
        )
    return rollouts.take(whole), int((~whole).sum())
