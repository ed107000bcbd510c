"""KALM's imagined rollouts (arXiv 2404.09248; docs/papers/kalm.md): the grounded language model imagines rollouts for
the goals of a tier.

The run's directory is the artifact: a Minari dataset like that of the real rollouts (methods/kalm/data), with the
sentence of each; plots/imagined.png and video/imagined.mp4 show some beside simulated ones.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, Count, NonNegativeInt, Positive
from llmrl.config import Config as Run
from llmrl.config import without_training
from llmrl.contracts.method import Method, Reads
from llmrl.envs.clevr_robot import language
from llmrl.envs.clevr_robot.rollouts import FILE, load, save
from llmrl.envs.clevr_robot.start import sample_xy
from llmrl.methods.kalm import data as kalm_data
from llmrl.methods.kalm import model as kalm_model
from llmrl.methods.kalm.wording import written
from llmrl.runs import seeding
from llmrl.runs.files import read_json, write_json, writing

if TYPE_CHECKING:
    from llmrl.context import RunContext

PRODUCT = FILE
METRICS = "metrics.json"
PAPER = {"base": 5600, "rephrase": 5600, "easy": 72_400, "hard": 1680}  # rollouts; base: ours


@dataclass(frozen=True)
class Config:
    """conf/method/kalm/rollouts.yaml"""

    model: kalm_model.Config
    tier: language.WordedTier
    rollouts: Count | None = field(metadata={"scales": True})
    paper_share: Positive = field(metadata={"scales": "share", "neutral": 1.0})
    written: NonNegativeInt
    max_steps: Count
    lag: bool
    ball_first: bool = field(metadata={"neutral": False})
    walls: bool = field(metadata={"neutral": False})
    drop_failed: bool
    batch_size: Count
    seed: NonNegativeInt
    drawn: NonNegativeInt


class KALMRollouts(Method[Config]):
    suites = ("clevr_robot",)
    artifact = "kalm_rollouts"  # its directory is outputs/artifacts/kalm_rollouts/<id>

    @classmethod
    def reads(cls, config: Config) -> tuple[Reads, ...]:
        return ("llm",) if config.written or config.model.written else ()

    @classmethod
    def work(cls, run: Run) -> tuple[int, str]:
        """Nothing is trained."""
        return number_of(run.method), "rollouts"

    @classmethod
    def stages(cls, run: Run) -> list[Run]:
        model = kalm_model.run_of(run, run.method.model)
        return [*kalm_model.KALMModel.stages(model), model]

    @classmethod
    def small(cls, config: Config, env_steps: int) -> Config:
        """The same with the smallest numbers that touch everything."""
        model = kalm_model.KALMModel.small(config.model, env_steps)
        return replace(config, model=model, rollouts=4, max_steps=3, drop_failed=False)

    @classmethod
    def shared(cls, run: Run) -> Run:
        return run_of(run, run.method)

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        if not (ctx.dir / METRICS).exists():
            write_json(ctx.dir / METRICS, self._imagine(ctx))
        return {"env_steps": 0, "updates": 0, "episodes": 0, "kalm_rollouts": read_json(ctx.dir / METRICS)}

    def _imagine(self, ctx: "RunContext") -> dict[str, Any]:
        from llmrl.methods.kalm.model.training import precision
        from llmrl.methods.kalm.rollouts.figures import draw, film
        from llmrl.methods.kalm.rollouts.imagine import Imagination, sound
        from llmrl.methods.kalm.rollouts.metrics import matches, measured

        own, env = ctx.cfg.method, kalm_data.canonical(ctx.cfg.env)
        kalm_model.check(ctx.cfg, own.model, "method.model")
        directory = ctx.artifact(self.stages(ctx.cfg)[-1], kalm_model.PRODUCT)
        import torch

        device = torch.device(ctx.cfg.compute.device)
        loaded = kalm_model.load(directory, device)
        worded, tier = more_words(ctx, own.tier, own.written), "base" if own.tier == "rephrase" else own.tier
        text, start = cases(len(worded.texts), number_of(own), seeding.generator(own.seed, own.tier))
        write = kalm_model.writer(loaded.config, worded.texts, loaded.tokenizer)
        imagine = Imagination(
            loaded.model, write, tier, steps=own.max_steps, tolerance=env.radius_tolerance, batch=own.batch_size,
            lag=own.lag, ball_first=own.ball_first, walls=own.walls,
        )  # fmt: skip
        with ctx.stop.interruptible(), precision(loaded.config, device):
            rollouts, dropped = sound(imagine(worded.goals[text], text, start))
            rng = seeding.generator(own.seed, "metrics")
            facts = measured(rollouts, tier, rng=rng, threads=ctx.cfg.compute.threads)
            drawn = list(range(min(own.drawn, len(rollouts))))
            reached = matches(rollouts, tier)
            if drawn:
                draw(rollouts, drawn, reached, ctx.dir / "plots" / "imagined.png")
                film(rollouts, 0, ctx.dir / "video" / "imagined.mp4")
            if own.drop_failed:
                if not reached.any():
                    raise ConfigError(f"none of {len(rollouts):,} imagined rollouts of {own.tier} reached its goal, so "
                                      "drop_failed=true would keep none: use false, or a better model")  # fmt: skip
                rollouts = rollouts.take(reached)
            with writing(ctx.dir):
                save(ctx.dir, rollouts, {"tier": own.tier, "seed": own.seed, "lag": own.lag})
        return facts | {
            "tier": own.tier,
            "sentences": len(worded.texts),
            "dropped_with_nan": dropped,
            "kept": len(load(ctx.dir)),
        }


METHOD = KALMRollouts


def number_of(config: Config) -> int:
    """The number of rollouts to imagine."""
    return config.rollouts or max(1, round(config.paper_share * PAPER[config.tier]))


def run_of(config: Run, method: Config) -> Run:
    """The run that imagines for `method`: the same for every agent, environment tier, evaluation, budget and seed."""
    return without_training(config, "kalm/rollouts", method, kalm_data.canonical(config.env), method.seed)


def more_words(ctx: "RunContext", tier: language.WordedTier, n: int) -> language.Worded:
    """Our sentences of a tier, and n more for each of its goals that an LLM writes; fewer where it brings fewer that
    name the goal."""
    worded = language.worded(tier)
    if not n:
        return worded
    goals = list(np.unique(worded.goals, axis=0))
    more = written(ctx, goals, ["rephrase" if tier == "base" else tier], n)
    texts = [*worded.texts, *(text for found in more for text in found)]
    return language.Worded(
        tuple(texts), np.array([*worded.goals, *(goal for goal, found in zip(goals, more) for _ in found)])
    )


def cases(sentences: int, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(numbers of sentences (n,), first states (n, 10) m): every sentence as often as every other, or once more, from
    starts as the environment's own episodes have them."""
    each, left = divmod(n, sentences)
    text = np.concatenate([np.tile(np.arange(sentences), each), np.sort(rng.permutation(sentences)[:left])])
    text = rng.permutation(text)  # so that the first ones, which are drawn, are of different kinds
    start = np.stack([sample_xy(rng) for _ in range(n)]).reshape(n, -1).astype(np.float32)
    return text, start
