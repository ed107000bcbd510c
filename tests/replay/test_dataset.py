"""Transitions, the sources that draw batches from them, Minari datasets, and the history that an agent acts by."""

from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from offline_training import CONTEXT, SENTENCES, STATE, WIDTH, WORDINGS, some_transitions

from llmrl.checks import ConfigError
from llmrl.envs.history import History, WithHistory
from llmrl.replay.dataset import Transitions, UniformTransitions, Windows, load_minari


@dataclass
class Rollouts:
    """What is padded holds numbers that must not be seen again."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    lengths: np.ndarray


def some_rollouts():
    """Two episodes: of three steps, which ends at its goal, and of two, which does not."""
    observations = np.full((2, 5, 1), np.nan, np.float32)
    observations[0, :4, 0], observations[1, :3, 0] = [0, 1, 2, 3], [10, 11, 12]
    actions, rewards = np.full((2, 4), -9), np.full((2, 4), np.nan)
    actions[0, :3], actions[1, :2] = [4, 5, 6], [7, 8]
    rewards[0, :3], rewards[1, :2] = [0.5, 0.5, 100], [1, 2]
    terminals = np.zeros((2, 4), bool)
    terminals[0, 2] = True
    return Rollouts(observations, actions, rewards, terminals, np.array([3, 2]))


def test_transitions_are_the_steps_without_the_padding():
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    data = Transitions.of(some_rollouts(), texts=np.array([2, 0]), table=table, wordings=2)
    assert data.state.ravel().tolist() == [0, 1, 2, 10, 11] and data.next_state.ravel().tolist() == [1, 2, 3, 11, 12]
    assert data.action.tolist() == [4, 5, 6, 7, 8] and data.reward.tolist() == [0.5, 0.5, 100, 1, 2]
    assert data.terminated.tolist() == [False, False, True, False, False]
    assert data.text.tolist() == [2, 2, 2, 0, 0] and data.obs_size == 3 and len(data) == 5
    assert data.episode.tolist() == [0, 0, 0, 1, 1] and data.returns.tolist() == [101, 3]
    assert data.earned.tolist() == [0, 0.5, 1, 0, 1]


def test_a_timeout_is_truncated_unless_the_authors_way_is_asked_for():
    data = Transitions.of(some_rollouts(), timeouts="terminated")
    assert data.terminated.tolist() == [False, False, True, False, True]


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda r: r.observations.__setitem__((1, 2), np.nan), "episode 1, step 1: next_state is not finite"),
        (lambda r: r.rewards.__setitem__((0, 1), np.inf), "episode 0, step 1: reward is not finite"),
        (lambda r: r.actions.__setitem__((0, 2), -1), "episode 0, step 2: the action is negative"),
        (lambda r: r.lengths.__setitem__(slice(None), 0), "it holds no transition"),
    ],
)
def test_what_cannot_be_learnt_from_is_named(change, told):
    rollouts = some_rollouts()
    change(rollouts)
    with pytest.raises(ConfigError, match=told):
        Transitions.of(rollouts)
    with pytest.raises(ConfigError, match="episode 1, step 0: its sentences are not in the table of 2 rows"):
        Transitions.of(some_rollouts(), texts=np.array([0, 1]), table=np.zeros((2, 3)), wordings=2)
    with pytest.raises(ConfigError, match="episode 0, step 2: it does not follow on the step before it"):
        data = Transitions.of(some_rollouts())
        replace(data, step=np.array([0, 2, 3, 0, 1]))


# --- sources --------------------------------------------------------------------------------------------------------


def test_a_batch_holds_whole_transitions_in_one_of_the_wordings_of_each():
    data = some_transitions()
    source = UniformTransitions([data], batch_size=500, discount=0.9)
    batch = source.draw(np.random.default_rng(0))
    found = [rows_of(data, obs) for obs in batch.obs.numpy()]
    place, wording = (np.array(column) for column in zip(*found))
    np.testing.assert_array_equal(batch.action, data.action[place])
    np.testing.assert_array_equal(batch.reward, data.reward[place])
    np.testing.assert_array_equal(batch.terminated, data.terminated[place])
    np.testing.assert_array_equal(batch.next_obs[:, :STATE], data.next_state[place])
    np.testing.assert_array_equal(batch.next_obs[:, STATE:], batch.obs[:, STATE:])
    assert batch.discount == 0.9 and batch.action.dtype == torch.int64
    assert set(place) == set(range(len(data))) and 200 < wording.sum() < 300


def rows_of(data, obs):
    """(the transition, which of its wordings) of an observation in a batch."""
    (place,) = np.flatnonzero((data.state == obs[:STATE]).all(1))
    (row,) = np.flatnonzero((data.table == obs[STATE:]).all(1))
    wording = row - data.text[place]
    assert 0 <= wording < WORDINGS
    return place, wording


def test_of_two_datasets_each_gives_half_of_every_batch_however_large_it_is():
    real, imagined = some_transitions(0, episodes=20), some_transitions(1, episodes=2)
    source = UniformTransitions([real, imagined], batch_size=9, discount=0.9)
    rng = np.random.default_rng(0)
    for _ in range(20):
        batch = source.draw(rng)
        for i, obs in enumerate(batch.obs.numpy()):
            rows_of(real if i < 5 else imagined, obs)  # the odd one is real
    assert UniformTransitions([real], batch_size=4, discount=None).draw(rng).next_obs is None


def test_a_source_has_no_state_of_its_own():
    source = UniformTransitions([some_transitions()], batch_size=8, discount=0.9)
    source.draw(np.random.default_rng(5))
    first, second = (source.draw(np.random.default_rng(0)) for _ in range(2))
    assert torch.equal(first.obs, second.obs) and torch.equal(first.action, second.action)


def test_datasets_that_do_not_fit_together_are_refused():
    with pytest.raises(ConfigError, match="the parts' observations differ: 3 of 8 and 3 of 3"):
        UniformTransitions([some_transitions(), some_transitions(texts=False)], batch_size=4, discount=1.0)


def test_windows_are_what_an_agent_would_have_seen_by_its_history():
    data = some_transitions(episodes=30, texts=False)
    source = Windows([data], batch_size=200, context=CONTEXT)
    batch = source.draw(np.random.default_rng(0))
    seen = {}
    for start in np.flatnonzero(data.step == 0):
        history = History(data.state[start : start + 1], CONTEXT)
        for at in range(start, start + int((data.episode == data.episode[start]).sum())):
            seen[data.state[at].tobytes()] = at, {key: x[0] for key, x in history.seen().items()}
            if at + 1 < len(data):
                history.add(data.action[at : at + 1], data.reward[at : at + 1], data.state[at + 1 : at + 2])
    assert set(batch.obs["length"].tolist()) == set(range(1, CONTEXT + 1))
    for i, length in enumerate(batch.obs["length"].tolist()):
        at, expected = seen[batch.obs["state"][i, length - 1].numpy().tobytes()]
        assert length == expected["length"]
        np.testing.assert_array_equal(batch.obs["state"][i, :length], expected["state"][:length])
        np.testing.assert_array_equal(batch.obs["action"][i, : length - 1], expected["action"][: length - 1])
        assert batch.obs["action"][i, length - 1] == data.action[at]
        np.testing.assert_allclose(batch.obs["earned"][i, :length], expected["earned"][:length], atol=1e-5)
        assert batch.reward[i] == pytest.approx(data.returns[data.episode[at]], rel=1e-5)


def test_windows_say_a_goal_in_one_wording_throughout():
    data = some_transitions()
    batch = Windows([data, data], batch_size=50, context=CONTEXT).draw(np.random.default_rng(0))
    vectors = batch.obs["state"][..., STATE:]
    assert vectors.shape == (50, CONTEXT, WIDTH) and (vectors == vectors[:, :1]).all()
    assert len({row.numpy().tobytes() for row in vectors[:, 0]}) > SENTENCES // 2


# --- history --------------------------------------------------------------------------------------------------------


def test_an_environment_shows_its_history_and_several_at_once_are_as_each_alone():
    envs = [WithHistory(gym.make("CartPole-v1"), 3) for _ in range(2)]
    plain = [gym.make("CartPole-v1") for _ in range(2)]
    shown = [env.reset(seed=i)[0] for i, env in enumerate(envs)]
    history = History(np.stack([env.reset(seed=i)[0] for i, env in enumerate(plain)]), 3)
    for t in range(6):
        actions = np.array([t % 2, 1])
        assert all(env.observation_space.contains(obs) for env, obs in zip(envs, shown))
        for key, rows in history.seen().items():
            np.testing.assert_array_equal(rows, np.stack([obs[key] for obs in shown]))
        assert shown[0]["length"] == min(t + 1, 3)
        np.testing.assert_array_equal(shown[0]["earned"][: shown[0]["length"]], np.arange(t + 1)[-3:])
        shown = [env.step(action)[0] for env, action in zip(envs, actions)]
        history.add(actions, np.ones(2), np.stack([env.step(action)[0] for env, action in zip(plain, actions)]))
    assert shown[0]["action"].tolist() == [0, 1, 0] and shown[1]["action"].tolist() == [1, 1, 0]
    history.keep(np.array([False, True]))
    np.testing.assert_array_equal(history.seen()["state"][0], shown[1]["state"])


# --- Minari ---------------------------------------------------------------------------------------------------------


def recorded(directory, monkeypatch, env, episodes, name):
    """A dataset that Minari itself has recorded, of a policy that takes actions by turns."""
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(directory))
    recorder, still = minari.DataCollector(env), np.zeros(env.action_space.shape, np.float32)
    for seed in range(episodes):
        recorder.reset(seed=seed)
        for t in range(8):
            _, _, terminated, truncated, _ = recorder.step(t % 2 if hasattr(env.action_space, "n") else still)
            if terminated or truncated:
                break
    about = {"description": "Actions by turns.", "author": "a test", "code_permalink": "none", "eval_env": env.spec}
    data = recorder.create_dataset(dataset_id=name, algorithm_name="by turns", author_email="none", **about)
    recorder.close()
    return data


def test_a_minari_dataset_is_read_by_id_and_by_directory(tmp_path, monkeypatch):
    env = gym.make("CartPole-v1", max_episode_steps=6)
    theirs = recorded(tmp_path, monkeypatch, env, 3, "cart_pole/turns-v0")
    data = load_minari("cart_pole/turns-v0")
    episodes = list(theirs.iterate_episodes())
    np.testing.assert_array_equal(data.state, np.concatenate([e.observations[:-1] for e in episodes]))
    np.testing.assert_array_equal(data.next_state, np.concatenate([e.observations[1:] for e in episodes]))
    np.testing.assert_array_equal(data.action, np.concatenate([e.actions for e in episodes]))
    assert data.step.tolist() == [*range(6)] * 3 and not data.terminated.any() and (data.reward == 1).all()
    other = load_minari(str(tmp_path / "cart_pole" / "turns-v0"), timeouts="terminated")
    assert other.terminated.sum() == 3 and (other.state == data.state).all()


def test_a_dataset_that_is_missing_or_of_another_kind_is_named(tmp_path, monkeypatch):
    recorded(tmp_path, monkeypatch, gym.make("Pendulum-v1"), 1, "pendulum/still-v0")
    with pytest.raises(ConfigError, match="has the actions Box.*need actions 0, 1"):
        load_minari("pendulum/still-v0")
    with pytest.raises(ConfigError, match="there is no Minari dataset nobody/knows-v0.*minari download"):
        load_minari("nobody/knows-v0")
