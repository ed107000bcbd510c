"""A run's connection to the server of its weights: found where another run has started one, else started.

The files are in a directory of the user's own (`runtime_directory`): per server a lock, a socket, and a log while it
runs. See keeper.py.
"""

import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmrl.checks import ConfigError
from llmrl.llm.config import Config
from llmrl.llm.failures import SERVER_DIED
from llmrl.llm.local import weights
from llmrl.llm.transcript import Transcript
from llmrl.llm.waits import Aside, Interruptible, LLMRefused, in_thread
from llmrl.runs.files import read_json

LOOK_EVERY_S = 1.0  # at a lock that another run holds while it starts the server
LOADING_S = 900.0  # until a server has loaded its weights
GREETING_S = 10.0  # a server that takes longer has died
LONGEST_FOLDER = 70  # characters; a socket's path has at most 107
PACKAGE = "xllamacpp"


class LocalServer:
    """The server that one run asks; `close` lets go of it."""

    def __init__(self, config: Config, transcript: Transcript) -> None:
        """The weights have to be those that identity.json beside the run's transcript names."""
        self.config, self._transcript = config, transcript
        known = transcript.path.with_name("identity.json")
        self._expected = read_json(known).get("llm", {}).get("weights") if known.exists() else None
        self._connection: socket.socket | None = None
        self._about: dict[str, Any] = {}

    def reached(self, purpose: str, index: str, stop: Interruptible, tell: Callable[[str], None]) -> tuple[str, str]:
        """`address`, for a call, in a thread that a signal need not wait for. A server that has ended since the last
        call is a failure in the transcript. Raises LLMRefused where no server can be started for the weights, and
        WeightsUnavailable."""
        if died := self.death():
            self._transcript.failure(purpose, index, SERVER_DIED, died)
        told = f"waits for the local server of {self.config.model}, for {purpose} {index}: {{:.0f}} s"
        aside = Aside()
        try:
            return in_thread(lambda: self.address(aside), stop, LOADING_S, lambda s: tell(told.format(s)))
        except (ConfigError, TimeoutError) as error:
            raise LLMRefused(f"{error}. The run has failed, nothing is lost") from None
        finally:
            aside.left.set()  # nobody waits for a lock any more

    def address(self, stop: Interruptible) -> tuple[str, str]:
        """The server's api_base and key; starts it where it does not run. Raises ConfigError or WeightsUnavailable."""
        if not self.alive():
            self._connect(stop)
        return self._about["api_base"], self._about["key"]

    def death(self, patience_s: float = 0.0) -> str:
        """Says of a server that has ended while this run was connected to it that it has, once; else ""."""
        if self._connection is None or self.alive(patience_s):
            return ""
        self.close()
        return f"the process of the local server (pid {self._about['pid']}) has ended"

    def alive(self, patience_s: float = 0.0) -> bool:
        """Whether the server that this run is connected to still runs: the kernel closes the connection of one that
        does not. `patience_s`: for the kernel, which closes a process's connections one after the other."""
        if self._connection is None:
            return False
        readable, _, _ = select.select([self._connection], [], [], patience_s)
        try:
            return not readable or self._connection.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self, stop: Interruptible) -> None:
        self.close()
        path, hashed = self._weights()
        place = Place(settings_of(self.config, path, hashed))
        with place.locked(stop):
            if (found := place.connect()) is None:
                asked = self.config
                weights.check_memory(path, asked.context, asked.gpu_layers, asked.parallel, now=True)
                found = place.start()
        self._connection, self._about = found

    def _weights(self) -> tuple[Path, str]:
        """The file and its sha256. Raises ConfigError where it is another one than the run began with."""
        path = weights.find(str(self.config.weights))
        hashed = weights.digest_of(path)
        if self._expected not in (None, hashed):
            raise ConfigError(
                f"llm.weights: {path} is not what this run began with (sha256 {str(self._expected)[:12]}…, now "
                f"{hashed[:12]}…). Restore that file and the same command goes on, or start a new run with this one"
            )
        self._expected = hashed
        return path, hashed


def check(config: Config) -> None:
    """Raises ConfigError where no server could be started: the extra is missing, the weights are none, or too large
    for this machine. Starts nothing."""
    if find_spec(PACKAGE) is None:
        raise ConfigError(
            f"llm=local needs the package {PACKAGE}, which has llama.cpp in it: {weights.MISSING_EXTRA}. Without it: "
            "llm=scripted, llm=ollama, llm=openai_compatible (a server of your own)"
        )
    path = weights.find(str(config.weights))
    weights.check_memory(path, config.context, config.gpu_layers, config.parallel, now=False)
    if config.gpu_layers and not _has_gpu():
        raise ConfigError(
            f"llm.gpu_layers={config.gpu_layers}: this build of {PACKAGE} sees no GPU. Install a build for yours "
            "(docs/local_models.md), or use llm.gpu_layers=0"
        )


def _has_gpu() -> bool:
    import xllamacpp

    return any("GPU" in str(device.get("type", "")).upper() for device in xllamacpp.get_device_info())


def settings_of(config: Config, path: Path, hashed: str) -> dict[str, Any]:
    """What the server is started with; runs that agree in it share one."""
    return {
        "path": str(path), "sha256": hashed, "alias": f"{config.model} sha256:{hashed[:12]}", "context": config.context,
        "threads": config.threads, "gpu_layers": config.gpu_layers, "parallel": config.parallel, "version": _version(),
    }  # fmt: skip


def _version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return ""


def runtime_directory() -> Path:
    """<temporary directory>/llmrl-<uid>, which nobody else may enter. Raises ConfigError where somebody else has made
    it."""
    parent = tempfile.gettempdir()
    folder = Path(parent if len(parent) <= LONGEST_FOLDER else "/tmp") / f"llmrl-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o077 or not folder.is_dir() or folder.is_symlink():
        raise ConfigError(f"llm=local: {folder} is not a directory of yours alone. Remove it, or set TMPDIR")
    return folder


class Place:
    """Where the server with these settings is found."""

    def __init__(self, settings: dict[str, Any]) -> None:
        name = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        folder = runtime_directory()
        self.lock, self.socket, self.log = (folder / f"{name}.{ending}" for ending in ("lock", "sock", "log"))
        self.settings = settings | {"lock": str(self.lock), "socket": str(self.socket), "log": str(self.log)}

    @contextmanager
    def locked(self, stop: Interruptible) -> Iterator[None]:
        """Nobody else starts or ends this server meanwhile."""
        fd = self._taken(stop)
        try:
            yield
        finally:
            os.close(fd)

    def _taken(self, stop: Interruptible) -> int:
        """The lock's descriptor. A server that ends removes the file, so what was waited for may lie there no more."""
        while True:
            fd = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(self.lock)):
                    return fd
            os.close(fd)
            stop.wait(LOOK_EVERY_S)

    def connect(self) -> tuple[socket.socket, dict[str, Any]] | None:
        """A connection and what the server says of itself; None where none runs."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(GREETING_S)
        try:
            connection.connect(str(self.socket))
            with connection.makefile("rb") as said:
                about = json.loads(said.readline())
        except (OSError, ValueError):
            connection.close()
            return None
        connection.setblocking(True)
        return connection, about

    def start(self) -> tuple[socket.socket, dict[str, Any]]:
        """Starts the server and connects to it. Raises ConfigError where it cannot load the weights."""
        argv = [sys.executable, "-m", "llmrl.llm.local.keeper"]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,  # ctrl-C is for the run alone; others may use the server
            )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        _started.append(process)
        with process.stdout, process.stdin:
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(self.settings) + "\n")
                process.stdin.flush()
            line = process.stdout.readline()
            found = self.connect() if '"ready"' in line else None
            with suppress(BrokenPipeError):
                if found is not None:
                    process.stdin.write("connected\n")
                    process.stdin.flush()
        if found is None:
            process.wait()
            raise ConfigError(self._no_start(line, process.returncode))
        return found

    def _no_start(self, line: str, code: int) -> str:
        told = json.loads(line)["failed"] if '"failed"' in line else f"its process ended with code {code}"
        if code < 0:
            told = f"its process was ended by signal {-code} (out of memory?)"
        with suppress(OSError):
            rows = [row for row in self.log.read_text(errors="replace").splitlines() if row.strip()]
            told += f". Last in {self.log}: {rows[-1][:300]}" if rows else ""
        return f"llm.weights: llama.cpp cannot serve {self.settings['path']}: {told}"


_started: list[subprocess.Popen] = []  # kept: the interpreter reaps those that have ended
