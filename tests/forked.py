"""Processes of `llmrl` that begin as forks of one that has imported everything: their imports, three seconds of a core,
are paid once for all tests. They have pids, signals, variables, directories and pipes of their own, as others have.
What a process does before it has imported is tested by those that are started as users start them."""

import atexit
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # a fork has but one
IMPORTED = ("torch", "mujoco", "matplotlib.backends.backend_agg", "matplotlib.figure", "hydra", "llmrl.run",
            "llmrl.context", "llmrl.runs.stacked", "llmrl.envs.mujoco")  # fmt: skip


class Forked:
    """As much of subprocess.Popen as the tests need; stdout and stderr are pipes of text."""

    def __init__(self, args: list[str], cwd: Path, env: dict[str, str], before: str = "") -> None:
        """`llmrl <args>`; `before`: Python that the process carries out first."""
        pipes = [os.pipe() for _ in range(3)]
        (out, err, self._end), writing = zip(*pipes)
        request = json.dumps({"args": args, "cwd": str(cwd), "env": env, "before": before})
        socket.send_fds(_server(), [request.encode()], writing)
        for fd in writing:
            os.close(fd)
        (self.pid,) = struct.unpack("i", os.read(self._end, 4))
        self.returncode: int | None = None
        self._said, self._open = {out: b"", err: b""}, [out, err]

    def poll(self) -> int | None:
        try:
            return self.wait(timeout=0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._end], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("llmrl", timeout or 0)
            (self.returncode,) = struct.unpack("i", os.read(self._end, 4))
            os.close(self._end)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        end = None if timeout is None else time.monotonic() + timeout
        left = lambda: None if end is None else max(0.0, end - time.monotonic())  # noqa: E731
        while self._open:
            ready, _, _ = select.select(self._open, [], [], left())
            if not ready:
                raise subprocess.TimeoutExpired("llmrl", timeout or 0)
            for fd in ready:
                block = os.read(fd, 1 << 16)
                self._said[fd] += block
                if not block:
                    self._open.remove(fd)
                    os.close(fd)
        self.wait(left())
        out, err = self._said.values()
        return out.decode(), err.decode()

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_started: list[tuple[socket.socket, subprocess.Popen]] = []


def _server() -> socket.socket:
    """The connection to the process that forks, which ends when this one does."""
    if not _started:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [sys.executable, str(Path(__file__)), str(theirs.fileno())]
        variables = os.environ | THREADS | {"PYTHONPATH": str(ROOT), "LLMRL_PATH": ""}
        _started.append((ours, subprocess.Popen(argv, env=variables, pass_fds=[theirs.fileno()])))
        theirs.close()
        atexit.register(_end)
    return _started[0][0]


def _end() -> None:
    connection, process = _started.pop()
    connection.close()
    process.wait()


def serve(connection: socket.socket) -> None:
    """Forks for each request, and sends back the pid, and later the exit code. Returns in the forks alone."""
    ends: dict[int, tuple[int, int]] = {}  # {pidfd: (pid, where its exit code is sent)}
    while True:
        for fd in select.select([connection, *ends], [], [])[0]:
            if fd in ends:
                pid, end = ends.pop(fd)
                send(end, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(end)
                os.close(fd)
                continue
            request, fds, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            if not request:
                os._exit(0)
            out, err, end = fds
            pid = os.fork()
            if pid == 0:
                os.dup2(out, 1)
                os.dup2(err, 2)
                connection.close()
                for other in (*fds, *ends, *(one for _, one in ends.values())):
                    os.close(other)
                return become(**json.loads(request))
            send(end, pid)
            os.close(out)
            os.close(err)
            ends[os.pidfd_open(pid)] = pid, end


def send(fd: int, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody wants to know any more
        os.write(fd, struct.pack("i", number))


def become(args: list[str], cwd: str, env: dict[str, str], before: str) -> None:
    """`llmrl <args>` in this process."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["llmrl", *args]
    from llmrl import conf_files

    conf_files.extra_roots.cache_clear()  # what importing llmrl does with LLMRL_PATH
    conf_files.extend_packages()
    tempfile.tempdir = None  # TMPDIR may be another
    exec(before, {})
    from llmrl.cli import main

    sys.exit(main())


if __name__ == "__main__":
    import importlib

    for name in IMPORTED:
        importlib.import_module(name)
    serve(socket.socket(fileno=int(sys.argv[1])))
