"""Eureka (Ma et al. 2024, arXiv 2310.12931): an LLM writes the reward that an agent learns from.

The search (search.py) is an artifact that all seeds share; this method trains with the reward that it found, from
scratch, on the run's own seed. docs/papers/eureka.md compares with the paper.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmrl.checks import Count
from llmrl.config import Config as Run
from llmrl.contracts.method import Method, Reads
from llmrl.methods.eureka import search as eureka_search
from llmrl.methods.eureka import wrapper as eureka_wrapper
from llmrl.methods.eureka.measure import fitness
from llmrl.methods.eureka.wrapper import PROGRAM
from llmrl.methods.search.task import check_task, search_run
from llmrl.runs.files import read_json, write_text

if TYPE_CHECKING:
    from llmrl.context import RunContext


@dataclass(frozen=True)
class Config:
    """conf/method/eureka.yaml"""

    search: eureka_search.Config
    search_env_steps: Count = field(metadata={"scales": True})
    search_evaluations: Count


class Eureka(Method[Config]):
    """The agent with the best reward of a search: plain training on another reward."""

    suites = eureka_search.EurekaSearch.suites

    @classmethod
    def reads(cls, config: Config) -> tuple[Reads, ...]:
        return "llm", "env.task", "env.task.observation"

    @classmethod
    def stages(cls, run: Run) -> list[Run]:
        """What runs share: the one search."""
        return [search_of(run)]

    @classmethod
    def small(cls, config: Config, env_steps: int) -> Config:
        search = eureka_search.EurekaSearch.small(config.search, env_steps)
        return replace(config, search=search, search_env_steps=env_steps, search_evaluations=1)

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        check_task(ctx.cfg, "eureka")
        ctx.rehearse()
        search = ctx.artifact(search_of(ctx.cfg), PROGRAM)
        found = read_json(search / "result.json")
        write_text(ctx.dir / PROGRAM, (search / PROGRAM).read_text(encoding="utf-8"))
        wrapper = eureka_wrapper.Config(program=str(ctx.dir / PROGRAM), reward="program")
        agent = ctx.agent(wrapper)
        result = ctx.train(agent, agent.explorer(), wrapper)
        own = {"search": str(search), "search_env_steps": found["env_steps_total"], "best": max(fitness(ctx.dir))}
        return result | {
            "env_steps_total": result["env_steps"] + found["env_steps_total"], "llm": found["llm"],
            "eureka": found["eureka"] | own,
        }  # fmt: skip


METHOD = Eureka


def search_of(config: Run) -> Run:
    """The run that searches for `config`: its own seed and evaluation cases, and a shorter training."""
    evaluations = config.budget.fewer_evaluations(config.method.search_evaluations)
    return search_run(config, "eureka/search", evaluations=evaluations)
