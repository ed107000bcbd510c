"""An environment in a process of its own: while it steps, other seeds' threads go on, and step theirs beside it.

Worth it where seeds are stacked and a step takes longer than a message to another process and back, some 0.1 ms.
"""

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import gymnasium as gym

from llmrl.contracts.env import Wrapper
from llmrl.runs.stop import SIGNALS
from llmrl.streams import Streams

OPTIONAL_METHODS = ("state_dict", "load_state_dict", "metrics", "facts")  # not every environment has them


def env_process(make: Callable[[], gym.Env]) -> "EnvProcess":
    """The environment that `make()`, which has to be picklable, returns in a new process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, pickle.dumps(make)), daemon=True)
    process.start()
    theirs.close()
    env = EnvProcess(process, ours)
    env.observation_space, env.action_space, env.optional_methods, wraps = env.call("spaces")
    if wraps:
        env.__class__ = WrapperProcess
    return env


class EnvProcess(gym.Env):
    """Calls the environment in its process, which ends with `close`, and whenever the calling process ends. What the
    environment raises is raised here; RuntimeError where its process has died."""

    optional_methods: tuple[str, ...] = ()  # those that the environment has

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self._process, self._pipe = process, pipe

    def reset(self, **how: Any) -> tuple[Any, dict]:
        return self.call("reset", **how)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        self.begin_step(action)
        return self.end_step()

    def begin_step(self, action: Any) -> None:
        """`step`, without waiting for it: `end_step` returns its outcome."""
        self._send("step", action)

    def end_step(self) -> tuple[Any, Any, bool, bool, dict]:
        return self._receive()

    def __getattr__(self, name: str) -> Any:
        if name in self.optional_methods:
            return partial(self.call, name)
        raise AttributeError(f"an environment in a process of its own has no {name}")

    def close(self) -> None:
        self._pipe.close()
        self._process.join()

    def call(self, what: str, *args: Any, **how: Any) -> Any:
        self._send(what, *args, **how)
        return self._receive()

    def _send(self, what: str, *args: Any, **how: Any) -> None:
        with self._or_died():
            self._pipe.send((what, args, how))

    def _receive(self) -> Any:
        with self._or_died():
            answer, error = self._pipe.recv()
        if error is not None:
            raise error
        return answer

    @contextmanager
    def _or_died(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as closed:
            self._process.join()
            code = self._process.exitcode
            raise RuntimeError(f"the process of an environment has died, with exit code {code}") from closed


@Wrapper.register
class WrapperProcess(EnvProcess):
    """One whose environment is in a wrapper."""


def _serve(pipe: Connection, packed: bytes) -> None:
    """Answers in the other process: (answer, None), or (None, what was raised)."""
    Streams(patient=False)  # before anything is imported that could print
    for signum in SIGNALS:  # those of a process group are for the calling process, which still needs this one then
        signal.signal(signum, signal.SIG_IGN)
    env: Any = None
    while True:
        try:
            what, args, how = pipe.recv()
        except EOFError:  # the calling process has ended
            break
        try:
            if what == "spaces":
                env = pickle.loads(packed)()
                offered = tuple(name for name in OPTIONAL_METHODS if hasattr(env, name))
                answer = env.observation_space, env.action_space, offered, isinstance(env, Wrapper)
            else:
                answer = getattr(env, what)(*args, **how)
            pipe.send((answer, None))
        except Exception as error:  # noqa: BLE001 (raised again by the caller)
            pipe.send((None, _sent(error)))
    if env is not None:
        env.close()


def _sent(error: Exception) -> Exception:
    """The same where it can be sent, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 (whatever an exception's own class does)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
