"""Prioritised and n-step replay against a plain list and a plain loop over episodes, on both kinds of rows."""

import itertools

import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_replay import CPU, PIXELS, keys_of, play, sampling, saved_in_chunks

from llmrl.replay.frames import FrameReplay
from llmrl.replay.nstep import NStepReplay
from llmrl.replay.prioritized import SMALLEST, PrioritizedReplay, SumTree
from llmrl.replay.uniform import UniformReplay

GAMMA = 0.9


def rows(kind, n_envs, capacity=60):
    cls = {"frames": FrameReplay, "vectors": UniformReplay}[kind]
    return cls(PIXELS, spaces.Discrete(6), capacity=capacity, n_envs=n_envs, sampling=sampling())


def prioritized(kind="vectors", n_envs=1, capacity=60, n=3, batch_size=8, anneal_updates=10):
    buffer = NStepReplay(rows(kind, n_envs, capacity), n=n, gamma=GAMMA)
    return PrioritizedReplay(buffer, batch_size=batch_size, alpha=0.5, beta=0.4, anneal_updates=anneal_updates)


# --- the tree -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 127, 128, 129, 5000])
def test_the_tree_finds_what_a_walk_along_the_list_finds(size):
    rng = np.random.default_rng(size)
    tree, numbers = SumTree(size), [0.0] * size
    for _ in range(20):
        index = rng.integers(size, size=40)
        value = rng.integers(0, 4, size=40) * 0.25  # exact in binary, a quarter of them 0, and duplicates as well
        tree.set(index, value)
        for i, v in zip(index, value):
            numbers[i] = v
        if sum(numbers) == 0:
            continue
        fractions = np.append(rng.random(30), [0, np.nextafter(1, 0)])
        for fraction, found in zip(fractions, tree.find(fractions)):
            point, running, at = fraction * sum(numbers), 0.0, -1
            while running <= point and at + 1 < size:
                at += 1
                running += numbers[at]
            while numbers[at] == 0:  # the last fraction, where rounding made the product the sum itself
                at -= 1
            assert found == at


def test_what_is_zero_is_never_found():
    rng = np.random.default_rng(0)
    for _ in range(200):
        tree = SumTree(300)
        tree.set(np.arange(300), 10.0 ** rng.uniform(-12, 3, 300) * (rng.random(300) < 0.05))
        tree.set(rng.integers(300, size=1), 0.1)
        found = tree.find(np.append(rng.random(40), [0, np.nextafter(1, 0)]))
        assert (tree.leaves[found] > 0).all()


def test_its_sums_follow_from_its_leaves_to_the_last_bit():
    rng = np.random.default_rng(0)
    tree, again = SumTree(10_000), SumTree(10_000)
    for i in range(500):
        n = 1 + i % 33
        tree.set(rng.integers(10_000, size=n), rng.random(n))
    again.load(tree.leaves)
    assert tree.sums.tobytes() == again.sums.tobytes()


# --- probabilities and weights --------------------------------------------------------------------------------------


def test_probabilities_and_weights_are_those_of_a_plain_list():
    rng = np.random.default_rng(0)
    buffer = prioritized(capacity=20, batch_size=5)
    for step in play(20, 1, rng):
        buffer.add(step)
    priority = rng.uniform(0.1, 4, 20).astype("f")
    priority[3] = 0
    buffer.write_back(np.arange(20), priority)
    p = [(float(x) + SMALLEST) ** 0.5 for x in priority]
    probability = [x / sum(p) for x in p]
    count = [0] * 20
    for drawn in range(4000):
        place, weight = buffer.draw(rng)
        beta = 0.4 + 0.6 * min(1, drawn / 10)  # the straight line to 1 in 10 batches
        w = [(20 * probability[i]) ** -beta for i in place]
        assert weight.tolist() == pytest.approx([x / max(w) for x in w])
        for i in place:
            count[i] += 1
    # stratified draws have less spread than binomial ones, so that 5 of their standard deviations are a wide bound
    for i in range(20):
        mean = 20_000 * probability[i]
        assert abs(count[i] - mean) < 5 * np.sqrt(mean) + 1, i


def test_exponent_zero_draws_uniformly_and_weighs_nothing():
    buffer = PrioritizedReplay(rows("vectors", 1), batch_size=8, alpha=0, beta=0.4, anneal_updates=10)
    for step in play(60, 1, np.random.default_rng(0)):
        buffer.add(step)
    buffer.write_back(np.arange(60), np.arange(60, dtype="f"))
    _, weight = buffer.draw(np.random.default_rng(1))
    assert buffer.tree.leaves.tolist() == [1] * 60 and weight.tolist() == [1] * 8


def test_what_is_new_gets_the_highest_priority_there_ever_was():
    buffer = prioritized(n_envs=2, capacity=8)
    source = play(20, 2, np.random.default_rng(0))
    buffer.add(next(source))
    assert buffer.tree.leaves.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    buffer.write_back(np.array([0, 1]), np.array([9, 4], "f"))
    buffer.add(next(source))
    assert buffer.tree.leaves.tolist() == pytest.approx([3, 2, 3, 3, 0, 0, 0, 0], rel=1e-6)
    buffer.write_back(np.array([0, 2, 3]), np.array([1, 1, 1], "f"))
    for _ in range(3):  # goes round
        buffer.add(next(source))
    assert buffer.tree.leaves.tolist() == pytest.approx([3, 3, 1, 1, 3, 3, 3, 3], rel=1e-6)


def test_an_update_writes_back_what_it_was_given():
    buffer = prioritized()
    rng = np.random.default_rng(0)
    for step in play(60, 1, rng):
        buffer.add(step)
    (batch,) = buffer.batches(1, rng, CPU)
    assert batch.weight.dtype == torch.float32 and batch.weight.max() == 1
    buffer.after(batch, {"priority": torch.arange(8.0)})
    expected = {i: (j + SMALLEST) ** 0.5 for j, i in enumerate(batch.places)}
    assert {i: buffer.tree.leaves[i] for i in expected} == pytest.approx(expected)


# --- n steps --------------------------------------------------------------------------------------------------------


def plain_n_steps(history, env, t, n):
    """R, gamma^k, the last next_obs and whether the episode was over: straight from the definition."""
    total = 0.0
    for k in range(n):
        step = history[t + k]
        total += GAMMA**k * float(step.reward[env])
        if step.terminated[env] or step.last[env] or t + k + 1 == len(history):
            break
    return total, GAMMA ** (k + 1), step.next_obs[env], float(step.terminated[env])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [1, 3, 20])
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("kind", ["frames", "vectors"])
def test_n_steps_are_those_of_a_loop_over_episodes(kind, n_envs, n, weighted):
    """With lost lives (terminated, not last), terminations and truncations, through several rounds of the ring."""
    rng = np.random.default_rng(4)
    buffer = prioritized(kind, n_envs, n=n) if weighted else NStepReplay(rows(kind, n_envs), n=n, gamma=GAMMA)
    source, history, where = play(200, n_envs, rng, mean_length=12), [], {}
    for _ in range(10):
        for step in itertools.islice(source, 20):
            buffer.add(step)
            where |= {step.obs[env, -1].tobytes(): (env, len(history)) for env in range(n_envs)}
            history.append(step)
        seen = set()
        for batch in buffer.batches(12, rng, CPU):
            obs, next_obs = batch.obs.numpy().astype(np.uint8), batch.next_obs.numpy().astype(np.uint8)
            for i in range(len(obs)):
                env, t = where[obs[i, -1].tobytes()]
                total, discount, last_obs, terminated = plain_n_steps(history, env, t, n)
                assert t >= len(history) - 60 // n_envs
                assert np.array_equal(obs[i], history[t].obs[env]) and batch.action[i] == history[t].action[env]
                assert batch.reward[i].item() == pytest.approx(total, abs=1e-5)
                assert batch.discount[i].item() == pytest.approx(discount)
                assert np.array_equal(next_obs[i], last_obs) and batch.terminated[i] == terminated
                seen.add((env, t))
        assert len(seen) >= min(15 * n_envs, 30)


def test_frames_that_were_overwritten_are_not_drawn():
    """Very short episodes: frames run out before steps do, and what lost its frames has priority 0."""
    rng = np.random.default_rng(2)
    buffer = prioritized("frames", capacity=100)
    stored = []
    for step in play(400, 1, rng, mean_length=3):
        buffer.add(step)
        stored.append(step.obs[0].tobytes())
        (batch,) = buffer.batches(1, rng, CPU)
        assert {obs.numpy().tobytes() for obs in batch.obs} <= set(stored[-100:])
    assert 30 < (buffer.tree.leaves > 0).sum() < 100


# --- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["frames", "vectors"])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_a_restored_replay_buffer_goes_on_to_the_last_bit(kind, n_envs):
    def new():
        return prioritized(kind, n_envs, capacity=50)

    buffer, twin, boundaries, chunks = new(), None, {}, {}
    for number, step in enumerate(play(230, n_envs, np.random.default_rng(3), mean_length=5)):
        buffer.add(step)
        if twin is not None:
            twin.add(step)
        if number % 13 == 12:
            if twin is not None:
                same_draws(buffer, twin)
            saved_in_chunks(buffer, boundaries, chunks)
            twin = new()
            for name, ring in twin.rings().items():
                for start, columns in chunks[name]:
                    ring.load(start, columns)
            twin.load_state_dict(buffer.state_dict())
            same_draws(buffer, twin)


def same_draws(buffer, other):
    """Draws and writes back the same in both."""
    a, b = (one.batches(3, np.random.default_rng(1), CPU) for one in (buffer, other))
    for x, y in zip(a, b, strict=True):
        assert list(keys_of(x)) == list(keys_of(y)) and torch.equal(x.weight, y.weight)
        out = {"priority": x.reward.abs() + x.discount}
        buffer.after(x, out)
        other.after(y, out)
    assert buffer.tree.leaves.tobytes() == other.tree.leaves.tobytes()
    assert buffer.tree.sums.tobytes() == other.tree.sums.tobytes() and buffer.highest == other.highest
