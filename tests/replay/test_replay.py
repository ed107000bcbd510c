"""Replay buffers give back exactly what was put in, through wrap-arounds, episode ends and checkpoints; and ask for the
right number of updates."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_agents import FRAMES, make, random_steps, vectors

from llmrl.contracts.explorer import Clock
from llmrl.contracts.replay import Step
from llmrl.replay.frames import FrameReplay
from llmrl.replay.ring import Ring, Sampling
from llmrl.replay.uniform import UniformReplay

CPU = SimpleNamespace(device=torch.device("cpu"))
PIXELS = spaces.Box(0, 255, (4, 3, 3), np.uint8)
DICT = spaces.Dict({"pose": vectors(3), "grid": spaces.Box(0, 1, (2, 2))})


def sampling(batch_size=32, starts=0, rate=1.0, replacement=True):
    return Sampling(batch_size, starts, rate, 0.9, replacement)


# --- vectors --------------------------------------------------------------------------------------------------------


def leaves(obs):
    return [obs[key] for key in sorted(obs)] if isinstance(obs, dict) else [obs]


def key_of(obs, action, reward, next_obs, terminated):
    """A transition as something that can be looked up."""
    parts = [*leaves(obs), action, reward, *leaves(next_obs), terminated]
    return tuple(np.concatenate([np.asarray(p, np.float32).ravel() for p in parts]).tolist())


def keys_of(batch):
    rows = (batch.action, batch.reward, batch.terminated)
    for i in range(len(batch.reward)):
        obs, next_obs = (
            {k: v[i] for k, v in o.items()} if isinstance(o, dict) else o[i] for o in (batch.obs, batch.next_obs)
        )
        yield key_of(obs, rows[0][i], rows[1][i], next_obs, rows[2][i])


@pytest.mark.parametrize("actions", [spaces.Discrete(5), spaces.Box(-2, 3, (2,))])
@pytest.mark.parametrize("space", [vectors(6), DICT])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_every_drawn_transition_is_one_of_the_newest(space, actions, n_envs):
    rng = np.random.default_rng(0)
    buffer = UniformReplay(space, actions, capacity=20, sampling=sampling())
    stored = []
    for step in random_steps(space, actions, 30, rng, n_envs):
        buffer.add(step)
        for i in range(n_envs):
            obs, next_obs = (
                {k: v[i] for k, v in o.items()} if isinstance(o, dict) else o[i] for o in (step.obs, step.next_obs)
            )
            stored.append(key_of(obs, step.action[i], step.reward[i], next_obs, step.terminated[i]))
        drawn = {key for batch in buffer.batches(2, rng, CPU) for key in keys_of(batch)}
        assert drawn <= set(stored[-20:])
    drawn = {key for batch in buffer.batches(20, rng, CPU) for key in keys_of(batch)}
    assert drawn == set(stored[-20:])
    batch = next(buffer.batches(1, rng, CPU))
    assert batch.discount == 0.9 and batch.action.dtype == (torch.int64 if actions.shape == () else torch.float32)
    if space is DICT:
        assert batch.obs["grid"].shape == (32, 2, 2)


def test_batches_without_replacement_hold_no_row_twice():
    rng = np.random.default_rng(0)
    draws = sampling(replacement=False).draw(50, rng, 40)
    assert all(len(set(row)) == 32 for row in draws.tolist()) and set(draws.ravel()) == set(range(40))
    assert sampling(replacement=False).draw(1, rng, 5).max() < 5  # fewer rows than a batch: with replacement


def test_large_discrete_actions_survive_float32():
    buffer = UniformReplay(vectors(1), spaces.Discrete(10**6), capacity=4, sampling=sampling(1))
    one = np.zeros((1, 1), np.float32)
    buffer.add(Step(one, np.array([999_999]), np.zeros(1), one, np.array([False]), np.array([False])))
    assert next(buffer.batches(1, np.random.default_rng(0), CPU)).action.tolist() == [999_999]


# --- frames ---------------------------------------------------------------------------------------------------------


def play(n, n_envs, rng, padding="repeat", mean_length=7):
    """Steps of frame stacks whose frames are all different, with lost lives, terminations and truncations."""
    count = 0

    def frame():
        nonlocal count
        count += 1
        return np.frombuffer(np.array([count, 0, 0], np.int32).tobytes()[:9], np.uint8).reshape(3, 3)

    def first_stack():
        first = frame()
        return np.stack([first if padding == "repeat" else np.zeros_like(first)] * 3 + [first])

    stacks = [first_stack() for _ in range(n_envs)]
    for _ in range(n):
        obs = np.stack(stacks)
        next_obs = np.stack([np.concatenate([stack[1:], frame()[None]]) for stack in stacks])
        last = rng.random(n_envs) < 1 / mean_length
        terminated = (last & (rng.random(n_envs) < 0.5)) | (rng.random(n_envs) < 0.1)  # a truncation, or a lost life
        stacks = [first_stack() if over else stack for over, stack in zip(last, next_obs)]
        action, reward = rng.integers(6, size=n_envs), rng.standard_normal(n_envs).astype("f")
        yield Step(obs, action, reward, next_obs, terminated, last)


def fill(buffer, steps):
    """Adds the steps; returns all transitions, stored naively as full stacks."""
    naive = []
    for step in steps:
        buffer.add(step)
        naive += [[key_of(step.obs[i], *(x[i] for x in step[1:5])) for i in range(len(step.reward))]]
    return naive


@pytest.mark.parametrize("padding", ["repeat", "zeros"])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_every_stack_is_the_one_of_a_naive_replay_buffer(n_envs, padding):
    rng = np.random.default_rng(1)
    buffer = FrameReplay(PIXELS, spaces.Discrete(6), capacity=60, n_envs=n_envs, sampling=sampling())
    steps, naive = play(330, n_envs, rng, padding, mean_length=100), []
    for _ in range(30):  # the replay buffer goes round more than five times
        naive += fill(buffer, itertools.islice(steps, 11))
        newest = {key for row in naive[-60 // n_envs :] for key in row}
        drawn = {key for batch in buffer.batches(4, rng, CPU) for key in keys_of(batch)}
        assert drawn <= newest
    everything = {key for batch in buffer.batches(40, rng, CPU) for key in keys_of(batch)}
    assert len(everything) >= 0.9 * 60 and everything <= newest


@pytest.mark.parametrize("stack", [1, 2, 4, 5])
def test_row_i_of_a_batch_is_the_step_at_place_i_laid_out_for_convolutions(stack):
    rng = np.random.default_rng(4)
    n_envs, n = 2, 15
    space = spaces.Box(0, 255, (stack, 6, 5), np.uint8)
    buffer = FrameReplay(space, spaces.Discrete(6), capacity=n_envs * n, n_envs=n_envs, sampling=sampling())
    frames = rng.integers(256, size=(n_envs, n + stack, 6, 5), dtype=np.uint8)
    stacks = np.stack([frames[:, i : i + stack] for i in range(n + 1)], axis=1)  # (n_envs, n + 1, *obs)
    zeros, no = np.zeros(n_envs), np.zeros(n_envs, bool)
    for i in range(n):
        buffer.add(Step(stacks[:, i], np.full(n_envs, i % 6), zeros, stacks[:, i + 1], no, no))
    env, at, later = rng.integers(n_envs, size=40), rng.integers(n, size=40), rng.integers(n, size=40)
    for last in (at, later):  # of the same step, and of a later one, as n-step returns ask for
        final = None if last is at else env * n + last
        batch = buffer.batch(env * n + at, CPU, final)
        np.testing.assert_array_equal(batch.obs, stacks[env, at])
        np.testing.assert_array_equal(batch.next_obs, stacks[env, last + 1])
        np.testing.assert_array_equal(batch.action, at % 6)
        for obs in (batch.obs, batch.next_obs):
            assert obs.is_contiguous(memory_format=torch.channels_last)


def test_very_short_episodes_forget_a_little_earlier_but_never_mix():
    rng = np.random.default_rng(2)
    buffer = FrameReplay(PIXELS, spaces.Discrete(6), capacity=100, n_envs=1, sampling=sampling())
    naive = fill(buffer, play(400, 1, rng, mean_length=3))
    drawn = {key for batch in buffer.batches(50, rng, CPU) for key in keys_of(batch)}
    assert drawn <= {key for row in naive[-100:] for key in row} and len(drawn) > 30
    assert naive[-1][0] in drawn  # the newest step can be drawn at once


def test_observations_that_are_no_stacks_are_refused():
    buffer = FrameReplay(PIXELS, spaces.Discrete(6), capacity=60, n_envs=1, sampling=sampling())
    step = next(iter(play(1, 1, np.random.default_rng(0))))
    with pytest.raises(ValueError, match="not stacks of frames"):
        buffer.add(step._replace(next_obs=step.next_obs[:, ::-1]))


def test_a_million_atari_transitions_take_less_than_8_gb():
    atari = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    # reserved, not touched: the pages of zeros cost nothing until something is written
    buffer = FrameReplay(atari, spaces.Discrete(18), capacity=1_000_000, n_envs=1, sampling=sampling())
    assert sum(column.nbytes for ring in buffer.rings().values() for column in ring.columns.values()) < 8e9


# --- checkpoints ----------------------------------------------------------------------------------------------------


def saved_in_chunks(buffer, boundaries, chunks):
    """What a checkpoint does: appends the rows since the last one, per ring."""
    for name, ring in buffer.rings().items():
        start = boundaries.get(name, 0)
        first = max(start, ring.total - ring.capacity)
        chunks.setdefault(name, []).append((first, {k: v.copy() for k, v in ring.rows(first, ring.total).items()}))
        boundaries[name] = ring.total


@pytest.mark.parametrize("kind", ["frames", "vectors"])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_a_replay_buffer_loaded_from_chunks_goes_on_like_the_old_one(kind, n_envs):
    def new():
        if kind == "frames":
            return FrameReplay(PIXELS, spaces.Discrete(6), capacity=50, n_envs=n_envs, sampling=sampling())
        return UniformReplay(vectors(2), spaces.Discrete(6), capacity=50, sampling=sampling())

    rng = np.random.default_rng(3)
    six = spaces.Discrete(6)
    source = play(230, n_envs, rng) if kind == "frames" else random_steps(vectors(2), six, 230, rng, n_envs)
    buffer, boundaries, chunks, twin = new(), {}, {}, None
    for number, step in enumerate(source):
        buffer.add(step)
        if twin is not None:
            twin.add(step)
        if number % 13 == 12:
            if twin is not None:
                same_draws(buffer, twin)
            saved_in_chunks(buffer, boundaries, chunks)
            twin = new()
            for name, ring in twin.rings().items():
                for start, rows in chunks[name]:
                    ring.load(start, rows)
            twin.load_state_dict(buffer.state_dict())
            same_draws(buffer, twin)


def same_draws(buffer, other):
    for a, b in zip(
        buffer.batches(3, np.random.default_rng(1), CPU), other.batches(3, np.random.default_rng(1), CPU), strict=True
    ):
        assert list(keys_of(a)) == list(keys_of(b))


def test_a_ring_refuses_rows_that_it_does_not_hold():
    ring = Ring(x=np.zeros(4))
    for i in range(6):
        ring.columns["x"][ring.advance(1)] = i
    assert ring.rows(2, 6)["x"].tolist() == [2, 3, 4, 5] and ring.rows(3, 3)["x"].tolist() == []
    with pytest.raises(IndexError, match="holds 2 to 6"):
        ring.rows(1, 4)
    with pytest.raises(ValueError, match="columns"):
        ring.load(0, {"y": np.zeros(1)})


# --- how many updates -----------------------------------------------------------------------------------------------


def updates_of_a_run(draws, env_steps, n_envs=1):
    """env_steps after which updates were made, and how many."""
    clock, made = Clock(), []
    while clock.env_steps < env_steps:
        clock.env_steps += n_envs
        num_updates = draws.num_updates(clock)
        clock.updates += num_updates
        made += [clock.env_steps] * num_updates
    return made


@pytest.mark.parametrize("starts", [0, 1, 6, 8, 10])
@pytest.mark.parametrize("every", [1, 4, 32])
def test_updates_fall_where_stable_baselines3s_train_freq_has_them(starts, every):
    theirs = [t for t in range(1, 101) if t % every == 0 and t > starts]
    assert updates_of_a_run(sampling(starts=starts, rate=1 / every), 100) == theirs


def test_more_than_one_update_a_step_and_more_than_one_environment():
    assert updates_of_a_run(sampling(starts=2, rate=10), 4) == [3] * 10 + [4] * 10
    assert updates_of_a_run(sampling(starts=2, rate=0.5), 8, n_envs=4) == [4, 8, 8]
    assert len(updates_of_a_run(sampling(rate=0.1), 30)) == 3
    assert len(updates_of_a_run(sampling(rate=0.29), 100)) == 29  # 0.29 * 100 is 28.999… in floating point


def test_the_replay_buffer_follows_the_observation_space():
    assert isinstance(make("dqn", FRAMES, spaces.Discrete(2), replay_size=50).replay_buffer(), FrameReplay)
    assert isinstance(make("dqn", vectors(2), spaces.Discrete(2), replay_size=50).replay_buffer(), UniformReplay)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_a_ring_knows_where_each_row_lies():
    ring = Ring(row=np.zeros(4, int))
    assert (ring.oldest, ring.total, ring.capacity) == (0, 0, 4)
    written = 0
    for n, where in ((3, slice(0, 3)), (1, slice(3, 4)), (2, slice(0, 2)), (3, [2, 3, 0]), (1, slice(1, 2))):
        at = ring.advance(n)
        assert at == where if isinstance(at, slice) else at.tolist() == where
        ring.columns["row"][at] = np.arange(written, written + n)
        written += n
        assert (ring.total, ring.oldest) == (written, max(0, written - 4))
        for start in range(ring.oldest, written + 1):
            for stop in range(start, written + 1):
                assert ring.rows(start, stop)["row"].tolist() == list(range(start, stop))
    for start, stop in ((5, 8), (6, 11), (8, 7)):
        with pytest.raises(IndexError, match="which holds 6 to 10"):
            ring.rows(start, stop)


def test_updates_are_owed_from_the_step_after_learning_starts_and_less_what_was_done():
    plan = Sampling(8, learning_starts=10, updates_per_env_step=0.25, discount=0.9, with_replacement=True)
    assert [plan.num_updates(Clock(env_steps=t)) for t in (0, 10, 11, 12, 15, 16, 20)] == [0, 0, 0, 1, 1, 2, 3]
    assert [plan.num_updates(Clock(env_steps=20, updates=u)) for u in (0, 1, 3, 4)] == [3, 2, 0, 0]
    often = Sampling(8, learning_starts=0, updates_per_env_step=2.5, discount=0.9, with_replacement=True)
    assert [often.num_updates(Clock(env_steps=t)) for t in (0, 1, 2, 3, 4)] == [0, 2, 5, 7, 10]


def test_a_batch_is_drawn_with_replacement_only_where_it_is_asked_for_or_rows_are_too_few():
    rng = np.random.default_rng(0)
    plan = Sampling(4, 0, 1.0, 0.9, with_replacement=False)
    assert sorted(plan.draw(1, rng, 4)[0]) == [0, 1, 2, 3] and plan.draw(3, rng, 9).shape == (3, 4)
    assert plan.draw(1, rng, 3).max() <= 2 and {int(i) for i in plan.draw(50, rng, 5).ravel()} == {0, 1, 2, 3, 4}
    loose = Sampling(4, 0, 1.0, 0.9, with_replacement=True)
    assert any(len(set(row)) < 4 for row in loose.draw(50, rng, 5).tolist())
