"""LESR (Wang et al. 2024, arXiv 2407.13237): an LLM writes state features and an intrinsic reward for the agent.

The search (methods/lesr/search) is an artifact that all seeds share; this method trains with what it found, from
scratch, on the run's own seed. docs/papers/lesr.md compares with the paper.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np

from llmrl.checks import ConfigError, Count
from llmrl.config import Config as Run
from llmrl.config import checked_at, config_of
from llmrl.config.scaling import scaled
from llmrl.contracts.method import Method, Reads
from llmrl.methods.lesr import search as lesr_search
from llmrl.methods.lesr import wrapper as lesr_wrapper
from llmrl.methods.lesr.wrapper import PROGRAM
from llmrl.methods.search.task import check_task, search_run
from llmrl.runs import seeding
from llmrl.runs.files import read_json, write_text

if TYPE_CHECKING:
    from llmrl.context import RunContext


@dataclass(frozen=True)
class Config:
    """conf/method/lesr.yaml"""

    search: lesr_search.Config
    search_env_steps: Count = field(metadata={"scales": True})
    search_evaluations: Count
    search_agent: dict[str, Any] | None
    control: Literal["none", "random_features", "duplicated_dimensions"]


class LESR(Method[Config]):
    """Plain training with the best function pair of a search."""

    @classmethod
    def reads(cls, config: Config) -> tuple[Reads, ...]:
        return "llm", "env.task", "env.task.observation"

    @classmethod
    def stages(cls, run: Run) -> list[Run]:
        """The search, which all seeds share."""
        return [search_of(run)]

    @classmethod
    def small(cls, config: Config, env_steps: int) -> Config:
        search = lesr_search.LESRSearch.small(config.search, env_steps)
        return replace(config, search=search, search_env_steps=env_steps, search_evaluations=1)

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        check_task(ctx.cfg, "lesr")
        ctx.rehearse()
        search = ctx.artifact(search_of(ctx.cfg), PROGRAM)
        found = read_json(search / "result.json")
        own = ctx.cfg.method.search
        program = (search / PROGRAM).read_text(encoding="utf-8")
        if ctx.cfg.method.control != "none":
            d = gym.spaces.flatdim(ctx.env("eval").observation_space)
            program = CONTROLS[ctx.cfg.method.control](d, found["lesr"]["features"], own.seed)
        write_text(ctx.dir / PROGRAM, program)
        wrapper = lesr_wrapper.Config(
            artifact=str(ctx.dir / PROGRAM), w=own.w, state=own.state, reward=own.reward, form=own.form, record=None,
            scaled=False, drop=(),
        )  # fmt: skip
        agent = ctx.agent(wrapper)
        result = ctx.train(agent, agent.explorer(), wrapper)
        return result | {
            "env_steps_total": result["env_steps"] + found["env_steps_total"], "llm": found["llm"],
            "lesr": found["lesr"] | {"search": str(search), "search_env_steps": found["env_steps_total"]},
        }  # fmt: skip


METHOD = LESR


def search_of(config: Run) -> Run:
    """The run that searches for `config`: its own seed and evaluation cases, and a shorter training."""
    method, agent = config.method, None
    if method.search_agent is not None:
        if (name := config.choices.get("agent@method.search_agent")) is None:
            raise ConfigError("method.search_agent: choose it by its name, agent@method.search_agent=…, or use null")
        checked = checked_at("method.search_agent", config_of("agent", name), method.search_agent, config.choices)
        agent = name, scaled(checked, config.budget.scale)
    evaluations = max(config.budget.fewer_evaluations(method.search_evaluations), method.search.score_evaluations)
    return search_run(config, "lesr/search", evaluations=min(evaluations, method.search_evaluations), agent=agent)


def random_features(d: int, n: int, seed: int) -> str:
    """The control of equal width: n random features tanh(W s) with W ~ N(0, 1/d), and no intrinsic reward."""
    weights = seeding.generator(seed, "random_features").normal(0, d**-0.5, (n, d)).round(3).tolist()
    return (
        "import numpy as np\n\n\ndef revise_state(s):\n"
        f"    weights = np.array({weights})\n"
        "    return np.concatenate([s, np.tanh(weights @ s)])\n"
    )


def duplicated_dimensions(d: int, n: int, seed: int) -> str:
    """The control of equal width: n source dimensions repeated, and no intrinsic reward."""
    copies = np.resize(np.arange(d), n).tolist()
    return f"import numpy as np\n\n\ndef revise_state(s):\n    return np.concatenate([s, s[{copies}]])\n"


CONTROLS = {"random_features": random_features, "duplicated_dimensions": duplicated_dimensions}
