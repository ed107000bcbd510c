"""Plays what another run has learned, on this run's environment, and learns nothing: the sim-to-sim transfer, say."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmrl.checks import PathText

TRAINS = False  # for `llmrl check`


@dataclass(frozen=True)
class Config:
    """conf/method/pretrained.yaml"""

    run: PathText = field(metadata={"identity": "content"})


class Pretrained:
    @staticmethod
    def reads(config: Config) -> tuple[str, ...]:
        return ()

    def run(self, ctx: Any) -> dict[str, Any]:
        agent, clock = ctx.trained(Path(ctx.cfg.method.run), ctx.env("eval"))
        ctx.evaluate(agent, clock, end=True)
        told = {"run": ctx.cfg.method.run, **asdict(clock)}
        return {"env_steps": 0, "updates": 0, "episodes": 0, "pretrained": told}
