"""CURL's contrastive loss and augmentation, and RND's bonus, against slow versions written from the formulas."""

import copy

import numpy as np
import pytest
import torch
from conftest import compose
from gymnasium import spaces
from small_agents import FRAMES, make, random_batch, vectors
from test_resume_in_process import equal

from llmrl.agents.curl import random_places, shifted
from llmrl.agents.rnd_dqn import RunningMoments
from llmrl.checks import ConfigError

ARMS = spaces.Discrete(3)


def frozen(gen):
    """A generator in the same state."""
    other = torch.Generator()
    other.set_state(gen.get_state())
    return other


# --- CURL -----------------------------------------------------------------------------------------------------------


def plain_shift(frames, pixels, gen):
    """Crop, pad with the edge and crop again, image by image."""
    height, width = frames.shape[2:]
    crop, pad = torch.randint(pixels + 1, (2, 2, len(frames), 1), generator=gen)[..., 0].tolist()
    out = []
    for i, stack in enumerate(frames.numpy()):
        y, x = crop[0][i], crop[1][i]
        small = stack[:, y : y + height - pixels, x : x + width - pixels]
        large = np.pad(small, ((0, 0), (pixels, pixels), (pixels, pixels)), mode="edge")
        y, x = pad[0][i], pad[1][i]
        out.append(large[:, y : y + height, x : x + width])
    return torch.from_numpy(np.stack(out))


def test_a_random_shift_is_crop_pad_crop():
    gen = torch.Generator().manual_seed(0)
    frames = torch.from_numpy(np.random.default_rng(0).integers(256, size=(200, 2, 9, 11), dtype=np.uint8))
    expected = plain_shift(frames, 4, frozen(gen))
    found = shifted(frames, 4, random_places(200, 4, gen))
    assert found.shape == frames.shape and torch.equal(found, expected)
    assert len({picture.numpy().tobytes() for picture in found}) == 200


def plain_info_nce(anchors, keys, w, scale):
    """-log exp(l_ii) / sum_j exp(l_ij), l_ij = scale * a_i^T W k_j."""
    losses = []
    for i in range(len(anchors)):
        logits = [scale * sum(anchors[i][a] * sum(w[a][b] * key[b] for b in range(len(key)))
                              for a in range(len(anchors[i]))) for key in keys]  # fmt: skip
        losses.append(torch.log(sum(torch.exp(x) for x in logits)) - logits[i])
    return torch.stack(losses)


def plain_projection(head, x):
    """Linear, layer norm, ReLU, linear, layer norm, of one encoding."""

    def norm(layer, h):
        return (h - h.mean()) / torch.sqrt(((h - h.mean()) ** 2).mean() + 1e-5) * layer.weight + layer.bias

    h = torch.relu(norm(head.hidden_norm, head.hidden.weight @ x + head.hidden.bias))
    return norm(head.out_norm, head.out.weight @ h + head.out.bias)


SMALL = {"hidden_after_convolutions": (8,), "atoms": 5, "contrastive_hidden": 6, "contrastive_size": 4}


@pytest.mark.parametrize("weight", [0.01, 1.0])
def test_curls_updates_are_rainbows_and_info_nce(weight):
    """On a deep copy: Rainbow's own losses (tested elsewhere), InfoNCE by loops, torch's Adam, a momentum by hand."""
    settings = SMALL | {"learning_rate": 1e-3, "target_update_every": 100, "max_grad_norm": None, "encoder_tau": 0.1}
    agent = make("curl", FRAMES, ARMS, contrastive_weight=weight, **settings)
    plain, gen = copy.deepcopy(agent), frozen(agent.gen)
    learnt = [*plain.q.parameters(), *plain.head.parameters()]
    slow = [p.detach().clone() for p in (*plain.q.convolutions.parameters(), *plain.head.parameters())]
    slow_encoder, slow_head = copy.deepcopy(plain.q.convolutions), copy.deepcopy(plain.head)
    adam = torch.optim.Adam(learnt, lr=1e-3, eps=1.5e-4)
    for i in range(4):
        batch = random_batch(FRAMES, ARMS, 5, seed=i)
        batch = batch._replace(weight=torch.rand(5, generator=torch.Generator().manual_seed(i)),
                               discount=torch.full((5,), 0.9))  # fmt: skip
        plain.gen.set_state(gen.get_state())
        rainbow = super(type(plain), plain)
        loss, _ = rainbow.losses(batch, rainbow.noise(5))
        gen.set_state(plain.gen.get_state())
        anchors = plain.q.convolutions(plain_shift(batch.obs, 4, gen))
        with torch.no_grad():
            keys = slow_encoder(plain_shift(batch.obs, 4, gen))
            keys = [plain_projection(slow_head, x) for x in keys]
        info_nce = plain_info_nce([plain_projection(plain.head, x) for x in anchors], keys, plain.head.w, 0.1)
        loss = loss + weight * info_nce
        adam.zero_grad()
        (batch.weight * loss).mean().backward()
        adam.step()
        fast = [*plain.q.convolutions.parameters(), *plain.head.parameters()]
        for s, f in zip(slow, fast):
            s.copy_(0.9 * s + 0.1 * f.detach())
        for target, s in zip((*slow_encoder.parameters(), *slow_head.parameters()), slow):
            target.data.copy_(s)

        out = agent.update(batch)
        assert out["priority"].tolist() == pytest.approx(loss.tolist(), rel=1e-4)
        assert out["contrastive"].item() == pytest.approx(info_nce.mean().item(), rel=1e-4)
        ours = [*agent.q.parameters(), *agent.head.parameters(), *agent.momentum.net.parameters()]
        for mine, theirs in zip(ours, [*learnt, *slow], strict=True):
            torch.testing.assert_close(mine.data, theirs.data, rtol=1e-4, atol=1e-5)
    assert torch.equal(agent.gen.get_state(), gen.get_state())


def test_curl_learns_from_frames_alone():
    with pytest.raises(ConfigError, match="CURL learns from frames"):
        make("curl", vectors(3), ARMS)


# --- RND ------------------------------------------------------------------------------------------------------------


def test_running_moments_are_those_of_all_numbers_together():
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((n, 3)) * 5 + 100).astype("f") for n in (1, 7, 32)]
    moments = RunningMoments((3,))
    for i, batch in enumerate(batches):
        moments.add(torch.from_numpy(batch))
        whole = np.concatenate(batches[: i + 1]).astype(np.float64)
        assert moments.mean.tolist() == pytest.approx(whole.mean(0).tolist())
        assert moments.std.tolist() == pytest.approx(np.maximum(whole.std(0), 1e-4).tolist())


def plain_mlp(module, x):
    layers = module.mlp.layers
    for layer in layers[:-1]:
        x = torch.relu(layer.weight @ x + layer.bias)
    return layers[-1].weight @ x + layers[-1].bias


def test_the_bonus_is_its_formula_and_part_of_the_target():
    settings = {"rnd_size": 3, "rnd_target_hidden": (5,), "rnd_predictor_hidden": (6, 4), "bonus_weight": 0.7}
    agent = make("rnd_dqn", vectors(4), ARMS, hidden=(8,), rnd_learning_rate=1e-2, **settings)
    plain, dqn = copy.deepcopy(agent), make("dqn", vectors(4), ARMS, hidden=(8,))
    predictor, adam = plain.predictor, torch.optim.Adam(plain.predictor.parameters(), lr=1e-2)
    seen, errors = np.empty((0, 4)), []
    for i in range(5):
        batch = random_batch(vectors(4), ARMS, 16, seed=i)
        seen = np.concatenate([seen, batch.next_obs.numpy()])
        x = torch.from_numpy(np.clip((batch.next_obs.numpy() - seen.mean(0)) / seen.std(0), -5, 5)).float()
        error = torch.stack([((plain_mlp(predictor, s) - plain_mlp(plain.random, s)) ** 2).sum() / 3 for s in x])
        errors += error.tolist()
        bonus = error.detach() / np.std(errors)
        adam.zero_grad()
        error.mean().backward()
        adam.step()
        dqn.update(batch._replace(reward=batch.reward + 0.7 * bonus))
        out = agent.update(batch)
        assert out["bonus"].item() == pytest.approx(bonus.mean().item(), rel=1e-4)
        for mine, theirs in zip(agent.predictor.parameters(), predictor.parameters(), strict=True):
            torch.testing.assert_close(mine.data, theirs.data, rtol=1e-4, atol=1e-5)
        for mine, theirs in zip(agent.q.parameters(), dqn.q.parameters(), strict=True):
            torch.testing.assert_close(mine.data, theirs.data, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(agent.random.parameters(), plain.random.parameters(), strict=True):
        assert torch.equal(mine, theirs)  # the random network stays what it was


@pytest.mark.parametrize("space", [vectors(4), FRAMES])
@pytest.mark.parametrize(("away", "bonus"), [(0.1, 0.03), (0.5, 0.75), (20.0, 1.0)])  # min(3 away^2, 1)
def test_a_clipped_bonus_is_the_summed_error_and_at_most_1(space, away, bonus):
    q = {"hidden": (8,), "hidden_after_convolutions": (8,)}
    rnd = {"bonus_scale": "clipped", "bonus_weight": 0.1, "rnd_size": 3}
    agent = make("rnd_dqn", space, ARMS, **q, **rnd, rnd_target_hidden=(5,), rnd_predictor_hidden=(5,))
    agent.predictor.load_state_dict(agent.random.state_dict())
    with torch.no_grad():
        agent.predictor.mlp.layers[-1].bias.add_(away)  # so wrong it is about every state
    batch = random_batch(space, ARMS, 16, seed=1)
    expected = make("dqn", space, ARMS, **q).update(batch._replace(reward=batch.reward + 0.1 * bonus))
    out = agent.update(batch)
    assert out["bonus"].item() == pytest.approx(bonus, rel=1e-4)
    assert out["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-5)


def test_the_paper_presets_bonus_is_the_authors():
    agent = compose(["experiment=llm_explorer/atari_rnd_dqn"])["agent"]
    assert (agent["bonus"], agent["bonus_weight"], agent["bonus_scale"]) == ("target", 0.1, "clipped")


@pytest.mark.parametrize("space", [vectors(4), FRAMES])
def test_the_authors_bonus_changes_nothing_that_is_learnt(space):
    settings = {"hidden": (8,), "hidden_after_convolutions": (8,)}
    agents = {bonus: make("rnd_dqn", space, ARMS, bonus=bonus, **settings) for bonus in ("authors_unused", "target")}
    dqn = make("dqn", space, ARMS, **settings)
    for i in range(3):
        batch = random_batch(space, ARMS, 8, seed=i)
        dqn.update(batch)
        for agent in agents.values():
            assert agent.update(batch)["bonus"] > 0
    theirs, unused, used = (torch.cat([p.flatten() for p in a.q.parameters()]) for a in (dqn, *agents.values()))
    assert torch.equal(unused, theirs) and not torch.equal(used, theirs)


def test_the_bonus_falls_for_what_is_seen_again_and_again():
    """Two corners of a room: one is seen at every update, the other only now and then."""
    agent = make("rnd_dqn", vectors(2), ARMS, rnd_learning_rate=1e-3, rnd_size=8, rnd_predictor_hidden=(32,))
    gen = torch.Generator().manual_seed(0)

    def batch_at(corner, i):
        near = torch.randn((32, 2), generator=gen) * 0.1
        return random_batch(vectors(2), ARMS, 32, seed=i)._replace(next_obs=near + corner)

    for i in range(300):
        often = agent.update(batch_at(1.0, i))["rnd_error"]
        if i % 50 == 0:
            rare = agent.update(batch_at(-1.0, i))["rnd_error"]
    assert rare > 5 * often


@pytest.mark.parametrize(
    "name, space, changes",
    [
        ("rnd_dqn", FRAMES, {}),
        ("rnd_dqn", vectors(3), {}),
        ("curl", FRAMES, SMALL),
        ("rainbow", FRAMES, {"atoms": 5}),
        ("rainbow", spaces.Dict({"b": vectors(2), "a": vectors(3)}), {"atoms": 5, "acting_noise": "every_update"}),
    ],
)
def test_a_restored_agent_goes_on_exactly_and_acting_changes_nothing(name, space, changes, tmp_path):
    agent = make(name, space, ARMS, target_update_every=2, **changes)
    batches = [random_batch(space, ARMS, 8, seed=i)._replace(discount=torch.full((8,), 0.9)) for i in range(6)]
    before = torch.get_rng_state()
    for batch in batches[:3]:
        agent.update(batch)
    torch.save(agent.state_dict(), tmp_path / "state.pt")
    obs = batches[0].obs
    obs = {k: v.numpy() for k, v in obs.items()} if isinstance(obs, dict) else obs.numpy()
    agent.act(obs, explore=True, gen=torch.Generator())
    last = [agent.update(batch)["loss"] for batch in batches[3:]]
    other = make(name, space, ARMS, target_update_every=2, seed=9, **changes)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=False))
    assert [other.update(batch)["loss"] for batch in batches[3:]] == last
    equal(agent.state_dict(), other.state_dict())
    assert torch.equal(torch.get_rng_state(), before)
