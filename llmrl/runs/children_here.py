"""Children carried out in this process, each to its end before the next: what `check` makes, where every process of its
own would cost the import of torch. A run's children are processes, which see more cores and die alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmrl.runs.children import EXECUTOR
from llmrl.runs.files import read_json
from llmrl.runs.lifecycle import carry_out
from llmrl.runs.stop import Stop, Stopped


@dataclass(frozen=True)
class Ended:
    """A child that has ended."""

    code: int

    def done(self) -> bool:
        return True

    def tell(self, stop: Stop) -> None:
        stop.wake()

    def cancel(self) -> None: ...

    def wait(self) -> int:
        return self.code


class Here:
    """Carries children out as they are submitted. Raises Stopped where a signal has ended one."""

    def submit(self, directory: Path) -> Ended:
        stop = Stop()
        ended = carry_out(read_json(directory / "config.json"), place=directory, stop=stop)
        if stop.signum is not None:
            raise Stopped(stop.signum)
        return Ended(ended.code)


@contextmanager
def children_here() -> Iterator[None]:
    """Inside, the children of this process's runs are carried out in it."""
    token = EXECUTOR.set(Here())
    try:
        yield
    finally:
        EXECUTOR.reset(token)
