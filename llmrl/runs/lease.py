"""Who owns a run's directory: a lease that needs no flock, which many shared file systems do not have.

    lock.<n>       made once (O_EXCL); the highest n owns the directory, its modification time is the last beat
    released.<n>   what it is renamed to at the end

An owner is gone if its process is (seen from the same machine), if it is an earlier start of the same Slurm job, or
without a beat for LLMRL_LEASE_S seconds by the file server's clock. Who takes over removes the older files, and an
owner opens its own before whatever it writes (`check`, called by `files.writing`): whoever was suspended for long
finds it gone, and writes nothing more.
"""

import errno
import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

STALE_S = float(os.environ.get("LLMRL_LEASE_S", "90"))
BEAT_S = STALE_S / 6
HELD, RELEASED = "lock", "released"
GONE = (errno.ENOENT, errno.ESTALE)

_own: dict[str, "Lease"] = {}  # of this process, by their absolute directories


class Held(Exception):
    """Somebody else owns the directory; `owner` says who, as far as known."""

    def __init__(self, owner: dict[str, Any]) -> None:
        super().__init__(f"pid {owner.get('pid', '?')} on {owner.get('host', '?')}")
        self.owner = owner


class TakenOver(BaseException):
    """Another process has taken over what this one owned. A BaseException, so that no library swallows it."""


class Lease:
    """The ownership of one directory by this process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.number = 0
        self._lost = False
        self._end = threading.Event()

    @property
    def file(self) -> Path:
        return self.directory / f"{HELD}.{self.number}"

    def acquire(self) -> None:
        """Takes the directory, which exists. Raises Held, or OSError where nothing can be written."""
        there = _files(self.directory)
        if there and (owner := owner_of(self.directory, by_server=True)) is not None:
            raise Held(owner)
        self.number = (max(there) if there else 0) + 1
        try:
            fd = os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise Held(_read(self.file)) from None
        try:
            os.write(fd, json.dumps(_myself()).encode())
            os.fsync(fd)
        except OSError:
            self.file.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        if max(now := _files(self.directory)) != self.number:  # others came and went since we looked
            self.file.unlink(missing_ok=True)
            raise Held(_read(now[max(now)]))
        for old in there.values():
            old.unlink(missing_ok=True)
        self._key = os.path.abspath(self.directory)
        _own[self._key] = self
        threading.Thread(target=self._beat, daemon=True, name="lease").start()

    def check(self) -> None:
        """Raises TakenOver where the directory is not ours any more. Opens the file: NFS then asks its server, which a
        stat may not."""
        try:
            if not self._lost:
                os.close(os.open(self.file, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            self._lost = error.errno in GONE
        if self._lost:
            raise TakenOver(
                f"{self.directory} was taken over by another process, since this one had been silent for "
                f"{STALE_S:g} s (or the directory was removed): it writes nothing more."
            )

    def release(self) -> None:
        """Ends it; a directory that was moved meanwhile is told by setting `directory`."""
        self._end.set()
        _own.pop(self._key, None)
        with suppress(OSError):  # lost, or removed with its directory
            os.rename(self.file, self.directory / f"{RELEASED}.{self.number}")

    def _beat(self) -> None:
        while not self._end.wait(BEAT_S):
            try:
                os.utime(self.file)
            except OSError as error:
                if error.errno in GONE and not self._end.is_set():
                    self._lost = True
                    return


def check(path: Path) -> None:
    """Raises TakenOver where `path` lies in a directory that this process owned, and does not any more."""
    if not _own:
        return
    text = os.path.abspath(path)
    for directory, lease in list(_own.items()):
        if text == directory or text.startswith(directory + os.sep):
            lease.check()


def owner_of(directory: Path, *, by_server: bool = False) -> dict[str, Any] | None:
    """Who owns a directory at the moment; None where nobody does. `by_server`: by the clock of the file server, for
    which a file is made; whoever only looks takes this machine's."""
    try:
        there = _files(directory)
        if not there:
            return None
        newest = there[max(there)]
        if newest.name.startswith(RELEASED):
            return None
        with open(newest, "rb") as file:
            text, beat = file.read(), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    try:
        owner = json.loads(text)
    except ValueError:
        owner = {}  # it is being written, or the disk was full
    if owner.get("place") == place() and owner["born"] != born(owner["pid"]):
        return None
    job = os.environ.get("SLURM_JOB_ID")
    if job and owner.get("slurm") == job and owner["restart"] < _restart():
        return None
    now = _server_time(directory) if by_server else time.time()
    return None if now - beat > STALE_S else owner


def place() -> str:
    """Where process ids mean the same: one boot of one machine, and in it one namespace of processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""  # no Linux: whoever is silent for long is gone


def born(pid: int) -> str | None:
    """When a process of this place began, in the kernel's ticks; None where it has ended, reaped or not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _myself() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(), "pid": pid, "born": born(pid), "place": place(),
        "slurm": os.environ.get("SLURM_JOB_ID"), "restart": _restart(),
    }  # fmt: skip


def _restart() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}


def _files(directory: Path) -> dict[int, Path]:
    """The files of the directory's owners, by their numbers."""
    found = {}
    for name in os.listdir(directory):
        what, _, number = name.partition(".")
        if what in (HELD, RELEASED) and number.isdigit():
            found[int(number)] = directory / name
    return found


def _server_time(directory: Path) -> float:
    probe = directory / f".now-{uuid.uuid4().hex}.tmp"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
