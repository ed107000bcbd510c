"""A language model that reads and writes states and actions beside words (docs/papers/kalm.md).

A sequence has positions. Each holds a token, a state, an action, or a part of a sentence's vector, and what stands
there is embedded by its own module. What a position holds is predicted from the hidden state of the position before:
states and actions by a head each, tokens by the language model's own head.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from llmrl.checks import ConfigError
from llmrl.envs import text
from llmrl.envs.base import require
from llmrl.global_generator import global_generator
from llmrl.methods.kalm.model.config import Model
from llmrl.methods.kalm.model.llama import Cache, Llama
from llmrl.methods.kalm.model.tokenizer import word_level

STATE, ACTIONS = 10, 40  # numbers in a state (x, y of five balls, m); actions
INIT = 0.02  # standard deviation of the initial weights of a language model from scratch, as Llama's
MLP = 512  # hidden units of the state embedding `mlp`: the width that the authors wrote down
WEIGHT_FILES = ("*.safetensors", "*.bin")  # files, one of which a directory of a pretrained model needs


class Sequences(NamedTuple):
    """Groups of sequences, padded at their ends to one length in each. Places count through the positions of all."""

    shapes: tuple[tuple[int, int], ...]  # (rows, positions of a row) of each group; most often there is one
    tokens: Tensor  # (places,) int64; 0 where something else stands
    state_at: Tensor  # (k,) places of states
    states: Tensor  # (k, 10) m
    action_at: Tensor  # (k,) places of actions
    actions: Tensor  # (k,) int64
    vector_at: Tensor  # (rows * slots,) places of the parts of sentences' vectors, slot by slot
    vectors: Tensor  # (rows, width); (0, width) where sentences are tokens

    def to(self, device: torch.device) -> "Sequences":
        return Sequences(self.shapes, *(x.to(device, non_blocking=True) for x in self[1:]))


class GroundedLM(nn.Module):
    """Any causal language model of transformers with a state embedding, an action embedding and a head for each.

    `lm` is the language model, `width` the length of a sentence's vector (None: sentences are tokens).
    """

    def __init__(self, lm: Any, config: Model, width: int | None, gen: Generator) -> None:
        super().__init__()
        self.lm, self.unit, self.changes = lm, config.state_unit, config.state_head == "change"
        self.hidden = lm.get_input_embeddings().weight.shape[1]
        layers = [STATE, self.hidden] if config.state_embedding == "linear" else [STATE, MLP, self.hidden]
        self.grounding = nn.ModuleDict(
            {
                "state_in": _perceptron(layers),
                "action_in": nn.Embedding(ACTIONS, self.hidden),
                "state_out": nn.Linear(self.hidden, STATE),
                "action_out": nn.Linear(self.hidden, ACTIONS),
            }
        )
        if width is not None:
            self.grounding["goal_in"] = nn.Linear(width, config.goal_slots * self.hidden)
        _initialise(self.grounding, gen, None)
        if config.pretrained is None:
            _initialise(lm, gen, INIT)
        if config.adapter == "lora":
            _adapt(lm, config, gen)

    def embed(self, x: Sequences) -> Tensor:
        """(places, hidden): tokens through the language model's table, everything else put in its place."""
        flat = self.lm.get_input_embeddings()(x.tokens)
        if len(x.vectors):
            parts = self.grounding["goal_in"](x.vectors).view(-1, self.hidden)
            flat = flat.index_copy(0, x.vector_at, parts.to(flat.dtype))
        if len(x.states):
            flat = flat.index_copy(0, x.state_at, self.embed_states(x.states).to(flat.dtype))
        if len(x.actions):
            flat = flat.index_copy(0, x.action_at, self.embed_actions(x.actions).to(flat.dtype))
        return flat

    def embed_states(self, states: Tensor) -> Tensor:
        """(n, 10) m -> (n, hidden)"""
        return self.grounding["state_in"](states / self.unit)

    def embed_actions(self, actions: Tensor) -> Tensor:
        """(n,) -> (n, hidden)"""
        return self.grounding["action_in"](actions)

    def forward(self, x: Sequences, at: Tensor) -> Tensor:
        """Hidden states (k, hidden) of places `at`. Padding comes last, so causal attention alone keeps it unseen."""
        rows = self.embed(x)
        if isinstance(self.lm, Llama):
            return self.lm(rows, x.shapes, at)
        sizes = [n * length for n, length in x.shapes]
        groups = [self.lm.base_model(inputs_embeds=group.unflatten(0, shape), use_cache=False).last_hidden_state
                  for group, shape in zip(rows.split(sizes), x.shapes)]  # fmt: skip
        return torch.cat([group.flatten(0, 1) for group in groups])[at]

    def predicted_states(self, hidden: Tensor, before: Tensor) -> Tensor:
        """(n, hidden) and the states that came before (n, 10), zeros if none -> the next states (n, 10) in m."""
        out = self._head("state_out", hidden) * self.unit
        return before + out if self.changes else out

    def action_logits(self, hidden: Tensor) -> Tensor:
        """(n, hidden) -> (n, 40)"""
        return self._head("action_out", hidden)

    def _head(self, name: str, hidden: Tensor) -> Tensor:
        """In float32 whatever the language model's precision is: bfloat16 would place balls to some mm."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.grounding[name](hidden.float())

    def token_logits(self, hidden: Tensor) -> Tensor:
        """(n, hidden) -> (n, vocabulary)"""
        return self.lm.get_output_embeddings()(hidden).float()

    def learned(self) -> dict[str, nn.Parameter]:
        """What is trained, by name: all, or with LoRA the adapters and what this class adds."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


class Continuation:
    """n sequences of one length that are written on, a position at a time; `hidden` (n, hidden) is of the last one.

    With a cache each step computes one position; without it, all of them again.
    """

    hidden: Tensor
    _rows: Tensor  # (n, positions that were read last, hidden)

    def __init__(self, model: GroundedLM, x: Sequences, *, cache: bool = True) -> None:
        """`x`: one group without padding."""
        self._model, self._cached = model, cache
        self._past: Any = None  # a Cache, or one of transformers
        self._read(model.embed(x).unflatten(0, x.shapes[0]))

    def append(self, embedded: Tensor) -> None:
        """(n, hidden): what now stands at the end of each."""
        rows = embedded[:, None]
        self._read(rows if self._cached else torch.cat([self._rows, rows.to(self._rows.dtype)], dim=1))

    def keep(self, which: Tensor) -> None:
        """Goes on with these alone: indices (k,)."""
        if isinstance(self._past, Cache):
            self._past.keep(which, len(self.hidden))
        elif self._cached:
            self._past.batch_select_indices(which)
        else:
            self._rows = self._rows[which]
        self.hidden = self.hidden[which]

    def _read(self, rows: Tensor) -> None:
        self._rows, lm = rows, self._model.lm
        rows = rows.to(lm.get_input_embeddings().weight.dtype)
        if isinstance(lm, Llama):
            past = Cache() if self._past is None else self._past
            self.hidden = lm.continued(rows, past)[:, -1]
            self._past = past if self._cached else None
            return
        out = lm.base_model(inputs_embeds=rows, past_key_values=self._past, use_cache=self._cached)
        self._past = out.past_key_values if self._cached else None
        self.hidden = out.last_hidden_state[:, -1]


# --- making one -----------------------------------------------------------------------------------------------------


def make(config: Model, words: list[str], width: int | None, gen: Generator) -> tuple[GroundedLM, Any]:
    """(model, its tokenizer) on the CPU. `words`: the vocabulary of a tokenizer from scratch. Raises
    ConfigError where the pretrained model is missing, or cannot be adapted."""
    if config.sizes is not None:
        tokenizer = word_level(words)
        with global_generator():  # what it draws is drawn again, from our generator
            lm: Any = Llama(config.sizes, len(tokenizer))
    else:
        lm, tokenizer = _pretrained(config)
    return GroundedLM(lm, config, width, gen), tokenizer


def check(config: Model, key: str = "method.model") -> None:
    """Raises ConfigError, before anything is collected or trained, where `make` would lack something. `key`: where the
    run's configuration has it."""
    transformers = require("transformers", "llmrl[kalm]", "KALM's language model")
    if config.adapter == "lora":
        require("peft", "llmrl[kalm]", f"{key}.adapter=lora")
    if config.goal == "encoder":
        text.width(config.encoder, f"{key}.encoder")
    if config.pretrained is not None:
        if is_gguf(config.pretrained):
            require("gguf", "llmrl[kalm]", f"{key}.pretrained={config.pretrained}")
            if not Path(config.pretrained).is_file():
                raise ConfigError(f"{key}.pretrained: there is no file {config.pretrained}")
        with _explained(config.pretrained, key):
            about = transformers.AutoConfig.from_pretrained(**_source(config.pretrained))
            transformers.AutoTokenizer.from_pretrained(**_source(config.pretrained))
            here = Path(config.pretrained)
            if here.is_dir() and not any(found for kind in WEIGHT_FILES for found in here.glob(kind)):
                raise OSError(f"no weights: {' or '.join(WEIGHT_FILES)}")
        if not _causal(about):
            raise ConfigError(
                f"{key}.pretrained: {config.pretrained} is a model of the kind {about.model_type}, which is not causal "
                "but reads a text in both directions. Use a causal one, such as of the kinds llama, qwen2 or opt"
            )
        if config.keep_layers is not None and config.keep_layers > about.num_hidden_layers:
            raise ConfigError(
                f"{key}.keep_layers={config.keep_layers}: {config.pretrained} has {about.num_hidden_layers} blocks; "
                "null keeps them all"
            )


def is_gguf(name: str) -> bool:
    return Path(name).suffix == ".gguf"


def _source(name: str) -> dict[str, str]:
    """What transformers is told of where a model lies: a name, a directory, or a GGUF file in one."""
    if is_gguf(name):
        return {"pretrained_model_name_or_path": str(Path(name).parent), "gguf_file": Path(name).name}
    return {"pretrained_model_name_or_path": name}


def _causal(about: Any) -> bool:
    """Encoders have a causal class too, which stays one that sees what comes later unless it is made a decoder."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = about.model_type
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not about.is_decoder
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not encoder


def _pretrained(config: Model) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert config.pretrained is not None  # or sizes: Model's own check
    small = config.adapter == "lora" and config.precision == "bf16"  # weights that stay as they are may be coarse
    with _explained(config.pretrained), global_generator():
        tokenizer = AutoTokenizer.from_pretrained(**_source(config.pretrained))
        lm = AutoModelForCausalLM.from_pretrained(
            **_source(config.pretrained), dtype=torch.bfloat16 if small else torch.float32
        )
    if config.keep_layers is not None:
        keep_first(lm, config.keep_layers)
    return lm, tokenizer


def keep_first(lm: Any, n: int) -> None:
    """Cuts a causal language model of transformers off behind its first n blocks; the last norm and head stay."""
    about = lm.config
    (name, blocks), *_ = [(name, part) for name, part in lm.base_model.named_modules()
                          if isinstance(part, nn.ModuleList) and len(part) == about.num_hidden_layers]  # fmt: skip
    lm.base_model.set_submodule(name, blocks[:n])
    if getattr(about, "layer_types", None) is not None:
        about.layer_types = about.layer_types[:n]
    about.num_hidden_layers = n


@contextmanager
def _explained(name: str, key: str | None = None) -> Iterator[None]:
    """What transformers raises for a model that it cannot find, as a ConfigError. `key`: as in `check`, if known."""
    try:
        yield
    except (OSError, ValueError, struct.error) as error:  # ValueError: a configuration of a kind that it does not know
        here = Path(name)
        if is_gguf(name):
            raise ConfigError(
                f"{key or 'method.model'}.pretrained: {name} cannot be loaded ({type(error).__name__}: "
                f"{str(error).splitlines()[0][:160]}). Name a GGUF file of a causal language model, such as what "
                "`python scripts/local_model.py smollm2` brings, or a directory of transformers"
            ) from error
        where = f"the directory {here} is incomplete" if here.is_dir() else f"{here} is not a directory"
        reason = str(error).splitlines()[0][:160]
        field, group = (f"{key}.pretrained", f"llm_model@{key}") if key else ("pretrained", "llm_model")
        raise ConfigError(
            f"{field}: {name} cannot be loaded: {where}, and fetching it from the Hugging Face hub failed "
            f"({type(error).__name__}: {reason}). Name a directory that holds it, fetch it beforehand (hf download "
            f"{name}), or use {group}=tiny, which needs none"
        ) from error


def _adapt(lm: Any, config: Model, gen: Generator) -> None:
    """LoRA beside every linear layer but the last; all that was there before stays as it is."""
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layers

    last = lm.get_output_embeddings()
    names = {n.rpartition(".")[2] for n, m in lm.named_modules() if isinstance(m, nn.Linear | Conv1D) and m is not last}
    if not names:
        raise ConfigError(f"adapter=lora: {config.pretrained} has no linear layer to adapt; use adapter=full")
    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]  # a factor, so any number will do
        lora_dropout=0.0,
        target_modules=sorted(names),
    )
    with global_generator():
        inject_adapter_in_model(settings, lm)
    for name, parameter in lm.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_A" in name:
            parameter.data = torch.randn(parameter.shape, generator=gen) / config.lora_rank
        if "lora_B" in name:
            parameter.data = torch.zeros(parameter.shape)  # so that it begins as the model that it adapts


def _perceptron(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _initialise(module: nn.Module, gen: Generator, deviation: float | None) -> None:
    """Matrices normal with this deviation (None: one over the root of the inputs), biases zero; norms' scales stay."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                scale = parameter.shape[1] ** -0.5 if deviation is None else deviation
                parameter.copy_(torch.randn(parameter.shape, generator=gen) * scale)
            elif name.endswith("bias"):
                parameter.zero_()
