"""Plain offline reinforcement learning: an agent learns from a Minari dataset alone, and is evaluated on the task."""

from dataclasses import dataclass
from typing import Any

from llmrl.checks import ConfigError, PathText
from llmrl.replay.dataset import Timeouts, load_minari, minari_file

UNIT = "updates"  # what its training is measured in


@dataclass(frozen=True)
class Config:
    """conf/method/offline.yaml"""

    dataset: PathText
    timeouts: Timeouts


class Offline:
    @staticmethod
    def reads(config: Config) -> tuple[str, ...]:
        return ()

    def run(self, ctx: Any) -> dict[str, Any]:
        own, agent = ctx.cfg.method, ctx.agent()
        if not hasattr(agent, "source"):
            raise ConfigError(
                f"agent={ctx.cfg.choices['agent']} learns by acting, not from a dataset: use agent=bc, cql, bcq or "
                "decision_transformer"
            )
        ctx.note(minari_file(own.dataset), "artifact.json")
        data = load_minari(own.dataset, timeouts=own.timeouts)
        facts = {"dataset": own.dataset, "transitions": len(data), "episodes": len(data.returns)}
        facts |= {"return_mean": float(data.returns.mean())}
        return ctx.train_offline(agent, agent.source(data)) | {"offline": facts}
