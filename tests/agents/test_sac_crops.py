"""SAC on crops against stable-baselines3's SAC with the encoder written down plainly, and what else it keeps to."""

import numpy as np
import pytest
import torch
from plain_crops import (
    RESIDUAL,
    PlainEncoder,
    check_alone_and_among_others,
    check_restored,
    crop_batch,
    crop_space,
    image_space,
)
from small_agents import box, make, vectors
from stable_baselines3 import SAC
from test_agents_sb3 import assert_same, copy_weights, own_global_generator, sb3_model, sb3_update  # noqa: F401
from test_sac import actor_pairs

from llmrl.agents.nets_crops import Attention, AuthorsAttention, CropEncoder, see
from llmrl.checks import ConfigError
from llmrl.replay.crops import CropReplay

SMALL = {"hidden": (32, 24), "learning_rate": 1e-3, "tau": 0.1}
# A bias before BatchNorm has no gradient but rounding errors, which an Adam with 1e-8 would blow up to steps
EPS = 1e-5
UNITS = box([-1] * 9, [1] * 9)  # in which stable-baselines3's networks see every action


def encoder_pairs(theirs, ours):
    """Their encoder's weights and running statistics into ours; pairs of (theirs, ours), both as they change."""
    pairs = copy_weights(theirs, ours)
    for norm, block in ((theirs.cnn[1], ours.first), (theirs.cnn[5], ours.second)):
        pairs += [(norm.running_mean, block.norm.running_mean), (norm.running_var, block.norm.running_var)]
    return pairs


def critic_pairs(theirs, ours):
    heads = copy_weights(torch.nn.ModuleList([theirs.qf0, theirs.qf1]), ours.head)
    return heads + encoder_pairs(theirs.features_extractor, ours.encoder)


@pytest.mark.parametrize("attention, goal", [("true", True), ("none", False)])
def test_sac_on_crops_is_stable_baselines3s(attention, goal):
    space = crop_space(goal)
    policy = {
        "net_arch": [32, 24],
        "features_extractor_class": PlainEncoder,
        "features_extractor_kwargs": {"attention": attention == "true"},
        "optimizer_kwargs": {"eps": EPS},
    }
    rates = {"learning_rate": 1e-3, "tau": 0.1}
    theirs = sb3_model(SAC, "MultiInputPolicy", space, UNITS, policy_kwargs=policy, **rates)
    ours = make("sac_crops", space, UNITS, attention=attention, **SMALL)
    for optimizer in (ours.actor_optimizer, ours.critic_optimizer):
        optimizer.adam.param_groups[0]["eps"] = EPS
    pairs = actor_pairs(theirs.actor, ours.actor.head)
    pairs += encoder_pairs(theirs.actor.features_extractor, ours.actor.encoder)
    pairs += critic_pairs(theirs.critic, ours.critic) + critic_pairs(theirs.critic_target, ours.target_critic)
    assert sum(their.numel() for their, _ in pairs) > 3 * 18_000
    for i in range(5):
        batch = crop_batch(space, UNITS, 24, seed=i)
        torch.manual_seed(100 + i)
        logged = sb3_update(theirs, batch)
        ours.gen.manual_seed(100 + i)
        out = ours.update(batch)
        assert out["critic_loss"].item() == pytest.approx(logged["train/critic_loss"], rel=1e-4)
        assert out["actor_loss"].item() == pytest.approx(logged["train/actor_loss"], rel=1e-4)
        assert out["temperature"].item() == pytest.approx(logged["train/ent_coef"], rel=1e-5)
        for their, our in pairs:
            torch.testing.assert_close(our.data, their.data, rtol=1e-5, atol=1e-5)
        obs = {key: part.numpy() for key, part in batch.next_obs.items()}
        action = ours.act(obs, explore=False, gen=torch.Generator())  # between updates, as in training
        np.testing.assert_allclose(action, theirs.predict(obs, deterministic=True)[0], atol=1e-5)
    statistics = ours.critic.encoder.first.norm.running_mean
    assert not torch.allclose(statistics, ours.actor.encoder.first.norm.running_mean, atol=1e-3)


def test_the_authors_attention_lets_no_object_see_another_and_the_true_one_does():
    tokens = torch.randn(4, 6, 18, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 5] += 1
    for layer, others_notice in ((Attention(18), True), (AuthorsAttention(18), False)):
        before, after = layer(tokens), layer(changed)
        assert not torch.allclose(before[:, 5], after[:, 5])
        assert torch.allclose(before[:, :5], after[:, :5], atol=1e-6) != others_notice


def test_the_encoder_has_the_authors_size():
    sizes = {a: sum(p.numel() for p in CropEncoder(6, 6, a).parameters()) for a in ("true", "none", "authors")}
    assert sizes == {"true": 18_536, "none": 17_222, "authors": 17_888}  # "about 18.5 k", with query and key
    assert CropEncoder(6, 4, "true").all.in_features == 96  # the long horizon, without a goal


def test_what_is_seen_is_scaled_as_specified():
    obs = crop_batch(crop_space(), RESIDUAL, 3, seed=0).obs
    seen = see(obs)
    assert seen.pixels.shape == (18, 4, 28, 28) and seen.pixels.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(seen.pixels[7, :3], obs["rgb"][1, 1].permute(2, 0, 1) / 255)
    assert torch.equal(seen.pixels[7, 3], obs["height"][1, 1].float())
    assert seen.vectors[1, 4].tolist() == [*obs["position"][1, 4], *obs["in_hand"][1], *obs["goal"][1], 4]


@pytest.mark.parametrize("actions", [RESIDUAL, box([0] * 3, [1] * 3)], ids=["residual", "pixel"])
@pytest.mark.parametrize("space", [crop_space(goal=False), image_space(32)], ids=["crops", "image"])
def test_a_restored_agent_goes_on_exactly_and_acting_changes_nothing(space, actions, tmp_path):
    agent, other = (make("sac_crops", space, actions, seed=seed, **SMALL) for seed in (0, 9))
    check_restored(agent, other, ("actor", "critic"), tmp_path / "state.pt")


def test_one_observation_gets_the_same_action_alone_and_among_others():
    check_alone_and_among_others(make("sac_crops", crop_space(), RESIDUAL), atol=1e-6)


def test_settings_are_the_papers_and_the_command_line_may_say_true():
    agent = make("sac_crops", crop_space(), RESIDUAL)
    c = agent.config
    assert (c.gamma, c.learning_rate, c.batch_size, agent.target_entropy) == (0.9, 1.5e-4, 256, -9)
    assert c.attention == "authors"
    assert make("sac_crops", crop_space(), RESIDUAL, attention=True).config.attention == "true"
    buffer = agent.replay_buffer()
    assert isinstance(buffer, CropReplay) and buffer.places == 160_000


def test_unfit_observations_are_refused_with_what_to_do():
    with pytest.raises(ConfigError, match="SACCrops needs observations with rgb.*agent=sac"):
        make("sac_crops", vectors(3), RESIDUAL)
