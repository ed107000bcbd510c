"""The keys of each agent, conf/agent/<name>.yaml, checked without the agents themselves: importing torch takes two
seconds, and who plans a grid or shows a table trains nothing. An agent's module has its own as Config."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from llmrl.checks import (
    Count,
    HalfOpenUnit,
    NonNegative,
    NonNegativeInt,
    Positive,
    Probability,
    SideBySide,
)

Activation = Literal["relu", "tanh"]
Discount = Literal["gamma", "one"]
Encoder = Literal["cnn", "means"]
Evaluate = Literal["mean", "sample", "both"]
OfflineEvaluate = Literal["greedy", "sample"]


def _check_replay(config: Any) -> None:
    if config.replay_size < config.n_envs:
        raise ValueError(f"replay_size: {config.replay_size} is less than n_envs ({config.n_envs}), raise it")


def _check_epsilon(config: Any) -> None:
    start, end = config.epsilon_start, config.epsilon_end
    if end > start:
        raise ValueError(f"epsilon_end: {end} is above epsilon_start ({start}), lower it")


@dataclass(frozen=True)
class FixedConfig:
    """See conf/agent/fixed.yaml."""

    probabilities: tuple[NonNegative, ...] | None
    n_envs: SideBySide

    def __post_init__(self) -> None:
        if self.probabilities is not None and abs(sum(self.probabilities) - 1) > 1e-6:
            raise ValueError(f"probabilities: sum to {sum(self.probabilities):g}, correct them so that they sum to 1")


@dataclass(frozen=True)
class DQNConfig:
    """See conf/agent/dqn.yaml for what each key means and where its value is from."""

    double: bool
    dueling: bool
    noisy: bool
    sigma0: Positive
    hidden: tuple[Count, ...]
    hidden_after_convolutions: tuple[Count, ...]
    learning_rate: Positive
    loss: Literal["mse", "huber"]
    max_grad_norm: Positive | None
    gamma: Probability
    target_update_every: Count
    batch_size: Count
    replay_size: Count
    sample_with_replacement: bool
    learning_starts: NonNegativeInt = field(metadata={"scales": True})
    updates_per_env_step: Positive
    n_envs: SideBySide
    random_steps: NonNegativeInt = field(metadata={"scales": True})
    epsilon_schedule: Literal["linear", "exponential"]
    epsilon_start: Probability
    epsilon_end: Probability
    epsilon_fraction: Probability
    epsilon_decay: HalfOpenUnit

    def __post_init__(self) -> None:
        _check_replay(self)
        _check_epsilon(self)


@dataclass(frozen=True)
class RNDDQNConfig(DQNConfig):
    """DQN's keys and seven more; see conf/agent/rnd_dqn.yaml for what each means and where its value is from."""

    bonus: Literal["target", "authors_unused"]
    bonus_weight: NonNegative
    bonus_scale: Literal["deviation", "clipped"]
    rnd_learning_rate: Positive
    rnd_size: Count
    rnd_target_hidden: tuple[Count, ...]
    rnd_predictor_hidden: tuple[Count, ...]


@dataclass(frozen=True)
class RainbowConfig:
    """See conf/agent/rainbow.yaml for what each key means and where its value is from."""

    atoms: Count
    v_min: float
    v_max: float
    sigma0: Positive
    acting_noise: Literal["every_step", "every_update"]
    hidden: tuple[Count, ...]
    hidden_after_convolutions: tuple[Count, ...]
    convolutions: Literal["nature", "data_efficient", "pooled"]
    learning_rate: Positive
    adam_epsilon: Positive
    max_grad_norm: Positive | None
    gamma: Probability
    n_step: Count
    target_update_every: Count
    batch_size: Count
    replay_size: Count
    priority_exponent: NonNegative
    priority_weight_start: Probability
    learning_starts: NonNegativeInt = field(metadata={"scales": True})
    updates_per_env_step: Positive
    n_envs: SideBySide
    epsilon_schedule: Literal["none", "linear", "exponential"]
    epsilon_start: Probability
    epsilon_end: Probability
    epsilon_fraction: Probability
    epsilon_decay: HalfOpenUnit

    def __post_init__(self) -> None:
        if self.atoms < 2:
            raise ValueError(f"atoms: {self.atoms} make no distribution, use 2 or more (the papers: 51)")
        if self.v_min >= self.v_max:
            raise ValueError(f"v_min: {self.v_min} is not below v_max ({self.v_max}), lower it")
        _check_replay(self)
        _check_epsilon(self)


@dataclass(frozen=True)
class CURLConfig(RainbowConfig):
    """Rainbow's keys and six more; see conf/agent/curl.yaml for what each means and where its value is from."""

    contrastive_weight: NonNegative
    contrastive_hidden: Count
    contrastive_size: Count
    contrastive_scale: Positive
    encoder_tau: HalfOpenUnit
    shift: Count

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden:
            raise ValueError("hidden: CURL observes frames, after which it has hidden_after_convolutions; leave it []")


@dataclass(frozen=True)
class DDPGConfig:
    """See conf/agent/ddpg.yaml for what each key means and where its value is from."""

    hidden: tuple[Count, ...]
    actor_learning_rate: Positive
    critic_learning_rate: Positive
    gamma: Probability
    tau: HalfOpenUnit
    batch_size: Count
    replay_size: Count
    sample_with_replacement: bool
    learning_starts: NonNegativeInt = field(metadata={"scales": True})
    updates_per_env_step: Positive
    n_envs: SideBySide
    random_steps: NonNegativeInt = field(metadata={"scales": True})
    exploration_noise: NonNegative
    noise_units: Literal["relative", "absolute"]
    adam_epsilon: Positive = field(metadata={"neutral": 1e-8})

    def __post_init__(self) -> None:
        _check_replay(self)


@dataclass(frozen=True)
class TD3Config(DDPGConfig):
    """DDPG's keys and three more; see conf/agent/td3.yaml for what each means and where its value is from."""

    policy_delay: Count
    target_noise: NonNegative
    target_noise_clip: Positive


@dataclass(frozen=True)
class SACConfig:
    """See conf/agent/sac.yaml for what each key means and where its value is from."""

    hidden: tuple[Count, ...]
    learning_rate: Positive
    temperature_learning_rate: Positive | None = field(metadata={"neutral": None})
    gamma: Probability
    tau: HalfOpenUnit
    temperature: Positive
    learn_temperature: bool
    target_entropy: float | None
    batch_size: Count
    replay_size: Count
    sample_with_replacement: bool
    learning_starts: NonNegativeInt = field(metadata={"scales": True})
    updates_per_env_step: Positive
    n_envs: SideBySide
    random_steps: NonNegativeInt = field(metadata={"scales": True})
    evaluate: Evaluate = field(metadata={"neutral": "mean"})

    def __post_init__(self) -> None:
        _check_replay(self)


@dataclass(frozen=True)
class SACCropsConfig(SACConfig):
    """SAC's keys and one more; see conf/agent/sac_crops.yaml for what each means and where its value is from."""

    # yaml and the command line read an unquoted true as a bool
    attention: Annotated[Literal["none", "true", "authors"], BeforeValidator(lambda x: "true" if x is True else x)]


@dataclass(frozen=True)
class SACObjectsConfig(SACConfig):
    """SAC's keys and two more; see conf/agent/sac_objects.yaml."""

    encoder: Encoder
    hand_weight: NonNegative | None = field(metadata={"neutral": None})


@dataclass(frozen=True)
class PPOConfig:
    """See conf/agent/ppo.yaml for what each key means and where its value is from."""

    hidden: tuple[Count, ...]
    learning_rate: Positive
    adam_epsilon: Positive
    max_grad_norm: Positive | None
    gamma: Probability
    gae_lambda: Probability
    clip_range: Positive
    vf_coef: NonNegative
    ent_coef: NonNegative
    n_steps: Count
    n_envs: SideBySide
    batch_size: Count
    n_epochs: Count


@dataclass(frozen=True)
class OfflineConfig:
    """What the offline agents of transitions share; see conf/agent/bc.yaml."""

    hidden: tuple[Count, ...]
    activation: Activation
    learning_rate: Positive
    batch_size: Count
    evaluate: OfflineEvaluate


@dataclass(frozen=True)
class OfflineQConfig(OfflineConfig):
    """What those with Q(s, .) share; see conf/agent/cql.yaml."""

    gamma: Probability
    discount: Discount
    target_update_every: Count


@dataclass(frozen=True)
class BCConfig(OfflineConfig):
    """See conf/agent/bc.yaml."""

    beta: NonNegative


@dataclass(frozen=True)
class BCQConfig(OfflineQConfig):
    """See conf/agent/bcq.yaml."""

    threshold: HalfOpenUnit
    beta: NonNegative


@dataclass(frozen=True)
class CQLConfig(OfflineQConfig):
    """See conf/agent/cql.yaml."""

    alpha: NonNegative


@dataclass(frozen=True)
class DecisionTransformerConfig:
    """See conf/agent/decision_transformer.yaml."""

    context: Count
    width: Count
    layers: Count
    heads: Count
    learning_rate: Positive
    max_grad_norm: Positive | None
    target_quantile: Probability
    batch_size: Count
    evaluate: OfflineEvaluate

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} is not a multiple of heads ({self.heads})")


CONFIGS: dict[str, type] = {
    "fixed": FixedConfig,
    "dqn": DQNConfig,
    "rnd_dqn": RNDDQNConfig,
    "rainbow": RainbowConfig,
    "curl": CURLConfig,
    "ddpg": DDPGConfig,
    "td3": TD3Config,
    "sac": SACConfig,
    "sac_crops": SACCropsConfig,
    "sac_objects": SACObjectsConfig,
    "ppo": PPOConfig,
    "bc": BCConfig,
    "bcq": BCQConfig,
    "cql": CQLConfig,
    "decision_transformer": DecisionTransformerConfig,
}
