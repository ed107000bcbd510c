"""The trainer's side of the sandbox: starts the child, sends arrays, trusts no byte that comes back."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmrl.llm.sandbox import wire
from llmrl.llm.sandbox.gate import check_source
from llmrl.llm.sandbox.limits import Limits, SandboxFailure

CHILD = Path(__file__).with_name("child.py")
LIBRARIES = ("numpy", "landlockpy", "seccompy")  # what the child imports
# All that the child finds in its environment: one thread for linear algebra, and sets of strings in a fixed order.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
REPORTED = {"raised", "memory", "bad_output", "missing_function", "syntax"}  # failures that the child may name itself
MAX_DETAIL = 300  # characters

_PATH = re.compile(r"(?<![\w\])])(?:[A-Za-z]:)?(?:/[\w.+@-]+){2,}/?")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{4,}")


class Sandbox:
    """A generated program in a process of its own; a context manager. One thread may use it at a time, and the thread
    that starts it has to live as long: the kernel ends the child with that thread.

    `layers` says which protections are on in this child, `layer_states` also why others are not (docs/sandbox.md says
    what each one does)."""

    layers: tuple[str, ...]
    layer_states: dict[str, str]  # layer -> "on" or why not

    def __init__(
        self,
        code: str,
        functions: Sequence[str],
        entry: str = "",
        *,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        gate: bool = True,
    ) -> None:
        """Starts the child and executes `code`, which must define `functions`, and then `entry`, our own source, in
        the same namespace. Raises SandboxFailure."""
        if gate:
            check_source(code, functions, limits)
        self.limits = limits
        self._stopped = ""  # why there is no child any more
        self._beginnings = wire.Beginnings()
        self._last: tuple[bytes, int, list[wire.Place]] = b"", 0, []  # answer: up to its payload, its length, arrays
        self._start()
        self.layer_states = {"gate": "on" if gate else "off: switched off"} | self._ready()
        self.layers = tuple(name for name, state in self.layer_states.items() if state == "on")
        texts = [text.encode("utf-8", "replace") for text in (code, entry, "\n".join(functions))]
        arrays = [np.frombuffer(text, np.uint8) for text in texts]
        try:
            self._exchange(wire.of_arrays(self._beginnings.of("program", arrays), arrays))
        except BaseException:
            self.close()
            raise

    def call(self, function: str, *arrays: NDArray) -> tuple[NDArray, ...]:
        """The function's values for these arrays: a tuple's items one by one, anything else as one array; scalars are
        0-d. Its arguments are copies, which it may change. Whoever calls checks shapes and finiteness.

        Raises SandboxFailure; after `timeout`, `died` and what breaks the protocol the child is gone, and further calls
        raise `dead`. Raises wire.WireError, a ValueError, for arrays that cannot cross."""
        return self._exchange(wire.of_arrays(self._beginnings.of(function, arrays), arrays))

    def close(self) -> None:
        """Ends the child and removes its directory."""
        self._stopped = self._stopped or "it was closed"
        self._finalizer()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- start and end ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._directory = directory = tempfile.mkdtemp(prefix="llmrl-sandbox-")
        child_reads, self._write = os.pipe()
        self._read, child_writes = os.pipe()
        found = [find_spec(name) for name in LIBRARIES]
        directories = sorted({str(Path(spec.origin).parents[1]) for spec in found if spec and spec.origin})
        limits = self.limits.memory_mb, self.limits.cpu_seconds, self.limits.output_mb
        numbers = map(str, (child_reads, child_writes, os.getpid(), *limits))
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-s", "-S", "-B", str(CHILD), *numbers, *directories],
                env=ENVIRONMENT, cwd=directory, pass_fds=(child_reads, child_writes), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            for fd in (self._write, self._read):
                os.close(fd)
            shutil.rmtree(directory, ignore_errors=True)
            raise SandboxFailure("not_started", f"{sys.executable}: {error.strerror}") from None
        finally:
            os.close(child_reads)
            os.close(child_writes)
        self._finalizer = weakref.finalize(self, _end, self._child, (self._write, self._read), directory)
        os.set_blocking(self._write, False)  # a child that reads nothing must not stop the trainer
        self._readable = select.poll()
        self._readable.register(self._read, select.POLLIN)

    def _ready(self) -> dict[str, str]:
        """Waits until the child has locked itself in: layer -> "on" or why not. It has seen no program yet."""
        try:
            deadline = time.monotonic() + self.limits.seconds_to_start
            data = self._read_more(deadline)
            _, _, start = self._whole(data, deadline)
        except SandboxFailure as failure:
            self.close()
            late = f"not ready within {self.limits.seconds_to_start:g} s"
            told = late if failure.name == "timeout" else f"{failure.detail} before it was ready"
            raise SandboxFailure("not_started", f"{told}. See why: {sys.executable} -s -S {CHILD}") from None
        os.rmdir(self._directory)  # the child stays in it, nothing can be made there, and a killed trainer leaves none
        states = dict(line.split("\t") for line in data[start:].decode().splitlines())
        return {"clean environment": "on"} | states

    def _stop(self, name: str, detail: str) -> SandboxFailure:
        """Ends the child; returns what is to be raised."""
        self._stopped = f"{name}: {detail}"
        self._finalizer()
        return SandboxFailure(name, detail)

    def _died(self) -> SandboxFailure:
        try:
            code = self._child.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return self._stop("died", "it closed its connection")
        if code == -signal.SIGXCPU:
            return self._stop("timeout", f"more than {self.limits.cpu_seconds} s of processor time in all")
        return self._stop("died", f"its process ended {how_it_ended(code)}")

    # --- messages -----------------------------------------------------------------------------------------------------

    def _exchange(self, request: bytes) -> tuple[NDArray, ...]:
        if self._stopped:
            raise SandboxFailure("dead", f"there is no process any more: {self._stopped}")
        deadline = time.monotonic() + self.limits.seconds_per_call
        try:
            self._send(request, deadline)
            data = self._read_more(deadline)
            prefix, length, arrays = self._last
            if len(data) == length and data.startswith(prefix):  # laid out like the answer before: nothing to check
                return wire.unpack(arrays, data, len(prefix))
            name, arrays, start = self._whole(data, deadline)
            if name == "values":
                self._last = bytes(data[:start]), len(data), arrays
                return wire.unpack(arrays, data, start)
            if name not in REPORTED or arrays:
                raise wire.WireError("an unknown answer")
        except wire.WireError as error:
            raise self._stop("bad_output", f"it broke the protocol: {error}") from None
        except BaseException as error:
            if not self._stopped:  # Ctrl-C, or a handler of a signal: the answer is still to come, and nobody waits
                self._stop("died", f"a call was interrupted by {type(error).__name__}")
            raise
        raise SandboxFailure(name, presentable(data[start:]))

    def _send(self, request: bytes, deadline: float) -> None:
        sent = 0
        while True:
            try:
                sent += os.write(self._write, memoryview(request)[sent:] if sent else request)
            except BlockingIOError:
                pass
            except BrokenPipeError:
                raise self._died() from None
            if sent == len(request):
                return
            writable = select.poll()
            writable.register(self._write, select.POLLOUT)
            self._wait(writable, deadline)

    def _read_more(self, deadline: float) -> bytearray:
        self._wait(self._readable, deadline)
        data = os.read(self._read, 65536)
        if not data:
            raise self._died()
        return bytearray(data)

    def _whole(self, data: bytearray, deadline: float) -> tuple[str, list[wire.Place], int]:
        """Reads on until the message is whole, and checks it: name, arrays, where its payload begins."""
        while len(data) < wire.START.size:
            data += self._read_more(deadline)
        rest, n_header = wire.START.unpack_from(data)
        if rest > self.limits.output_mb * 2**20 + wire.MAX_HEADER:
            raise self._stop("bad_output", f"more than {self.limits.output_mb} MB")
        while len(data) < 4 + rest:
            data += self._read_more(deadline)
        start = wire.START.size + n_header
        name, arrays, size = wire.layout(bytes(data[wire.START.size : start]))
        if len(data) != 4 + rest or (arrays and len(data) != start + size):
            raise wire.WireError("an answer of another length than it says")
        return name, arrays, start

    def _wait(self, poll: select.poll, deadline: float) -> None:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise self._stop("timeout", f"no answer within {self.limits.seconds_per_call:g} s")


def how_it_ended(code: int) -> str:
    """A child's return code in words; signals that have no name of their own have a number."""
    if code >= 0:
        return f"with exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"by {known.get(-code, f'signal {-code}')}"


def layers_available() -> dict[str, str]:
    """Each layer of protection on this machine: "on", or why not."""
    try:
        with Sandbox("", ()) as sandbox:
            return sandbox.layer_states
    except SandboxFailure as failure:
        return {"child process": f"off: {failure.detail}"}


def presentable(text: bytes | bytearray) -> str:
    """What a child says, for an LLM's eyes and a transcript: one line, without this machine's paths and without
    addresses, which change from run to run."""
    line = bytes(text[: 8 * MAX_DETAIL]).decode("utf-8", "replace")
    line = "".join(letter if letter.isprintable() else " " for letter in line)
    line = _ADDRESS.sub("0x…", _PATH.sub("<path>", line))
    return line if len(line) <= MAX_DETAIL else line[: MAX_DETAIL - 1] + "…"


def _end(child: subprocess.Popen, fds: tuple[int, ...], directory: str) -> None:
    if child.poll() is None:
        child.kill()
    child.wait()
    for fd in fds:
        os.close(fd)
    shutil.rmtree(directory, ignore_errors=True)
