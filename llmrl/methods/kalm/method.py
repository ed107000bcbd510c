"""KALM (arXiv 2404.09248): a policy learns offline from real rollouts, and from those that a grounded language model
imagines for goals without real ones.

Three artifacts come first, shared by all agents and seeds: the rollouts (data.py), the language model that is
trained on them (model), and what it imagines for the sentences of a novel tier (rollouts). A policy
pi(a | s, encoding of the sentence) then learns from both, half of every batch each. docs/papers/kalm.md compares with
the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llmrl.checks import ConfigError, Count
from llmrl.config import Config as Run
from llmrl.config import agent_of
from llmrl.contracts.method import Method, Reads
from llmrl.envs import text
from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot.rollouts import Rollouts, load
from llmrl.methods.kalm import data as kalm_data
from llmrl.methods.kalm import model as kalm_model
from llmrl.methods.kalm import rollouts as kalm_rollouts
from llmrl.methods.kalm.model import sentences_of
from llmrl.replay.dataset import Timeouts, Transitions

if TYPE_CHECKING:
    from llmrl.context import RunContext

Tier = Literal["rephrase", "easy", "hard"]


@dataclass(frozen=True)
class Config:
    """conf/method/kalm.yaml"""

    data: kalm_data.Config
    real_rollouts: Count = field(metadata={"scales": len(g.BASE)})
    imagined: tuple[Tier, ...]
    rollouts: kalm_rollouts.Config | None
    timeouts: Timeouts

    def __post_init__(self) -> None:
        if len(set(self.imagined)) < len(self.imagined):
            raise ValueError(f"imagined: names a tier twice: {list(self.imagined)}")
        goals, collected = len(g.BASE), self.data.rollouts
        if self.data.import_from is None and (self.real_rollouts % goals or self.real_rollouts > collected):
            raise ValueError(f"real_rollouts: must be a multiple of {goals}, the number of goals, up to the "
                             f"{collected:,} of data.rollouts, not {self.real_rollouts:,}")  # fmt: skip
        if not self.imagined:  # then the language model makes no difference
            object.__setattr__(self, "rollouts", None)
        elif self.rollouts is None:
            raise ValueError("rollouts: null goes with imagined=[] alone; method.imagined names tiers to imagine")
        elif self.rollouts.model.data != self.data:
            raise ValueError(
                "rollouts: its language model learns from other data than method.data; set method.data alone"
            )


class KALM(Method[Config]):
    suites = ("clevr_robot",)
    unit = "updates"

    @classmethod
    def reads(cls, config: Config) -> tuple[Reads, ...]:
        return () if config.rollouts is None else kalm_rollouts.KALMRollouts.reads(config.rollouts)

    @classmethod
    def stages(cls, run: Run) -> list[Run]:
        """What runs share: the data, the language model, and what it imagined."""
        own = run.method
        imagined = [kalm_rollouts.run_of(run, replace(own.rollouts, tier=tier)) for tier in own.imagined]
        before = kalm_rollouts.KALMRollouts.stages(imagined[0]) if imagined else []
        return [kalm_data.run_of(run, own.data), *before, *imagined]

    @classmethod
    def small(cls, config: Config, env_steps: int) -> Config:
        """The same with the smallest numbers that touch everything."""
        data = kalm_data.KALMData.small(config.data, env_steps)
        rollouts = config.rollouts
        if rollouts is not None:
            rollouts = kalm_rollouts.KALMRollouts.small(rollouts, env_steps)
            rollouts = replace(rollouts, model=replace(rollouts.model, data=data))
        return replace(config, data=data, real_rollouts=data.rollouts, imagined=config.imagined[:1], rollouts=rollouts)

    @classmethod
    def small_env(cls, env: Any) -> Any:
        """Goals as counted words: the encoder would read the 4,320 sentences of the data, a minute. That it is there is
        checked."""
        if env.language is None:
            return env
        text.check_there(env.language, "env.language")
        return replace(env, language="words")

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        own, env = ctx.cfg.method, ctx.cfg.env
        check(ctx.cfg)
        stages = self.stages(ctx.cfg)
        real = load(ctx.artifact(stages[0], kalm_data.PRODUCT, "artifact-data.json"))
        imagined = {
            tier: load(ctx.artifact(stage, kalm_rollouts.PRODUCT, f"artifact-{tier}.json"))
            for tier, stage in zip(own.imagined, stages[len(stages) - len(own.imagined) :])
        }
        kept = Path(ctx.cfg.compute.outputs) / "artifacts" / "sentences"
        played = real.first_of_each_goal(own.real_rollouts)
        parts = [transitions(played, env.language, own.timeouts, kept, "real rollouts")]
        dreams = [transitions(rollouts, env.language, own.timeouts, kept, f"imagined rollouts of {tier}")
                  for tier, rollouts in imagined.items()]  # fmt: skip
        facts: dict[str, Any] = {"real_rollouts": own.real_rollouts, "real_transitions": len(parts[0])}
        facts |= {f"{tier}_transitions": len(dream) for tier, dream in zip(imagined, dreams)}
        if dreams:
            parts.append(joined(dreams))
        agent = ctx.agent()
        return ctx.train_offline(agent, agent.source(*parts)) | {"kalm": facts}


METHOD = KALM


def check(config: Run) -> None:
    """Before anything is collected, trained or imagined. Raises ConfigError where the pieces do not fit."""
    env, name = config.env, config.choices["agent"]
    kalm_data.check(config, config.method.data, "method.data")
    if env.language is None:
        raise ConfigError("method=kalm: its policy reads goals in words; choose env.language=minilm, or words")
    if agent_of(name).learns_from != "dataset":
        raise ConfigError(
            f"method=kalm learns from a dataset, but agent={name} by acting: use agent=bc, cql, bcq or "
            "decision_transformer"
        )
    if config.budget.updates is None:
        raise ConfigError("method=kalm trains offline: set budget.updates")
    text.width(env.language)
    if config.method.rollouts is not None:
        kalm_model.check(config, config.method.rollouts.model, "method.rollouts.model")


def transitions(rollouts: Rollouts, encoder: str, timeouts: Timeouts, kept: Path, source: str) -> Transitions:
    """The steps of n rollouts, with the vectors of the sentences that name their goals (cached below `kept`).

    A real rollout has all 54 sentences of its goal, an imagined one the sentence that it was imagined for. `source`:
    what messages call them.
    """
    if rollouts.texts is not None and rollouts.sentences is not None:
        texts, first, wordings = rollouts.sentences, rollouts.texts, 1
    else:
        texts, numbers = sentences_of(rollouts)
        first, wordings = numbers[:, 0], numbers.shape[1]
    table = text.encode(encoder, texts, store=kept)
    return Transitions.of(
        rollouts,  # type: ignore[arg-type]  # frozen, and Padded is only read
        texts=first, table=table, wordings=wordings, timeouts=timeouts, source=source,
    )  # fmt: skip


def joined(parts: Sequence[Transitions]) -> Transitions:
    """Datasets of several tiers as one, so that each of their transitions is as likely as any other."""
    if len(parts) == 1:
        return parts[0]
    above = np.cumsum([0, *(len(part.table) for part in parts[:-1] if part.table is not None)])
    columns = {name: np.concatenate([getattr(part, name) for part in parts])
               for name in ("state", "action", "reward", "next_state", "terminated", "step", "table")}  # fmt: skip
    text_of = np.concatenate([part.text + first for part, first in zip(parts, above)]).astype(np.int32)
    return Transitions(**columns, text=text_of, wordings=1, source=parts[0].source)
