"""The crop replay buffer gives back exactly what was put in, through wrap-arounds, resets and checkpoints, and stores
each distinct crop once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from plain_crops import RESIDUAL, crop_space, crop_steps, image_space
from test_replay import saved_in_chunks

from llmrl.checks import ConfigError
from llmrl.replay.crops import CropReplay
from llmrl.replay.ring import Sampling

CPU = SimpleNamespace(device=torch.device("cpu"))
SPACES = {"short": crop_space(size=4), "long": crop_space(goal=False, size=4), "image": image_space(5)}


def new(space, capacity=40, n_envs=1):
    sampling = Sampling(32, 0, 1.0, 0.9, True)
    return CropReplay(space, RESIDUAL, capacity=capacity, n_envs=n_envs, sampling=sampling)


def row_bytes(obs, next_obs, action, reward, terminated, i):
    """The i-th transition as bytes, with every part in the type in which it was added."""
    parts = [o[key][i] for o in (obs, next_obs) for key in sorted(o)]
    return b"".join(
        np.ascontiguousarray(p).tobytes() for p in (*parts, action[i], reward[i], np.float32(terminated[i]))
    )


def stored(step):
    return [row_bytes(step.obs, step.next_obs, *step[1:3], step.terminated, i) for i in range(len(step.reward))]


def drawn(buffer, n, seed=0):
    """All transitions of n batches, in order."""
    rows = []
    for b in buffer.batches(n, np.random.default_rng(seed), CPU):
        obs, next_obs = ({key: part.numpy() for key, part in o.items()} for o in (b.obs, b.next_obs))
        rest = (b.action.numpy(), b.reward.numpy(), b.terminated.numpy())
        rows += [row_bytes(obs, next_obs, *rest, i) for i in range(len(b.reward))]
    return rows


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_batches_hold_what_was_added_byte_for_byte_round_and_round(space, n_envs):
    rng = np.random.default_rng(0)
    buffer, added = new(space, 42, n_envs), []
    for step in crop_steps(space, RESIDUAL, 240 // n_envs, rng, n_envs):  # it goes round more than five times
        buffer.add(step)
        added += stored(step)
        assert set(drawn(buffer, 1, seed=len(added))) <= set(added[-42:])
    everything = set(drawn(buffer, 30))
    assert everything == set(added[-42:]) and len(everything) == 42
    batch = next(buffer.batches(1, rng, CPU))
    assert batch.obs.keys() == space.spaces.keys() and batch.discount == 0.9
    assert all(batch.obs[key].shape == (32, *part.shape) for key, part in space.items())


@pytest.mark.parametrize("n_envs", [1, 3])
def test_where_crops_run_out_the_oldest_steps_are_forgotten_and_the_newest_never(n_envs):
    rng = np.random.default_rng(1)
    space = SPACES["short"]
    buffer, added = new(space, 60, n_envs), []
    for step in crop_steps(space, RESIDUAL, 400 // n_envs, rng, n_envs, changes=1, length=1):  # seven new crops a step
        buffer.add(step)
        added += stored(step)
        rows = set(drawn(buffer, 2, seed=len(added)))
        assert rows <= set(added[-60:])
    rows = set(drawn(buffer, 30))
    assert rows == set(added[-len(rows) :]) and 20 < len(rows) < 50


def test_a_crop_that_never_changes_stays_though_others_wear_the_replay_buffer_out():
    rng = np.random.default_rng(2)
    space = SPACES["long"]
    buffer, added, bowl = new(space, 60), [], None
    for step in crop_steps(space, RESIDUAL, 400, rng, length=3):
        for obs in (step.obs, step.next_obs):
            bowl = {key: obs[key][:, 5].copy() for key in ("rgb", "height")} if bowl is None else bowl
            for key, part in bowl.items():
                obs[key][:, 5] = part
        buffer.add(step)
        added += stored(step)
        assert set(drawn(buffer, 1, seed=len(added))) <= set(added[-60:])
    assert set(drawn(buffer, 30)) >= set(added[-40:])


def test_a_crop_is_stored_when_it_changes_and_only_then():
    rng = np.random.default_rng(3)
    buffer, space = new(SPACES["short"], 500), SPACES["short"]
    resets, moved, last = 1, 0, None
    for step in crop_steps(space, RESIDUAL, 100, rng, changes=0.3):
        resets += last is not None and bool(last.last)
        moved += int((step.obs["rgb"] != step.next_obs["rgb"]).any())
        buffer.add(step)
        last = step
    assert buffer.crops.total == 6 * resets + moved and 5 < resets < 40 and 10 < moved < 60


def test_not_a_number_and_minus_zero_are_kept_as_they_are():
    rng = np.random.default_rng(4)
    buffer, space = new(SPACES["short"]), SPACES["short"]
    for step in crop_steps(space, RESIDUAL, 2, rng, changes=0, length=10**9):
        step.obs["height"][:, 2], step.next_obs["height"][:, 2] = np.nan, np.nan
        step.obs["height"][:, 3], step.next_obs["height"][:, 3] = 0.0, -0.0
        buffer.add(step)
        assert set(stored(step)) <= set(drawn(buffer, 2))
    assert buffer.crops.total == 6 + 3  # the zero becomes minus zero, zero, and minus zero again


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_replay_buffer_loaded_from_chunks_goes_on_like_the_old_one(space, n_envs):
    buffer, boundaries, chunks, twin = new(space, 45, n_envs), {}, {}, None
    steps = crop_steps(space, RESIDUAL, 230, np.random.default_rng(5), n_envs, changes=1, length=2)
    for number, step in enumerate(steps):
        buffer.add(step)
        if twin is not None:
            twin.add(step)
        if number % 13 == 12:
            if twin is not None:
                assert drawn(buffer, 3) == drawn(twin, 3) and (buffer.current == twin.current).all()
            saved_in_chunks(buffer, boundaries, chunks)
            twin = new(space, 45, n_envs)
            for name, ring in twin.rings().items():
                for start, rows in chunks[name]:
                    ring.load(start, rows)
            twin.load_state_dict(buffer.state_dict())
            assert drawn(buffer, 3) == drawn(twin, 3)


def test_160_000_transitions_take_less_than_2_gb():
    # reserved, not touched: the pages of zeros cost nothing until something is written
    buffer = new(crop_space(), 160_000)
    reserved = {name: sum(column.nbytes for column in ring.columns.values()) for name, ring in buffer.rings().items()}
    assert buffer.crops.capacity >= 3 * 160_000 and sum(reserved.values()) < 2e9
    assert reserved["crops"] == buffer.crops.capacity * 3920


def test_crops_of_other_types_are_refused_with_what_to_do():
    parts = crop_space().spaces | {"height": spaces.Box(-10, 10, (6, 28, 28), np.float32)}
    with pytest.raises(ConfigError, match="height float16.*float32.*convert"):
        new(spaces.Dict(parts))
