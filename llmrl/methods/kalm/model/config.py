"""The options of a grounded language model; conf/llm_model/ and conf/method/kalm/model.yaml have their values."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from llmrl.checks import Count, NonNegative, PathText, Positive, Probability
from llmrl.envs import text


@dataclass(frozen=True)
class Sizes:
    """Of a Llama architecture that is trained from scratch."""

    hidden: Count
    layers: Count
    heads: Count
    intermediate: Count


def _word(value: Any) -> Any:
    """yaml and the command line read an unquoted true or false as a bool."""
    return str(value).lower() if isinstance(value, bool) else value


@dataclass(frozen=True)
class Model:
    """A causal language model, how states and actions get in and out, and how it is trained."""

    pretrained: PathText | None
    keep_layers: Count | None = field(metadata={"neutral": None})
    sizes: Sizes | None
    goal: Literal["tokens", "encoder"]
    encoder: str
    goal_slots: Count
    state_embedding: Literal["linear", "mlp"]
    state_head: Literal["state", "change"]
    state_unit: Positive
    state_noise: NonNegative = field(metadata={"neutral": 0.0})
    scheduled_sampling: Probability = field(metadata={"neutral": 0.0})
    adapter: Literal["full", "lora"]
    lora_rank: Count
    lora_alpha: Positive
    precision: Literal["float32", "bf16"]
    compile: Annotated[Literal["auto", "true", "false"], BeforeValidator(_word)] = field(metadata={"neutral": "auto"})
    epochs: Positive | None
    updates: Count | None = field(metadata={"scales": True})
    batch_size: Count
    accumulation: Count
    learning_rate: Positive
    weight_decay: NonNegative
    clip: Positive
    state_weight: NonNegative
    action_weight: NonNegative
    token_weight: NonNegative
    evaluations: Count
    validation: Probability
    validation_rollouts: Count

    def __post_init__(self) -> None:
        text.check_name(self.encoder, "encoder")
        if (self.pretrained is None) == (self.sizes is None):
            raise ValueError("pretrained: give either the name of a language model, or sizes, to train from scratch")
        if self.sizes is not None and self.sizes.hidden % (2 * self.sizes.heads):
            raise ValueError(f"sizes: hidden={self.sizes.hidden} is not {self.sizes.heads} heads of an even width")
        if self.sizes is not None and self.keep_layers is not None:
            raise ValueError("keep_layers: of a pretrained model; sizes.layers says it of one from scratch")
        if self.sizes is not None and self.adapter == "lora":
            raise ValueError("adapter: lora adapts a pretrained model; one from scratch is trained in full")
        if self.sizes is None and self.compile == "true":
            raise ValueError("compile: a pretrained model is used as it is; use compile=auto or false")
        if (self.epochs is None) == (self.updates is None):
            raise ValueError("epochs: give either epochs or updates, and null for the other")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation: a share between 0 and 1, not {self.validation}")
