"""Perceptrons and their Adam, against autograd and torch.optim.Adam on the same layers."""

import copy
import itertools

import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_agents import box, make, random_batch, vectors
from torch import nn

from llmrl.agents.perceptrons import FusedAdam, Perceptrons
from llmrl.checks import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

ARMS = spaces.Discrete(3)
SHAPES = [(5, 1), (5, 24, 3), (3, 7, 16, 5, 2)]
BATCHED = pytest.mark.parametrize("batched", [False, True], ids=["one by one", "at once"])
ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


def some_nets(n, sizes, seed=0, dtype=torch.float64):
    """n networks, their linear layers alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [nn.ModuleList(nn.Linear(*pair, dtype=dtype) for pair in itertools.pairwise(sizes)) for _ in range(n)]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain(layers, x, activation="relu"):
    *hidden, last = layers
    for layer in hidden:
        x = ACTIVATIONS[activation](layer(x))
    return last(x)


def parameters(nets):
    return [p for net in nets for p in net.parameters()]


def perceptrons(nets, *, batched=False, **settings):
    """That compute their networks one after the other, or at once as on a GPU."""
    net = Perceptrons(nets, **settings)
    net.batched = batched
    return net


def gradients(net):
    """What `backward` left for Adam, as the parameters lie in torch."""
    rows = net._matrices(net.adam.gradient)
    return [part for k in range(len(net.weights)) for m in rows for part in (m[k, :-1].t(), m[k, -1])]


def assert_same(ours, theirs):
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-12, atol=1e-13)


@BATCHED
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("groups, n, batch", [(1, 1, 1), (1, 2, 37), (3, 6, 8), (2, 2, 5)])
def test_forward_and_gradients_are_autograds(groups, n, batch, sizes, activation, batched):
    """Of inputs in two parts, of which every group of networks sees its own."""
    nets = some_nets(n, sizes)
    theirs = copy.deepcopy(nets)
    net = perceptrons(nets, batched=batched, learning_rate=1e-3, activation=activation)
    for seed in range(2):  # a second pass works in the tensors of the first
        x = normal(groups, batch, sizes[0], seed=seed).requires_grad_()
        per_input = x.repeat_interleave(n // groups, 0)
        out = torch.stack([plain(its, row, activation) for its, row in zip(theirs, per_input)])
        with torch.no_grad():
            assert_same([net.forward(x[..., :2], x[..., 2:])], [out])
        upstream = normal(*out.shape, seed=9 + seed)
        wanted = torch.autograd.grad(out, [per_input, *parameters(theirs)], upstream)
        net.backward(upstream)
        assert_same(gradients(net), wanted[1:])
        left = net.adam.gradient.clone()
        for columns in (slice(None), slice(2, None), slice(1, 3)):
            assert_same([net.input_gradient(upstream, columns)], [wanted[0][..., columns]])
        net.input_gradient(2 * upstream, slice(None))
        assert torch.equal(net.adam.gradient, left)


@BATCHED
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_second_network_alone(activation, batched):
    """As TD3's actor learns by the first of two critics: of 6 networks in 3 groups, 0, 2 and 4."""
    nets = some_nets(6, (5, 24, 9, 1))
    theirs = copy.deepcopy(nets)[::2]
    net = perceptrons(nets, batched=batched, learning_rate=1e-3, activation=activation)
    x = normal(3, 8, 5).requires_grad_()
    out = torch.stack([plain(its, row, activation) for its, row in zip(theirs, x)])
    upstream = normal(3, 8, 1, seed=1)
    wanted = torch.autograd.grad(out, [x, *parameters(theirs)], upstream)
    with torch.no_grad():
        assert_same([net.forward(x, every=2)], [out])
    assert_same([net.input_gradient(upstream, slice(3, None))], [wanted[0][..., 3:]])
    assert not net.adam.gradient.any()
    net.backward(upstream)
    assert not net.adam.gradient[1::2].any()
    per = len(parameters(theirs)) // 3
    found = gradients(net)
    assert_same([part for k in range(0, 6, 2) for part in found[per * k : per * (k + 1)]], wanted[1:])


@BATCHED
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_first_rows_of_a_forward_can_learn_alone(activation, batched):
    """As SAC's policy, which sees s and s' at once."""
    nets = some_nets(2, (5, 24, 9, 3))
    theirs = copy.deepcopy(nets)
    net = perceptrons(nets, batched=batched, learning_rate=1e-3, activation=activation)
    x = normal(2, 10, 5).requires_grad_()
    first = x[:, :4]
    out = torch.stack([plain(its, row, activation) for its, row in zip(theirs, first)])
    upstream = normal(2, 4, 3, seed=1)
    wanted = torch.autograd.grad(out, [first, *parameters(theirs)], upstream)
    with torch.no_grad():
        net.forward(x)
    net.backward(upstream)
    assert_same(gradients(net), wanted[1:])
    assert_same([net.input_gradient(upstream, slice(None))], wanted[:1])


def test_relu_has_no_gradient_at_zero():
    nets = some_nets(1, (2, 4, 1))
    for p in nets[0][0].parameters():
        p.data.zero_()
    net = Perceptrons(nets, learning_rate=1e-3)
    with torch.no_grad():
        net.forward(normal(1, 3, 2))
    net.backward(normal(1, 3, 1))
    hidden, last = net._matrices(net.adam.gradient)
    assert not hidden.any() and not last[0, :-1].any() and last[0, -1].any()


# --- Adam, clipping, targets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rate, eps", [(1e-2, 1e-8), (3e-4, 1e-2)])
def test_the_fused_adam_is_torchs_to_the_bit(rate, eps, dtype):
    ours, theirs = normal(4, 48, dtype=dtype), normal(4, 48, dtype=dtype).requires_grad_()
    adam, torchs = FusedAdam(ours, rate, eps), torch.optim.Adam([theirs], lr=rate, eps=eps, fused=True)
    slow = normal(4, 48, dtype=dtype).requires_grad_()
    plain_adam = torch.optim.Adam([slow], lr=rate, eps=eps)
    for i in range(50):
        adam.gradient.copy_(normal(4, 48, seed=i + 1, dtype=dtype))
        theirs.grad, slow.grad = adam.gradient.clone(), adam.gradient.clone()
        for optimizer in (adam, torchs, plain_adam):
            optimizer.step()
    assert torch.equal(ours, theirs.detach()) and adam.steps == 50
    state = torchs.state[theirs]
    assert torch.equal(adam.mean, state["exp_avg"]) and torch.equal(adam.square, state["exp_avg_sq"])
    bound = 1e-5 if dtype is torch.float32 else 1e-12
    torch.testing.assert_close(ours, slow.detach(), rtol=bound, atol=bound)


@pytest.mark.parametrize("bound", [1e-3, 0.5, 1e3])
def test_a_long_gradient_is_shortened_as_torch_does_each_networks_by_itself(bound):
    nets = some_nets(3, (5, 24, 3))
    theirs = copy.deepcopy(nets)
    net = Perceptrons(nets, learning_rate=1e-2, max_grad_norm=bound)
    adams = [torch.optim.Adam(its.parameters(), lr=1e-2) for its in theirs]
    scale = torch.tensor([0.01, 1.0, 5.0])[:, None, None]
    for seed in range(5):
        x, upstream = normal(1, 8, 5, seed=seed), scale * normal(3, 8, 3, seed=9 + seed)
        with torch.no_grad():
            net.forward(x)
        net.backward(upstream)
        net.step()
        for its, adam, row in zip(theirs, adams, upstream):
            adam.zero_grad()
            plain(its, x[0]).backward(row)
            nn.utils.clip_grad_norm_(its.parameters(), bound)
            adam.step()
        assert_same(gradients(net), [p.grad for p in parameters(theirs)])
    for our, their in zip(parameters(nets), parameters(theirs)):
        torch.testing.assert_close(our, their, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("tau", [0.005, 0.3, 1])
def test_targets_track(tau):
    nets, targets = some_nets(2, (5, 24, 3)), some_nets(2, (5, 24, 3), seed=1)
    wanted = [(1 - tau) * slow + tau * fast for slow, fast in zip(parameters(targets), parameters(nets))]
    online, target = Perceptrons(nets, learning_rate=1e-2), Perceptrons(targets)
    target.track(online, tau)
    assert_same(parameters(targets), wanted)
    if tau == 1:
        assert torch.equal(target.weights, online.weights)
    online.weights.zero_()
    assert_same(parameters(targets), wanted)  # no view of what it tracks
    with pytest.raises(AssertionError, match="does not learn"):
        target.step()


def test_an_optimizers_state_of_an_earlier_version_is_refused():
    adam = FusedAdam(normal(2, 16), 1e-3)
    adam.gradient.copy_(normal(2, 16, seed=1))
    adam.step()
    state = adam.state_dict()
    adam.step()
    assert state["steps"] == 1 and not torch.equal(state["mean"], adam.mean)  # a copy
    other = FusedAdam(normal(2, 16), 1e-3)
    other.load_state_dict(state)
    assert other.steps == 1 and torch.equal(other.mean, state["mean"]) and torch.equal(other.square, state["square"])
    earlier = torch.optim.Adam([nn.Parameter(normal(2, 16))], lr=1e-3).state_dict()
    for wrong in (earlier, {}, {key: state[key] for key in ("steps", "mean")}, state | {"more": state["mean"]}):
        with pytest.raises(ConfigError, match="an earlier version of llmrl.*make the run anew"):
            adam.load_state_dict(wrong)


@pytest.mark.parametrize("name", ["td3", "sac", "dqn", "bc"])
def test_an_agent_refuses_the_state_of_an_earlier_versions_optimizer(name):
    agent = make(name, vectors(5), box([-1], [1]) if name in ("td3", "sac") else ARMS, hidden=(8,))
    state = agent.state_dict()
    key = next(key for key in state if key.endswith("adam"))
    net = next(iter(m for m in vars(agent).values() if isinstance(m, nn.Module)))
    state[key] = torch.optim.Adam(net.parameters(), lr=1e-3).state_dict()
    with pytest.raises(ConfigError, match="an earlier version of llmrl"):
        agent.load_state_dict(state)


# --- weights in one row, parameters as views of them ----------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_acting_is_the_first_network_of_all(sizes, activation):
    nets = some_nets(2, sizes, dtype=torch.float32)
    net = Perceptrons(nets, learning_rate=1e-3, activation=activation)
    for n in (1, 37):
        x = normal(n, sizes[0], dtype=torch.float32)
        before = x.clone()
        out = net.act(x.numpy())
        assert out.dtype == np.float32 and torch.equal(x, before)
        torch.testing.assert_close(torch.from_numpy(out), plain(nets[0], x, activation).detach())
        net._arrays, arrays = None, net._arrays  # as on other devices
        np.testing.assert_allclose(net.act(x.numpy()), out, rtol=1e-5, atol=1e-6)
        net._arrays = arrays


def test_a_step_is_seen_in_the_module_and_a_loaded_module_acts_and_learns():
    agent, other = (make("td3", vectors(5), box([-1], [2]), hidden=(9, 7), policy_delay=1, seed=s) for s in range(2))
    batch = random_batch(vectors(5), box([-1], [2]), 16, seed=0)
    obs = batch.obs.numpy()
    before = copy.deepcopy(agent.actor.state_dict())
    agent.update(batch)
    for key, value in agent.actor.state_dict().items():
        assert not torch.equal(value, before[key])
    with torch.no_grad():
        np.testing.assert_allclose(
            agent.act(obs, explore=False, gen=None), agent.actor(batch.obs), rtol=1e-5, atol=1e-6
        )
    # loaded one module after the other, the other agent acts as this one, and its next update is the same
    for name in ("actor", "critic", "target_actor", "target_critic"):
        getattr(other, name).load_state_dict(getattr(agent, name).state_dict())
    np.testing.assert_array_equal(*(a.act(obs, explore=False, gen=None) for a in (agent, other)))
    for a in (agent, other):
        a.gen.manual_seed(0)
    for part in ("mlp", "q"):
        getattr(other, part).adam.load_state_dict(getattr(agent, part).adam.state_dict())
    agent.update(batch)
    other.update(batch)
    for part in ("mlp", "q", "target_mlp", "target_q"):
        assert torch.equal(getattr(agent, part).weights, getattr(other, part).weights)


def test_a_deep_copy_of_a_module_is_independent():
    agent = make("td3", vectors(5), box([-1], [2]), hidden=(9, 7), policy_delay=1)
    copied = copy.deepcopy(agent.actor)
    before = copy.deepcopy(copied.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in agent.actor.state_dict().items())
    agent.update(random_batch(vectors(5), box([-1], [2]), 16, seed=0))
    assert all(torch.equal(value, before[key]) for key, value in copied.state_dict().items())
    weights = agent.mlp.weights.clone()
    for p in copied.parameters():
        p.data.zero_()
    assert torch.equal(agent.mlp.weights, weights)


def test_what_an_agent_saves_holds_no_more_than_its_weights():
    """A view saves all that lies beside it."""
    agent = make("td3", vectors(5), box([-1], [2]), hidden=(9, 7))
    for part in agent.state_dict().values():
        for value in part.values() if isinstance(part, dict) else ():
            assert value.untyped_storage().nbytes() == value.nbytes


# --- several as one -------------------------------------------------------------------------------------------------


def learn(net, x, upstream, target):
    with torch.no_grad():
        out = net.forward(x)
        net.backward(upstream * out.tanh())
        input_gradient = net.input_gradient(upstream, slice(1, None))
        net.step()
        target.track(net, 0.1)
    return out, input_gradient


@pytest.mark.parametrize("sizes", [(5, 1), (3, 7, 1), (17, 64, 64, 3), (11, 33, 19, 2), (29, 256, 255, 6)], ids=str)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_networks_learn_joined_as_alone_to_the_bit(n, sizes):
    """Two networks per part, of odd sizes; batches that are no multiple of any vector's length."""
    per, batch, rows = 2, 37, n * 2
    alone, together, targets, their_targets = (
        [Perceptrons(some_nets(per, sizes, seed, torch.float32), **kind) for seed in range(n)]
        for kind in ({"learning_rate": 1e-2, "max_grad_norm": 1.0},) * 2 + ({},) * 2
    )
    for seed, net in enumerate(together):  # joined in the midst of learning
        args = (normal(1, batch, sizes[0], seed=seed, dtype=torch.float32), torch.ones(per, batch, sizes[-1]))
        for pair in ((net, their_targets[seed]), (alone[seed], targets[seed])):
            learn(pair[0], *args, pair[1])
    whole, whole_target = Perceptrons.joined(together), Perceptrons.joined(their_targets)
    assert len(whole.weights) == len(whole.layers) == rows
    for i in range(8):
        x = normal(n, batch, sizes[0], seed=i, dtype=torch.float32)
        upstream = normal(rows, batch, sizes[-1], seed=100 + i, dtype=torch.float32)
        out, to_input = learn(whole, x, upstream, whole_target)
        for k, (net, target) in enumerate(zip(alone, targets)):
            its = slice(per * k, per * (k + 1))
            its_out, its_to_input = learn(net, x[k : k + 1], upstream[its], target)
            assert torch.equal(out[its], its_out) and torch.equal(to_input[its], its_to_input)
    for part, net, part_target, target in zip(together, alone, their_targets, targets):
        assert torch.equal(part.weights, net.weights) and torch.equal(part_target.weights, target.weights)
        for name in ("steps", "mean", "square", "gradient"):
            assert torch.equal(getattr(part.adam, name), getattr(net.adam, name))


def test_parts_go_on_as_views():
    nets = [some_nets(2, (5, 9, 3), seed, torch.float32) for seed in range(3)]
    parts = [Perceptrons(its, learning_rate=1e-2) for its in nets]
    before = [part.weights.clone() for part in parts]
    whole = Perceptrons.joined(parts)
    assert torch.equal(whole.weights, torch.cat(before))
    whole.weights.mul_(2)
    whole.adam.mean.fill_(3)
    whole.adam.steps.fill_(4)
    x = normal(6, 5, dtype=torch.float32)
    for part, old, its in zip(parts, before, nets):
        assert torch.equal(part.weights, 2 * old) and (part.adam.mean == 3).all() and part.adam.steps == 4
        expected = torch.stack([plain(net, x) for net in its]).detach()
        torch.testing.assert_close(part.forward(x[None]), expected)
        np.testing.assert_allclose(part.act(x.numpy()), expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(its[0][0].weight.detach(), part.matrices[0][0, :-1].t())
    # and what is loaded into a part, or into a module of it, the whole has
    parts[1].adam.load_state_dict({name: torch.full_like(v, 7) for name, v in parts[1].adam.state_dict().items()})
    assert (whole.adam.mean[2:4] == 7).all() and (whole.adam.mean[4:] == 3).all()
    nets[2][1].load_state_dict({key: torch.zeros_like(v) for key, v in nets[2][1].state_dict().items()})
    assert not whole.forward(x[None].expand(3, -1, -1))[5].any()


def test_temperatures_join_too():
    alone, parts = ([FusedAdam(torch.tensor([0.1 * k]), 1e-2) for k in range(3)] for _ in range(2))
    whole = FusedAdam.joined(parts)
    for i in range(5):
        whole.gradient.copy_(normal(3, seed=i))
        for k, adam in enumerate(alone):
            adam.gradient.copy_(whole.gradient[k])
            adam.step()
        whole.step()
    for part, adam in zip(parts, alone):
        for name in ("weights", "mean", "square", "steps"):
            assert torch.equal(getattr(part, name), getattr(adam, name))
