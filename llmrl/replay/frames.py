"""Uniform experience replay for stacks of uint8 frames (Mnih et al. 2015) that stores each frame once."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llmrl.contracts.explorer import Clock
from llmrl.contracts.replay import Batch, OneStepRows, Step
from llmrl.replay.mirror import Mirror, wanted
from llmrl.replay.ring import Ring, Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.contracts.agent import Agent

SPARE = 20  # one frame in 20 is spare room for the frames that come before a first step and after a last one


class FrameReplay(OneStepRows):
    """Observations (stack, height, width) whose newest frame is the last; a step shifts in one frame.

    Every environment has a ring of frames and a ring of steps, which know the number of their newest frame. At the
    start of an episode the whole first stack is stored, whatever it is padded with; after that one frame a step. So
    the stacks that a step went from and to are `stack + 1` neighbouring frames. Where episodes are shorter than about
    20 * stack steps, frames run out first, and slightly fewer than `capacity` steps are stored.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        *,
        capacity: int,
        n_envs: int,
        sampling: Sampling,
    ) -> None:
        self.sampling = sampling
        self.stack, *image = observation_space.shape
        steps = -(-capacity // n_envs)
        frames = steps + steps // SPARE + 2 * self.stack + 2
        self.frame = np.zeros((n_envs, frames, *image), np.uint8)
        self.action = np.zeros((n_envs, steps, *(action_space.shape or ())), action_space.dtype)
        self.reward = np.zeros((n_envs, steps), np.float32)
        self.terminated = np.zeros((n_envs, steps), np.float32)
        self.ends_with = np.zeros((n_envs, steps), np.int64)  # number of the newest frame of the step's obs
        self.frames = [Ring(frame=column) for column in self.frame]
        self.steps = [
            Ring(
                action=self.action[i],
                reward=self.reward[i],
                terminated=self.terminated[i],
                ends_with=self.ends_with[i],
            )
            for i in range(n_envs)
        ]
        self.places, self.rewards = n_envs * steps, self.reward.reshape(-1)
        self.mirror: Mirror | None = None
        self.starts = np.ones(n_envs, bool)  # the next step is the first of an episode
        self.first = np.zeros(n_envs, np.int64)  # number of the oldest step whose frames are all there

    def add(self, step: Step) -> None:
        for i, (frames, steps) in enumerate(zip(self.frames, self.steps)):
            if self.starts[i]:
                if not np.array_equal(step.obs[i, 1:], step.next_obs[i, :-1]):
                    raise ValueError(
                        f"not stacks of frames: observations of shape {step.obs.shape[1:]}: a step must shift in one "
                        "frame at the end. Stack the environment's frames along the first axis"
                    )
                self.frame[i, frames.advance(self.stack)] = step.obs[i]
            at = steps.advance(1)
            self.action[i, at] = step.action[i]
            self.reward[i, at] = step.reward[i]
            self.terminated[i, at] = step.terminated[i]
            self.ends_with[i, at] = frames.total - 1
            self.frame[i, frames.advance(1)] = step.next_obs[i, -1]
        self.starts[:] = step.last

    def num_updates(self, clock: Clock) -> int:
        return self.sampling.num_updates(clock)

    def batches(self, n: int, rng: np.random.Generator, agent: "Agent") -> Iterator[Batch]:
        for place in self.draw(n, rng):
            yield self.batch(place, agent)

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[NDArray]:
        totals = np.array([steps.total for steps in self.steps])
        ends = np.cumsum(totals - self._first_whole_steps())  # all environments' steps in one row, one after the other
        for index in self.sampling.draw(n, rng, int(ends[-1])):
            env = np.searchsorted(ends, index, side="right")
            yield self._place(env, totals[env] - (ends[env] - index))

    def newest(self) -> NDArray:
        return self._place(np.arange(len(self.steps)), np.array([steps.total - 1 for steps in self.steps]))

    def evicted(self) -> NDArray:
        """Places of steps whose first frames have been overwritten since the last call."""
        before = self.first.copy()
        ranges = zip(self.steps, before, self._first_whole_steps())
        return np.concatenate(
            [
                self._place(i, np.arange(max(int(start), steps.oldest), stop))
                for i, (steps, start, stop) in enumerate(ranges)
            ]
        )

    def following(self, place: NDArray, n: int) -> NDArray:
        env, at = np.divmod(place[:, None], self.action.shape[1])
        return self._place(env, at + np.arange(n))

    def _place(self, env: NDArray | int, number: NDArray) -> NDArray:
        steps = self.action.shape[1]
        return env * steps + number % steps

    def _first_whole_steps(self) -> NDArray:
        """(n_envs,) numbers of the oldest steps whose frames have not been overwritten yet."""
        for i, (frames, steps) in enumerate(zip(self.frames, self.steps)):
            first = max(int(self.first[i]), steps.oldest)
            while self.ends_with[i, first % steps.capacity] - self.stack + 1 < frames.oldest:
                first += 1
            self.first[i] = first
        return self.first

    def batch(self, place: NDArray, agent: "Agent", final: NDArray | None = None) -> Batch:
        import torch

        if self.mirror is None and wanted(agent.device):
            self.mirror = Mirror(self.frames, "frame", agent.device)

        def tensor(array: NDArray) -> "Tensor":
            return torch.from_numpy(array).to(agent.device, non_blocking=True)

        if final is None:
            final = place
            # obs is the frames ends_with - stack + 1 … ends_with, next_obs the same one on: one gather for both
            frames = self._frames(place, np.arange(1 - self.stack, 2))
            obs, next_obs = frames[:-1], frames[1:]
        else:
            obs = self._frames(place, np.arange(1 - self.stack, 1))
            next_obs = self._frames(final, np.arange(2 - self.stack, 2))
        return Batch(
            obs=stacked(obs),
            action=tensor(self.action.reshape(-1, *self.action.shape[2:])[place]),
            reward=tensor(self.rewards[place]),
            next_obs=stacked(next_obs),
            terminated=tensor(self.terminated.reshape(-1)[final]),
            discount=self.sampling.discount,
        )

    def _frames(self, place: NDArray, offsets: NDArray) -> "NDArray | Tensor":
        """(len(offsets), batch, *image): frames that lie so far from the newest one of each step's obs."""
        n_frames = self.frame.shape[1]
        env = place // self.action.shape[1]
        number = self.ends_with.reshape(-1)[place] + offsets[:, None]
        at = env * n_frames + number % n_frames
        if self.mirror is not None:
            return self.mirror.take(at)
        return self.frame.reshape(-1, *self.frame.shape[2:]).take(at, axis=0)

    def after(self, batch: Batch, out: Mapping[str, "Tensor"]) -> None:
        """Nothing to take back."""

    def rings(self) -> dict[str, Ring]:
        return {f"{kind}{i}": ring for kind in ("frames", "steps") for i, ring in enumerate(getattr(self, kind))}

    def state_dict(self) -> dict:
        return {"starts": self.starts.tolist()}

    def load_state_dict(self, state: dict) -> None:
        self.starts[:] = state["starts"]


def stacked(frames: "NDArray | Tensor") -> "Tensor":
    """(stack, batch, height, width) -> (batch, stack, height, width), with a pixel's frames side by side in memory.

    That is how convolutions want them, and OpenCV interleaves frames five times as fast as torch's copy does; the
    batch is one tall image to it.
    """
    import cv2
    import torch

    if isinstance(frames, torch.Tensor):
        return frames.transpose(0, 1).contiguous(memory_format=torch.channels_last)
    stack, n, *image = frames.shape
    if stack == 1:
        return torch.from_numpy(frames[0][:, None])
    out = np.empty((n, *image, stack), np.uint8)
    cv2.merge(tuple(frames.reshape(stack, n, -1)), out.reshape(n, -1, stack))
    return torch.from_numpy(out.transpose(0, 3, 1, 2))
