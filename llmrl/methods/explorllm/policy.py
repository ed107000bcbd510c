"""Evaluation-only baselines of ExploRLLM (docs/papers/explorllm.md).

program: the LLM's programs by themselves, the paper's Explore Policy; argmax: the same with the highest pixel of each
map; centre: the planner alone, at objects' middles; random: uniform actions; oracle: knows the true state.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import Positive
from llmrl.config import Config as Run
from llmrl.contracts.method import Method, Reads
from llmrl.methods.explorllm import programs as explorllm_programs
from llmrl.methods.explorllm.program_policy import DRAWS, ProgramPolicy, Sampling, check_task, table_of
from llmrl.methods.explorllm.programs import Affordance, check_affordance, choose, chosen, read_programs, run_of
from llmrl.runs.evaluate import Act, cases, evaluate, uniform_policy

if TYPE_CHECKING:
    from llmrl.context import RunContext

Policy = Literal["program", "argmax", "centre", "random", "oracle"]
SAMPLING: dict[str, Sampling] = {"program": "stochastic", "argmax": "argmax", "centre": "centre"}


@dataclass(frozen=True)
class Config:
    """conf/method/explorllm/policy.yaml"""

    programs: explorllm_programs.Config
    policy: Policy
    offset_scale: Positive
    affordance: Affordance

    def __post_init__(self) -> None:
        check_affordance(self.affordance, self.programs)


class ExploRLLMPolicy(Method[Config]):
    suites = ("pick_place",)
    trains = False

    @classmethod
    def reads(cls, config: Config) -> tuple[Reads, ...]:
        return ("llm",) if config.policy in SAMPLING else ()

    @classmethod
    def small(cls, config: Config, env_steps: int) -> Config:
        """The same with the smallest programs' search that touches everything."""
        programs = explorllm_programs.ExploRLLMPrograms.small(config.programs, env_steps)
        return replace(config, programs=programs, affordance="best")  # a numbered one may be beyond so few

    @classmethod
    def stages(cls, run: Run) -> list[Run]:
        return [run_of(run, run.method.programs)] if run.method.policy in SAMPLING else []

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        own = ctx.cfg.method
        if own.policy in SAMPLING:
            check_task(ctx.cfg.env)
        found, summary = None, {}
        if own.policy in SAMPLING:
            programs = ctx.artifact(run_of(ctx.cfg, own.programs), explorllm_programs.PRODUCT)
            found, summary = read_programs(programs), {"programs": str(programs)}
        env = WithInfo(ctx.env("eval"))
        act, facts = policy_of(own.policy, env, found, offset_scale=own.offset_scale, affordance=own.affordance)
        # without training, seeds differ by their cases; seed 0 has those of all other runs
        evaluation_set = cases(ctx.cfg.eval.seed + ctx.cfg.seed, "eval", ctx.cfg.eval.episodes)
        scores = evaluate(act, env, evaluation_set, ctx.cfg.eval.max_steps, ctx.stop)
        # as a trained agent's greedy evaluations, so that tables find them
        ctx.log.evaluation({"env_steps": 0, "updates": 0, "policy": "greedy", **scores.row()})
        summary |= {"policy": own.policy, **facts()}
        return {"env_steps": 0, "updates": 0, "episodes": 0, "explorllm": summary}


METHOD = ExploRLLMPolicy


class WithInfo(gym.Wrapper):
    """Keeps the last info, which holds the true state for the oracle."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        obs, self.info = self.env.reset(**kwargs)
        return obs, self.info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, self.info = self.env.step(action)
        return obs, reward, terminated, truncated, self.info


def policy_of(
    policy: Policy,
    env: WithInfo,
    found: dict[str, Any] | None,
    *,
    offset_scale: float = 1.0,
    affordance: Affordance = "best",
) -> tuple[Act, Callable[[], dict[str, Any]]]:
    """A policy for evaluation, and a function that returns its facts for the result afterwards. `found`: the programs,
    which random and oracle do not need."""
    config = table_of(env).config
    if policy == "random":
        return uniform_policy(env.action_space), dict
    if policy == "oracle":
        return _oracle(env, config), dict
    assert found is not None
    number = choose(found, affordance, "argmax" if policy == "argmax" else "stochastic")
    program = ProgramPolicy(chosen(found, number), config, offset_scale=offset_scale, sampling=SAMPLING[policy])

    def act(obs: Mapping[str, NDArray], rng: np.random.Generator) -> NDArray:
        return program.act(obs, rng.random((1, DRAWS)))

    return act, lambda: {"affordance": number, "failures": dict(sorted(program.failures.items()))}


def _oracle(env: WithInfo, config: Any) -> Act:
    from llmrl.envs.pick_place import oracle

    def act(obs: Mapping[str, NDArray], rng: np.random.Generator) -> NDArray:
        known = env.info["truth"]
        return oracle.act(known, obs["position"][0], actions=config.actions, reach=config.residual_px)[None]

    return act
