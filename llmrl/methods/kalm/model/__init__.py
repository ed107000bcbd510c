"""KALM's grounded language model (arXiv 2404.09248; docs/papers/kalm.md): a causal language model is
trained on rollouts and their goals in words until it can imagine either from the other.

The run's directory is the artifact: model.json names the model, weights.safetensors holds what was trained of it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, NonNegativeInt, Whole
from llmrl.config import Config as Run
from llmrl.config import checked, without_training
from llmrl.contracts.method import Method, Reads
from llmrl.envs import text
from llmrl.envs.clevr_robot import language
from llmrl.envs.clevr_robot.rollouts import Rollouts
from llmrl.envs.clevr_robot.rollouts import load as load_rollouts
from llmrl.methods.kalm import data as kalm_data
from llmrl.methods.kalm.model.config import Model
from llmrl.methods.kalm.wording import written
from llmrl.runs import seeding
from llmrl.runs.files import read_json, write_bytes, write_json

if TYPE_CHECKING:
    from llmrl.context import RunContext

PRODUCT, WEIGHTS = "model.json", "weights.safetensors"
Task = Annotated[Literal[0, 1, 2, 3], Whole]


@dataclass(frozen=True)
class Config:
    """conf/method/kalm/model.yaml"""

    data: kalm_data.Config
    model: Model
    tasks: tuple[Task, ...]
    written: NonNegativeInt = field(metadata={"neutral": 0})
    seed: NonNegativeInt

    def __post_init__(self) -> None:
        if 0 not in self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks: must be distinct and include 0, which imagining needs, not {list(self.tasks)}")
        if self.model.batch_size < len(self.tasks):
            raise ValueError(f"model.batch_size: at least one sample of each of the {len(self.tasks)} tasks")


def check(run: Run, config: Config, key: str) -> None:
    """Raises ConfigError, before anything is collected or trained, where the model cannot be made. `key`: where the
    run's configuration has it."""
    from llmrl.methods.kalm.model import network

    if run.env.obs_velocity:
        raise ConfigError("env.obs_velocity=true: the language model's states are where the balls are, and no more")
    kalm_data.check(run, config.data, f"{key}.data")
    if config.data.import_from is not None and config.model.epochs is not None and run.budget.scale != 1:
        raise ConfigError(
            f"{key}.model.epochs: budget.scale={run.budget.scale:g} does not shorten epochs over rollouts that are "
            f"imported; give {key}.model.updates, and epochs=null"
        )
    network.check(config.model, f"{key}.model")


class KALMModel(Method[Config]):
    suites = ("clevr_robot",)
    artifact = "kalm_model"  # its directory is outputs/artifacts/kalm_model/<id>

    @classmethod
    def reads(cls, config: Config) -> tuple[Reads, ...]:
        return ("llm",) if config.written else ()

    @classmethod
    def stages(cls, run: Run) -> list[Run]:
        return [kalm_data.run_of(run, run.method.data)]

    @classmethod
    def small(cls, config: Config, env_steps: int) -> Config:
        """The same with the smallest numbers that touch everything, and goals as counted words: the encoder would read
        all sentences of a tier, half a minute. That it is there is checked."""
        model = replace(config.model, epochs=None, updates=3, evaluations=1, validation_rollouts=4)
        if model.goal == "encoder":
            text.check_there(model.encoder, "llm_model.encoder")
            model = replace(model, encoder="words")
        return replace(config, data=kalm_data.KALMData.small(config.data, env_steps), model=model)

    @classmethod
    def shared(cls, run: Run) -> Run:
        return run_of(run, run.method)

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        if not (ctx.dir / PRODUCT).exists():
            check(ctx.cfg, ctx.cfg.method, "method")
            (data,) = self.stages(ctx.cfg)
            self._train(ctx, load_rollouts(ctx.artifact(data, kalm_data.PRODUCT)))
        made = read_json(ctx.dir / PRODUCT)
        return {"env_steps": 0, "updates": made["updates"], "episodes": 0, "kalm_model": made["validation"]}

    def _train(self, ctx: "RunContext", rollouts: Rollouts) -> None:
        import torch

        from llmrl.loops.offline import OfflineTraining
        from llmrl.loops.training import Schedule
        from llmrl.methods.kalm.model import network
        from llmrl.methods.kalm.model.tasks import Pairs, split
        from llmrl.methods.kalm.model.training import TRAINING, Grounder, Validation, enough_memory, measured

        config, device = ctx.cfg.method, torch.device(ctx.cfg.compute.device)
        if (seen := rollouts.observations.shape[-1]) != network.STATE:
            raise ConfigError(f"the language model's states are {network.STATE} numbers, where the balls are; those of "
                              f"method.data have {seen}")  # fmt: skip
        texts, numbers = sentences_of(rollouts)
        if config.written:
            texts, numbers = self._with_written(ctx, rollouts, texts, numbers)
        words = vocabulary(texts)
        width = text.width(config.model.encoder) if config.model.goal == "encoder" else None
        gen = seeding.torch_generator(config.seed, "agent")
        model, tokenizer = network.make(config.model, words, width, gen)
        write = writer(config.model, texts, tokenizer)
        training, held_back = split(rollouts, numbers, config.model.validation, seeding.generator(config.seed, "split"))
        asked = config.model
        pairs = Pairs(training, write, config.tasks, asked.batch_size, asked.accumulation, asked.state_noise)
        updates = updates_of(config, len(training.rollouts))
        with enough_memory(TRAINING):
            learner = Grounder(model.to(device), config.model, updates=updates, device=device)
        rng = seeding.generator(config.seed, "validation")
        validation = Validation.of(held_back, write, config, rng)
        rows: list[dict[str, float]] = []

        def validate() -> dict[str, float]:
            with ctx.stop.interruptible():
                rows.append(measured(learner, validation, write, tokenizer.decode))
            return rows[-1]

        OfflineTraining(
            learner,
            pairs,  # type: ignore[arg-type]  # its batches are the Grounder's own
            seed=config.seed,
            schedule=Schedule(updates, math.ceil(updates / config.model.evaluations), ctx.cfg.log.every,
                              ctx.cfg.compute.checkpoint_every_s),
            evaluate=lambda clock: None,
            validate=validate,
            log=ctx.log,
            checkpoints=ctx.checkpoints,
            stop=ctx.stop,
            report=ctx.report,
        ).run()  # fmt: skip
        last = rows[-1] if rows else validate()  # none: it was stopped between its end and here
        save(ctx.dir, model, config.model, words, width, {"updates": updates, "validation": last})

    def _with_written(
        self, ctx: "RunContext", rollouts: Rollouts, texts: tuple[str, ...], numbers: NDArray
    ) -> tuple[tuple[str, ...], NDArray]:
        """`sentences_of`, with what an LLM writes of each goal: as many of each, some twice where it wrote fewer (or
        ours where it wrote none)."""
        goals, first, goal_of = np.unique(rollouts.goals, axis=0, return_index=True, return_inverse=True)
        with ctx.stop.interruptible():
            found = written(ctx, list(goals), ["rephrase", "complaint"], ctx.cfg.method.written)
        most = max(map(len, found), default=0)
        ends = len(texts) + np.cumsum([0, *map(len, found)])
        more = [np.resize(np.arange(begin, end) if begin < end else numbers[ours], most)
                for begin, end, ours in zip(ends, ends[1:], first)]  # fmt: skip
        return (*texts, *(text for its in found for text in its)), np.hstack([numbers, np.stack(more)[goal_of.ravel()]])


METHOD = KALMModel


def updates_of(config: Config, rollouts: int) -> int:
    """Gradient updates of a training on so many rollouts; an epoch sees each with each task once."""
    if config.model.updates is not None:
        return config.model.updates
    assert config.model.epochs is not None  # the one or the other: Model's own check
    seen = config.model.batch_size * config.model.accumulation
    return math.ceil(config.model.epochs * rollouts * len(config.tasks) / seen)


def run_of(config: Run, method: Config) -> Run:
    """The run that trains `method`: the same for every agent, environment tier, evaluation, budget and seed."""
    run = without_training(config, "kalm/model", method, kalm_data.canonical(config.env), method.seed)
    held_back = round(method.model.validation * method.data.rollouts)
    updates = updates_of(method, method.data.rollouts - held_back)  # of imported data by epochs: as if it were so many
    return replace(run, budget=replace(run.budget, updates=updates))


# --- words ----------------------------------------------------------------------------------------------------------


def sentences_of(rollouts: Rollouts) -> tuple[tuple[str, ...], Any]:
    """(all sentences of the rollouts' goals, the numbers of those of each rollout (n, 54)). Raises ConfigError where
    goals are of several tiers."""
    goals, number = np.unique(rollouts.goals, axis=0, return_inverse=True)
    wordings = [language.of(goal) for goal in goals]
    if len({len(texts) for texts in wordings}) > 1:
        raise ConfigError("the dataset's goals are of several tiers; a language model is trained on those of one")
    each = len(wordings[0])
    return tuple(t for texts in wordings for t in texts), number.reshape(-1, 1) * each + np.arange(each)


def vocabulary(texts: Sequence[str]) -> list[str]:
    """The words of the sentences and the prompts, for a tokenizer from scratch."""
    from llmrl.methods.kalm.model.tasks import PROMPTS

    found = {word for line in (*texts, *PROMPTS.values()) for word in line.split() if "{" not in word}
    return sorted({word.lower() for word in found} | {"."})


def writer(config: Model, texts: Sequence[str], tokenizer: Any) -> Any:
    """Writes prompts with these sentences, as this model reads them."""
    from llmrl.methods.kalm.model.tasks import Sentences, Writer

    vectors = text.encode(config.encoder, texts) if config.goal == "encoder" else None
    return Writer(tokenizer, Sentences(texts, tokenizer, vectors), config.goal_slots)


# --- on disk --------------------------------------------------------------------------------------------------------


class Loaded(NamedTuple):
    """A trained model, ready to imagine."""

    model: Any  # a GroundedLM
    tokenizer: Any
    config: Model


def save(directory: Path, model: Any, config: Model, words: list[str], width: int | None, facts: dict) -> None:
    """Writes the weights, and last model.json, which holds their hash."""
    from safetensors.torch import save as packed

    from llmrl.methods.kalm.model.llama import unfused

    learned = model.learned()
    if config.sizes is not None:
        learned = unfused(learned, config.sizes.layers)
    weights = packed({name: p.detach().cpu().contiguous() for name, p in learned.items()})
    write_bytes(directory / WEIGHTS, weights)
    about = {"model": asdict(config), "words": words, "width": width, "sha256": sha256(weights).hexdigest()}
    write_json(directory / PRODUCT, about | facts)


def load(directory: Path, device: Any) -> Loaded:
    """What `save` wrote. Raises ConfigError where it is missing or damaged."""
    import torch
    from safetensors.torch import load as unpacked

    from llmrl.methods.kalm.model.llama import fused
    from llmrl.methods.kalm.model.network import make
    from llmrl.methods.kalm.model.training import SMALLER, enough_memory, load_learned

    try:
        about, weights = read_json(directory / PRODUCT), (directory / WEIGHTS).read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{directory} holds no language model: {error}") from error
    if sha256(weights).hexdigest() != about["sha256"]:
        raise ConfigError(f"{directory / WEIGHTS} is damaged: it does not match its hash in {PRODUCT}")
    config = checked(Model, about["model"])
    model, tokenizer = make(config, about["words"], about["width"], torch.Generator())
    learned = unpacked(weights)
    load_learned(model, learned if config.sizes is None else fused(learned, config.sizes.layers))
    with enough_memory(f"Train one with {SMALLER}"):
        return Loaded(model.to(device).eval(), tokenizer, config)
