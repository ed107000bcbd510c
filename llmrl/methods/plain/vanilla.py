"""Plain training: the agent with its own exploration. The baseline of every other method."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmrl.contracts.method import Method

if TYPE_CHECKING:
    from llmrl.context import RunContext


@dataclass(frozen=True)
class Config:
    """No options."""


class Vanilla(Method[Config]):
    def run(self, ctx: "RunContext") -> dict:
        agent = ctx.agent()
        return ctx.train(agent, agent.explorer())


METHOD = Vanilla
