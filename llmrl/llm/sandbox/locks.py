"""The child locks itself in, layer by layer; after this only arithmetic is left. The order matters: each layer still
needs what the next ones take away. Imported by the child without the rest of llmrl.

A layer that this machine does not have stays off, and says why; the others go on.
"""

import ctypes
import ctypes.util
import errno
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

try:  # now: later no file can be read any more
    import landlockpy
    import seccompy
except ImportError:
    landlockpy = seccompy = None  # type: ignore[assignment]

NOBODY = 65534  # the uid that owns nothing
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x08000000, 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CAPABILITY_VERSION_3 = 0x20080522
PROT_EXEC = 4

# All that Python and numpy need for arithmetic and for two pipes that are open already. No file, socket, process,
# signal, and no new machine code (mmap and mprotect are allowed without PROT_EXEC only).
ALLOWED_CALLS = (
    "read", "write", "close", "futex", "brk", "munmap", "mremap", "madvise", "clock_gettime", "clock_nanosleep",
    "gettimeofday", "getrandom", "getpid", "gettid", "sched_yield", "rt_sigreturn", "rt_sigprocmask", "sigaltstack",
    "restart_syscall", "exit", "exit_group",
)  # fmt: skip


def lock_in(parent: int, memory_mb: int, cpu_seconds: int) -> dict[str, str]:
    """Puts all layers on, in the current directory, which becomes the root. Returns layer -> "on" or why not.

    `parent` is the trainer's process id; the child ends where that process is gone already."""
    layers: list[tuple[str, Callable[[], None]]] = [
        ("rlimits", lambda: limit_resources(memory_mb, cpu_seconds)),
        ("network namespace", leave_network),
        ("empty root directory", enter_empty_root),
        ("unprivileged user", drop_privileges),
        ("ends with its parent", lambda: end_with(parent)),
        ("no new privileges", lambda: _linux("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
        ("landlock", landlock),
        ("no new descriptors", lambda: _limit(resource.RLIMIT_NOFILE, 0)),
        ("seccomp", seccomp),
    ]
    # Both libraries ask ldconfig where the C library is, which costs a process each time; it is loaded already.
    ctypes.util.find_library = lambda name: None
    found = {}
    for name, put_on in layers:
        try:
            put_on()
            found[name] = "on"
        except (OSError, ImportError, AttributeError, ValueError) as error:
            found[name] = f"off: {error}"
    return found


def limit_resources(memory_mb: int, cpu_seconds: int) -> None:
    """Memory on top of what is mapped now, processor time, no process or thread, no byte into any file, no core."""
    statm = Path("/proc/self/statm")
    mapped = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
    for which, value in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_AS, mapped + memory_mb * 2**20),
    ):
        _limit(which, value)


def leave_network() -> None:
    """A network namespace holds no interface but a loopback that is down. Who is not root needs a user namespace."""
    _linux("unshare", CLONE_NEWNET | CLONE_NEWIPC | (0 if os.geteuid() == 0 else CLONE_NEWUSER))


def enter_empty_root() -> None:
    os.chroot(".")  # the child's own, empty directory; root may do it, and who is root in a user namespace
    os.chdir("/")


def drop_privileges() -> None:
    """Root becomes nobody; what a user namespace has given goes as well."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    if sys.platform == "linux":
        version, no_capability = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
        _linux("capset", ctypes.byref(version), ctypes.byref(no_capability))


def end_with(parent: int) -> None:
    _linux("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user, above, would take it off again
    if os.getppid() != parent:
        os._exit(1)


def landlock() -> None:
    """No path can be opened or changed, no TCP port used, no signal sent to a process outside."""
    _installed(landlockpy)
    scope = landlockpy.Scope.ABSTRACT_UNIX_SOCKET | landlockpy.Scope.SIGNAL
    with landlockpy.Ruleset(scoped=scope) as nothing_is_allowed:
        nothing_is_allowed.restrict()


def seccomp() -> None:
    """Every system call that is not in the list fails with EPERM, so that the program gets an exception to name."""
    _installed(seccompy)
    calls = seccompy.Filter(default=seccompy.Action.ERRNO | errno.EPERM, flags=seccompy.FilterFlag.TSYNC)
    for call in ALLOWED_CALLS:
        calls.allow(call)
    for call in ("mmap", "mprotect"):
        calls.allow(call, args=[(2, seccompy.CmpOp.MASKED_EQ, 0, PROT_EXEC)])
    calls.load()


def _installed(library: object) -> None:
    if library is None:
        raise ImportError("pip install landlockpy seccompy" if sys.platform == "linux" else "only on Linux")


def _limit(which: int, value: int) -> None:
    most = resource.getrlimit(which)[1]
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    later = 1 if which == resource.RLIMIT_CPU and value != most else 0  # SIGXCPU at the first limit, SIGKILL later
    resource.setrlimit(which, (value, value + later))


def _linux(function: str, *args: object) -> None:
    """Calls a function of the C library that only Linux has."""
    if sys.platform != "linux":
        raise OSError("only on Linux")
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*args) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
