"""The language model that is trained from scratch is the function that transformers' Llama is, however it is read."""

import copy

import numpy as np
import pytest
import torch
from small_kalm import SIZES, Small, made_rollouts, plain_llama, settings
from torch._inductor import config as inductor

from llmrl.methods.kalm import model as kalm_model
from llmrl.methods.kalm.model.llama import ROOM, fused, unfused
from llmrl.methods.kalm.model.network import Continuation
from llmrl.methods.kalm.model.tasks import CONSEQUENCE, DYNAMICS, EXPLANATION, GENERATION, Pairs, joined
from llmrl.methods.kalm.model.training import COMPILE_FROM, compiles

transformers = pytest.importorskip("transformers")


def spread(small):
    """A model whose weights are far from the small initial ones, norms too."""
    gen = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in small.model.lm.parameters():
            p.add_(torch.randn(p.shape, generator=gen) * 0.2)
    return small


SHAPES = ((3, 7), (2, 1), (4, 12))


def example(small):
    """(embeddings, places asked for, weights of a sum over what is found there)"""
    gen = torch.Generator().manual_seed(4)
    n = sum(rows * length for rows, length in SHAPES)
    at = torch.tensor([0, 3, 20, 21, 22, 23, 40, n - 1])
    return torch.randn(n, 16, generator=gen), at, torch.randn(len(at), 16, generator=gen)


def through(lm, x, at, weight):
    """What comes out at the places, the gradient of its weighted sum in x, and those in the weights."""
    x = x.clone().requires_grad_()
    if isinstance(lm, transformers.LlamaForCausalLM):
        groups = x.split([rows * length for rows, length in SHAPES])
        out = torch.cat([
            lm.model(inputs_embeds=group.unflatten(0, shape), use_cache=False).last_hidden_state.flatten(0, 1)
            for group, shape in zip(groups, SHAPES)
        ])[at]  # fmt: skip
    else:
        out = lm(x, SHAPES, at)
    learned = {name: p for name, p in lm.named_parameters() if "embed" not in name and "lm_head" not in name}
    gradients = torch.autograd.grad((out * weight).sum(), [x, *learned.values()])
    return out.detach(), gradients[0], dict(zip(learned, gradients[1:]))


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_it_is_the_llama_of_transformers_and_so_are_its_gradients():
    small = spread(Small())
    out, of_x, of_weights = through(small.model.lm, *example(small))
    plain, plain_of_x, plain_of_weights = through(plain_llama(small), *example(small))
    close(out, plain)
    close(of_x, plain_of_x)
    found = unfused({f"lm.{name}": gradient for name, gradient in of_weights.items()}, SIZES["layers"])
    assert found.keys() == {f"lm.{name}" for name in plain_of_weights}
    for name, gradient in plain_of_weights.items():
        close(found[f"lm.{name}"], gradient)


def test_compiled_it_is_the_same_for_any_lengths():
    small = spread(Small())
    plain = through(copy.deepcopy(small.model.lm), *example(small))
    small.model.lm.compile_blocks()
    for found, expected in zip(through(small.model.lm, *example(small)), plain):
        if isinstance(found, dict):
            for name, gradient in expected.items():
                close(found[name], gradient)
        else:
            close(found, expected)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    batches = Pairs(small.labelled, small.write, (0, 1, 3), 6)
    learner, rng = small.learner(), np.random.default_rng(0)
    for _ in range(4):
        learner.update(batches.draw(rng))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before  # none was compiled anew


def test_a_training_is_the_same_compiled_or_not():
    told = []
    for compile_ in ("false", "true"):
        small = Small(settings(compile=compile_))
        learner, batches = small.learner(), Pairs(small.labelled, small.write, (0, 1, 3), 6)
        rng = np.random.default_rng(0)
        told.append([float(learner.update(batches.draw(rng))["loss"]) for _ in range(5)])
    np.testing.assert_allclose(told[0], told[1], rtol=1e-5)


@pytest.mark.parametrize("goal", ["encoder", "tokens"])
def test_groups_that_are_joined_have_the_losses_and_gradients_that_they_have_alone(goal):
    small = Small(settings(goal=goal))
    rng = np.random.default_rng(1)
    groups = []
    for task in (GENERATION, DYNAMICS, CONSEQUENCE, EXPLANATION):
        which = rng.integers(12, size=3)
        at = rng.integers(small.rollouts.lengths[which]) if task == DYNAMICS else None
        groups.append(small.write(task, small.rollouts, which, rng.integers(9, size=3), at, (1 / 9, 1 / 3, 1 / 3)))
    learner = small.learner()
    alone = sum(learner._losses(group) for group in groups)
    together = learner._losses(joined(groups))
    close(together, alone)
    learned = list(small.model.learned().values())
    for a, b in zip(*(torch.autograd.grad(x.sum(), learned, retain_graph=True) for x in (together, alone))):
        close(a, b)


def test_a_continuation_with_cache_reads_what_one_without_does():
    small = spread(Small(rollouts=made_rollouts(5, longest=1)))
    prompt = small.write(GENERATION, small.rollouts, np.arange(5), np.zeros(5, int), until="rollout").sequences
    gen, kept = torch.Generator().manual_seed(0), {3: torch.tensor([0, 2, 4]), ROOM + 3: torch.tensor([1, 2])}
    with torch.inference_mode():
        cached, plain = (Continuation(small.model, prompt, cache=cache) for cache in (True, False))
        close(cached.hidden, plain.hidden)
        for step in range(2 * ROOM):
            rows = torch.randn(len(cached.hidden), 16, generator=gen)
            for line in (cached, plain):
                line.append(rows)
                if step in kept:
                    line.keep(kept[step])
            close(cached.hidden, plain.hidden)


def test_files_have_the_names_of_transformers(tmp_path):
    small = spread(Small())
    kalm_model.save(tmp_path, small.model, small.config, small.words, small.width, {})
    from safetensors.torch import load_file

    weights = load_file(tmp_path / kalm_model.WEIGHTS)
    lm = {name.removeprefix("lm."): x for name, x in weights.items() if name.startswith("lm.")}
    assert lm.keys() == plain_llama(small).state_dict().keys()
    back = fused(weights, SIZES["layers"])
    assert back.keys() == small.model.learned().keys()
    assert all(torch.equal(back[name], p) for name, p in small.model.learned().items())


@pytest.mark.parametrize(
    ("changes", "updates", "device", "expected"),
    [({}, COMPILE_FROM, "cpu", True), ({}, COMPILE_FROM - 1, "cpu", False), ({}, COMPILE_FROM, "cuda", False),
     ({"compile": "true"}, 1, "cpu", True), ({"compile": True}, 1, "cuda", True),
     ({"compile": "false"}, COMPILE_FROM, "cpu", False), ({"compile": False}, COMPILE_FROM, "cpu", False)],
)  # fmt: skip
def test_long_trainings_are_compiled(changes, updates, device, expected):
    assert compiles(settings(**changes), updates, torch.device(device)) == expected


def test_without_a_compiler_it_says_so_once_and_trains_uncompiled(capfd):
    torch._dynamo.reset()
    losses = []
    for compile_ in ("false", "true"):
        small = Small(settings(compile=compile_))
        batch = Pairs(small.labelled, small.write, (0, 1, 3), 6).draw(np.random.default_rng(0))
        with inductor.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
            learner = small.learner()
            losses.append([float(learner.update(batch)["loss"]) for _ in range(3)])
    assert losses[0] == losses[1]
    said = capfd.readouterr().err
    assert said.count("trained uncompiled") == 1 and "Install a C++ compiler" in said and "compile=false" in said
