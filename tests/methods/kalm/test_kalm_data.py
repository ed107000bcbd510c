"""KALM's data: rollouts on disk as a Minari dataset, rollouts of others, and the run that makes them."""

import itertools
import json
import signal
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from command_line import in_process  # noqa: F401 (the fixture `llmrl`)
from conftest import Process, compose, only_run, run_directories, status
from test_clevr_robot import whole

from llmrl.checks import ConfigError
from llmrl.config import from_node, identity
from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot.authors import STEPS, imported
from llmrl.envs.clevr_robot.rollouts import FILE, ID, Rollouts, joined, load, save
from llmrl.gymnasium_ids import clevr_robot
from llmrl.methods.kalm import data as kalm_data
from llmrl.replay.dataset import load_minari
from llmrl.runs.files import read_json

h5py = pytest.importorskip("h5py")
minari = pytest.importorskip("minari")
RUN = ["method=kalm/data", "env=clevr_robot/base", "agent=fixed", "log.progress=false"]


def played(n=6, seed=0, *, states=True, sentences=("Push the red ball left", "Roll the cyan globe rearward")):
    """n episodes of the real environment with random actions, of 1 to 5 steps; the last one has 5."""
    rng, env = np.random.default_rng(seed), clevr_robot()
    out = Rollouts(
        observations=np.zeros((n, 6, 10), np.float32), actions=np.zeros((n, 5), np.int32),
        rewards=np.zeros((n, 5), np.float32), terminals=np.zeros((n, 5), bool), lengths=np.zeros(n, np.int32),
        goals=np.zeros((n, 6), np.int32), states=np.zeros((n, 6, 69)) if states else None,
        texts=rng.integers(2, size=n).astype(np.int32) if sentences else None, sentences=sentences or None,
    )  # fmt: skip
    for i in range(n):
        obs, info = env.reset(seed=i, options={"goal": g.BASE[7 * i % 80]})
        out.observations[i, 0], out.goals[i], over = obs, info["goal"], False
        if states:
            out.states[i, 0] = info["state"]
        while not over and out.lengths[i] < 5 - (n - 1 - i) % 5:
            t = out.lengths[i]
            out.actions[i, t] = rng.integers(40)
            obs, out.rewards[i, t], over, _, info = env.step(out.actions[i, t])
            out.observations[i, t + 1], out.terminals[i, t] = obs, over
            if states:
                out.states[i, t + 1] = info["state"]
            out.lengths[i] += 1
    return out


def assert_equal(a, b):
    for key, x in vars(a).items():
        np.testing.assert_array_equal(x, getattr(b, key), err_msg=key)


# --- on disk --------------------------------------------------------------------------------------------------------


def test_rollouts_come_back_and_minari_reads_them(tmp_path, monkeypatch):
    rollouts = played()
    file = save(tmp_path, rollouts, {"script": {"random": 0.1}})
    assert file == tmp_path / FILE
    assert_equal(load(tmp_path, with_states=True), rollouts)
    assert load(tmp_path).states is None
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset(ID)
    assert (len(dataset), dataset.total_steps) == (6, rollouts.lengths.sum())
    assert dataset.observation_space == clevr_robot().observation_space and dataset.action_space.n == 40
    for i, episode in enumerate(dataset):
        n = rollouts.lengths[i]
        np.testing.assert_array_equal(episode.observations, rollouts.observations[i, : n + 1])
        np.testing.assert_array_equal(episode.actions, rollouts.actions[i, :n])
        np.testing.assert_array_equal(episode.rewards.astype(np.float32), rollouts.rewards[i, :n])
        np.testing.assert_array_equal(episode.terminations, rollouts.terminals[i, :n])
        assert episode.truncations.sum() + episode.terminations.sum() == 1
        np.testing.assert_array_equal(episode.infos["state"], rollouts.states[i, : n + 1])
        assert (episode.infos["goal"] == rollouts.goals[i]).all() and len(episode.infos["goal"]) == n + 1
        assert episode.infos["sentence"][0].decode() == rollouts.sentences[rollouts.texts[i]]
    long = dataset.filter_episodes(lambda episode: len(episode) > 2)
    assert (
        len(long) == (rollouts.lengths > 2).sum() and long.total_steps == rollouts.lengths[rollouts.lengths > 2].sum()
    )
    assert len(minari.MinariDataset(tmp_path / ID / "data")[0]) == rollouts.lengths[0]


def test_equal_rollouts_give_equal_bytes(tmp_path):
    files = [save(tmp_path / name, played(), {}).parent for name in ("a", "b")]
    for name in ("main_data.hdf5", "metadata.json", "rollouts.npz"):
        assert (files[0] / name).read_bytes() == (files[1] / name).read_bytes(), name
    with h5py.File(files[0] / "main_data.hdf5") as written:  # no hidden time, which the same second would not show
        times = []
        written.visititems(lambda name, item: times.append(h5py.h5o.get_info(item.id).mtime))
    assert times and not any(times)


def test_rollouts_are_taken_joined_and_halved():
    rollouts = played(6, states=False, sentences=None)
    both = joined([rollouts.take(np.arange(6) < 2), rollouts.take(np.array([2, 3, 4, 5]))])
    assert_equal(both, rollouts)
    doubled = joined([rollouts, rollouts])
    assert_equal(doubled.first_of_each_goal(6), rollouts)
    with pytest.raises(ConfigError, match="6 goals with 2 rollouts or more; take a multiple of 6 up to 12"):
        doubled.first_of_each_goal(18)


def test_a_dataset_that_is_none_or_damaged_is_named(tmp_path):
    with pytest.raises(ConfigError, match="holds no rollouts"):
        load(tmp_path)
    file = save(tmp_path, played(2), {})
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ConfigError, match="damaged"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: a.pop("actions"), "missing or unknown: actions"),
        (lambda a: a.update(masks=a["lengths"]), "missing or unknown: masks"),
        (lambda a: a.update(observations=a["observations"][:-1]), r"rows of observations, not \d+"),
        (lambda a: a.update(goals=a["goals"][:1]), "1 rows of goals, not 3"),
        (lambda a: a.update(actions=a["actions"] + 0.5), "actions are float64"),
        (lambda a: a["lengths"].__setitem__(0, 0), "a rollout has no step"),
        (lambda a: a["texts"].__setitem__(0, 99), "texts are numbers of the 2 sentences"),
        (lambda a: a.update(observations=a["observations"][:, :7]), "observations of 7 numbers, and not 10"),
        (lambda a: a.update(states=a["states"][:, :7]), "states of 7 numbers, and not 69"),
        (lambda a: a["states"].__setitem__((0, 3), np.nan), "states hold NaN or infinity, first in rollout 0, step 0"),
    ],
)
def test_arrays_of_other_shapes_are_named_with_their_file(tmp_path, change, text):
    file = save(tmp_path, played(3), {})
    with np.load(file) as held:
        arrays = dict(held)
    change(arrays)
    np.savez(file, **arrays)
    with pytest.raises(ConfigError, match=text) as error:
        imported(tmp_path)
    assert str(tmp_path) in str(error.value)


# --- rollouts of others ---------------------------------------------------------------------------------------------


def in_authors_layout(rollouts):
    n = len(rollouts.lengths)
    arrays = {key: np.zeros((n, STEPS, 10), np.float32) for key in ("observations", "next_observations")}
    arrays |= {key: np.zeros((n, STEPS, 1), np.float32) for key in ("rewards", "terminals")}
    arrays |= {"actions": np.zeros((n, STEPS), np.int32), "masks": np.zeros((n, STEPS), np.float32)}
    arrays |= {"goals": np.zeros((n, STEPS, 6), np.int64), "states": np.ones((n, STEPS, 69), np.float32)}
    arrays["instructions"] = np.array([["Push the red ball behind the blue ball."] * 54] * n)
    for i, length in enumerate(rollouts.lengths):
        arrays["observations"][i, :length] = rollouts.observations[i, :length]
        arrays["next_observations"][i, :length] = rollouts.observations[i, 1 : length + 1]
        arrays["actions"][i, :length], arrays["masks"][i, :length] = rollouts.actions[i, :length], 1
        arrays["rewards"][i, :length, 0] = rollouts.rewards[i, :length]
        arrays["terminals"][i, :length, 0] = rollouts.terminals[i, :length]
        arrays["goals"][i, :length] = rollouts.goals[i]
    return arrays


def test_the_authors_file_is_read(tmp_path):
    rollouts = played(6, states=False, sentences=None)
    np.save(tmp_path / "clevr_robot.npy", in_authors_layout(rollouts))
    got = imported(tmp_path / "clevr_robot.npy")
    assert got.actions.shape == (6, STEPS)
    save(tmp_path / "ours", got, {})
    assert_equal(imported(tmp_path / "ours"), rollouts)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: a.pop("masks"), "masks missing; it has actions"),
        (lambda a: a.update(actions=a["actions"][:, :49]), r"actions has the shape \(3, 49\), and not \(3, 50\)"),
        (lambda a: a.update(observations=a["observations"][..., :9]), r"observations has the shape \(3, 50, 9\)"),
        (lambda a: a.update(actions=a["actions"] + 0.5), "actions are whole numbers"),
        (lambda a: a.update(actions=np.array(3)), "no rollout in it"),
        (lambda a: [a.__setitem__(key, x[:0]) for key, x in a.items()], "no rollout in it"),
        (lambda a: a["masks"].__setitem__((1, 9), 1), "masks are ones and then zeros.*rollout 1"),
        (lambda a: a["observations"].__setitem__((0, 0, 0), np.nan), "observations hold NaN"),
        (lambda a: a["actions"].__setitem__((0, 0), 40), "actions are 0 to 39, not 0 to 40"),
        (lambda a: a["goals"].__setitem__((0, slice(None), 5), 4), "is no goal"),
        (lambda a: a["goals"].__setitem__((2, 1, 5), 3), "goals change within"),
        (lambda a: a.update(goals=a["goals"] + 0.4), "goals are whole numbers"),
        (lambda a: a["masks"].__setitem__((0, 0), np.nan), "masks are whole numbers"),
        (lambda a: a.update(actions=a["actions"].astype(str)), "actions are <U.*not numbers"),
        (lambda a: a.update(rewards=a["rewards"].astype(object)), "rewards are object, and not numbers"),
    ],
)
def test_what_differs_from_the_authors_layout_is_named(tmp_path, change, text):
    arrays = in_authors_layout(played(3, states=False, sentences=None))
    change(arrays)
    np.save(tmp_path / "data.npy", arrays)
    with pytest.raises(ConfigError, match=text):
        imported(tmp_path / "data.npy")


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("/tmp/kalm_was_here"),)


@pytest.mark.parametrize("held", [{"actions": Harmful()}, np.zeros(3), [1]])
def test_a_file_that_holds_anything_else_is_refused_and_nothing_of_it_is_run(tmp_path, held):
    np.save(tmp_path / "data.npy", held, allow_pickle=True)
    with pytest.raises(ConfigError, match="authors' layout|no dict of arrays"):
        imported(tmp_path / "data.npy")
    assert not Path("/tmp/kalm_was_here").exists()


def test_what_minari_recorded_in_the_environment_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    recorder = minari.DataCollector(clevr_robot(max_episode_steps=3), record_infos=True)
    for seed in (0, 1):
        recorder.reset(seed=seed)
        while not any(recorder.step(recorder.action_space.sample())[2:4]):
            pass
    recorder.create_dataset("pushes-v0", algorithm_name="random")
    got = imported(tmp_path / "pushes-v0")
    assert got.observations.shape[2] == 10 and [g.tier_of(goal) for goal in got.goals] == ["base", "base"]
    assert np.isin(got.lengths, (1, 2, 3)).all()
    with pytest.raises(ConfigError, match="neither an .npy file"):
        imported(tmp_path)


class Altered(gym.Wrapper):
    """The environment with other goals in its infos, `goals` by turns."""

    def __init__(self, goals, **values):
        super().__init__(clevr_robot(**values))
        self.goals = itertools.cycle(goals)

    def reset(self, **options):
        seen, info = self.env.reset(**options)
        return seen, info | {"goal": next(self.goals)}

    def step(self, action):
        *rest, info = self.env.step(action)
        return *rest, info | {"goal": next(self.goals)}


BASE_GOAL, HARD_GOAL = g.BASE[0], g.hard_goal(g.ORDER)


@pytest.mark.parametrize(
    ("goals", "text"),
    [
        ([BASE_GOAL, BASE_GOAL, HARD_GOAL, HARD_GOAL], "goals of 6 and of 36 numbers: import hard goals apart"),
        ([BASE_GOAL, g.BASE[1]], "every episode needs one goal in its infos, which episode 0 has not"),
        ([np.float64(3)], "every episode needs one goal"),
    ],
)
def test_goals_that_a_recording_cannot_have_are_named(tmp_path, monkeypatch, goals, text):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    recorder = minari.DataCollector(Altered(goals, max_episode_steps=1), record_infos=True)
    for seed in (0, 1):
        recorder.reset(seed=seed)
        recorder.step(0)
    recorder.create_dataset("pushes-v0", algorithm_name="random")
    with pytest.raises(ConfigError, match=f"pushes-v0.*{text}"):
        imported(tmp_path / "pushes-v0")


def test_a_recording_with_googles_goals_or_a_damaged_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    recorder = minari.DataCollector(gym.make("llmrl/ClevrRobot-v0", goals="google", steps=1), record_infos=True)
    recorder.reset(seed=0)
    recorder.step(0)
    recorder.create_dataset("google-v0", algorithm_name="random")
    with pytest.raises(ConfigError, match="google-v0.*recorded with Google's goals"):
        imported(tmp_path / "google-v0")
    (tmp_path / "google-v0" / "data" / "main_data.hdf5").write_bytes(b"no dataset")
    for read in (lambda: imported(tmp_path / "google-v0"), lambda: load_minari("google-v0")):
        with pytest.raises(ConfigError, match="google-v0.*is damaged"):
            read()


def test_a_dataset_of_another_environment_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    for name, env in (("numbered", gym.make("FrozenLake-v1")), ("continuous", gym.make("Pendulum-v1"))):
        recorder = minari.DataCollector(env)
        recorder.reset(seed=0)
        for _ in range(3):
            recorder.step(recorder.action_space.sample())
        recorder.create_dataset(f"{name}-v0", algorithm_name="random")
        with pytest.raises(ConfigError, match=f"{name}-v0.* was not recorded in CLEVR-Robot"):
            imported(tmp_path / f"{name}-v0")


# --- the run --------------------------------------------------------------------------------------------------------


def test_a_run_collects_once_and_the_same_whatever_the_threads(llmrl, tmp_path):
    assert llmrl("check", *RUN).code == 0
    done = llmrl("run", *RUN, "method.rollouts=160", "method.with_states=true")
    assert done.code == 0, done.err
    run = only_run(tmp_path / "outputs")
    assert run.parts[-3:-1] == ("artifacts", "kalm_data")
    told = read_json(run / "result.json")["kalm_data"]
    assert (told["rollouts"], told["goals"], told["success"]) == (160, 80, 1)
    made = (run / kalm_data.PRODUCT).read_bytes()
    assert "nothing to do" in llmrl("run", *RUN, "method.rollouts=160", "method.with_states=true").out
    again = llmrl("run", *RUN, "method.rollouts=160", "method.with_states=true", "rerun=true", "compute.threads=2")
    assert again.code == 0 and (run / kalm_data.PRODUCT).read_bytes() == made
    whole = llmrl("run", *RUN, f"method.import_from={run}")
    assert whole.code == 0 and len(run_directories(tmp_path / "outputs")) == 3  # one of them set aside
    assert [r for r in run_directories(tmp_path / "outputs/artifacts") if (r / FILE).read_bytes() == made]


def test_all_tiers_and_evaluations_share_the_data():
    data = from_node(compose(RUN)).method
    configs = [whole(), whole("hard", "language=words", "stale_first_push=true"), whole("easy", "easy_judge=state")]
    runs = [kalm_data.run_of(replace(config, seed=i), data) for i, config in enumerate(configs)]
    assert identity(runs[0]) == identity(runs[1]) == identity(runs[2])
    velocity = kalm_data.run_of(whole("base", "obs_velocity=true"), data)
    assert identity(velocity) != identity(runs[0])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [(["method.rollouts=100"], "method.rollouts: must be a multiple of 80, the number of goals"),
     (["method.script.random=1.5"], "method.script.random"),
     (["method.import_from=/nowhere"], "method.import_from: /nowhere does not exist"),
     (["env=classic/cart_pole"], "method=kalm/data does not take env=classic/cart_pole")],
)  # fmt: skip
def test_wrong_values_are_named_and_nothing_is_left(llmrl, tmp_path, wrong, text):
    done = llmrl("run", *RUN, *wrong)
    assert done.code == 2 and text in done.err
    assert not run_directories(tmp_path)


def test_what_was_imported_may_go_but_must_have_been_there(llmrl, tmp_path):
    rollouts = played(80, states=False, sentences=None)
    rollouts = replace(rollouts, goals=g.BASE.astype(np.int32))
    np.save(tmp_path / "theirs.npy", in_authors_layout(rollouts))
    imports = [*RUN, f"method.import_from={tmp_path / 'theirs.npy'}"]
    assert llmrl("run", *imports).code == 0
    (tmp_path / "theirs.npy").unlink()
    assert "nothing to do" in llmrl("run", *imports).out
    kalm = ["experiment=kalm/clevr_quick", "env.language=words", "log.progress=false"]
    for alone in ([], ["method.imagined=[]"]):
        done = llmrl("run", *kalm, *alone, "method.data.import_from=/nowhere")
        assert done.code == 2 and "import_from: /nowhere does not exist" in done.err
    assert len(run_directories(tmp_path / "outputs")) == 1


def test_a_signal_ends_collecting_and_leaves_no_half_dataset(process, tmp_path):
    run: Process = process(*RUN, "method.rollouts=100000")
    outputs = tmp_path / "outputs"
    assert run.until(lambda: bool(found := run_directories(outputs)) and status(found[0]) == "RUNNING")
    done = run.send(signal.SIGTERM)
    assert done.code == 128 + signal.SIGTERM, done.err
    directory = only_run(outputs)
    assert status(directory) == "INTERRUPTED" and not (directory / FILE).exists()
    assert json.loads((directory / "identity.json").read_text())["method"]["rollouts"] == 100000
