"""BC, CQL and BCQ against d3rlpy's numbers on the same weights and batches (scripts/d3rlpy_golden.py), the Decision
Transformer by what a causal model has to keep to, and what all of them share."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from offline_training import ACTIONS, CONTEXT, SMALL, STATE, WIDTH, agent_of, some_transitions
from small_agents import make, vectors

from llmrl.checks import ConfigError
from llmrl.contracts.replay import Batch

GOLDEN = Path(__file__).parents[1].joinpath("golden")
CASES = {
    ("bc", "relu"): {"beta": 0.5},
    ("bc", "tanh"): {"beta": 0.1, "activation": "tanh"},
    ("cql", "gamma"): {"alpha": 10, "gamma": 0.9},
    ("cql", "one"): {"alpha": 2, "gamma": 0.9, "discount": "one"},
    ("bcq", "gamma"): {"gamma": 0.9},
}


def parameters_of(agent):
    """Of the layers from the observation on, and of BCQ's two heads one after the other, as d3rlpy keeps them."""
    layers = (getattr(agent, "policy", None) or getattr(agent, "q", None) or agent.net).layers
    *hidden, head = [p for layer in layers for p in (layer.weight, layer.bias)][:-1], layers[-1]
    if not hasattr(agent, "net"):
        return [*hidden[0][:-1], head.weight, head.bias]
    n = int(agent.action_space.n)
    heads = [part for rows in (slice(0, n), slice(n, None)) for part in (head.weight.data[rows], head.bias.data[rows])]
    return [*hidden[0][:-1], *heads]


@pytest.mark.parametrize("name, variant", CASES, ids=map("-".join, CASES))
def test_updates_are_d3rlpys(name, variant):
    with np.load(GOLDEN / f"d3rlpy_{name}.npz") as file:
        golden = {key.removeprefix(f"{variant}/"): file[key] for key in file.files}
    updates, batch_size, width = golden["obs"].shape
    hidden = (len(golden["initial/1"]), len(golden["initial/3"]))
    n = len(golden["initial/5"])
    every = {} if name == "bc" else {"target_update_every": int(golden["every"])}
    settings = {"hidden": hidden, "learning_rate": float(golden["learning_rate"]), **every, **CASES[name, variant]}
    agent = make(name, vectors(width), spaces.Discrete(n), **settings)
    ours = parameters_of(agent)
    for i, parameter in enumerate(ours):
        parameter.data.copy_(torch.from_numpy(golden[f"initial/{i}"]))
    if name != "bc":
        agent.target.load_state_dict((agent.net if name == "bcq" else agent.q).state_dict())
    for i in range(updates):
        obs, next_obs, reward, over = (
            torch.from_numpy(golden[key][i]) for key in ("obs", "next_obs", "reward", "terminated")
        )
        action = torch.from_numpy(golden["action"][i]).long()
        out = agent.update(Batch(obs, action, reward, next_obs, over, getattr(agent, "discount", None)))
        assert out["loss"].item() == pytest.approx(golden["losses"][i], rel=1e-5)
    for i, parameter in enumerate(ours):
        np.testing.assert_allclose(parameter.detach(), golden[f"final/{i}"], rtol=1e-5, atol=1e-5)
        assert np.abs(golden[f"final/{i}"] - golden[f"initial/{i}"]).max() > 1e-2, "nothing was learnt"


def test_bcq_takes_no_action_that_the_data_do_not_support():
    agent = agent_of("bcq", threshold=0.3)
    obs = torch.randn(200, STATE + WIDTH, generator=torch.Generator().manual_seed(0))
    q, logits = agent.net(obs).detach().mul(20).chunk(2, dim=1)
    agent.net.layers[-1].weight.data.mul_(20)
    agent.net.layers[-1].bias.data.mul_(20)
    g = logits.softmax(1)
    allowed = g / g.amax(1, keepdim=True) > 0.3
    assert 1 < allowed.sum(1).float().mean() < ACTIONS
    best = torch.where(allowed, q, torch.tensor(-torch.inf)).argmax(1)
    assert (best != q.argmax(1)).any()
    np.testing.assert_array_equal(agent.act(obs.numpy(), explore=False, gen=torch.Generator()), best)
    agent = agent_of("bcq", threshold=0.3, evaluate="sample")
    drawn = agent.act(obs.numpy(), explore=False, gen=torch.Generator().manual_seed(0))
    assert agent.scores(obs).gather(1, torch.from_numpy(drawn)[:, None]).isfinite().all()


@pytest.mark.parametrize("name", ["bc", "cql", "bcq"])
def test_greedy_is_the_best_score_and_sampling_is_its_softmax(name):
    greedy, sampling = agent_of(name), agent_of(name, evaluate="sample")
    obs = np.random.default_rng(0).standard_normal((1, STATE + WIDTH)).astype(np.float32)
    many, gen = obs.repeat(20_000, 0), torch.Generator().manual_seed(0)
    with torch.no_grad():
        scores = greedy.scores(torch.from_numpy(obs))[0]
    np.testing.assert_array_equal(greedy.act(many, explore=False, gen=gen), scores.argmax())
    shares = np.bincount(sampling.act(many, explore=False, gen=gen), minlength=ACTIONS) / len(many)
    np.testing.assert_allclose(shares, scores.softmax(0), atol=0.015)
    np.testing.assert_array_equal(sampling.act(obs, explore=False, gen=gen).shape, (1,))


@pytest.mark.parametrize("name", SMALL)
def test_a_restored_agent_goes_on_exactly(name, tmp_path):
    agent, other = agent_of(name), agent_of(name, seed=9)
    batches = [agent.source(some_transitions(i)).draw(np.random.default_rng(i)) for i in range(8)]
    for batch in batches[:4]:
        agent.update(batch)
    torch.save(agent.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for batch in batches[4:]:
        mine, its = agent.update(batch), other.update(batch)
        assert mine.keys() == its.keys() and all(torch.equal(mine[key], its[key]) for key in mine)
    for name, net in vars(agent).items():
        if isinstance(net, torch.nn.Module):
            assert all(torch.equal(*pair) for pair in zip(net.parameters(), getattr(other, name).parameters()))
    assert agent.updates == other.updates == 8


@pytest.mark.parametrize("name", SMALL)
def test_what_cannot_be_is_refused_with_what_to_do(name):
    agent = agent_of(name)
    with pytest.raises(ConfigError, match="learns from a dataset, not by acting: use method=offline or kalm"):
        agent.explorer()
    with pytest.raises(ConfigError, match="observations have 3 numbers, those of the task 8"):
        agent.source(some_transitions(texts=False))
    few = some_transitions()
    few.action[3] = ACTIONS
    with pytest.raises(ConfigError, match=f"has the action {ACTIONS}, the task has 0 to {ACTIONS - 1}"):
        agent.source(few)
    with pytest.raises(ConfigError, match="needs actions 0, 1, …, n-1"):
        make(name, agent.observation_space, vectors(2), **SMALL[name])


# --- the Decision Transformer ---------------------------------------------------------------------------------------


def some_sequences(n, seed=0):
    gen = torch.Generator().manual_seed(seed)
    state = torch.randn(n, CONTEXT, STATE + WIDTH, generator=gen)
    return state, torch.randint(ACTIONS, (n, CONTEXT), generator=gen), torch.randn(n, CONTEXT, generator=gen)


def test_an_action_is_conditioned_on_what_was_before_it_and_on_all_of_that():
    agent = agent_of("decision_transformer", width=16, layers=2)
    sequences = some_sequences(2)
    with torch.no_grad():
        logits = agent.net(*sequences)
        for t in range(CONTEXT):
            for kind, changed in enumerate(sequences):  # state, action and return-to-go at time t
                other = [x.clone() for x in sequences]
                other[kind][:, t] = (changed[:, t] + 1) % ACTIONS if kind == 1 else changed[:, t] + 1
                differs = (agent.net(*other) - logits).abs().amax(dim=(0, 2)) > 1e-6
                first = t + (kind == 1)  # an action is seen by what comes after it alone
                assert differs.tolist() == [at >= first for at in range(CONTEXT)]


def test_its_loss_is_the_mean_over_what_is_no_padding():
    agent = agent_of("decision_transformer")
    batch = agent.source(some_transitions()).draw(np.random.default_rng(0))
    obs, length = batch.obs, batch.obs["length"]
    assert (length < CONTEXT).any() and (length > 1).any()
    with torch.no_grad():
        logits = agent.net(obs["state"], obs["action"], batch.reward[:, None] - obs["earned"]).log_softmax(-1)
    terms = [-logits[i, t, obs["action"][i, t]] for i in range(len(length)) for t in range(length[i])]
    assert agent.update(batch)["loss"].item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)


def test_it_asks_for_a_high_return_of_the_data_and_subtracts_what_is_earned():
    agent = agent_of("decision_transformer", target_quantile=0.5)
    data = some_transitions()
    agent.source(data)
    assert agent.net.target_return.item() == pytest.approx(np.median(data.returns))
    state, action, earned = some_sequences(3)
    obs = {"state": state, "action": action, "earned": earned, "length": torch.tensor([1, 3, CONTEXT])}
    with torch.no_grad():
        logits = agent.net(state, action, agent.net.target_return - earned)
        scores = agent.scores(obs)
    assert torch.equal(scores, torch.stack([logits[0, 0], logits[1, 2], logits[2, -1]]))
    acted = agent.act({key: x.numpy() for key, x in obs.items()}, explore=False, gen=torch.Generator())
    np.testing.assert_array_equal(acted, scores.argmax(1))


def test_it_learns_to_do_what_a_return_was_earned_by():
    """Episodes of one step, in which action 1 earned 1 and action 0 nothing: what it does is told by what is asked."""
    rng = np.random.default_rng(0)
    n = 400
    action = rng.integers(2, size=n)
    state = rng.standard_normal((n, STATE)).astype(np.float32)
    data = some_transitions(texts=False).__class__(
        state, action, action.astype(np.float32), state, np.ones(n, bool), np.zeros(n, np.int32)
    )
    agent = agent_of("decision_transformer", size=STATE, learning_rate=1e-2, batch_size=64)
    source, rng = agent.source(data), np.random.default_rng(1)
    for _ in range(150):
        agent.update(source.draw(rng))
    obs = {"state": np.zeros((50, CONTEXT, STATE), np.float32), "action": np.zeros((50, CONTEXT), np.int64)}
    obs["state"][:, 0] = state[:50]
    obs |= {"earned": np.zeros((50, CONTEXT), np.float32), "length": np.ones(50, np.int64)}
    for asked in (0, 1):
        agent.net.target_return.fill_(asked)
        assert (agent.act(obs, explore=False, gen=torch.Generator()) == asked).all()
