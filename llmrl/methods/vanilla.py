"""Plain training: the agent with its own exploration. The control beside every other method."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Config:
    """Nothing to choose."""


class Vanilla:
    @staticmethod
    def reads(config: Config) -> tuple[str, ...]:
        return ()  # neither an LLM nor the task's text: choosing another one does not make another run

    def run(self, ctx: Any) -> dict:
        agent = ctx.agent()
        return ctx.train(agent, agent.explorer())
