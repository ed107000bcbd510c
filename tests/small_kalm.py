"""A language model of some thousand weights, and a few made rollouts, for the tests of KALM's models."""

import dataclasses
from functools import cache

import numpy as np
import torch
import yaml
from conftest import compose

from llmrl.conf_files import conf_root
from llmrl.config import checked, from_node
from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot.rollouts import Rollouts
from llmrl.methods.kalm import model as kalm_model
from llmrl.methods.kalm.model.config import Model
from llmrl.methods.kalm.model.llama import unfused
from llmrl.methods.kalm.model.network import make
from llmrl.methods.kalm.model.tasks import Labelled
from llmrl.methods.kalm.model.training import Grounder

SIZES = {"hidden": 16, "layers": 2, "heads": 2, "intermediate": 24}


def settings(preset="tiny", **changes):
    values = yaml.safe_load((conf_root() / "llm_model" / f"{preset}.yaml").read_text())
    small = {"sizes": SIZES, "goal": "encoder", "encoder": "words"} if preset == "tiny" else {}
    return checked(Model, values | small | changes)


def made_rollouts(n=12, seed=0, longest=4):
    """Rollouts of the base goals in which nothing makes sense; lengths 1, 2, …, longest, 1, …"""
    rng = np.random.default_rng(seed)
    lengths = (np.arange(n) % longest + 1).astype(np.int32)
    there = np.arange(longest + 1) <= lengths[:, None]
    last = np.arange(1, longest + 1) == lengths[:, None]
    return Rollouts(
        observations=(rng.normal(0, 0.3, (n, longest + 1, 10)) * there[..., None]).astype(np.float32),
        actions=(rng.integers(40, size=(n, longest)) * there[:, 1:]).astype(np.int32),
        rewards=np.where(last, 100, 0).astype(np.float32),
        terminals=last,
        lengths=lengths,
        goals=g.BASE[rng.integers(len(g.BASE), size=n)].astype(np.int32),
        states=None,
    )


class Small:
    """A model, what writes its prompts, and the rollouts."""

    def __init__(self, config=None, rollouts=None, texts=None, seed=0):
        torch.set_num_threads(1)
        self.config, self.rollouts = config or settings(), rollouts or made_rollouts()
        self.texts, numbers = kalm_model.sentences_of(self.rollouts)
        self.words = kalm_model.vocabulary(self.texts)
        self.width = 64 if self.config.goal == "encoder" else None
        gen = torch.Generator().manual_seed(seed)
        self.model, self.tokenizer = make(self.config, self.words, self.width, gen)
        self.write = kalm_model.writer(self.config, texts or self.texts, self.tokenizer)
        self.labelled = Labelled(self.rollouts, numbers)

    def learner(self, updates=10, **changes):
        config = dataclasses.replace(self.config, **changes)
        return Grounder(self.model, config, updates=updates, device=torch.device("cpu"))


def plain_llama(small):
    """LlamaForCausalLM of transformers with the weights of a model from scratch."""
    import transformers

    sizes = small.config.sizes
    config = transformers.LlamaConfig(
        vocab_size=len(small.tokenizer), hidden_size=sizes.hidden, intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers, num_attention_heads=sizes.heads,
    )  # fmt: skip
    lm = transformers.LlamaForCausalLM(config)
    weights = unfused({name: p.detach() for name, p in small.model.named_parameters()}, sizes.layers)
    lm.load_state_dict({name.removeprefix("lm."): x for name, x in weights.items() if name.startswith("lm.")})
    return lm


@cache
def composed(method):
    """Of a language model of some thousand weights that reads sentences as words."""
    key = {"kalm": "method.rollouts.model.model", "kalm/model": "method.model"}.get(method, "method.model.model")
    small = [f"{key}.encoder=words", *(f"{key}.sizes.{size}={n}" for size, n in SIZES.items())]
    small = [] if method == "kalm/data" else small
    words = [f"method={method}", "agent=bc", "env=clevr_robot/base", "env.language=words", *small]
    return from_node(compose([*words, "budget.updates=10"]))


def changed(method, **changes):
    config = composed(method)
    return dataclasses.replace(config, method=dataclasses.replace(config.method, **changes))
