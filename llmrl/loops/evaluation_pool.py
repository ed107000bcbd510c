"""Evaluation on several cores: processes that hold an environment and a copy of the agent, and play cases.

Each case is played as `evaluate` plays it, so the numbers are the same as with one process, bit for bit.
"""

import io
import multiprocessing
import pickle
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import Any

import gymnasium as gym
import torch

from llmrl.contracts.agent import Agent
from llmrl.runs.evaluate import Act, Case, Scores, evaluate
from llmrl.runs.stop import Stop
from llmrl.streams import Streams

# environment, agent, how it acts greedily and when it samples, the cap in env_steps
Make = Callable[[], tuple[gym.Env, Agent, tuple[Act, Act], int]]


class EvaluationPool:
    """`workers` processes for the evaluations of one run; each begins with `make()`, which has to be picklable."""

    def __init__(self, make: Make, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        packed = pickle.dumps(make)
        self._processes = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(packed,))

    def evaluate(self, agent: Agent, evaluation_set: Sequence[Case], stop: Stop, *, sample: bool = False) -> Scores:
        """Episodes of `evaluation_set`, in its order, greedy or sampled. A signal cuts it short: Stopped."""
        packed = io.BytesIO()
        torch.save(agent.state_dict(), packed)
        with stop.interruptible():
            played = self._processes.map(
                _play, evaluation_set, repeat(packed.getvalue()), repeat(sample), chunksize=-(-len(evaluation_set) // 8)
            )
            parts = []
            for part in played:
                stop.poll()
                parts.append(part)
            return Scores.joined(parts)

    def close(self) -> None:
        self._processes.shutdown(wait=False, cancel_futures=True)


_HELD: dict[str, Any] = {}  # of a worker process


def _begin(packed: bytes) -> None:
    Streams(patient=False)  # before anything is imported that could print
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the parent's to answer
    env, agent, acts, max_steps = pickle.loads(packed)()
    _HELD.update(env=env, agent=agent, acts=acts, max_steps=max_steps, state=b"")


def _play(case: Case, state: bytes, sample: bool) -> Scores:
    if state != _HELD["state"]:
        _HELD["agent"].load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
        _HELD["state"] = state
    return evaluate(_HELD["acts"][sample], _HELD["env"], [case], _HELD["max_steps"], Stop())
