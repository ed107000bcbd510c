"""Evaluates the agent of another run on this run's environment, without training: sim-to-sim transfer, for example."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.checks import PathText
from llmrl.contracts.method import Method
from llmrl.runs.kept_wrapper import kept

if TYPE_CHECKING:
    from llmrl.context import RunContext


@dataclass(frozen=True)
class Config:
    """conf/method/pretrained.yaml"""

    run: PathText = field(metadata={"identity": "content", "key": "method.run", "file": "agent.pt"})


class Pretrained(Method[Config]):
    trains = False

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        source = Path(ctx.cfg.method.run)
        wrapper = kept(source) if ctx.cfg.wrapper is None else None  # this run's own, else the source's
        agent, clock = ctx.trained(source, ctx.env("eval", wrapper))
        ctx.evaluate(agent, clock, wrapper, end=True)
        summary = {"run": ctx.cfg.method.run, **asdict(clock)}
        return {"env_steps": 0, "updates": 0, "episodes": 0, "pretrained": summary}


METHOD = Pretrained
