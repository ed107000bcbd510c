"""The pick-and-place table in MuJoCo: what it has in common with the computed one, what falls where, what is drawn."""

import gc
import importlib.util
import sys
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from conftest import ROOT, compose
from gymnasium.utils.env_checker import check_env
from test_pick_place import PLACES, SAFE, at, episode, returns, scene

from llmrl.checks import ConfigError
from llmrl.commands.film import BAND, FirstEpisodeFilm
from llmrl.config import from_node
from llmrl.envs import pick_place
from llmrl.envs.pick_place import oracle, physics
from llmrl.envs.pick_place.letters import PIXEL
from llmrl.envs.pick_place.scene import BACKGROUND, COLOURS, HOME_PIXEL


def made(name="short_horizon", *overrides, render=False):
    options = [f"env=pick_place/{name}", "agent=sac", "env.mode=physics", *(f"env.{o}" for o in overrides)]
    return pick_place.make(from_node(compose(options)).env, "eval", render=render)


@pytest.fixture(scope="module", autouse=True)
def env():
    try:
        return made()
    except ConfigError as error:  # a machine without any driver
        assert "make setup-render" in str(error)
        pytest.skip("no OpenGL here")


@pytest.fixture(scope="module")
def exact():
    return made("short_horizon", "position_noise_px=0")


@pytest.fixture(scope="module")
def compare():
    spec = importlib.util.spec_from_file_location("compare", ROOT / "scripts" / "compare_pick_place.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def worlds(compare):
    return compare.worlds()


# --- the two modes --------------------------------------------------------------------------------------------------


def test_computed_and_rendered_crops_agree(compare, worlds):
    rgb, height, share = compare.compare_crops(*worlds, scenes=24, seed=0).T
    assert rgb.mean() < 1.0 and rgb.max() < 2.0  # of 255
    assert height.mean() < 0.0003 and height.max() < 0.0005  # m
    assert share.mean() < 0.01  # of pixels with another colour, all at edges


def test_the_same_picks_hold_and_the_same_places_end_alike(compare, worlds):
    done = compare.compare_actions(*worlds, actions=60, seed=1000)
    assert (done["picked"][:, 0] == done["picked"][:, 1]).mean() >= 0.95
    near = done["kind"] == 0  # the letter's middle over a bowl
    assert near.sum() >= 5 and (done["gap"][near] < 0.005).all() and done["on_bowl"][near].all()
    assert (done["gap"] < 0.005).mean() >= 0.8  # beside a bowl's rim, letters lean or slide in the simulator alone


@pytest.mark.parametrize(("name", "value", "steps"), [("short_horizon", 1.0, 2), ("long_horizon", 0.1, 6),
                                                      ("blocks_long_horizon", 0.1, 6)])  # fmt: skip
def test_the_oracle_solves_it(name, value, steps):
    found, length, success = returns(made(name), lambda obs, truth: oracle.act(truth, obs["position"]), 4)
    assert found == pytest.approx(value, abs=0.03) and length < steps + 0.5 and success == 1


def test_the_colour_detector_finds_everything_on_the_rendered_picture(compare, worlds):
    wrong = compare.detection_errors(worlds[1], scenes=10, seed=0)
    assert wrong.max() < 4 and np.median(wrong) < 1.5  # pixels


# --- what falls where -----------------------------------------------------------------------------------------------


def test_a_letter_hangs_from_the_hand_as_it_lay_and_lands_on_the_bowl(exact):
    exact.reset(seed=0, options={"scene": scene()})
    truth = exact.step(at(0, False, SAFE))[-1]["truth"]
    assert truth["held"] == 0 and truth["z"][0] > 0.3
    np.testing.assert_allclose(truth["position"][0], np.array(HOME_PIXEL) - SAFE, atol=0.1)
    obs, _, _, _, info = exact.step(at(4, True, (3, -5)))
    truth = info["truth"]
    np.testing.assert_allclose(truth["position"][0], [140 + 3 - 8, 110 - 5], atol=0.2)
    assert truth["held"] == -1 and not obs["in_hand"][0]
    assert truth["z"][0] == pytest.approx(0.035 + 0.010, abs=0.0003)
    assert truth["yaw"][0] == pytest.approx(np.pi / 2, abs=0.01)
    np.testing.assert_allclose(truth["position"][1:], PLACES[1:], atol=0.1)  # nothing else moved


def test_a_pick_drops_what_is_held_from_the_hand(exact):
    exact.reset(seed=0, options={"scene": scene()})
    exact.step(at(0, False, SAFE))
    truth = exact.step(at(1, False, SAFE))[-1]["truth"]
    assert truth["held"] == 1 and truth["z"][0] < 0.05
    assert np.linalg.norm(truth["position"][0] - (np.array(HOME_PIXEL) - SAFE)) * PIXEL < 0.02


def test_a_letter_let_go_beside_the_bowl_leans_or_lies_on_the_table(exact):
    exact.reset(seed=0, options={"scene": scene()})
    exact.step(at(0, False, SAFE))
    exact.world.place(140 - 24 + 8, 110)  # its middle is 64 mm from the bowl's, which is 57 mm wide
    assert exact.world.z[0] < 0.040
    assert np.linalg.norm(exact.world.position[0] - exact.world.position[4]) * PIXEL > 0.05


@pytest.mark.parametrize("name", ["O", "V"])
def test_holes_and_gaps_cannot_be_picked(exact, name):
    exact.reset(seed=0, options={"scene": scene(names=name * 3)})
    before = exact.world.position.copy()
    assert not exact.step(at(0, False))[-1]["picked"]
    assert np.array_equal(exact.world.position, before)


# --- Gymnasium ------------------------------------------------------------------------------------------------------


def test_gymnasiums_checker_passes():
    env = gym.make("llmrl/PickPlace-v0", mode="physics", render_mode="rgb_array")
    check_env(env.unwrapped)


def test_an_episode_is_its_seed_and_its_actions_whatever_was_played_before(env):
    fresh = made()
    episode(env, 7, np.random.default_rng(1))
    env.step(env.action_space.sample())
    first = episode(env, 3, np.random.default_rng(0))
    assert first == episode(fresh, 3, np.random.default_rng(0))
    assert first != episode(fresh, 4, np.random.default_rng(0))


def held_and_placed(env, seed=1):
    """All that an oracle's episode shows."""
    obs, info = env.reset(seed=seed)
    seen, over = [], False
    while not over:
        obs, reward, over, _, info = env.step(oracle.act(info["truth"], obs["position"]))
        seen += [*(obs[key].tobytes() for key in sorted(obs)), reward, info["truth"]["position"].tobytes()]
    return seen


def test_filming_changes_nothing_and_shows_the_motion(env, monkeypatch):
    monkeypatch.setattr(physics, "FRAME_STEPS", 40)  # a quarter of the pictures
    filmed = made(render=True)
    assert filmed.metadata["render_fps"] == 25
    assert held_and_placed(env) == held_and_placed(filmed)
    frames = filmed.render()
    assert len(frames) > 10 and frames[0].shape == (480, 480, 3)  # two primitives of a second or more
    assert sum((a != b).any() for a, b in zip(frames, frames[1:])) > 0.8 * len(frames)
    assert len(filmed.render()) == 1  # what is new since


def test_eval_films_what_a_list_holds(tmp_path):
    class Film(list):
        append_data, close = list.append, lambda self: None

    film = Film()
    watched = FirstEpisodeFilm(made(render=True), tmp_path / "video" / "x.mp4", lambda path, fps: film)
    watched.reset(seed=0)
    watched.step(at(0, True))  # a place of nothing moves nothing
    watched.close()
    assert {frame.shape for frame in film} == {(480 + BAND, 480, 3)}
    assert len(film) == 2 + 25  # the last one stays for a second


def test_tables_do_not_disturb_each_other():
    """Each has its own meshes in OpenGL, under the same numbers; one that is freed must leave the others' alone."""
    first, second = made(), made("blocks_short_horizon")
    pictures = [e.reset(seed=0)[0]["rgb"] for e in (first, second)]
    first.reset(seed=2)  # so that it is the one that drew last
    del second
    gc.collect()
    first.reset(seed=1, options={"letters": "unseen"})
    assert np.array_equal(first.reset(seed=0)[0]["rgb"], pictures[0])
    assert not np.array_equal(*pictures)


def test_the_picture_from_above_has_the_colours_as_they_are(exact):
    exact.reset(seed=0, options={"scene": scene(names="ORV")})
    rgb, height = exact.world.image()
    assert {tuple(c) for c in rgb.reshape(-1, 3).tolist()} == {BACKGROUND, *(COLOURS[c] for c in exact.scene.colours)}
    assert set(height.round(4).ravel().tolist()) <= {np.float32(h).item() for h in (0, 0.0199, 0.02, 0.035)}


def test_without_opengl_it_says_what_to_install(monkeypatch):
    class Nothing:
        def __init__(self, *size):
            raise RuntimeError("no driver")

    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setitem(sys.modules, "mujoco.egl", SimpleNamespace(GLContext=Nothing))
    with pytest.raises(ConfigError, match="MUJOCO_GL=egl: no driver\n.*make setup-render"):
        made()
