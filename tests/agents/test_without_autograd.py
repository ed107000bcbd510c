"""Agents that learn by gradients written out, against autograd and torch.optim.Adam on the same weights, batches and
noise."""

import autograd_updates
import pytest
import torch
from gymnasium import spaces
from small_agents import box, make, random_batch, vectors
from torch import nn

from llmrl.agents.perceptrons import FusedAdam

pytestmark = pytest.mark.usefixtures("one_thread")

ARMS = spaces.Discrete(4)
UNEVEN = box([0, -4, -1], [1, 2, 3])
DICT = spaces.Dict({"b": vectors(2), "a": vectors(3)})
RATES = {"ddpg": {"actor_learning_rate": 1e-3, "critic_learning_rate": 2e-3}}
RATES["td3"] = RATES["ddpg"] | {"target_noise": 0.25}  # exact in single precision, in which agents keep it
FAST = {"learning_rate": 1e-3}
OFTEN = {"target_update_every": 3}
DEEP = (7, 9, 5)
CASES = {
    "ddpg": ("ddpg", {"hidden": (24,), "tau": 0.1}),
    "ddpg-deep": ("ddpg", {"hidden": DEEP, "tau": 1, "adam_epsilon": 1e-3}),
    "td3": ("td3", {"hidden": (24,), "tau": 0.1}),
    "td3-deep": ("td3", {"hidden": DEEP, "tau": 1, "policy_delay": 3, "adam_epsilon": 1e-3}),
    "td3-absolute": ("td3", {"hidden": (24,), "noise_units": "absolute", "policy_delay": 1, "target_noise": 1}),
    "sac": ("sac", {"hidden": (24,), "tau": 0.1}),
    "sac-deep": ("sac", {"hidden": DEEP, "tau": 1, "target_entropy": 0.5, "temperature": 0.3}),
    "sac-fixed": ("sac", {"hidden": (24,), "learn_temperature": False, "temperature": 0.2}),
    "dqn": ("dqn", {"hidden": (24,), "loss": "huber", "max_grad_norm": 0.5}),
    "dqn-deep": ("dqn", {"hidden": DEEP, "loss": "mse", "max_grad_norm": None}),
    "dqn-double": ("dqn", {"hidden": (24,), "loss": "mse", "double": True, "max_grad_norm": 10}),
    "bc": ("bc", {"hidden": (24,), "beta": 0.5}),
    "bc-deep": ("bc", {"hidden": DEEP, "activation": "tanh", "beta": 0}),
    "cql": ("cql", {"hidden": (24,), "alpha": 2}),
    "cql-deep": ("cql", {"hidden": DEEP, "activation": "tanh", "alpha": 0.5}),
    "bcq": ("bcq", {"hidden": (24,), "beta": 0.5, "threshold": 0.9}),
    "bcq-deep": ("bcq", {"hidden": DEEP, "activation": "tanh", "beta": 0.1, "threshold": 0.6}),
}
# what an agent calls the networks that learn, and those that autograd_updates knows
LEARNING = {
    "ddpg": {"mlp": "actor", "q": "critic"}, "td3": {"mlp": "actor", "q": "critic"},
    "sac": {"policy": "actor", "q": "critic", "temperature": "temperature"}, "dqn": {"values": "q"},
    "bc": {"logits": "policy"}, "cql": {"values": "q"}, "bcq": {"heads": "net"},
}  # fmt: skip


@pytest.fixture(params=["double", "single"])
def close(request):
    """Compares numbers of the precision in which agents and batches are made meanwhile.

    Adam divides gradients by their size, so the rounding of one near zero moves its weight by part of a learning rate.
    """
    torch.set_default_dtype(torch.float64 if request.param == "double" else torch.float32)
    bound = {"rtol": 1e-10, "atol": 1e-11} if request.param == "double" else {"rtol": 1e-5, "atol": 1e-5}

    def close(ours, theirs, **changes):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours.detach(), theirs.detach(), **bound | changes)

    yield close
    torch.set_default_dtype(torch.float32)


def some_agent(name, observation_space, **settings):
    discrete = name in ("dqn", "bc", "cql", "bcq")
    settings = RATES.get(name, FAST) | (OFTEN if name in ("dqn", "cql", "bcq") else {}) | settings
    agent = make(name, observation_space, ARMS if discrete else UNEVEN, **settings)
    for net in LEARNING[name]:
        assert getattr(agent, net).weights.dtype == torch.get_default_dtype()
    return agent


def some_batch(agent, n, seed):
    """In the default precision; rewards are such that Huber's loss has both of its sides."""
    batch = random_batch(agent.observation_space, agent.action_space, n, seed)

    def cast(leaf):
        if isinstance(leaf, dict):
            return {key: cast(value) for key, value in leaf.items()}
        floating = isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
        return leaf.to(torch.get_default_dtype()) if floating else leaf

    batch = type(batch)(*map(cast, batch))
    return batch._replace(reward=2 * batch.reward)


def moments(part, name):
    """Adam's `mean` or `square`, as the parameters of the networks lie in torch."""
    rows = getattr(part.adam, name)
    for k in range(len(rows)):
        for matrix in part._matrices(rows):
            yield from (matrix[k, :-1].t(), matrix[k, -1])


def learn_alike(name, agent, batches, close):
    """Both learn from the batches; every metric, weight, target and moment of Adam stays the same."""
    reference = autograd_updates.Reference(agent)
    for batch in batches:
        ours, theirs = agent.update(batch), autograd_updates.UPDATES[name](reference, batch)
        assert ours.keys() == theirs.keys()
        for key in ours:
            close(ours[key], theirs[key])
    for key, module in vars(agent).items():
        if isinstance(module, nn.Module):
            for our, their in zip(module.parameters(), getattr(reference, key).parameters(), strict=True):
                close(our, their)
    for part, net in LEARNING[name].items():
        part = getattr(agent, part)
        if net not in reference.adams:  # the temperature where it is not learnt
            assert isinstance(part, FusedAdam) and part.steps == 0
            continue
        state = list(reference.adams[net].state.values())
        for key, theirs in {"mean": "exp_avg", "square": "exp_avg_sq"}.items():
            ours = [getattr(part, key)] if isinstance(part, FusedAdam) else list(moments(part, key))
            scale = max(s[theirs].abs().max() for s in state).item()
            for our, its in zip(ours, state, strict=True):
                close(our, its[theirs], atol=scale * (1e-10 if our.dtype == torch.float64 else 1e-3))
    if name == "sac" and reference.config.learn_temperature:
        close(agent.temperature.weights, reference.log_alpha)


@pytest.mark.parametrize("close, n", [("double", 1), ("double", 37), ("single", 37)], indirect=["close"])
@pytest.mark.parametrize("case", CASES)
def test_updates_are_autograds(case, n, close):
    name, settings = CASES[case]
    agent = some_agent(name, vectors(5), **settings)
    learn_alike(name, agent, [some_batch(agent, n, seed) for seed in range(20)], close)


@pytest.mark.parametrize("close", ["double"], indirect=True)
@pytest.mark.parametrize("name", LEARNING)
def test_updates_on_dict_observations_are_autograds(name, close):
    agent = some_agent(name, DICT, hidden=(10, 6))
    learn_alike(name, agent, [some_batch(agent, 16, seed) for seed in range(20)], close)


def set_log_std(agent, values):
    """log sigma is the same in all states, before the first update."""
    last, n = agent.actor.mlp.layers[-1], len(values)
    last.weight.data[n:] = 0
    last.bias.data[n:] = torch.tensor(values)


@pytest.mark.parametrize("values", [(-25.0, 5.0, 0.0), (-20.0, 2.0, -1.0), (5.0, 5.0, 5.0)], ids=str)
def test_sacs_log_std_is_clamped_as_autograd_does(values, close):
    """Outside of the bounds log sigma has no gradient; at a bound it has; and most actions saturate."""
    agent = some_agent("sac", vectors(5), hidden=(12,), learning_rate=1e-2)
    set_log_std(agent, values)
    learn_alike("sac", agent, [some_batch(agent, 37, seed) for seed in range(20)], close)


@pytest.mark.parametrize("name", ["td3", "sac"])
def test_ties_of_the_critics_are_broken_as_autograd_does(name, close):
    agent = some_agent(name, vectors(5), hidden=(12,))
    for critics in (agent.critic, agent.target_critic):
        critics.nets[1].load_state_dict(critics.nets[0].state_dict())
    learn_alike(name, agent, [some_batch(agent, 37, seed) for seed in range(20)], close)
    first, second = agent.critic.nets
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters()))
