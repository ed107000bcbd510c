"""A run's directory: who owns it (lock), how it stands (status), what made it (config, versions, code)."""

import os
import platform
import socket
import subprocess
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llmrl.runs.files import read_json, write_json, write_text, writing
from llmrl.runs.lease import Held, Lease, owner_of

RUNNING, DONE, FAILED, INTERRUPTED, PAUSED = "RUNNING", "DONE", "FAILED", "INTERRUPTED", "PAUSED"
QUEUED = "QUEUED"  # handed in to a cluster's queue, and not begun
WAITING = "WAITING"  # for another run, which makes what this one builds on
PACKAGES = ["torch", "numpy", "gymnasium", "mujoco", "ale-py", "hydra-core", "omegaconf", "litellm", "wandb"]
PACKAGES += ["opencv-python-headless"]

CODE_FILE = "code.json"  # beside llmrl/ in a copy of the code (clusters/snapshot.py): what the original said of itself
RAN = ("llmrl", "conf")  # what a run is made with; other files of a checkout are nobody's business (a .env, data)


class RunAlive(Exception):
    """Another process holds the run's lock."""


class IdentityClash(Exception):
    """The directory belongs to a run with another identity: two share eight hex digits, or a file was damaged."""


class RunDirectory:
    """`outputs/<study>/<method>-<agent>/<env>/s<seed>-<id>/`. The same command leads to the same directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lease: Lease | None = None

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def acquire(self, identity: dict) -> None:
        """Makes it this process's. Raises RunAlive or IdentityClash."""
        lease = Lease(self.path)
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lease.acquire()
            except Held as held:
                raise RunAlive(self._alive_elsewhere(held.owner)) from None
        self._lease = lease
        for leftover in self.path.glob(".*.tmp"):  # of processes that were killed
            leftover.unlink(missing_ok=True)
        known = self / "identity.json"
        if not known.exists():
            write_json(known, identity)
        elif (before := _read_or_none(known)) != identity:
            self.release()
            if only_weights_differ(before, identity):
                from llmrl.checks import ConfigError  # pydantic

                raise ConfigError(
                    f"llm.weights: the file is not the one that {self.path} began with (sha256 "
                    f"{before['llm']['weights'][:12]}…, now {identity['llm']['weights'][:12]}…). Restore it, or start "
                    "a new run with `llmrl run …`"
                )
            raise IdentityClash(f"{known} is damaged, or of another run than the one asked for; use another `study=`")

    def _alive_elsewhere(self, owner: dict[str, Any]) -> str:
        job = f" (Slurm job {owner['slurm']})" if owner.get("slurm") else ""
        return (
            f"{self.path} is running elsewhere: pid {owner.get('pid', '?')} on {owner.get('host', '?')}{job}, "
            f"at {self.status().get('env_steps', 0):,} env_steps. Wait for it, or stop it with SIGTERM: it checkpoints."
        )

    def release(self, moved_to: Path | None = None) -> None:
        """Gives it up; `moved_to`: where the directory is now, if not where it was."""
        if self._lease is not None:
            self._lease.directory = moved_to or self.path
            self._lease.release()
            self._lease = None

    def owner(self) -> dict[str, Any] | None:
        """Which process owns it (host, pid, slurm); None where none does. The truth about RUNNING."""
        return owner_of(self.path)

    def alive(self) -> bool:
        return self.owner() is not None

    def status(self) -> dict[str, Any]:
        """status.json, with `status` corrected: a RUNNING or WAITING whose process is gone is INTERRUPTED (killed)."""
        status = _read_or_none(self / "status.json")
        if status is None or not isinstance(status.get("status"), str):
            return {}
        if status["status"] in (RUNNING, WAITING) and self._lease is None and not self.alive():
            status |= {"status": INTERRUPTED, "reason": "killed"}
        return status

    def set_status(self, status: str, **facts: Any) -> None:
        """Writes status.json. DONE is the last word: nothing that happens later makes another status of it."""
        old = _read_or_none(self / "status.json") or {}
        if old.get("status") == DONE:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "slurm_job_id": os.environ.get("SLURM_JOB_ID")}
        for told in ("reason", "waiting_for"):  # of the status before
            old.pop(told, None)
        write_json(self / "status.json", old | {"status": status, "updated": now} | owner | facts)

    def record_start(self, facts: dict) -> list[str]:
        """Appends to versions.json what this start runs with; code that is not committed goes to code*.patch.

        Returns what differs from the start before, such as "torch 2.12 -> 2.13": it may change bits.
        """
        known = self / "versions.json"
        starts = (_read_or_none(known) or {}).get("starts") or []
        code = code_state()
        patch = code.pop("patch", "")
        if patch:
            name = "code.patch" if not starts else f"code-{len(starts)}.patch"
            same = [s["code"].get("patch_file") for s in starts if s["code"].get("patch_sha") == code["patch_sha"]]
            code["patch_file"] = same[0] if same else name
            if not same:
                write_text(self / name, patch)
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        start: dict[str, Any] = {
            "time": now,
            "host": socket.gethostname(),
            "code": code,
            "packages": packages(),
        } | facts
        write_json(known, {"starts": [*starts, start]})
        before = (
            starts[-1]["packages"] | {name: starts[-1][name] for name in facts if name in starts[-1]} if starts else {}
        )
        now = start["packages"] | facts
        return [f"{name} {before[name]} -> {now[name]}" for name in before if before[name] != now.get(name)]


def only_weights_differ(a: Any, b: dict[str, Any]) -> bool:
    """Whether two identities name the same run, but for the content of llm.weights."""

    def without(one: dict[str, Any]) -> dict[str, Any]:
        return one | {"llm": one["llm"] | {"weights": None}}

    with_weights = all(isinstance(one, dict) and one.get("llm", {}).get("weights") for one in (a, b))
    return with_weights and a != b and without(a) == without(b)


def run_with_other_weights(path: Path, identity: dict[str, Any]) -> Path | None:
    """A run beside `path` that is the same but for the content of llm.weights."""
    if not identity.get("llm", {}).get("weights"):
        return None
    known = (other for other in path.parent.glob("*/identity.json") if other.parent != path)
    return next((other.parent for other in known if only_weights_differ(_read_or_none(other), identity)), None)


def _read_or_none(path: Path) -> Any:
    """The object in the file; None where it is missing or damaged."""
    try:
        found = read_json(path)
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def packages() -> dict[str, str | None]:
    """Versions of what can change a result. A package that is not installed is null."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def code_state() -> dict[str, Any]:
    """Our own code: version, and in a git checkout the commit and, as `patch`, how llmrl/ and conf/ differ from it."""
    from hashlib import sha256

    import llmrl

    root = Path(llmrl.__file__).resolve().parents[1]
    state: dict[str, Any] = {"version": llmrl.__version__}
    if (copied := _read_or_none(root / CODE_FILE)) is not None:
        return copied
    if not (root / ".git").exists():
        return state

    def git(*args: str, **env: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, env=os.environ | env)
        return done.stdout if done.returncode == 0 else ""

    try:
        state["commit"] = git("rev-parse", "HEAD").strip()
    except FileNotFoundError:  # no git here
        return state
    if git("status", "--porcelain", "--", *RAN).strip():
        objects = git("rev-parse", "--path-format=absolute", "--git-path", "objects").strip()
        # `add` to an index of our own: new files are part of what ran, but the repository is not ours to write to.
        with tempfile.TemporaryDirectory(prefix="llmrl-code-") as folder:
            own = {"GIT_INDEX_FILE": f"{folder}/index", "GIT_OBJECT_DIRECTORY": folder}
            own["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = objects
            git("read-tree", "HEAD", **own)
            git("add", "--all", "--", *RAN, **own)
            state["patch"] = git("diff", "--cached", "HEAD", "--", *RAN, **own)
        state["patch_sha"] = sha256(state["patch"].encode()).hexdigest()[:12]
    return state


def unit_of(status: dict) -> str:
    """What a status counts a run in: offline training makes no env_steps."""
    return "updates" if "target_updates" in status else "env_steps"


def unit_suffix(unit: str) -> str:
    """Behind a number of steps where most are env_steps, as the column is called: only another unit is said."""
    return "" if unit == "env_steps" else f" {unit}"


def code_name(code: dict) -> str:
    """The code of a start in a few letters, for comparing: commit and what differs from it, or the version."""
    name = code.get("commit", "")[:10] or code["version"]
    return f"{name}+{code['patch_sha']}" if "patch_sha" in code else name
