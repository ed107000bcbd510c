"""What every search asks of its run before it asks an LLM: a described state, and no wrapper in its place."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmrl.checks import ConfigError
from llmrl.contracts.env import Task

if TYPE_CHECKING:
    from llmrl.config import Config as Run


def check_task(run: "Run", name: str) -> None:
    """Raises ConfigError where the meaning of the state is not written down, or a wrapper is there already."""
    task: Task = run.env.task
    if task.observation is None or not task.has_text:
        raise ConfigError(
            f"method={name} puts the meaning of each dimension of the state into its prompts, but env.task.observation "
            f"of {task.name} is missing. Write it in the environment's yaml, or choose a task that has it: llmrl list"
        )
    if run.wrapper is not None:
        raise ConfigError(f"method={name} finds its wrapper by itself: use wrapper=none, or method=vanilla with it")


def check_sheet(task: Task, d: int) -> None:
    """Raises ConfigError where the description is not of the state's d dimensions."""
    if (lines := len(task.observation or ())) != d:
        raise ConfigError(
            f"env.task.observation has {lines} lines, the state of {task.name} has {d} dimensions: correct the "
            "environment's yaml"
        )


def search_run(run: "Run", name: str, *, evaluations: int, agent: tuple[str, Any] | None = None) -> "Run":
    """The run of method=<name> that searches for `run`: its own seed and evaluation cases, and a shorter training.

    Args:
        evaluations: of each candidate's training.
        agent: name and Config where it is another than the run's.
    """
    method, env_steps = run.method, run.method.search_env_steps
    chosen, config = agent or (run.choices["agent"], run.agent)
    return replace(
        run,
        method=method.search,
        agent=config,
        wrapper=None,
        seed=method.search.seed,
        budget=replace(run.budget, env_steps=env_steps, evaluations=evaluations),
        eval=replace(run.eval, seed=method.search.eval_seed, every=-(-env_steps // evaluations)),
        choices={"method": name, "agent": chosen, "env": run.choices["env"], "llm": run.choices["llm"]},
    )
