"""ExploRLLM (Ma et al. 2025, arXiv 2403.09583): programs that an LLM wrote once guide the exploration of SAC.

Algorithm 1: at each env_step, with probability epsilon the programs act, else the policy. Both kinds of transition go
into the same replay, unmarked. The programs (methods/explorllm/programs) are an artifact that all seeds share;
evaluation never uses them. docs/papers/explorllm.md compares with the paper.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, Positive, Probability
from llmrl.config import Config as Run
from llmrl.contracts.explorer import Clock, EpisodeSummary, Explorer, Policy
from llmrl.contracts.method import Method, Reads
from llmrl.explore.epsilon_greedy import Schedule, linear
from llmrl.methods.explorllm import programs as explorllm_programs
from llmrl.methods.explorllm.program_policy import DRAWS, ProgramPolicy, check_task
from llmrl.methods.explorllm.programs import Affordance, check_affordance, choose, chosen, read_programs, run_of
from llmrl.runs import seeding

if TYPE_CHECKING:
    from llmrl.context import RunContext


@dataclass(frozen=True)
class Config:
    """conf/method/explorllm.yaml"""

    programs: explorllm_programs.Config
    epsilon: Probability
    epsilon_schedule: Literal["constant", "linear"]
    offset_scale: Positive
    sampling: Literal["stochastic", "argmax"]
    affordance: Affordance

    def __post_init__(self) -> None:
        check_affordance(self.affordance, self.programs)


class ExploRLLM(Method[Config]):
    """With epsilon 0 this is the agent alone, byte for byte: no LLM is asked."""

    suites = ("pick_place",)

    @classmethod
    def reads(cls, config: Config) -> tuple[Reads, ...]:
        return ("llm",) if config.epsilon else ()

    @classmethod
    def stages(cls, run: Run) -> list[Run]:
        return [run_of(run, run.method.programs)] if run.method.epsilon else []

    @classmethod
    def small(cls, config: Config, env_steps: int) -> Config:
        """The same with the smallest programs' search that touches everything."""
        programs = explorllm_programs.ExploRLLMPrograms.small(config.programs, env_steps)
        return replace(config, programs=programs, affordance="best")  # a numbered one may be beyond so few

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        own, agent = ctx.cfg.method, ctx.agent()
        if not own.epsilon:
            return ctx.train(agent, agent.explorer())
        check_task(ctx.cfg.env)
        ctx.rehearse()
        if agent.actions != "continuous":
            raise ConfigError(f"method=explorllm acts in continuous actions, agent={ctx.cfg.choices['agent']} does not")
        directory = ctx.artifact(run_of(ctx.cfg, own.programs), explorllm_programs.PRODUCT)
        found = read_programs(directory)
        number = choose(found, own.affordance, own.sampling)
        with chosen(found, number) as programs:
            policy = ProgramPolicy(programs, ctx.cfg.env, offset_scale=own.offset_scale, sampling=own.sampling)
            end = own.epsilon if own.epsilon_schedule == "constant" else 0.0
            epsilon = linear(own.epsilon, end, ctx.cfg.budget.env_steps)
            rng = seeding.generator(ctx.cfg.seed, "programs")
            explorer = ProgramExplorer(agent.explorer(), policy, epsilon=epsilon, rng=rng)
            result = ctx.train(agent, explorer)
        summary = {"programs": str(directory), "affordance": number, "scores": found["scores"]}
        summary |= {"rejected": found["rejected"], "guided_env_steps": explorer.guided_env_steps}
        return result | {"explorllm": summary | {"failures": dict(sorted(policy.failures.items()))}}


METHOD = ExploRLLM


class ProgramExplorer(Explorer):
    """Algorithm 1. The agent's own explorer stays around it: its first random env_steps stay random.

    The programs' randomness is a stream of its own, so that all else is drawn as without guidance.
    """

    def __init__(self, around: Explorer, policy: ProgramPolicy, *, epsilon: Schedule, rng: np.random.Generator) -> None:
        self._around, self._policy, self._epsilon, self._rng = around, policy, epsilon, rng
        self.guided_env_steps = 0
        self._now = epsilon(0)

    def on_episode_start(self, clock: Clock, number: int, last: EpisodeSummary | None) -> None:
        self._around.on_episode_start(clock, number, last)

    def propose(
        self, obs: Any, policy: Policy, clock: Clock, info: Sequence[dict], rng: np.random.Generator
    ) -> NDArray:
        """Actions (n_envs, *action). Draws n_envs * (1 + DRAWS) numbers at every call, and what the agent's own
        explorer draws."""
        draws = self._rng.random((len(info), 1 + DRAWS))
        self._now = self._epsilon(clock.env_steps)
        # j ~ U[0, 1); guided where j < epsilon
        guided = np.flatnonzero(draws[:, 0] < self._now)

        def mixed() -> NDArray:
            # a^LLM = (k, i, x^r) of the programs where guided, else a ~ pi_RL
            if not len(guided):
                return policy()
            actions = policy() if len(guided) < len(info) else None
            self.guided_env_steps += len(guided)
            proposed = self._policy.act({key: part[guided] for key, part in obs.items()}, draws[guided, 1:])
            if actions is None:
                return proposed
            actions[guided] = proposed
            return actions

        return self._around.propose(obs, mixed, clock, info, rng)

    def metrics(self) -> dict[str, float]:
        failed = sum(self._policy.failures.values())
        own = {"epsilon": self._now, "guided_env_steps": self.guided_env_steps, "program_failures": failed}
        return self._around.metrics() | own

    def state_dict(self) -> dict:
        return {
            "around": self._around.state_dict(), "rng": self._rng.bit_generator.state, "epsilon": self._now,
            "guided_env_steps": self.guided_env_steps, "failures": dict(self._policy.failures),
        }  # fmt: skip

    def load_state_dict(self, state: dict) -> None:
        self._around.load_state_dict(state["around"])
        self._rng.bit_generator.state = state["rng"]
        self._now, self.guided_env_steps = state["epsilon"], state["guided_env_steps"]
        self._policy.failures = Counter(state["failures"])
