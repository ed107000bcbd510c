"""The process of a local model: a llama.cpp server on loopback, for as long as a run is connected to it.

    python -m llmrl.llm.local.keeper      reads its settings, a line of JSON, from stdin

Every run holds a connection to a socket in a directory that only its user can enter. Over it the server's address and
key are told, and nowhere else. However a run ends, the kernel closes its connection; after the last one the process
ends. Whoever starts or ends a server holds its lock, so that nobody connects to one that is about to go.
"""

import contextlib
import fcntl
import json
import os
import secrets
import selectors
import socket
import sys
import threading
from pathlib import Path
from typing import Any

LINGER_S = 5.0  # after the last run: the next one of a sweep needs not load the weights anew
FIRST_S = 60.0  # for whoever started it to connect


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_starter, daemon=True).start()
    key = secrets.token_hex(32)
    try:
        server = load(settings, key)
    except Exception as error:  # noqa: BLE001 (whatever llama.cpp says, the starter tells it)
        print(json.dumps({"failed": f"{type(error).__name__}: {error}"}), flush=True)
        os._exit(1)
    about = {"api_base": f"{server.listening_address}/v1", "key": key, "pid": os.getpid()}
    with listening(Path(settings["socket"])) as listener:
        print(json.dumps({"ready": True}), flush=True)
        serve(listener, json.dumps(about).encode() + b"\n", Path(settings["lock"]))
        for file in ("socket", "log", "lock"):  # the lock last, and while it is held
            Path(settings[file]).unlink(missing_ok=True)
    os._exit(0)  # at once: nobody waits for llama.cpp to tidy up


def load(settings: dict[str, Any], key: str) -> Any:
    """llama.cpp's server, on a port that the system chooses."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["alias"]}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [key]
    params.n_ctx, params.n_parallel = settings["context"] * settings["parallel"], settings["parallel"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.n_gpu_layers = settings["gpu_layers"]
    params.fit_params = False  # what was asked for, or nothing
    params.cache_ram_mib = 0  # no prompts beside the one in the context: their memory was not counted
    params.cache_idle_slots = False
    params.ui = params.endpoint_slots = False
    params.verbosity = 2  # errors and warnings; no prompts
    return xllamacpp.Server(params)


def _end_with_starter() -> None:
    """Ends the process where the run that starts it dies before it has connected: its end of stdin is closed then."""
    if sys.stdin.readline() == "":
        os._exit(1)


@contextlib.contextmanager
def listening(path: Path) -> Any:
    path.unlink(missing_ok=True)  # of a server that was killed
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(128)
        yield listener


def serve(listener: socket.socket, greeting: bytes, lock: Path) -> None:
    """Greets whoever connects. Returns, holding the lock, when nobody has been connected for a while."""
    users: set[socket.socket] = set()
    patience = FIRST_S
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            events = selector.select(None if users else patience)
            if not events and not users and _is_free(lock) and not selector.select(0):
                return
            for found, _ in events:
                if found.fileobj is listener:
                    user, _ = listener.accept()
                    users.add(user)
                    selector.register(user, selectors.EVENT_READ)
                    with contextlib.suppress(OSError):  # it went away at once
                        user.sendall(greeting)
                    patience = LINGER_S
                else:
                    (user,) = (one for one in users if one is found.fileobj)
                    if _has_gone(user):
                        selector.unregister(user)
                        users.remove(user)
                        user.close()


def _has_gone(user: socket.socket) -> bool:
    try:
        return user.recv(1024) == b""
    except OSError:
        return True


def _is_free(lock: Path) -> bool:
    """Takes the lock, for good, where nobody is about to connect."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        os.close(fd)
        return False


if __name__ == "__main__":
    main()
