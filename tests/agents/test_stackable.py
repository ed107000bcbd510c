"""Several seeds that learn as one, against the same seeds that learn alone: equal to the bit."""

import copy

import pytest
import torch
from gymnasium import spaces
from small_agents import box, make, random_batch, vectors

from llmrl.agents.capturable import each, side_by_side

pytestmark = pytest.mark.usefixtures("one_thread")

UNEVEN = box([0, -4, -1], [1, 2, 3])
DICT = spaces.Dict({"b": vectors(2), "a": vectors(3)})
CASES = {
    "ddpg": ("ddpg", {"tau": 0.1}),
    "td3": ("td3", {"tau": 0.1}),
    "td3-tau-1": ("td3", {"tau": 1, "policy_delay": 3, "noise_units": "absolute"}),
    "sac": ("sac", {"tau": 0.1, "learning_rate": 1e-2}),
    "sac-fixed": ("sac", {"tau": 1, "learn_temperature": False}),
    "dqn": ("dqn", {"target_update_every": 4, "max_grad_norm": 0.5}),
    "dqn-double": ("dqn", {"target_update_every": 4, "double": True, "loss": "mse", "max_grad_norm": None}),
}


def leaves(value, path=()):
    """The tensors and numbers of a state_dict, with the keys that lead to them."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, (*path, key))
    else:
        yield path, torch.as_tensor(value)


def assert_equal(ours, theirs):
    for (path, our), (its_path, their) in zip(leaves(ours), leaves(theirs), strict=True):
        assert path == its_path and torch.equal(our, their), path


def learn_alike(name, settings, *, n, batch_size, updates, space=None, discounts=False):
    space = space or vectors(5)
    actions = spaces.Discrete(4) if name == "dqn" else UNEVEN
    alone, parts = ([make(name, space, actions, seed=seed, **settings) for seed in range(n)] for _ in range(2))

    def some_batches(i):
        batches = [random_batch(space, actions, batch_size, seed=1 + 100 * seed + i) for seed in range(n)]
        rows = [torch.linspace(0.5, 1 - 0.1 * seed, batch_size) for seed in range(n)]
        return [b._replace(discount=row) for b, row in zip(batches, rows)] if discounts else batches

    for agent, part, batch in zip(alone, parts, some_batches(-1)):  # what they have learnt alone goes with them
        agent.update(batch)
        part.update(batch)
    whole = type(parts[0]).stacked(parts)
    for i in range(updates):
        batches = some_batches(i)
        metrics = [agent.update(batch) for agent, batch in zip(alone, batches)]
        for part in parts:
            part.updates += 1
        noise = each(lambda *rows: torch.stack(rows), *(part.noise(batch_size) for part in parts))
        with torch.no_grad():
            out = whole.learn_together(side_by_side(batches, parts[0].features), noise, due=parts[0].due())
        for k, its in enumerate(metrics):
            assert out.keys() == its.keys()
            assert all(torch.equal(out[key][k], its[key]) for key in its), (i, k)
    for agent, part in zip(alone, parts):
        assert_equal(part.state_dict(), agent.state_dict())
    assert not torch.equal(*(next(part.parameters()) for part in (first_net(p) for p in parts[:2])))
    return alone, parts


def first_net(agent):
    return next(part for part in vars(agent).values() if isinstance(part, torch.nn.Module))


@pytest.mark.parametrize(
    "n, batch_size, hidden, updates", [(3, 37, (33, 19), 30), (2, 1, (64,), 12), (5, 16, (7, 5), 8)]
)
@pytest.mark.parametrize("case", CASES)
def test_seeds_learn_stacked_as_alone_to_the_bit(case, n, batch_size, hidden, updates):
    name, settings = CASES[case]
    learn_alike(name, settings | {"hidden": hidden}, n=n, batch_size=batch_size, updates=updates)


@pytest.mark.parametrize("name", ["td3", "sac", "dqn"])
def test_networks_and_batches_of_a_usual_size(name):
    learn_alike(name, {"hidden": (256, 256)}, n=2, batch_size=256, updates=4)


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac", "dqn"])
def test_dict_observations_and_a_discount_of_every_row(name):
    learn_alike(name, {"hidden": (33,)}, n=3, batch_size=19, space=DICT, discounts=True, updates=6)


@pytest.mark.parametrize("case", CASES)
def test_a_part_is_still_an_agent(case):
    """It acts, updates, saves and loads as one that has always been alone."""
    name, settings = CASES[case]
    alone, parts = learn_alike(name, settings | {"hidden": (9,)}, n=3, batch_size=8, updates=3)
    batch = random_batch(parts[0].observation_space, parts[0].action_space, 8, seed=7)
    out, its = parts[2].update(batch), alone[2].update(batch)
    assert_equal(dict(out), dict(its))
    assert_equal(parts[2].state_dict(), alone[2].state_dict())
    actions = [a.act(batch.obs.numpy(), explore=True, gen=torch.Generator()) for a in (parts[2], alone[2])]
    assert (actions[0] == actions[1]).all()
    other = copy.deepcopy(first_net(parts[0]).state_dict())
    parts[1].load_state_dict(alone[2].state_dict())
    assert_equal(parts[1].state_dict(), alone[2].state_dict())
    assert_equal(first_net(parts[0]).state_dict(), other)
