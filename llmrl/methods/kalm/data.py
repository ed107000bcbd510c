"""KALM's offline data (arXiv 2404.09248; docs/papers/kalm.md): rollouts in CLEVR-Robot by a noisy script, or imported.

The run's directory is the artifact. It holds a Minari dataset (envs/clevr_robot/rollouts.py). Collecting is
deterministic; an interrupted collection starts again.
"""

import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrl.checks import ConfigError, Count, NonNegativeInt, PathText
from llmrl.config import Config as Run
from llmrl.config import identity, run_path, without_training
from llmrl.contracts.method import Method
from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot.authors import imported
from llmrl.envs.clevr_robot.collect import Script, collect
from llmrl.envs.clevr_robot.rollouts import FILE, Rollouts, load, save
from llmrl.runs import seeding
from llmrl.runs.files import writing

if TYPE_CHECKING:
    from llmrl.context import RunContext

PRODUCT = FILE


@dataclass(frozen=True)
class Config:
    """conf/method/kalm/data.yaml"""

    rollouts: Count = field(metadata={"scales": len(g.BASE)})
    script: Script
    seed: NonNegativeInt
    with_states: bool
    import_from: PathText | None

    def __post_init__(self) -> None:
        if self.rollouts % len(g.BASE):
            raise ValueError(f"rollouts: must be a multiple of {len(g.BASE)}, the number of goals, not {self.rollouts}")


def check(run: Run, config: Config, key: str) -> None:
    """Raises ConfigError, before anything is collected, where the file to import is missing; once imported it may go.
    `key`: where the run's configuration has it."""
    own = run_of(run, config)
    made = run_path(own, identity(own)) / PRODUCT
    if config.import_from is not None and not made.exists() and not Path(config.import_from).exists():
        raise ConfigError(f"{key}.import_from: {config.import_from} does not exist")


class KALMData(Method[Config]):
    suites = ("clevr_robot",)
    artifact = "kalm_data"  # its directory is outputs/artifacts/kalm_data/<id>

    @classmethod
    def work(cls, run: Run) -> tuple[int, str]:
        """Nothing is trained."""
        own = run.method
        return (0 if own.import_from is not None else own.rollouts), "rollouts"

    @classmethod
    def small(cls, config: Config, env_steps: int) -> Config:
        """The same with the smallest numbers that touch everything."""
        return replace(config, rollouts=len(g.BASE))

    @classmethod
    def shared(cls, run: Run) -> Run:
        return run_of(run, run.method)

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        own, env = ctx.cfg.method, canonical(ctx.cfg.env)
        if not (ctx.dir / PRODUCT).exists():
            check(ctx.cfg, own, "method")
            with ctx.stop.interruptible():
                if own.import_from is not None:
                    rollouts, about = imported(Path(own.import_from)), {"imported_from": own.import_from}
                else:
                    rollouts = collect(
                        env, own.script, own.rollouts, seeding.generator(own.seed, "kalm_data"),
                        threads=ctx.cfg.compute.threads, with_states=own.with_states, tell=_progress(ctx),
                    )  # fmt: skip
                    about = {"script": asdict(own.script), "seed": own.seed, "radius_tolerance": env.radius_tolerance}
                with writing(ctx.dir):
                    save(ctx.dir, rollouts, about)
        return {"env_steps": 0, "updates": 0, "episodes": 0, "kalm_data": described(load(ctx.dir))}


METHOD = KALMData


def _progress(ctx: "RunContext") -> Any:
    if not ctx.cfg.log.progress:
        return lambda done, n: None
    return lambda done, n: print(f"  {done:,} of {n:,} rollouts", file=sys.stderr, flush=True)


# --- for methods that build on it -------------------------------------------------------------------------------------


def canonical(env: Any) -> Any:
    """The environment's Config without what makes no difference to the data, so that all tiers and evaluations share
    them."""
    return replace(
        env, goals="base", max_episode_steps=50, easy_judge="action", radius_tolerance=0.0, stale_first_push=False,
        language=None,
    )  # fmt: skip


def run_of(config: Run, data: Config) -> Run:
    """The run that collects `data`: the same for every agent, evaluation, budget and seed."""
    return without_training(config, "kalm/data", data, canonical(config.env), data.seed)


def described(rollouts: Rollouts) -> dict[str, Any]:
    """Statistics of a dataset; docs/papers/kalm.md has those of the authors' one."""
    there = np.arange(rollouts.actions.shape[1]) < rollouts.lengths[:, None]
    flags = np.take_along_axis(rollouts.goals[:, : g.BALLS], rollouts.actions // 8, axis=1)[there]  # 1 src, 2 dst
    return {
        "rollouts": len(rollouts),
        "goals": len(np.unique(rollouts.goals, axis=0)),
        "transitions": int(rollouts.lengths.sum()),
        "success": float(rollouts.terminals.any(1).mean()),
        "length_mean": float(rollouts.lengths.mean()),
        "length_quartiles": np.quantile(rollouts.lengths, (0.25, 0.5, 0.75)).tolist(),
        "pushes_of_src": float((flags == 1).mean()),
        "pushes_of_dst": float((flags == 2).mean()),
    }
