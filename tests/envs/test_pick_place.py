"""The pick-and-place table in analytic mode: rewards by hand, what suction holds, what is seen, who can solve it."""

import gymnasium as gym
import numpy as np
import pytest
from conftest import compose
from gymnasium.utils.env_checker import check_env

from llmrl.checks import ConfigError
from llmrl.config import from_node
from llmrl.envs import pick_place
from llmrl.envs.pick_place import actions, letters, oracle, task
from llmrl.envs.pick_place.letters import FINE, PIXEL
from llmrl.envs.pick_place.scene import APART, BACKGROUND, COLOURS, HOME_PIXEL, Scene, to_metres
from llmrl.envs.pick_place.world import HEIGHT_NOISE, seals

TASKS = ["short_horizon", "long_horizon", "blocks_short_horizon", "blocks_long_horizon"]


def made(name="short_horizon", *overrides, role="eval"):
    config = from_node(compose([f"env=pick_place/{name}", "agent=sac", *(f"env.{o}" for o in overrides)])).env
    return pick_place.make(config, role)


# Two rows of things, 60 pixels apart: letters in slots 0-2 above, bowls below.
PLACES = np.array([[60, 50], [60, 110], [60, 170], [140, 50], [140, 110], [140, 170]], float)
SAFE = (8, 0)  # from an R's origin to a pixel of its stem at yaw 90 degrees: well inside


def scene(goal=(0, 1), names="RRR", scale=1.0, places=PLACES):
    colours = ("yellow", "green", "blue") * 2
    return Scene(tuple(names), colours, to_metres(places + 1e-6), np.full(3, np.pi / 2), scale, goal)


def at(slot, place, offset=(0, 0), p=None):
    """An action on an object with an offset in pixels."""
    scores = np.eye(6)[slot]
    return np.array([float(place) if p is None else p, *scores, offset[0] / 14, offset[1] / 14], np.float32)


@pytest.fixture
def exact():
    """The short horizon on the table above, without detection noise."""
    env = made("short_horizon", "position_noise_px=0")
    env.reset(seed=0, options={"scene": scene()})
    return env


# --- Gymnasium ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [{}, {"horizon": "long"}, {"actions": "index"}, {"actions": "pixel", "observation": "image"}, {"objects": "blocks"},
     {"detector": "colour"}],
    ids=str,
)  # fmt: skip
def test_gymnasiums_checker_passes(values):
    env = gym.make("llmrl/PickPlace-v0", mode="analytic", render_mode="rgb_array", **values)
    check_env(env.unwrapped)
    env.reset(seed=0)
    assert env.render().shape == (576, 576, 3)


def test_a_wrong_value_of_make_is_named():
    with pytest.raises(ConfigError, match="residual_px"):
        gym.make("llmrl/PickPlace-v0", residual_px=-1)
    with pytest.raises(ConfigError, match="medium_horizon"):
        gym.make("llmrl/PickPlace-v0", horizon="medium")


def episode(env, seed, rng):
    """All that an episode of random actions shows."""
    obs, info = env.reset(seed=seed)
    seen = [*(obs[key].tobytes() for key in sorted(obs)), info["truth"]["position"].tobytes()]
    while True:
        obs, reward, terminated, truncated, info = env.step(rng.uniform(env.action_space.low, env.action_space.high))
        seen += [*(obs[key].tobytes() for key in sorted(obs)), reward, info["picked"], info["target"]]
        if terminated or truncated:
            return seen


@pytest.mark.parametrize("name", TASKS)
def test_an_episode_is_its_seed_and_its_actions_whatever_was_played_before(name):
    env, fresh = made(name), made(name)
    episode(env, 7, np.random.default_rng(1))
    env.step(env.action_space.sample())
    first = episode(env, 3, np.random.default_rng(0))
    assert first == episode(fresh, 3, np.random.default_rng(0))
    assert first != episode(fresh, 4, np.random.default_rng(0))


# --- scenes ---------------------------------------------------------------------------------------------------------


def test_scenes_are_as_the_paper_draws_them():
    env = made()
    truths = [env.reset(seed=seed)[1]["truth"] for seed in range(200)]
    xy = np.array([to_metres(t["position"]) for t in truths])
    gaps = np.linalg.norm(xy[:, :, None] - xy[:, None], axis=-1) + 9 * np.eye(6)
    assert gaps.min() > APART
    assert (
        xy[..., 0].min() >= -0.2 and xy[..., 0].max() <= 0.2 and xy[..., 1].min() >= -0.7 and xy[..., 1].max() <= -0.3
    )
    assert all(sorted(t["letters"]) == ["O", "R", "V"] for t in truths)
    assert len({t["letters"] for t in truths}) == 6  # every order
    assert len({t["colours"][:3] for t in truths}) == 27  # with replacement
    assert {t["colours"][3:] for t in truths} == {("yellow", "green", "blue")}
    assert {t["goal"] for t in truths} == {(i, j) for i in range(3) for j in range(3)}


def test_in_the_long_horizon_a_slot_is_a_colour_and_there_is_no_goal():
    env = made("long_horizon")
    obs, info = env.reset(seed=0)
    assert "goal" not in obs and info["truth"]["goal"] is None
    assert info["truth"]["colours"] == ("yellow", "green", "blue") * 2
    assert env.goal_sentence() == "put every letter in the bowl of its own colour"


def test_unseen_letters_and_colours_are_asked_for_at_reset():
    env, long = made(), made("long_horizon")
    options = {"letters": "unseen", "colours": "unseen"}
    truths = [env.reset(seed=seed, options=options)[1]["truth"] for seed in range(100)]
    assert all(sorted(t["letters"]) == ["G", "O", "T"] for t in truths)
    assert {c for t in truths for c in t["colours"][:3]} == {"yellow", "green", "blue", "cyan", "orange", "pink"}
    assert {t["colours"][3:] for t in truths} == {("yellow", "green", "blue")}
    for seed in range(20):  # each letter has a bowl of its colour
        colours = long.reset(seed=seed, options=options)[1]["truth"]["colours"]
        assert colours[:3] == colours[3:] and len(set(colours)) == 3
    assert sorted(env.reset(seed=0)[1]["truth"]["letters"]) == ["O", "R", "V"]  # for that episode alone


def test_the_goal_can_be_asked_for_and_is_said_in_words():
    env = made()
    obs, info = env.reset(seed=0, options={"scene": scene(goal=(2, 0), names="ORV")})
    assert obs["goal"].tolist() == [2, 0]
    assert env.goal_sentence() == "put the blue letter V in the yellow bowl"
    obs, _ = env.reset(seed=0, options={"scene": scene(names="ORV"), "goal": (1, 2)})
    assert obs["goal"].tolist() == [1, 2] and env.goal_sentence() == "put the green letter R in the blue bowl"


# --- what suction holds ---------------------------------------------------------------------------------------------


def graspable(name, scale, yaws=12):
    """The share of the window of +-14 pixels around a letter's middle that seals, and that of its middle."""
    rng, held, middles = np.random.default_rng(0), [], []
    for yaw in range(0, letters.YAWS, letters.YAWS // yaws):
        height = np.zeros((60, 60), np.float32)
        rows, columns, shape = letters.overlap(
            letters.phases(name, scale, yaw, FINE), 30 + rng.random(2), (0, 0), height.shape
        )
        height[rows, columns][shape] = 0.020
        window = {(u, v): seals(height[u + 26 : u + 34, v + 26 : v + 34], rng)
                  for u in range(-14, 15, 2) for v in range(-14, 15, 2)}  # fmt: skip
        held += window.values()
        middles.append(window[0, 0])
    return np.mean(held), np.mean(middles)


@pytest.mark.parametrize(
    ("name", "scale", "share", "middle"),
    [("O", 1.0, 0.67, False), ("R", 1.0, 0.46, True), ("V", 1.0, 0.39, False), ("T", 1.0, 0.46, None),
     ("G", 1.0, 0.41, None), ("L", 1.0, 0.39, False), ("O", 0.9, 0.67, False), ("R", 0.9, 0.36, True),
     ("V", 0.9, 0.33, False)],
)  # fmt: skip
def test_letters_can_be_held_where_the_authors_can(name, scale, share, middle):
    found, at_middle = graspable(name, scale)
    assert abs(found - share) < 0.07
    assert middle is None or (at_middle > 0.9) == middle


@pytest.mark.parametrize(("name", "size"), [("O", (100, 100)), ("R", (67.5, 94.6)), ("V", (78.3, 94.6)),
                                            ("T", (100, 100)), ("G", (75.6, 97)), ("L", (100, 100))])  # fmt: skip
def test_footprints_are_the_authors(name, size):
    corners = np.concatenate(letters.pieces(name, 1.0)) * 1000  # metres
    assert np.abs(np.ptp(corners, axis=0) - size).max() < 1
    u, v = letters.extent(name, 0.9, 0)
    assert abs(2 * v * PIXEL * 1000 - 0.9 * size[0]) < 2 and abs(2 * u * PIXEL * 1000 - 0.9 * size[1]) < 2


@pytest.mark.parametrize(("name", "picked"), [("O", False), ("R", True), ("V", False)])
def test_a_pick_at_the_middle(exact, name, picked):
    exact.reset(seed=0, options={"scene": scene(names=name * 3)})
    obs, _, _, _, info = exact.step(at(0, False))
    assert info["picked"] == picked == bool(obs["in_hand"][0]) and info["truth"]["held"] == (0 if picked else -1)


def test_neither_the_table_nor_a_bowl_can_be_picked(exact):
    for slot, offset in ((3, (0, 0)), (0, (-14, 14))):
        assert not exact.step(at(slot, False, offset))[-1]["picked"]


# --- where things go ------------------------------------------------------------------------------------------------


def test_a_letter_keeps_its_offset_to_the_cup_and_its_yaw(exact):
    truth = exact.step(at(0, False, SAFE))[-1]["truth"]
    np.testing.assert_allclose(truth["position"][0], np.array(HOME_PIXEL) - SAFE, atol=1e-5)
    truth = exact.step(at(4, True, (3, -5)))[-1]["truth"]
    np.testing.assert_allclose(truth["position"][0], [140 + 3 - 8, 110 - 5], atol=1e-5)
    assert truth["held"] == -1 and truth["yaw"][0] == np.pi / 2
    assert truth["z"][0] == pytest.approx(0.035 + 0.010)  # its middle, on the bowl


def test_a_pick_drops_what_is_held_at_home(exact):
    exact.step(at(0, False, SAFE))
    truth = exact.step(at(1, False, SAFE))[-1]["truth"]
    assert truth["held"] == 1
    np.testing.assert_allclose(truth["position"][0], np.array(HOME_PIXEL) - SAFE, atol=1e-5)
    assert truth["z"][0] == pytest.approx(0.010)


def test_the_upper_one_of_two_is_picked(exact):
    places = PLACES.copy()
    places[1] = places[3]  # the letter in slot 1 on the yellow bowl, by another scene's drop
    exact.step(at(1, False, SAFE))
    exact.step(at(3, True, SAFE))
    info = exact.step(at(3, False, SAFE))[-1]
    assert info["truth"]["held"] == 1


# --- rewards, by hand -----------------------------------------------------------------------------------------------


def test_rewards_of_the_short_horizon(exact):
    # a pick of the goal's letter that holds: nothing
    _, reward, terminated, _, info = exact.step(at(0, False, SAFE))
    assert reward == pytest.approx(0) and not terminated and not info["success"]
    # p = 0.6 with something held: 0.2 * -ln(0.601); the place is 60 pixels from the goal's bowl: 0.2 * 0.6^2
    _, reward, *_ = exact.step(at(3, True, p=0.6))
    assert reward == pytest.approx(-0.2 * -np.log(0.601) - 0.2 * 0.6**2, abs=1e-6)
    # nothing held: a place costs the whole phase term, and nothing else
    assert exact.step(at(4, True))[1] == pytest.approx(-0.2)
    # a pick that holds, 60 pixels from the goal's letter; then one of a bowl, which does not hold
    exact.reset(seed=0, options={"scene": scene()})
    assert exact.step(at(1, False, SAFE))[1] == pytest.approx(-0.1)
    exact.reset(seed=0, options={"scene": scene()})
    assert exact.step(at(3, False))[1] == pytest.approx(-0.2)
    # a miss within 20 pixels of the goal's letter; p = 0.3 costs 0.2 * -ln(0.701)
    assert exact.step(at(0, False, (-13, 13), p=0.3))[1] == pytest.approx(-0.1 - 0.2 * -np.log(0.701), abs=1e-6)


def test_success_of_the_short_horizon_is_five_centimetres(exact):
    for off, success in (((12, 12), True), ((13.5, 13.5), False)):  # 45 and 51 mm
        exact.reset(seed=0, options={"scene": scene()})
        exact.step(at(0, False, SAFE))
        place = actions.encode("residual", True, 4, (140 + off[0], 110 + off[1]), PLACES, 14)
        exact.world._offset[:] = 0  # the cup in the letter's middle, so that both are within reach
        _, reward, terminated, truncated, info = exact.step(place)
        assert info["success"] == terminated == success and not truncated
        assert reward == pytest.approx(success - 0.2 * (off[0] ** 2 + off[1] ** 2) / 100**2, abs=1e-6)


def test_rewards_of_the_long_horizon():
    env = made("long_horizon", "position_noise_px=0")
    env.reset(seed=0, options={"scene": scene(goal=None, scale=0.9)})
    rewards = []
    for slot in range(3):
        rewards.append(env.step(at(slot, False, SAFE))[1])
        _, reward, terminated, _, info = env.step(at(3 + slot, True, SAFE))
        rewards.append(reward)
    np.testing.assert_allclose(rewards, [-0.3, -0.2, -0.2, -0.1, -0.1, 1.0], atol=1e-6)
    assert terminated and info["success"]
    env.reset(seed=0, options={"scene": scene(goal=None, scale=0.9)})
    env.step(at(0, False, SAFE))
    assert env.step(at(4, True, SAFE))[1] == pytest.approx(-0.3)  # in another's bowl
    assert env.step(at(5, True, p=0.5001))[1] == pytest.approx(-0.3 - 0.2 * -np.log(0.5009), abs=1e-5)


def test_in_a_bowl_is_measured_in_three_dimensions():
    points = [[0, 0]] * 6
    z = [0.045, 0.045 + 0.060, 0.0175, 0.0175, 0.0175, 0.0175]
    assert task.in_bowls(points, z) == [True, False, True]
    points = [[0, 0.068 / PIXEL], [0, 0], [0, 0.071 / PIXEL], [0, 0], [0, 0], [0, 0]]
    assert task.in_bowls(points, [0.0175] * 6) == [True, True, False]


def test_the_hard_phase_term_is_all_or_nothing():
    soft, hard = made(), made("short_horizon", "phase=hard")
    for env, cost in ((soft, 0.2 * -np.log(0.601)), (hard, 0)):
        env.reset(seed=0, options={"scene": scene()})
        assert env.step(at(3, False, p=0.4))[1] == pytest.approx(-0.2 - cost, abs=1e-6)
    assert hard.step(at(3, True, p=0.6))[1] == pytest.approx(-0.2)


# --- ends and skipped steps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("timeout", ["terminal", "truncation"])
def test_the_eleventh_primitive_is_the_last(name, timeout):
    env = made(name, f"timeout={timeout}")
    env.reset(seed=0)
    ends = [env.step(at(3, True))[2:4] for _ in range(11)]
    assert ends[:-1] == [(False, False)] * 10
    assert ends[-1] == (timeout == "terminal", timeout == "truncation")


@pytest.mark.parametrize(("name", "radius"), [("short_horizon", 25), ("long_horizon", 12)])
def test_hopeless_actions_are_skipped_in_training_alone(name, radius):
    goal = None if name.startswith("long") else (0, 1)
    for role in ("train", "eval"):
        env = made(name, "position_noise_px=0", "residual_px=40", role=role)
        env.reset(seed=0, options={"scene": scene(goal=goal)})
        assert env.step(at(3, True))[-1]["skipped"] == (role == "train")  # a place of nothing
        for pixels, skipped in ((radius - 1, False), (radius + 1, role == "train")):
            action = at(0, False)
            action[7] = -pixels / 40
            assert env.step(action)[-1]["skipped"] == skipped


# --- what is seen ---------------------------------------------------------------------------------------------------


def test_detections_are_noisy_whole_pixels_that_stay_until_the_object_moves():
    env = made()
    errors = []
    for seed in range(300):
        obs, info = env.reset(seed=seed)
        errors.append(obs["position"] * 224 - info["truth"]["position"])
        assert np.array_equal(np.rint(obs["position"] * 224), (obs["position"] * 224).round(3))
    errors = np.array(errors) + 0.5  # whole pixels are half a pixel less on average
    assert np.abs(errors.mean((0, 1))).max() < 0.2 and 1.9 < errors.std() < 2.5  # 2.5, shortened to 5 at most
    assert np.linalg.norm(errors, axis=-1).max() < 5 + 1
    obs, _ = env.reset(seed=0, options={"scene": scene()})
    picked, *_ = env.step(at(0, False, SAFE - (obs["position"][0] * 224 - PLACES[0])))
    assert np.array_equal(picked["position"][1:], obs["position"][1:])
    assert np.array_equal(picked["rgb"][1:], obs["rgb"][1:]) and np.array_equal(picked["height"][1:], obs["height"][1:])
    assert picked["position"][0].tolist() == [0, 0.5]  # the hand's
    placed, *_ = env.step(at(4, True))
    assert np.array_equal(placed["position"][1:], obs["position"][1:])
    assert np.array_equal(placed["rgb"][1:], obs["rgb"][1:])
    assert not np.array_equal(placed["rgb"][0], picked["rgb"][0])


def test_a_crop_shows_colour_and_height_around_the_object(exact):
    obs, _ = exact.reset(seed=0, options={"scene": scene(names="ORV")})
    assert obs["rgb"][0, 14, 14].tolist() == list(BACKGROUND)  # the hole of the O
    assert obs["rgb"][0, 14, 20].tolist() == list(COLOURS["yellow"])  # 32 mm to the right: the ring
    assert obs["rgb"][4, 14, 14].tolist() == list(COLOURS["green"])
    bowl = np.median(obs["height"][4][obs["rgb"][4, ..., 0] == COLOURS["green"][0]].astype(float))
    assert bowl == pytest.approx(0.035 * 20, abs=0.02)
    ring = obs["height"][0][obs["rgb"][0, ..., 0] == COLOURS["yellow"][0]].astype(float)
    assert ring.mean() == pytest.approx(0.020 * 20, abs=0.02) and ring.std() == pytest.approx(
        20 * HEIGHT_NOISE, rel=0.2
    )
    area = (obs["rgb"][4, ..., 0] == COLOURS["green"][0]).sum() * (2 * PIXEL) ** 2
    assert area == pytest.approx(np.pi * 0.057**2, rel=0.03)


def test_a_held_object_is_seen_around_the_cup_as_it_lay(exact):
    before, _ = exact.reset(seed=0, options={"scene": scene()})
    after, *_ = exact.step(at(0, False, SAFE))
    assert np.array_equal(after["rgb"][0, :-4], before["rgb"][0, 4:])  # 8 pixels are 4 of the half-resolution image
    assert not exact.step(at(4, True))[0]["in_hand"][0]


def test_neighbours_and_what_lies_below_are_visible(exact):
    places = PLACES.copy()
    places[1] = places[0] + (0, 40)
    obs, _ = exact.reset(seed=0, options={"scene": scene(places=places)})
    assert (obs["rgb"][0] == COLOURS["green"]).all(-1).sum() > 20
    exact.reset(seed=0, options={"scene": scene(goal=(0, 1))})
    exact.step(at(0, False, SAFE))
    obs, *_ = exact.step(at(5, True, SAFE))
    colours = [(obs["rgb"][0] == COLOURS[name]).all(-1) for name in ("yellow", "blue")]
    assert all(c.sum() > 50 for c in colours)
    assert np.median(obs["height"][0][colours[0]].astype(float)) == pytest.approx(0.055 * 20, abs=0.03)


def test_outside_of_the_image_crops_are_padded(exact):
    places = PLACES.copy()
    places[0] = (4, 50)
    obs, _ = exact.reset(seed=0, options={"scene": scene(places=places)})
    assert (obs["rgb"][0, :12] == BACKGROUND).all() and (obs["height"][0, :12] == 0).all()
    assert (obs["height"][0, 12:] > 0).any()


@pytest.mark.parametrize("name", ["short_horizon", "long_horizon"])
def test_the_picture_alone_shows_where_things_are(name):
    env = made(name, "detector=colour")
    errors, solved = [], 0
    for seed in range(8):
        obs, info = env.reset(seed=seed)
        errors.append(obs["position"] * 224 - info["truth"]["position"])
        done = False
        while not done:
            obs, _, done, _, info = env.step(oracle.act(info["truth"], obs["position"]))
        solved += info["success"]
    assert np.quantile(np.linalg.norm(errors, axis=-1), 0.95) < 2.5  # pixels; two letters alike may be swapped
    assert solved == 8


# --- who can solve it -----------------------------------------------------------------------------------------------


def returns(env, policy, episodes):
    found = []
    for seed in range(episodes):
        obs, info = env.reset(seed=seed)
        total, steps, done = 0.0, 0, False
        while not done:
            obs, reward, done, _, info = env.step(policy(obs, info["truth"]))
            total, steps = total + reward, steps + 1
        found.append((total, steps, info["success"]))
    return np.mean(found, axis=0)


@pytest.mark.parametrize(("name", "best", "steps"), [("short_horizon", 0.99, 2), ("long_horizon", 0.1, 6),
                                                     ("blocks_short_horizon", 0.99, 2)])  # fmt: skip
@pytest.mark.parametrize("kind", ["residual", "index", "pixel"])
def test_the_oracle_reaches_the_optimum_in_every_action_space(name, best, steps, kind):
    env = made(name, f"actions={kind}")
    value, length, success = returns(env, lambda obs, truth: oracle.act(truth, obs["position"], actions=kind), 20)
    assert value == pytest.approx(best, abs=0.02) and length < steps + 0.3 and success == 1


@pytest.mark.parametrize(("name", "expected"), [("short_horizon", -2.2), ("long_horizon", -4.7)])
def test_random_actions_earn_what_was_derived_for_them(name, expected):
    env, rng = made(name), np.random.default_rng(12345)
    value, _, success = returns(env, lambda *_: rng.uniform(env.action_space.low, env.action_space.high), 150)
    assert value == pytest.approx(expected, abs=0.2) and success <= 0.08


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "text"),
    [("letters=[o,R,V]", "env.letters: there is no letter 'o'. Did you mean 'O'?"),
     ("unseen_letters=[O,R,blok]", "env.unseen_letters: there is no letter 'blok'. Did you mean 'block'?"),
     ("letters=[O,R,X]", "There are: O, R, V, A, T, G, E, L, M, block."),
     ("colours=[yelow,green,blue]", "env.colours: there is no colour 'yelow'. Did you mean 'yellow'?"),
     ("letters=[O,R]", "env.letters: names 2 shapes, it takes 3 or more"),
     ("mode=fast", "env.mode")],
)  # fmt: skip
def test_a_wrong_configuration_is_named(override, text):
    with pytest.raises(ConfigError) as error:
        made("short_horizon", override)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [({"letter": "unseen"}, "letter"), ({"colours": "new"}, '"seen" or "unseen"'), ({"goal": (3, 0)}, "both 0-2"),
     ({"scene": scene(goal=None)}, "env.horizon is short")],
)  # fmt: skip
def test_a_wrong_option_of_reset_is_named(options, text):
    with pytest.raises(ConfigError, match=text):
        made().reset(seed=0, options=options)
