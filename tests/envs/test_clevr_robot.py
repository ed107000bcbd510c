"""CLEVR-Robot: recorded pushes, predicates at their borders, rewards, starts, replays, batches, and the collector."""

import copy
from functools import cache

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from conftest import compose
from gymnasium.utils.env_checker import check_env

from llmrl.build import evaluation_set
from llmrl.checks import ConfigError
from llmrl.config import from_node
from llmrl.envs import clevr_robot
from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot import model as clevr_model
from llmrl.envs.clevr_robot import rewards
from llmrl.envs.clevr_robot.batch import Scenes
from llmrl.envs.clevr_robot.collect import Script, collect, play
from llmrl.envs.clevr_robot.model import DIRECTIONS, Table, at_rest, compiled, velocity_of, xy_of
from llmrl.envs.clevr_robot.start import sample_xy

RED, BLUE, GREEN, PURPLE, CYAN = range(5)
TASKS = ["base", "easy", "hard", "google"]
APART = np.array([[0, 0.2], [-0.45, -0.15], [0.45, -0.15], [-0.45, 0.55], [0.45, 0.55]])


@cache
def whole(name="base", *overrides):
    return from_node(compose([f"env=clevr_robot/{name}", "agent=dqn", *(f"env.{o}" for o in overrides)]))


def made(name="base", *overrides):
    return clevr_robot.make(whole(name, *overrides).env, "eval")


def scene(**moved):
    """APART with some balls elsewhere, by colour."""
    xy = APART.copy()
    for i, colour in enumerate(("red", "blue", "green", "purple", "cyan")):
        xy[i] = moved.get(colour, xy[i])
    return xy


# --- the physics: computed steps, the last one recorded by the authors ----------------------------------------


@pytest.mark.parametrize(
    ("start", "pushes", "ends"),
    [
        (APART, [0], {RED: (0.250370, 0.2)}),
        (APART, [0, 1], {RED: (0.268045, 0.385746), CYAN: (0.455468, 0.568250)}),
        (APART, [4], {RED: (0.195567, 0.395567)}),
        (scene(red=(-0.3, 0.2), blue=(0, 0.2)), [0], {RED: (-0.143107, None), BLUE: (0.118593, None)}),
        ([[0.486919, -0.164366], [-0.401862, -0.116390], [0.261699, 0.496026], [-0.065352, -0.245913],
          [-0.150688, 0.285038]], [28], {PURPLE: (0.111117, 0.077011), RED: (0.453800, None)}),
    ],
)  # fmt: skip
def test_pushes_end_where_they_should(start, pushes, ends):
    env = made()
    env.reset(seed=0, options={"positions": start, "goal": g.base_goal(PURPLE, CYAN, g.BEHIND)})
    for action in pushes:
        obs, reward, *_, info = env.step(action)
    xy = xy_of(info["state"])
    np.testing.assert_array_equal(obs, xy.ravel().astype(np.float32))
    for ball, place in ends.items():
        for axis, value in enumerate(place):
            assert value is None or abs(xy[ball, axis] - value) < 1e-6
    if pushes == [28]:
        assert reward == pytest.approx(2.503531, abs=1e-5)  # ten times the micrometres above


def test_without_the_midphase_states_are_the_same_to_the_bit(monkeypatch):
    rng = np.random.default_rng(0)
    xy = np.stack([sample_xy(rng) for _ in range(20)])
    pushes = rng.integers(40, size=(30, 20))  # 600, of balls that collide with each other and the walls

    def played():
        states, path = at_rest(xy), []
        table = Table()
        for actions in pushes:
            states = table.push(states, actions)
            path.append(states)
        return np.array(path)

    without = played()
    model = copy.copy(compiled())
    midphase = int(mujoco.mjtDisableBit.mjDSBL_MIDPHASE)
    assert model.opt.disableflags & midphase
    model.opt.disableflags &= ~midphase
    monkeypatch.setattr(clevr_model, "compiled", lambda: model)
    assert np.array_equal(played(), without)
    assert np.abs(np.diff(xy_of(without), axis=0)).max() > 0.1  # balls did move


def test_balls_keep_their_velocity_and_the_pusher_does_not():
    env = made("base", "obs_velocity=true")
    env.reset(seed=0, options={"positions": APART, "goal": g.base_goal(PURPLE, CYAN, g.BEHIND)})
    obs, *_, info = env.step(0)
    assert velocity_of(info["state"])[RED, 0] == pytest.approx(0.794, abs=2e-3)  # m/s
    np.testing.assert_array_equal(obs[10:], velocity_of(info["state"]).ravel().astype(np.float32))
    before = obs[0]
    obs, *_ = env.step(8 * PURPLE + 6)
    assert obs[0] - before == pytest.approx(0.038, abs=0.02) and obs[0] > before  # it coasts on


# --- Gymnasium, seeds, replays --------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [{}, {"goals": "easy"}, {"goals": "hard"}, {"goals": "google"},
                                    {"obs_velocity": True}], ids=str)  # fmt: skip
def test_gymnasiums_checker_passes(values):
    env = gym.make("llmrl/ClevrRobot-v0", disable_env_checker=True, **values)
    with pytest.warns(UserWarning, match="infinity"):  # a ball that is squeezed out may lie anywhere
        check_env(env.unwrapped)


def test_a_picture_shows_the_balls():
    env = gym.make("llmrl/ClevrRobot-v0", render_mode="rgb_array", disable_env_checker=True).unwrapped
    env.reset(seed=0, options={"positions": APART})
    picture = env.render().astype(int)
    assert picture.shape == (300, 300, 3)
    red = (picture[..., 0] > 2 * picture[..., 1:].max(-1)) & (picture[..., 0] > 80)
    rows, columns = np.nonzero(red)
    assert red.sum() > 200 and abs(columns.mean() - 150) < 3  # x = 0 is in the middle
    env.reset(seed=0, options={"positions": scene(red=(0.25, 0.35))})
    picture = env.render().astype(int)
    up, right = np.nonzero((picture[..., 0] > 2 * picture[..., 1:].max(-1)) & (picture[..., 0] > 80))
    assert up.mean() < rows.mean() and right.mean() > columns.mean() + 20  # +x is right, +y is away


def episode(env, seed, rng):
    obs, info = env.reset(seed=seed)
    seen = [obs.tobytes(), info["state"].tobytes(), info["goal"].tobytes()]
    for _ in range(8):
        obs, reward, terminated, truncated, info = env.step(rng.integers(40))
        seen += [obs.tobytes(), reward, terminated, truncated, info["state"].tobytes()]
    return seen


@pytest.mark.parametrize("name", TASKS)
def test_an_episode_is_its_seed_and_its_actions_whatever_was_played_before(name):
    env, fresh = made(name), made(name)
    episode(env, 7, np.random.default_rng(1))
    first = episode(env, 3, np.random.default_rng(0))
    assert first == episode(fresh, 3, np.random.default_rng(0))
    assert first != episode(fresh, 4, np.random.default_rng(0))


def test_stored_transitions_replay_from_their_full_states():
    env, other, rng = made(), made(), np.random.default_rng(0)
    _, info = env.reset(seed=0)
    for _ in range(6):
        action = int(rng.integers(40))
        other.reset(seed=9, options={"state": info["state"], "goal": info["goal"]})
        *expected, info = env.step(action)
        *replayed, again = other.step(action)
        assert replayed[0].tobytes() == expected[0].tobytes() and replayed[1:3] == expected[1:3]
        assert again["state"].tobytes() == info["state"].tobytes()


def test_a_stale_first_push_aims_where_other_balls_were():
    plain, stale = made(), made("base", "stale_first_push=true")
    (seen, info), (same, told) = plain.reset(seed=5), stale.reset(seed=5)
    assert seen.tobytes() == same.tobytes() and (info["goal"] == told["goal"]).all()  # the episode is the same
    drawn = seen.reshape(5, 2)
    assert plain.step(0)[0].tobytes() != stale.step(0)[0].tobytes()
    start = at_rest(APART[None])
    stale.reset(seed=5, options={"positions": APART})
    missed = stale.step(0)[-1]["state"]
    expected = Table().push(start, np.array([0]), drawn[None].astype(float))[0]
    np.testing.assert_allclose(missed[:35], expected[:35], atol=1e-6)  # drawn is rounded
    assert abs(missed[0] - APART[RED, 0]) < 0.1
    after = stale.step(1)[-1]["state"]  # from the second push on all is right
    np.testing.assert_array_equal(after, Table().push(missed[None], np.array([1]))[0])


# --- starts ---------------------------------------------------------------------------------------------------------


def test_starts_are_drawn_as_in_section_2_1():
    rng = np.random.default_rng(0)
    xy = np.stack([sample_xy(rng) for _ in range(400)])
    low, high = (-0.5, -0.3), (0.5, 0.5)
    assert (xy >= low).all() and (xy <= high).all()
    assert (xy.min((0, 1)) < np.add(low, 0.01)).all() and (xy.max((0, 1)) > np.subtract(high, 0.01)).all()
    apart = xy[:, :, None] - xy[:, None] + 9 * np.eye(5)[None, :, :, None]
    assert np.linalg.norm(apart, axis=-1).min() >= 0.36
    assert np.abs(apart).min() >= 0.01


# --- predicates -----------------------------------------------------------------------------------------------------

CENTRES = {g.BEHIND: 90, g.LEFT: 180, g.FRONT: 270, g.RIGHT: 0}


@pytest.mark.parametrize("direction", CENTRES)
def test_a_base_sector_is_half_open_and_its_centre_where_kalm_has_it(direction):
    goal, centre = g.base_goal(RED, BLUE, direction), CENTRES[direction]
    for off, holds in ((0, True), (44.99, True), (45.01, False), (-44.99, True), (-45.01, False), (180, False)):
        angle = np.radians(centre + off)
        xy = scene(blue=(0, 0.2), red=(0.3 * np.cos(angle), 0.2 + 0.3 * np.sin(angle)))
        assert g.base(goal, xy) == holds, off
    diagonals = {45: (0.25, 0.25), 135: (-0.25, 0.25), 225: (-0.25, -0.25), 315: (0.25, -0.25)}
    for angle, red in diagonals.items():  # exactly on a border: the lower one belongs to the sector
        assert g.base(goal, scene(blue=(0, 0), red=red)) == (angle == (centre - 45) % 360)


def test_a_base_goal_is_near_and_small_components_count_as_none():
    goal = g.base_goal(RED, BLUE, g.RIGHT)
    for x, holds, in_evaluator in ((0.3899, True, True), (0.39, False, True), (0.3911, False, False)):
        xy = scene(blue=(0, 0), red=(x, 0))
        assert g.base(goal, xy) == holds and g.base(goal, xy, 1e-3) == in_evaluator
    assert g.base(goal, scene(blue=(0, 0), red=(0.0012, 0.0009)))  # 37 degrees, and 0 as its y counts as none
    assert g.base(goal, scene(blue=(0, 0), red=(0.00101, 0.00099)))
    assert not g.base(goal, scene(blue=(0, 0), red=(0.00099, 0.00101)))  # straight behind
    assert not g.base(goal, scene(blue=(0, 0), red=(0, 0)))


def test_the_easy_tiers_pushes():
    table = {g.BEHIND: {1, 4, 5}, g.LEFT: {2, 5, 7}, g.FRONT: {3, 6, 7}, g.RIGHT: {0, 4, 6}}
    for goal in g.EASY:
        ball, right = int(goal[:5].argmax()), table[int(goal[5])]
        assert set(np.flatnonzero(g.easy_by_action(goal, np.arange(40)))) == {8 * ball + push for push in right}
        assert all(DIRECTIONS[push] @ g.UNIT[goal[5]] > 0.5 for push in right)
    assert not g.easy_by_action(g.easy_goal(RED, g.STILL), np.arange(40)).any()


def test_the_easy_tiers_other_judge_sees_any_ball_that_moved():
    start = np.zeros((5, 2))
    for direction in range(4):
        for far, holds in ((0.1501, True), (0.1499, False)):
            after = start.copy()
            after[CYAN] = far * g.UNIT[direction]
            assert g.easy_by_state(g.easy_goal(RED, direction), start, after) == holds
            assert not g.easy_by_state(g.easy_goal(RED, (direction + 2) % 4), start, after)
    for far, still in ((0.0499, True), (0.0501, False)):
        after = start.copy()
        after[BLUE, 1] = -far
        assert g.easy_by_state(g.easy_goal(RED, g.STILL), start, after) == still


def test_hard_goals():
    red_left, green_behind = g.base_goal(RED, BLUE, g.LEFT), g.base_goal(GREEN, BLUE, g.BEHIND)
    cyan_front = g.base_goal(CYAN, BLUE, g.FRONT)
    xy = scene(blue=(0, 0.2), red=(-0.3, 0.2), green=(0, 0.5), cyan=(0, -0.15))
    two, three = g.hard_goal(g.TWO, red_left, green_behind), g.hard_goal(g.THREE, red_left, green_behind, cyan_front)
    assert g.hard_parts(two, xy).all() and g.hard_parts(three, xy).all()
    xy[CYAN] = (0.4, 0.2)
    assert g.hard_parts(two, xy).all() and g.hard_parts(three, xy).tolist() == [True, True, False, True]

    steps = np.radians([29.9, -29.9, 0, 10])
    line = np.cumsum([[-0.45, 0]] + [[0.2 * np.cos(a), 0.2 * np.sin(a)] for a in steps], axis=0)
    order = g.hard_goal(g.ORDER)
    assert g.hard_parts(order, line).all()
    line[1:] += 0.2 * np.subtract([np.cos(0.53), np.sin(0.53)], [np.cos(steps[0]), np.sin(steps[0])])  # 30.4 degrees
    assert g.hard_parts(order, line).tolist() == [False, True, True, True]
    assert not g.hard_parts(order, line[::-1]).any()

    angles = np.radians([0, 90, 180, 270])
    circle = np.insert(0.3249 * np.stack([np.cos(angles), np.sin(angles)], 1), GREEN, 0, axis=0)
    assert g.hard_parts(g.hard_goal(g.SORT), circle).all()
    circle[CYAN] *= 0.3251 / 0.3249
    assert g.hard_parts(g.hard_goal(g.SORT), circle).tolist() == [True, True, True, False]


def test_googles_relations_have_wider_sectors_and_the_other_sign():
    for direction, centre in {g.BEHIND: 270, g.LEFT: 180, g.FRONT: 90, g.RIGHT: 0}.items():
        goal = g.base_goal(RED, BLUE, direction)
        for off, far, holds in (
            (0, 0.69, True),
            (0, 0.71, False),
            (53, 0.4, True),
            (-53, 0.4, True),
            (53.3, 0.4, False),
        ):
            angle = np.radians(centre + off)
            assert g.google(goal, scene(blue=(0, 0), red=(far * np.cos(angle), far * np.sin(angle)))) == holds


def test_predicates_take_many_goals_and_scenes_at_once():
    rng = np.random.default_rng(0)
    xy = np.stack([sample_xy(rng) for _ in range(30)])
    each = np.array([[bool(g.base(goal, one)) for goal in g.BASE] for one in xy])
    np.testing.assert_array_equal(g.base(g.BASE[None], xy[:, None]), each)
    assert 0.005 < each.mean() < 0.05  # most pairs are too far from each other
    hard = np.stack([g.draw("hard", rng) for _ in range(30)])
    np.testing.assert_array_equal(g.hard_parts(hard, xy), [g.hard_parts(*pair) for pair in zip(hard, xy, strict=True)])


def test_drawn_goals_are_goals_of_their_tier_and_all_are_drawn():
    rng = np.random.default_rng(0)
    for tier, count in (("base", 80), ("easy", 20)):
        drawn = [g.draw(tier, rng) for _ in range(1000)]
        assert {g.tier_of(goal) for goal in drawn} == {tier}
        assert len({goal.tobytes() for goal in drawn}) == count
    drawn = [g.draw("hard", rng) for _ in range(1000)]
    assert {g.tier_of(goal) for goal in drawn} == {"hard"}
    shares = np.bincount([goal[5] for goal in drawn]) / 1000
    np.testing.assert_allclose(shares, g.KIND_SHARES, atol=0.05)
    for goal in drawn[:50]:
        parts = goal[6 : 6 + 6 * {g.TWO: 2, g.THREE: 3}.get(int(goal[5]), 0)].reshape(-1, 6)
        pairs = {frozenset(np.flatnonzero(part[:5]).tolist()) for part in parts}
        assert len(pairs) == len(parts) and (len(parts) < 3 or len(frozenset.union(*pairs)) > 3)
    xy = sample_xy(rng)
    assert not any(g.google(g.draw("google", rng, xy), xy) for _ in range(50))  # only what is still false


# --- rewards and ends -----------------------------------------------------------------------------------------------


def judged(tier, goal, before, after, action=0, **options):
    options = {"easy_judge": "action", "tolerance": 0.0} | options
    reward, success = rewards.judge(tier, goal[None], np.array([action]), before[None], after[None], **options)
    return float(reward[0]), bool(success[0])


def test_rewards_of_base_goals_in_their_two_forms():
    goal = g.base_goal(RED, BLUE, g.RIGHT)
    before, after = scene(blue=(0, 0.2), red=(0.195, 0.6)), scene(blue=(0, 0.2), red=(0.195, 0.5))
    assert judged("base", goal, before, after) == (pytest.approx(10 * (0.4 - 0.3)), False)
    closer = 10 * (np.hypot(0.195, 0.4) - np.hypot(0.195, 0.3))
    assert judged("base", goal, before, after, form="imaginary") == (pytest.approx(closer), False)
    assert judged("base", goal, before, scene(blue=(0, 0.2), red=(0.3, 0.2))) == (100, True)


def test_rewards_of_the_other_tiers():
    two = g.hard_goal(g.TWO, g.base_goal(RED, BLUE, g.LEFT), g.base_goal(GREEN, BLUE, g.BEHIND))
    none, one = scene(blue=(0, 0.2), red=(0.3, 0.2)), scene(blue=(0, 0.2), red=(-0.3, 0.2))
    both = scene(blue=(0, 0.2), red=(-0.3, 0.2), green=(0, 0.5))
    assert judged("hard", two, none, one) == (10, False) and judged("hard", two, one, none) == (-10, False)
    assert judged("hard", two, one, both) == (100, True) and judged("hard", two, one, one) == (0, False)
    easy = g.easy_goal(RED, g.RIGHT)
    assert judged("easy", easy, none, none, action=0) == (1, True)
    assert judged("easy", easy, none, none, action=8) == (0, False)
    assert judged("easy", easy, none, none, action=0, easy_judge="state") == (0, False)
    assert judged("google", g.base_goal(RED, BLUE, g.RIGHT), one, none) == (1, True)


def test_episodes_end_as_told():
    env = made("base", "max_episode_steps=3")
    far = g.base_goal(PURPLE, CYAN, g.FRONT)
    env.reset(seed=0, options={"positions": APART, "goal": far})
    assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
    start = scene(red=(0, 0.2), blue=(0.45, 0.2))
    env.reset(seed=0, options={"positions": start, "goal": g.base_goal(RED, BLUE, g.LEFT)})
    _, reward, terminated, truncated, info = env.step(0)
    assert (reward, terminated, truncated, info["success"]) == (100, True, False, True)
    easy = made("easy")
    easy.reset(seed=0)
    assert easy.step(0)[2:4] == (True, False)
    google = made("google", "max_episode_steps=2")
    google.reset(seed=0, options={"positions": start, "goal": g.base_goal(RED, BLUE, g.LEFT)})
    steps = [google.step(0) for _ in range(2)]
    assert [step[1:4] for step in steps] == [(1, False, False), (1, False, True)]


# --- many scenes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_is_its_scenes_one_by_one_whatever_the_threads(name):
    env, scenes, rng = made(name), Scenes(whole(name).env, threads=2), np.random.default_rng(0)
    starts = [env.reset(seed=seed)[1] for seed in range(6)]
    actions = rng.integers(40, size=(3, 6))
    goals, states = np.stack([s["goal"] for s in starts]), np.stack([s["state"] for s in starts])
    scenes.reset(goals, states)
    together = [scenes.step(a) for a in actions]
    for i in range(6):
        env.reset(seed=i)
        for t in range(3):
            obs, reward, terminated, _, info = env.step(actions[t, i])
            seen, earned, over, infos = (part[i] if k < 3 else part["success"][i] for k, part in enumerate(together[t]))
            assert obs.tobytes() == seen.tobytes() and reward == earned
            assert (terminated, info["success"]) == (over, infos)
    scenes.keep(np.array([True, False] * 3))
    assert len(scenes.observations) == len(scenes.goals) == 3


def test_a_random_policy_reaches_a_third_of_base_goals():
    """35.6 % of 500 episodes, and here of 80: scripts/clevr_script.py --random 1 plays more."""
    goals = g.BASE
    played = play(Scenes(whole().env, 2), Script(random=1, dst=0), goals, 50, np.random.default_rng(0), False)
    assert 0.2 < played.terminals.any(1).mean() < 0.5


def test_collected_rollouts_are_balanced_successful_and_true():
    config = whole().env
    got = collect(config, Script(random=0.1, dst=0.75), 160, np.random.default_rng(0), threads=2, with_states=True)
    assert np.unique(got.goals, axis=0, return_counts=True)[1].tolist() == [2] * 80
    last = got.lengths - 1
    assert got.terminals.sum(1).tolist() == [1] * 160 and got.terminals[np.arange(160), last].all()
    assert (got.rewards[np.arange(160), last] == 100).all()
    assert 5 < got.lengths.mean() < 16 and 2 <= np.median(got.lengths) <= 8  # the authors' 11.2 and 5
    env = made()
    for i in range(3):
        env.reset(seed=0, options={"state": got.states[i, 0], "goal": got.goals[i]})
        for t in range(got.lengths[i]):
            obs, reward, terminated, _, info = env.step(got.actions[i, t])
            assert obs.tobytes() == got.observations[i, t + 1].tobytes()
            assert np.float32(reward) == got.rewards[i, t] and terminated == got.terminals[i, t]
            np.testing.assert_array_equal(info["state"], got.states[i, t + 1])
        assert not got.observations[i, got.lengths[i] + 1 :].any()
    with pytest.raises(ConfigError, match="multiple"):
        collect(config, Script(random=0.1, dst=0.75), 100, np.random.default_rng(0))


# --- suites and errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", clevr_robot.EVALUATION_SETS)
def test_a_suite_has_its_tiers_goals_and_is_fixed(name):
    config = whole()
    cases = evaluation_set(config, name)
    again = evaluation_set(config, name)
    assert len(cases) == config.eval.episodes and [case.seed for case in cases] == [case.seed for case in again]
    env = made()
    for case in cases[:3]:
        obs, info = env.reset(seed=case.seed, options=case.options)
        np.testing.assert_allclose(obs.reshape(5, 2), case.options["positions"], atol=1e-6)
        assert g.tier_of(info["goal"]) == clevr_robot.EVALUATION_SETS[name]
        assert isinstance(env.step(0)[-1]["success"], bool)
    others = {n: {case.seed for case in evaluation_set(config, n)} for n in clevr_robot.EVALUATION_SETS}
    assert all(not others[name] & others[n] for n in others if n != name)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("velocity", ["false", "true"])
def test_the_task_is_told_as_a_whole(name, velocity):
    env = made(name, f"obs_velocity={velocity}")
    told = env.config.task
    assert len(told.actions) == env.action_space.n and len(told.observation) == env.observation_space.shape[0]
    words = {"right": (1, 0), "left": (-1, 0), "back": (0, 1), "forward": (0, -1)}
    for action, line in enumerate(told.actions):
        assert clevr_robot.model.COLOURS[action // 8] in line
        way = sum((np.array(words[word]) for word in line.split() if word in words), np.zeros(2))
        np.testing.assert_array_equal(np.sign(DIRECTIONS[action % 8]), way)
    assert str(env.config.max_episode_steps) in told.end or name == "easy"


@pytest.mark.parametrize(
    ("options", "text"),
    [({"position": APART}, "position"), ({"positions": APART[:4]}, "positions is"),
     ({"state": np.ones(68)}, "state is"), ({"positions": APART * np.nan}, "finite"),
     ({"goal": [1, 1, 2, 0, 0, 0]}, "is no goal"),
     ({"goal": [1, 2, 0, 0, 0, 4]}, "is no goal"), ({"goal": [0] * 36}, "is no goal"),
     ({"positions": APART, "state": np.zeros(69)}, "not both"),
     ({"positions": [[0, 1], [2]]}, r"positions is an array \(5, 2\) of finite numbers"),
     ({"goal": "push red"}, "whole numbers"), ({"goal": 3}, "whole numbers"), ({"goal": None}, "whole numbers"),
     ({"goal": [1, 2, 0, 0, 0, 0.9]}, "whole numbers"),
     ({"sentence": 5}, "sentence is a string, not 5")],
)  # fmt: skip
def test_a_wrong_option_of_reset_is_named(options, text):
    with pytest.raises(ConfigError, match=text):
        made().reset(seed=0, options=options)


def test_an_action_that_there_is_not_is_named():
    env = made()
    env.reset(seed=0)
    for action in (-1, 40, 0.5):
        with pytest.raises(ConfigError, match=f"actions are 0 to 39, not {action}"):
            env.step(action)


def test_an_episode_may_be_longer():
    env = gym.make("llmrl/ClevrRobot-v0", goals="google", steps=120)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(120)] == [False] * 119 + [True]


def test_a_wrong_value_of_make_is_named():
    with pytest.raises(ConfigError, match="easy_judge"):
        gym.make("llmrl/ClevrRobot-v0", easy_judge="eye")
    with pytest.raises(ConfigError, match="base, easy, hard or google, not 'rephrase'"):
        gym.make("llmrl/ClevrRobot-v0", goals="rephrase")
    with pytest.raises(ConfigError, match="of one tier"):
        Scenes(whole().env).reset(np.stack([g.BASE[0], g.EASY[0]]), at_rest(np.stack([APART, APART])))
