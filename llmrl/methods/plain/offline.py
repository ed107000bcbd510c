"""Plain offline reinforcement learning: an agent learns from a Minari dataset alone, and is evaluated on the task."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmrl.checks import ConfigError, PathText
from llmrl.contracts.method import Method
from llmrl.replay.dataset import Timeouts, load_minari, minari_file

if TYPE_CHECKING:
    from llmrl.context import RunContext


@dataclass(frozen=True)
class Config:
    """conf/method/offline.yaml"""

    dataset: PathText
    timeouts: Timeouts


class Offline(Method[Config]):
    unit = "updates"

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        own, agent = ctx.cfg.method, ctx.agent()
        if agent.learns_from != "dataset":
            raise ConfigError(
                f"agent={ctx.cfg.choices['agent']} learns by acting, not from a dataset: use agent=bc, cql, bcq or "
                "decision_transformer"
            )
        ctx.note(minari_file(own.dataset), "artifact.json")
        data = load_minari(own.dataset, timeouts=own.timeouts)
        facts = {"dataset": own.dataset, "transitions": len(data), "episodes": len(data.returns)}
        facts |= {"return_mean": float(data.returns.mean())}
        return ctx.train_offline(agent, agent.source(data)) | {"offline": facts}


METHOD = Offline
