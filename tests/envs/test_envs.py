"""Environments: an episode is its seed and its actions; ends, rewards and pictures are what they should be."""

import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import ValidationError

from llmrl.checks import ConfigError
from llmrl.config import checked
from llmrl.envs import atari, classic, mujoco

CONF = Path(__file__).parents[2] / "conf"
SUITES = {"atari": atari, "mujoco": mujoco, "classic": classic}
GAMES = sorted(path.stem for path in (CONF / "env" / "atari").glob("[!_]*.yaml"))


@pytest.fixture
def conf(tmp_path):
    """A function (task, *overrides) -> Config, with conf/env below a root config of its own."""
    (tmp_path / "env").symlink_to(CONF / "env", target_is_directory=True)
    (tmp_path / "run.yaml").write_text("defaults: [{env: atari/freeway}, {experiment: null}, _self_]\n")
    (tmp_path / "experiment").mkdir()
    overrides = "[{override /env: atari/alien}, {override /env/atari/preprocess: llm_explorer}]"
    (tmp_path / "experiment" / "preset.yaml").write_text(f"# @package _global_\ndefaults: {overrides}\n")

    def make_config(*overrides):
        with initialize_config_dir(str(tmp_path), version_base=None):
            node = OmegaConf.to_container(compose("run", list(overrides)), resolve=True)["env"]
        return checked(SUITES[node["suite"]].Config, node)

    return make_config


def make(config, role="train", **kwargs):
    return SUITES[config.suite].make(config, role, **kwargs)


def some_actions(env, n, seed=0):
    rng = np.random.default_rng(seed)
    if isinstance(env.action_space, gym.spaces.Discrete):
        return rng.integers(env.action_space.n, size=n)
    return rng.uniform(env.action_space.low, env.action_space.high, (n, *env.action_space.shape)).astype(np.float32)


def play(env, seed, actions):
    """All that an episode shows, up to its end; of observations a hash."""
    seen = [(hash(env.reset(seed=seed)[0].tobytes()),)]
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        seen.append((hash(obs.tobytes()), reward, terminated, truncated, info.get("reward_env"), info.get("life_lost")))
        if terminated or truncated:
            break
    return seen


# ---- an episode is its seed and its actions

EXACT = [
    ["env=mujoco/half_cheetah"],
    ["env=mujoco/humanoid"],
    ["env=mujoco/humanoid", "env.version=4"],
    ["env=classic/cart_pole"],
    ["env=classic/acrobot"],
    ["env=atari/breakout"],
    ["env=atari/breakout", "env/atari/preprocess=llm_explorer"],
    ["env=atari/seaquest", "env.preprocess.sticky=0.25"],
]


@pytest.mark.parametrize("overrides", EXACT, ids=" ".join)
def test_an_episode_is_its_seed_and_its_actions(conf, overrides):
    config = conf(*overrides)
    env, fresh = make(config), make(config)
    actions = some_actions(env, 150)
    expected = play(env, 7, actions)
    assert len(expected) > 5
    play(env, 8, some_actions(env, 40, seed=1))  # and reset in the middle of this one
    again = play(env, 7, actions)
    assert again == expected and play(fresh, 7, actions) == expected


@pytest.mark.parametrize("game", GAMES)
def test_every_game_is_exact_without_loading_its_rom_again(conf, game):
    config = conf(f"env=atari/{game}", "env.preprocess.sticky=0.25")
    env = make(config)
    actions = some_actions(env, 60)
    expected = play(env, 1, actions), env.ale.getRAM().tobytes()
    play(env, 2, some_actions(env, 90, seed=3))
    assert (play(env, 1, actions), env.ale.getRAM().tobytes()) == expected


@pytest.mark.parametrize("task", ["mujoco/hopper", "classic/cart_pole", "atari/breakout"])
def test_another_seed_is_another_episode(conf, task):
    env = make(conf(f"env={task}"))
    actions = some_actions(env, 30)
    assert len({str(play(env, seed, actions)) for seed in range(5)}) > 1


def test_nothing_touches_the_global_generator(conf):
    before = np.random.get_state()[1].copy()
    env = make(conf("env=atari/pong", "env.preprocess.sticky=0.5"))
    play(env, 0, some_actions(env, 20))
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.filterwarnings("ignore")  # the checker's advice on style and on rendering
@pytest.mark.parametrize("task", ["atari/pong", "mujoco/swimmer", "classic/pendulum"])
def test_gymnasium_finds_no_fault(conf, task):
    check_env(make(conf(f"env={task}")).unwrapped, skip_render_check=True)


# ---- how episodes end


def test_a_time_limit_truncates(conf):
    env = make(conf("env=classic/pendulum", "env.max_episode_steps=3"))
    ends = [row[2:4] for row in play(env, 0, some_actions(env, 10))[1:]]
    assert ends == [(False, False), (False, False), (False, True)]


def test_a_fall_terminates(conf):
    env = make(conf("env=mujoco/hopper"))
    seen = play(env, 0, some_actions(env, 1000))
    assert seen[-1][2:4] == (True, False) and len(seen) < 1000


def test_atari_truncates_after_max_frames_and_terminates_at_game_over(conf):
    noop = [0] * 400
    env = make(conf("env=atari/breakout", "env.preprocess.max_frames=400", "env.preprocess.noop_max=0"))
    seen = play(env, 0, noop)
    assert seen[-1][2:4] == (False, True)
    assert len(seen) - 1 == 98  # FIRE and the action after it took 8 of the 400 frames
    env = make(conf("env=atari/breakout", "env/atari/preprocess=llm_explorer"))
    seen = play(env, 0, some_actions(env, 3000))
    assert seen[-1][2:4] == (True, False)


def test_a_lost_life_is_reported_in_training_only_and_the_game_goes_on(conf):
    config = conf("env=atari/breakout")
    actions = some_actions(make(config), 3000)
    seen = play(make(config), 0, actions)
    lost = [step for step, row in enumerate(seen[1:]) if row[5]]
    assert len(lost) == 5 and not seen[1 + lost[0]][2] and seen[1 + lost[-1]][2]
    in_evaluation = play(make(config, "eval"), 0, actions)
    assert {row[5] for row in in_evaluation[1:]} == {None}
    assert [row[0] for row in in_evaluation] == [row[0] for row in seen]  # otherwise the same game


# ---- rewards and pictures


def test_clipped_rewards_come_with_the_games_own(conf):
    config = conf("env=atari/ms_pacman")
    actions = some_actions(make(config), 100)
    learnt, own = zip(*[(row[1], row[4]) for row in play(make(config), 0, actions)[1:]])
    assert set(learnt) == {0.0, 1.0} and set(own) >= {0.0, 10.0} and np.array_equal(np.sign(own), learnt)
    assert [row[1] for row in play(make(config, "eval"), 0, actions)[1:]] == list(own)


def test_observations_are_new_arrays_with_the_newest_frame_last(conf):
    env = make(conf("env=atari/pong"))
    first, _ = env.reset(seed=0)
    assert first.shape == (4, 84, 84) and first.dtype == np.uint8 and first in env.observation_space
    assert all((first[i] == first[3]).all() for i in range(4))  # padded with the first frame
    kept = first.copy()
    second = env.step(2)[0]
    third = env.step(2)[0]
    assert (third[:-1] == second[1:]).all() and (second[:-1] == first[1:]).all() and (first == kept).all()
    assert not (third[-1] == first[-1]).all()


def test_the_papers_crop_keeps_rows_18_to_101_of_a_110_high_picture(conf):
    import cv2

    env = make(conf("env=atari/alien", "env/atari/preprocess=llm_explorer"))
    obs, _ = env.reset(seed=0)
    small = cv2.resize(env.ale.getScreenGrayscale(), (84, 110), interpolation=cv2.INTER_AREA)
    assert (obs[-1] == small[18:102]).all()


@pytest.mark.parametrize("game", ["breakout", "freeway", "ms_pacman", "pong"])
def test_standard_preprocessing_equals_stable_baselines3(conf, game):
    """Same frames and rewards as AtariWrapper on the same actions, up to the first lost life (there it plays a no-op).

    It takes the maximum of coloured pictures and turns them gray afterwards. It gets ALE's gray ones here, as three
    equal channels, which its conversion keeps as they are.
    """
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.atari_wrappers import AtariWrapper, NoopResetEnv

    theirs = gym.make(atari_id(game), obs_type="grayscale", frameskip=1, repeat_action_probability=0.0)
    space = gym.spaces.Box(0, 255, (210, 160, 3), np.uint8)
    theirs = AtariWrapper(gym.wrappers.TransformObservation(theirs, lambda x: np.stack([x] * 3, -1), space))
    noop = theirs
    while not isinstance(noop, NoopResetEnv):
        noop = noop.env
    noop.override_num_noops = 17

    ours = make(conf(f"env=atari/{game}", "env.preprocess.noop_max=17"))
    seed = next(s for s in range(1000) if np.random.default_rng(s).integers(1, 18) == 17)
    obs, expected = ours.reset(seed=seed)[0], theirs.reset(seed=0)[0]
    assert (obs[-1] == expected[..., 0]).all()
    frames = [expected[..., 0]] * 4
    for action in some_actions(ours, 200):
        obs, reward, terminated, truncated, info = ours.step(action)
        expected, their_reward, done, _, _ = theirs.step(action)
        frames = [*frames[1:], expected[..., 0]]
        assert (obs == np.stack(frames)).all() and reward == their_reward
        assert done == (terminated or info["life_lost"])
        if done:
            break


def atari_id(game):
    import ale_py

    gym.register_envs(ale_py)
    return f"ALE/{''.join(word.capitalize() for word in game.split('_'))}-v5"


def test_max_pool_takes_the_brighter_of_the_last_two_frames(conf):
    still = ["env.preprocess.noop_max=0", "env.preprocess.fire_reset=false"]
    pooled = make(conf("env=atari/pong", *still))
    single = make(conf("env=atari/pong", *still, "env.preprocess.frame_skip=1", "env.preprocess.max_pool=false"))
    pooled.reset(seed=0), single.reset(seed=0)
    for action in [0, 2, 2, 3, 1, 3, 3, 2] * 5:
        frames = []
        for _ in range(4):
            single.step(action)
            frames.append(single.ale.getScreenGrayscale())
        picture = np.empty((84, 84), np.uint8)
        pooled._resize(np.maximum(frames[2], frames[3]), picture)
        assert (pooled.step(action)[0][-1] == picture).all()


def test_sticky_actions_repeat_what_was_executed(conf):
    always = make(conf("env=atari/pong", "env/atari/preprocess=llm_explorer", "env.preprocess.sticky=1"))
    never = make(conf("env=atari/pong", "env/atari/preprocess=llm_explorer", "env.preprocess.sticky=0"))
    actions = some_actions(never, 40)
    assert play(always, 0, actions) == play(never, 0, [0] * 40)  # an episode starts with a no-op held
    assert play(always, 0, actions) != play(never, 0, actions)


def test_the_share_of_sticky_frames_is_as_asked(conf):
    env = make(conf("env=atari/freeway", "env/atari/preprocess=llm_explorer"))
    env.reset(seed=0)
    repeated = 0
    for frame in range(4000):  # up, down, up, … : a repeated action is the other one
        env._play_frame(env._actions[1 + frame % 2])
        repeated += env._held != env._actions[1 + frame % 2]
    # x = P(held is the other one) = p (1 - x) with p = 0.25, as the wish alternates
    assert repeated / 4000 == pytest.approx(0.25 / 1.25, abs=0.03)


# ---- configuration


def test_preprocessing_is_chosen_by_name_by_key_and_by_preset(conf):
    assert conf().preprocess.sticky == 0 and conf().preprocess.max_pool
    chosen = conf("env/atari/preprocess=llm_explorer", "env.preprocess.max_frames=800")
    assert (chosen.preprocess.sticky, chosen.preprocess.max_pool, chosen.preprocess.max_frames) == (0.25, False, 800)
    preset = conf("experiment=preset", "env.preprocess.sticky=0.1")
    assert (preset.game, preset.preprocess.resize, preset.preprocess.sticky) == ("alien", "crop_110x84", 0.1)
    assert conf().frames_per_step == 4 and conf("env=mujoco/ant").frames_per_step == 1


WRONG = {
    "version": ["env=mujoco/hopper", "env.version=3"],
    "sticky": ["env.preprocess.sticky=1.5"],
    "resize": ["env.preprocess.resize=big"],
    "max_pool: needs two frames": ["env.preprocess.frame_skip=1"],
    "task: end not given": ["env.task.end=null"],
    "framestack": ["+env.preprocess.framestack=2"],
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_value_is_named(conf, message):
    with pytest.raises(ValidationError, match=message):
        conf(*WRONG[message])


def test_all_actions_can_be_had(conf):
    env = make(conf("env=atari/alien", "env.preprocess.full_action_space=true"))
    assert env.action_space.n == 18
    env = make(conf("env=atari/pong", "env.preprocess.full_action_space=true"))
    assert env.action_space.n == 18


UNKNOWN = {
    "ALE has no game 'pongg'. Its games: adventure": ["env=atari/pong", "env.game=pongg"],
    "gymnasium has no Hoppper-v5": ["env=mujoco/hopper", "env.robot=Hoppper"],
    "env.id: .*CartPoll": ["env=classic/cart_pole", "env.id=CartPoll-v1"],
}


@pytest.mark.parametrize("message", UNKNOWN)
def test_an_unknown_environment_is_named(conf, message):
    with pytest.raises(ConfigError, match=message):
        make(conf(*UNKNOWN[message]))


MISSING = [
    ("ale_py", "ale-py", "atari/pong"),
    ("cv2", "opencv-python-headless", "atari/pong"),
    ("mujoco", "gymnasium.mujoco", "mujoco/ant"),
]


@pytest.mark.parametrize(("module", "package", "task"), MISSING)
def test_a_missing_package_is_named(conf, monkeypatch, module, package, task):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"needs {package}.*pip install"):
        make(conf(f"env={task}"))


# ---- drawing


def test_drawing(conf, monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    picture = make(conf("env=atari/pong"), "eval", render=True)
    picture.reset(seed=0)
    assert picture.render().shape == (210, 160, 3)
    try:
        env = make(conf("env=mujoco/swimmer"), "eval", render=True)
    except ConfigError as error:  # a machine without any driver
        assert "make setup-render" in str(error)
    else:
        assert env.render().ndim == 3
        env.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of gymnasium's half-built viewer
@pytest.mark.parametrize("robot", ["ant", "half_cheetah", "hopper", "humanoid", "swimmer", "walker2d"])
def test_a_robot_that_runs_away_stays_in_the_picture(conf, robot):
    try:
        env = make(conf(f"env=mujoco/{robot}"), "eval", render=True)
    except ConfigError as error:
        assert "make setup-render" in str(error)
        return
    env.reset(seed=0)
    body = []
    for x in (0.0, 40.0):
        world = env.unwrapped
        position = world.data.qpos.copy()
        position[0] += x
        world.set_state(position, world.data.qvel.copy())
        picture = env.render().astype(int)
        body.append((picture[..., 0] - picture[..., 2] > 30).sum())  # bodies are brown, floor and sky are not
    assert body[0] > 500 and body[1] > 0.5 * body[0]


def test_a_renderer_that_cannot_be_had_says_what_to_install(conf, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "no-such-backend")
    with pytest.raises(ConfigError, match="MUJOCO_GL=no-such-backend.*\n.*make setup-render"):
        make(conf("env=mujoco/swimmer"), "eval", render=True)


def test_version_4_is_made_without_a_warning(conf, recwarn):
    env = make(replace(conf("env=mujoco/half_cheetah"), version=4))
    assert env.spec.id == "HalfCheetah-v4" and not [w for w in recwarn if "out of date" in str(w.message)]
