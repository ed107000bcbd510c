"""KALM's imagined rollouts: the cache, the authors' lag, rewards and ends, NaN, and what is measured of them."""

import dataclasses

import numpy as np
import pytest
import torch
from small_kalm import Small, settings

from llmrl.checks import ConfigError
from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot import language
from llmrl.envs.clevr_robot.collect import Script, collect
from llmrl.envs.clevr_robot.rollouts import Rollouts
from llmrl.gymnasium_ids import clevr_robot
from llmrl.methods.kalm.model.tasks import GENERATION
from llmrl.methods.kalm.model.training import precision
from llmrl.methods.kalm.rollouts import cases
from llmrl.methods.kalm.rollouts.figures import draw, film
from llmrl.methods.kalm.rollouts.imagine import Imagination, ball_first_action, likeliest_action, sound
from llmrl.methods.kalm.rollouts.metrics import BOX_X, BOX_Y, drift, matches, measured

RED, BLUE, GREEN, PURPLE, CYAN = range(5)


def imagining(small, tier="base", **changes):
    options = {"steps": 6, "tolerance": 0.0, "batch": 5} | changes
    return Imagination(small.model.eval(), small.write, tier, **options)


def asked(worded, n=12, seed=0):
    """Goals, numbers of sentences, starts."""
    text, start = cases(len(worded.texts), n, np.random.default_rng(seed))
    return worded.goals[text], text, start


def lively(goal="encoder", tier="rephrase"):
    """A model whose weights are large enough for it to do something else in every state."""
    small = Small(settings(goal=goal), texts=language.worded(tier).texts)
    with torch.no_grad():
        for name, parameter in small.model.named_parameters():
            if parameter.ndim > 1 and "layers" in name:
                parameter *= 15
        small.model.grounding["state_out"].weight *= 0.5
    return small


@pytest.mark.parametrize("goal", ["encoder", "tokens"])
@pytest.mark.parametrize("lag", [False, True])
def test_with_a_cache_and_without_it_is_the_same(goal, lag):
    small, case = lively(goal), asked(language.worded("rephrase"))
    fast, slow = (imagining(small, lag=lag, cache=cache)(*case) for cache in (True, False))
    assert (fast.actions == slow.actions).all() and (fast.lengths == slow.lengths).all()
    np.testing.assert_allclose(fast.observations, slow.observations, atol=1e-5)
    assert len(np.unique(fast.actions)) > 3
    assert fast.sentences[fast.texts[3]] == language.worded("rephrase").texts[case[1][3]]


@pytest.mark.parametrize("state_head", ["state", "change"])
@pytest.mark.parametrize("goal", ["encoder", "tokens"])
def test_in_bf16_rollouts_are_imagined_and_the_heads_stay_exact(goal, state_head):
    small = Small(settings(goal=goal, state_head=state_head, precision="bf16"), texts=language.worded("rephrase").texts)
    hidden, before = torch.randn(4, 16), torch.zeros(4, 10)
    exact = small.model.predicted_states(hidden, before), small.model.action_logits(hidden)
    with precision(small.config, torch.device("cpu")):
        rollouts = imagining(small)(*asked(language.worded("rephrase")))
        in_bf16 = small.model.predicted_states(hidden, before), small.model.action_logits(hidden)
    assert rollouts.lengths.all() and all(torch.equal(a, b) for a, b in zip(exact, in_bf16, strict=True))


def test_an_action_comes_from_the_state_before_it_and_with_the_lag_from_the_one_before_that():
    small, (goals, text, start) = lively(), asked(language.worded("rephrase"))
    for lag in (False, True):
        rollouts = imagining(small, lag=lag)(goals, text, start)
        for i in range(len(rollouts)):  # one pass over the finished rollout has every position's logits
            group = small.write(GENERATION, rollouts, np.array([i]), text[[i]])
            logits = small.model.action_logits(small.model(group.sequences, group.actions.at)).argmax(1).tolist()
            actions = rollouts.actions[i, : rollouts.lengths[i]].tolist()
            assert actions == ([logits[0], *logits[:-1]][: len(actions)] if lag else logits)
        long = rollouts.lengths > 1
        assert long.any() and (rollouts.actions[long, 0] == rollouts.actions[long, 1]).all() == lag


def test_the_ball_may_be_chosen_first():
    """Ball 3 has the likeliest pair; ball 1 has more in all, and most of it in direction 5."""
    p = torch.full((2, 40), 1e-3)
    p[:, 8 * 3 + 2], p[:, 8:16], p[:, 8 + 5] = 0.2, 0.08, 0.1
    p[1, 8 * 3 + 7] = 0.6
    assert likeliest_action(p.log()).tolist() == [26, 31] and ball_first_action(p.log()).tolist() == [13, 31]


def test_with_walls_no_ball_leaves_the_workbench():
    small, case = lively(), asked(language.worded("rephrase"), 40)
    free, walled = (imagining(small, walls=walls, batch=40, steps=20)(*case) for walls in (False, True))
    for rollouts, leave in ((free, True), (walled, False)):
        facts = measured(rollouts, "base", rng=np.random.default_rng(0))
        assert (facts["outside_workbench"] > 0) == leave
    last = np.arange(len(free)), 1
    xy = free.observations[last].reshape(-1, 5, 2)
    inside = np.stack([xy[..., 0].clip(*BOX_X), xy[..., 1].clip(*BOX_Y)], -1).reshape(-1, 10)
    np.testing.assert_allclose(walled.observations[last], inside, atol=1e-6)


def test_rewards_and_ends_are_those_of_the_imagined_states():
    small = lively()
    rollouts = imagining(small, batch=200, steps=20)(*asked(language.worded("rephrase"), 200))
    ended = rollouts.terminals.any(1)
    assert 0 < ended.sum() < 200
    for i in range(200):
        t = rollouts.lengths[i]
        xy = rollouts.observations[i, : t + 1].reshape(-1, 5, 2).astype(float)
        reached = g.base(rollouts.goals[i], xy)[1:]
        assert not reached[:-1].any() and reached[-1] == rollouts.terminals[i, t - 1] == ended[i]
        distance = np.linalg.norm(g.offset(rollouts.goals[i], xy), axis=-1)
        wanted = np.where(reached, 100, 10 * (distance[:-1] - distance[1:]))
        np.testing.assert_allclose(rollouts.rewards[i, :t], wanted, atol=1e-4)
        assert ended[i] or t == 20
        assert not rollouts.observations[i, t + 1 :].any() and not rollouts.rewards[i, t:].any()


@pytest.mark.parametrize(("tier", "steps"), [("easy", 1), ("hard", 6)])
def test_novel_tiers(tier, steps):
    small = lively(tier=tier)
    rollouts = imagining(small, tier)(*asked(language.worded(tier), 30))
    assert rollouts.lengths.max() == steps and rollouts.goals.shape == (30, 6 if tier == "easy" else 36)
    if tier == "easy":
        assert rollouts.terminals[:, 0].all()
        assert (rollouts.rewards[:, 0] == g.easy_by_action(rollouts.goals, rollouts.actions[:, 0])).all()


def test_rollouts_with_nan_are_dropped_and_counted_and_none_left_is_an_error():
    small, case = lively(), asked(language.worded("rephrase"))
    rollouts = imagining(small)(*case)
    rollouts.observations[[1, 5], 1, 3] = np.nan, np.inf
    kept, dropped = sound(rollouts)
    assert dropped == 2 and len(kept) == 10 and np.isfinite(kept.observations).all()
    with torch.no_grad():
        small.model.grounding["state_out"].bias[2] = np.nan
    diverged = imagining(small)(*case)
    assert (diverged.lengths == 1).all()  # nothing is imagined on from NaN
    with pytest.raises(ConfigError, match="every one of the 12 .* NaN"):
        sound(diverged)


def test_every_sentence_is_asked_as_often_as_any_other():
    text, start = cases(200, 1680, np.random.default_rng(0))
    counts = np.bincount(text, minlength=200)
    assert counts.sum() == 1680 and set(counts.tolist()) == {8, 9} and start.shape == (1680, 10)
    assert len(np.unique(start, axis=0)) == 1680


# --- what is measured -----------------------------------------------------------------------------------------------

APART = np.array([[0, 0.2], [-0.45, -0.15], [0.45, -0.15], [-0.45, 0.55], [0.45, 0.55]])


def made(*ends, actions, goals, rewards, terminals):
    """Rollouts of one step from APART."""
    n = len(ends)
    observations = np.stack([np.stack([APART, end]) for end in ends]).reshape(n, 2, 10).astype(np.float32)
    return Rollouts(
        observations, np.array(actions, np.int32)[:, None], np.array(rewards, np.float32)[:, None],
        np.array(terminals)[:, None], np.ones(n, np.int32), np.array(goals), None,
    )  # fmt: skip


def moved(ball, x, y):
    xy = APART.copy()
    xy[ball] = x, y
    return xy


def test_metrics_on_rollouts_of_which_all_is_known():
    ends = [
        moved(RED, 0.250370, 0.2),  # as the simulator has it
        moved(RED, 0.47, 0.2),  # too far for a push
        moved(GREEN, 0.5, -0.15),  # in the wall; green was not pushed
        moved(RED, 0.3, 0.5),  # on the cyan ball
    ]
    goals = [g.base_goal(RED, BLUE, g.RIGHT)] * 4
    rollouts = made(*ends, actions=[0] * 4, goals=goals, rewards=[100, 0, 0, 0], terminals=[True, False, False, False])
    facts = measured(rollouts, "base", rng=np.random.default_rng(0))
    assert facts["rollouts"] == facts["transitions"] == 4 and facts["length_mean"] == 1
    assert facts["match"] == facts["outside_workbench"] == facts["beyond_dynamics"] == facts["overlap"] == 0.25
    assert facts["outside_workbench_balls"] == 0.05 and facts["acted_ball_moves_most"] == 0.75
    exact = measured(rollouts.take(np.array([0])), "base", rng=np.random.default_rng(0))
    assert exact["real_step_error_mean_m"] < 1e-5


def test_metrics_of_single_steps():
    goals = [g.easy_goal(RED, g.RIGHT)] * 3
    ends = [moved(RED, 0.25, 0.2), moved(BLUE, -0.25, -0.15), APART]  # right, the wrong ball, nothing moved
    rollouts = made(*ends, actions=[0, 4, 8], goals=goals, rewards=[1, 1, 0], terminals=[True] * 3)
    facts = measured(rollouts, "easy", rng=np.random.default_rng(0))
    assert facts["match"] == facts["action_match"] == pytest.approx(2 / 3)
    assert facts["state_match"] == pytest.approx(2 / 3)  # this judge does not ask which ball
    assert facts["state_match_of_action_in_real_step"] == 1


def test_drift_is_what_is_outside_after_some_steps_beside_what_the_simulator_says():
    ends = [moved(RED, 0.25, 0.2), moved(GREEN, 0.5, -0.15), moved(RED, 0.3, 0.5), APART]
    goals = [g.base_goal(RED, BLUE, g.RIGHT)] * 4
    rollouts = made(*ends, actions=[0] * 4, goals=goals, rewards=[0] * 4, terminals=[False] * 4)
    assert drift(rollouts) == {"outside_after_1": 0.25, "outside_after_1_simulated": 0.0}
    longer = np.repeat(rollouts.observations[:, :1], 6, axis=1)  # nothing moves, as imagined, and red is pushed on
    still = dataclasses.replace(rollouts, observations=longer, actions=np.zeros((4, 5), np.int32),
                                lengths=np.array([5, 5, 3, 1], np.int32))  # fmt: skip
    found = drift(still)
    assert found["outside_after_5"] == 0
    assert set(found) == {f"outside_after_{n}{who}" for n in (1, 5) for who in ("", "_simulated")}
    env = clevr_robot().config
    real = collect(env, Script(random=0.1, dst=0.75), 160, np.random.default_rng(0))
    assert set(drift(real).values()) == {0.0}  # the walls hold


def test_real_rollouts_lie_within_the_limits():
    env = clevr_robot().config
    rollouts = collect(env, Script(random=0.1, dst=0.75), 160, np.random.default_rng(0))
    facts = measured(rollouts, "base", rng=np.random.default_rng(0), steps=100)
    assert facts["match"] == 1 and facts["outside_workbench"] == facts["beyond_dynamics"] == 0
    assert 0.05 < facts["overlap"] < 0.25 and facts["acted_ball_moves_most"] > 0.75
    assert facts["real_step_error_mean_m"] < 0.03  # the velocities are not in what is seen


def test_a_picture_and_a_video(tmp_path):
    import cv2

    rollouts = imagining(lively(), steps=12)(*asked(language.worded("rephrase"), 3))
    draw(rollouts, [0, 1, 2], matches(rollouts, "base"), tmp_path / "plots" / "imagined.png")
    picture = cv2.imread(str(tmp_path / "plots" / "imagined.png"))
    assert picture.shape[1] > 1000 and picture.std() > 10
    if not film(rollouts, 0, tmp_path / "video" / "imagined.mp4"):
        pytest.skip("no video can be made here")
    video = cv2.VideoCapture(str(tmp_path / "video" / "imagined.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == rollouts.lengths[0] + 1
    assert int(video.get(cv2.CAP_PROP_FRAME_WIDTH)) == 600
