"""What a generated program may use, and the names of all that can go wrong with it."""

from dataclasses import dataclass

FAILURES = {
    # of the source, found before anything runs
    "too_long": "the program has more characters than the limit",
    "syntax": "the program is no Python",
    "forbidden_import": "it imports something else than numpy and math",
    "forbidden_name": "it uses a name that nobody defined, or that leads out of arithmetic: files, clocks, frames, …",
    "forbidden_syntax": "it uses a class, a decorator, global, an endless loop, or statements outside of functions",
    "forbidden_state": "it could remember something from one call to the next",
    "missing_function": "it does not define a function that was asked for",
    # of a run
    "raised": "it raised an exception; the detail has its type, message and line",
    "timeout": "a call took longer than the limit; the process was stopped",
    "memory": "it asked for more memory than the limit",
    "bad_output": "it returned no numbers, or more than the limit, or broke the protocol",
    "died": "its process ended",
    "dead": "an earlier failure ended its process; the detail says which",
    # not the program's fault
    "not_started": "the child process could not be started on this machine",
}


@dataclass(frozen=True)
class Limits:
    """What a program may use. Defaults suit features and rewards; a run's configuration has no say in them."""

    seconds_per_call: float = 5.0  # wall clock; also for executing the program's top level
    seconds_to_start: float = 60.0  # wall clock, until the child has imported numpy and locked itself in
    cpu_seconds: int = 20_000  # of the child's whole life: the backstop for a child that nobody watches
    memory_mb: int = 512  # of address space, on top of what Python and numpy take
    output_mb: int = 64  # of one call's arrays
    source_chars: int = 20_000


class SandboxFailure(Exception):
    """A program was refused or failed. `name` is one of FAILURES; `detail` is short and may be shown to an LLM: it
    holds no path and no address of this machine (`not_started` alone is for the user, and does)."""

    def __init__(self, name: str, detail: str) -> None:
        self.name = name
        self.detail = detail if detail.strip() else FAILURES.get(name, "no reason is known")
        super().__init__(f"{name}: {self.detail}")

    def __reduce__(self) -> tuple:
        """Pickled by its parts: evaluation workers hand it to the trainer."""
        return type(self), (self.name, self.detail)
