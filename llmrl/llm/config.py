"""conf/llm: which language model is asked, how, and how long it is waited for."""

import math
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal
from urllib.parse import urlsplit

from llmrl.checks import Count, NonNegative, NonNegativeInt, PathText, Positive, SideBySide

NOT_IDENTITY = {"identity": False}  # cannot change a result, so it is not in the run's id


def _named(config: "Config") -> str:
    """A local model counts by its weights, whatever their file is called."""
    return "local" if config.kind == "local" else config.model


def _weights(config: "Config") -> str | None:
    """The sha256 of local weights; None where a transcript answers, and none are needed."""
    if config.weights is None or config.replay is not None:
        return None
    from llmrl.llm.local.weights import digest

    return digest(config.weights)


@dataclass(frozen=True)
class Config:
    """conf/llm/<name>.yaml; every key is explained in scripted.yaml."""

    kind: Literal["scripted", "litellm", "local"]
    model: str = field(metadata={"identity": _named})
    provider: str | None
    temperature: NonNegative | None
    seed: NonNegativeInt | None = field(metadata={"neutral": None})
    json: bool
    max_tokens: Count | None
    max_answer_chars: Count = field(metadata={"neutral": 200_000})
    usd_per_million_tokens: tuple[NonNegative, NonNegative] | None = field(metadata=NOT_IDENTITY)
    timeout_s: Positive = field(metadata=NOT_IDENTITY)
    retries: NonNegativeInt = field(metadata=NOT_IDENTITY)
    retry_wait_s: NonNegative = field(metadata=NOT_IDENTITY)
    retry_wait_max_s: NonNegative = field(metadata=NOT_IDENTITY)
    retry_after_max_s: NonNegative = field(metadata=NOT_IDENTITY | {"neutral": 600.0})
    budget_usd: NonNegative | None = field(metadata=NOT_IDENTITY)
    api_base: str | None = field(metadata=NOT_IDENTITY)
    key_env: str | None = field(metadata=NOT_IDENTITY)
    replay: PathText | None = field(metadata={"identity": "content", "key": "llm.replay", "file": "llm.jsonl"})
    weights: PathText | None = field(metadata={"identity": _weights, "neutral": None})
    context: Count = field(metadata={"neutral": 8192})
    threads: SideBySide = field(metadata=NOT_IDENTITY | {"neutral": 1})
    gpu_layers: NonNegativeInt = field(metadata=NOT_IDENTITY | {"neutral": 0})
    parallel: SideBySide = field(metadata=NOT_IDENTITY | {"neutral": 1})

    def __post_init__(self) -> None:
        if (self.kind == "local") != bool(self.weights):
            raise ValueError(
                "weights: llm=local needs a GGUF file, for example llm.weights=outputs/models/model.gguf"
                if self.kind == "local" else f"weights: only llm=local reads it, not kind: {self.kind}"
            )  # fmt: skip
        if self.kind == "local" and not self.model:
            object.__setattr__(self, "model", PurePath(str(self.weights)).stem)
        if self.kind == "scripted" and self.model != "scripted":
            raise ValueError(
                "model: llm=scripted is no language model. Choose llm=gpt-4o-mini, or llm=openai_compatible with "
                f"llm.model={self.model or '…'} and llm.api_base=…"
            )
        if self.kind == "litellm" and self.model in ("", "scripted"):
            raise ValueError("model: name the model, for example llm.model=Qwen/Qwen2.5-7B-Instruct")
        if self.api_base == "":
            raise ValueError("api_base: give the server's address, for example llm.api_base=http://localhost:8000/v1")
        if "@" in (self.api_base or ""):
            raise ValueError("api_base: holds a user or password; name an environment variable in key_env instead")
        if self.api_base is not None and not _is_url(self.api_base):
            raise ValueError(
                f"api_base: {self.api_base!r} is no address of a server; it begins with http:// or https://, such as "
                "llm.api_base=http://localhost:8000/v1"
            )
        if any(not math.isfinite(price) for price in self.usd_per_million_tokens or ()):
            raise ValueError("usd_per_million_tokens: a price has to be finite")


def _is_url(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is none, brackets that do not match
        return False
