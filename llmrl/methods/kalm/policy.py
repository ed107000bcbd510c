"""Evaluation-only baselines of KALM (docs/papers/kalm.md).

language_model: the grounded language model acts itself, greedily, on the true states; noisy_greedy: pushes towards the
goal, and now and then at random; random: uniform actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, Count, Probability
from llmrl.config import Config as Run
from llmrl.contracts.method import Method
from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot.collect import Script
from llmrl.envs.clevr_robot.model import ACTIONS, BALLS, xy_of
from llmrl.envs.clevr_robot.rollouts import Rollouts
from llmrl.envs.clevr_robot.side_by_side import SideBySide
from llmrl.methods.kalm import model as kalm_model
from llmrl.runs import seeding
from llmrl.runs.evaluate import Case, Scores, cases, evaluate_together

if TYPE_CHECKING:
    from llmrl.context import RunContext

PUSH = {g.BEHIND: 1, g.LEFT: 2, g.FRONT: 3, g.RIGHT: 0}  # the action's direction for an easy goal's


@dataclass(frozen=True)
class Config:
    """conf/method/kalm/policy.yaml"""

    policy: Literal["language_model", "noisy_greedy", "random"]
    random: Probability
    model: kalm_model.Config | None
    batch_size: Count | None

    def __post_init__(self) -> None:
        if self.policy != "language_model":  # then the language model makes no difference
            object.__setattr__(self, "model", None)
            object.__setattr__(self, "batch_size", None)
        elif self.model is None or self.batch_size is None:
            raise ValueError("model: policy=language_model needs one, and a batch_size")


class KALMPolicy(Method[Config]):
    suites = ("clevr_robot",)
    trains = False

    @classmethod
    def small(cls, config: Config, env_steps: int) -> Config:
        """The same with the smallest language model that touches everything."""
        small = kalm_model.KALMModel.small
        return replace(config, model=None if config.model is None else small(config.model, env_steps))

    @classmethod
    def stages(cls, run: Run) -> list[Run]:
        if run.method.model is None:
            return []
        model = kalm_model.run_of(run, run.method.model)
        return [*kalm_model.KALMModel.stages(model), model]

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        own, cfg = ctx.cfg.method, ctx.cfg
        if cfg.env.language is None:
            raise ConfigError("method=kalm/policy: goals are sentences; choose env.language=minilm, or words")
        loaded = None
        if own.model is not None:
            import torch

            kalm_model.check(cfg, own.model, "method.model")
            made = ctx.artifact(self.stages(cfg)[-1], kalm_model.PRODUCT)
            loaded = kalm_model.load(made, torch.device(cfg.compute.device))
        sets = {"greedy": cases(cfg.eval.seed, "eval", cfg.eval.episodes)}
        for name, evaluation_set in {
            **sets,
            **{f"greedy on {key}": evaluation_set for key, evaluation_set in ctx.evaluation_sets.items()},
        }.items():
            episodes = SideBySide(cfg.env, cfg.eval.workers)
            if loaded is not None:
                scores = by_language_model(
                    loaded, episodes, evaluation_set, cfg.eval.max_steps, own.batch_size, ctx.stop
                )
            else:  # seeds differ by the draws of their policy; the cases are the same
                rng = seeding.generator(cfg.seed, name)
                act = Noisy(episodes, 1.0 if own.policy == "random" else own.random, rng)
                scores = evaluate_together(act, episodes, evaluation_set, cfg.eval.max_steps, ctx.stop)
            # as a trained agent's evaluations, so that tables find them
            ctx.log.evaluation({"env_steps": 0, "updates": 0, "policy": name, **scores.row()})
        return {"env_steps": 0, "updates": 0, "episodes": 0, "kalm_policy": {"policy": own.policy}}


METHOD = KALMPolicy


# --- the script -------------------------------------------------------------------------------------------------------


class Noisy:
    """Acts towards the goals of `episodes`, and with probability `random` at random. The part for base goals is the
    authors'; the others are ours."""

    def __init__(self, episodes: SideBySide, random: float, rng: np.random.Generator) -> None:
        self._episodes, self._random, self._rng = episodes, random, rng

    def __call__(self, obs: NDArray, rng: np.random.Generator) -> NDArray[np.int64]:
        goals, xy = self._episodes.goals, xy_of(self._episodes.states)
        anyhow = self._rng.random(len(goals)) < self._random
        return np.where(anyhow, self._rng.integers(ACTIONS, size=len(goals)), self._towards(goals, xy))

    def _towards(self, goals: NDArray, xy: NDArray) -> NDArray[np.int64]:
        tier = g.tier_of(goals[0])
        if tier == "easy":
            return goals[:, :BALLS].argmax(1) * 8 + np.array([PUSH[d] for d in goals[:, 5].tolist()])
        if tier == "hard":
            goals = np.stack([self._part(goal, balls) for goal, balls in zip(goals, xy)])
        return Script(random=0.0, dst=0.0).act(goals, xy, self._rng)

    def _part(self, goal: NDArray, xy: NDArray) -> NDArray[np.int64]:
        """One of the conditions of a hard goal (36,) that do not hold, as a base goal (6,); xy (5, 2)."""
        missing = np.flatnonzero(~g.hard_parts(goal, xy))
        part = int(self._rng.choice(missing)) if len(missing) else 0
        if goal[5] in (g.TWO, g.THREE):
            return goal[6 * (part + 1) : 6 * (part + 2)]
        if goal[5] == g.ORDER:  # from ball `part` to the next one to the right
            return g.base_goal(part + 1, part, g.RIGHT)
        ball = [i for i in range(BALLS) if i != g.GREEN][part]
        side = int((g.UNIT[:4] @ (xy[ball] - xy[g.GREEN])).argmax())  # it comes nearer from where it is
        return g.base_goal(ball, g.GREEN, side)


# --- the language model -----------------------------------------------------------------------------------------------


def by_language_model(
    loaded: Any, episodes: SideBySide, evaluation_set: Sequence[Case], max_steps: int, batch_size: int, stop: Any
) -> Scores:
    """Plays the cases with the language model; those with prompts of one length together, up to batch_size."""
    from llmrl.methods.kalm.model.training import enough_memory, precision

    worded = tuple(str((case.options or {}).get("sentence", "")) for case in evaluation_set)
    if not all(worded):  # the environment draws what the case leaves open
        episodes.reset([(case.seed, case.options) for case in evaluation_set])
        worded = tuple(map(str, episodes.sentences))
    write = kalm_model.writer(loaded.config, worded, loaded.tokenizer)
    length = write.sentences.length[np.arange(len(evaluation_set))] * (write.sentences.vectors is None)
    alike = [np.flatnonzero(length == size) for size in np.unique(length)]
    groups = [some[first : first + batch_size] for some in alike for first in range(0, len(some), batch_size)]
    parts = []
    device = next(loaded.model.parameters()).device
    with precision(loaded.config, device), enough_memory("Lower method.batch_size, episodes played side by side"):
        for group in groups:
            player = LanguageModel(loaded.model, write, episodes, group)
            parts.append(evaluate_together(player, player, [evaluation_set[i] for i in group], max_steps, stop))
    order = np.argsort(np.concatenate(groups))
    whole = Scores.joined(parts)
    whole.returns, whole.lengths = ([values[i] for i in order] for values in (whole.returns, whole.lengths))
    whole.successes = {rule: [found[i] for i in order] for rule, found in whole.successes.items()}
    return whole


class LanguageModel:
    """Episodes whose states a language model reads as they go, and its next actions."""

    def __init__(self, model: Any, write: Any, episodes: SideBySide, text: NDArray) -> None:
        self._model, self._write, self._episodes, self._text = model, write, episodes, text
        self._device = next(model.parameters()).device

    def __call__(self, obs: NDArray, rng: np.random.Generator) -> NDArray[np.int64]:
        import torch

        with torch.inference_mode():
            return self._model.action_logits(self._line.hidden).argmax(1).cpu().numpy()

    def reset(self, cases: Sequence[tuple[int, dict | None]]) -> NDArray:
        import torch

        from llmrl.methods.kalm.model.network import Continuation
        from llmrl.methods.kalm.model.tasks import GENERATION

        obs = self._episodes.reset(cases)
        n = len(obs)
        begun = Rollouts(
            observations=np.repeat(obs[:, None, : 2 * BALLS], 2, axis=1), actions=np.zeros((n, 1), np.int32),
            rewards=np.zeros((n, 1), np.float32), terminals=np.zeros((n, 1), bool), lengths=np.ones(n, np.int32),
            goals=self._episodes.goals.astype(np.int32), states=None,
        )  # fmt: skip
        prompt = self._write(GENERATION, begun, np.arange(n), self._text, until="rollout").sequences
        with torch.inference_mode():
            self._line = Continuation(self._model, prompt.to(self._device))
        return obs

    def step(self, actions: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray, dict[str, NDArray]]:
        import torch

        stepped = self._episodes.step(actions)
        state = torch.from_numpy(np.ascontiguousarray(stepped[0][:, : 2 * BALLS])).to(self._device)
        with torch.inference_mode():
            self._line.append(self._model.embed_actions(torch.from_numpy(actions).to(self._device)))
            self._line.append(self._model.embed_states(state))
        return stepped

    def keep(self, mask: NDArray) -> NDArray:
        import torch

        with torch.inference_mode():
            self._line.keep(torch.from_numpy(np.flatnonzero(mask)).to(self._device))
        return self._episodes.keep(mask)
