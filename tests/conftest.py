"""What the tests of whole runs share: composing a run, `llmrl run` in this process and in one of its own."""

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gymnasium  # noqa: F401 (before llmrl, so that our environments have their ids)
import pytest
from forked import Forked
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from llmrl import hydra_session
from llmrl.commands.check import InProcess
from llmrl.runs.files import read_json, read_jsonl

ROOT = Path(__file__).resolve().parents[1]
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process that a test starts compiles all of llmrl
LLMRL_RUN = (sys.executable, "-m", "llmrl", "run")

# A training of seconds: small networks, episodes and evaluations.
TINY = {
    "dqn": ["agent=dqn", "agent.hidden=[16]", "agent.hidden_after_convolutions=[16]", "agent.batch_size=8",
            "agent.learning_starts=10", "agent.random_steps=5", "agent.target_update_every=4"],
    "td3": ["agent=td3", "agent.hidden=[16]", "agent.batch_size=8", "agent.learning_starts=10",
            "agent.random_steps=5"],
}  # fmt: skip
SHORT = ["eval.episodes=2", "eval.max_steps=20", "log.every=7", "log.progress=false"]
CART_POLE = [*TINY["dqn"], "env=classic/cart_pole", "budget.env_steps=60", "eval.every=20", *SHORT]


def compose(overrides: list[str]) -> dict:
    """The node that `llmrl run <overrides>` would compose, as plain containers. Each is composed once."""
    return copy.deepcopy(_composed(tuple(overrides)))


@cache
def _composed(overrides: tuple[str, ...]) -> dict:
    node, chosen = hydra_session.composed(overrides)
    values = OmegaConf.to_container(node, resolve=True)  # with "???" where a value is missing
    values.pop("rerun")
    values["choices"] = {k: v for k, v in chosen.items() if not k.startswith("hydra") and v is not None}
    return values


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def llmrl_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable[..., Done]:
    """`llmrl run <args>` in this process, with tmp_path as the working directory."""
    from llmrl.run import main

    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["llmrl", "run", *args])
        GlobalHydra.instance().clear()
        try:
            code = main(list(args))
        except SystemExit as end:
            code = end.code
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def drawn() -> None:
    """For tests of a run's curve."""


@pytest.fixture(autouse=True)
def curves_are_empty_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing its curve is more than half of a small run's time. Runs in processes of their own draw theirs."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("llmrl.report.figures.run_curve.draw_curve", empty_curve)


def empty_curve(directory: Path) -> Path | None:
    if not any(row["policy"] == "greedy" for row in read_jsonl(directory / "eval.jsonl")):
        return None
    path = directory / "plots" / "curve.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch computes in one thread, as runs do: tensors are small here, and threads wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def children_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what runs make of each other, not of how their processes live and die."""
    monkeypatch.setattr("llmrl.runs.children.default", InProcess)


class Process:
    """A real `llmrl run` (or another command) in `cwd`, watched through the files that it writes."""

    def __init__(
        self, args: list[str], cwd: Path, env: dict[str, str] | None = None, before: str = "", command: str = "run"
    ) -> None:
        """`before`: Python that it carries out first, such as here.CHILDREN."""
        variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | (env or {})
        self.cwd = cwd
        self.popen: subprocess.Popen | Forked
        if variables["PYTHONPATH"] == str(ROOT):
            self.popen = Forked([command, *args], cwd, variables, before)
        else:  # what Python itself imports at its start
            self.popen = subprocess.Popen(
                [*LLMRL_RUN, *args], cwd=cwd, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def until(self, condition: Callable[[], bool]) -> bool:
        """Waits until `condition` holds; False where the process ended before it did."""
        while not condition():
            try:
                self.popen.wait(timeout=0.02)
                return condition()
            except subprocess.TimeoutExpired:
                pass
        return True

    def send(self, signum: int, timeout: float = 20) -> Done:
        """Sends the signal, and returns how the process ended within 20 s."""
        self.popen.send_signal(signum)
        return self.end(timeout)

    def end(self, timeout: float = 250) -> Done:
        try:
            out, err = self.popen.communicate(timeout=timeout)
        finally:
            if self.popen.poll() is None:
                self.popen.send_signal(signal.SIGKILL)
                self.popen.communicate()
        return Done(self.popen.returncode, out, err)


@pytest.fixture
def process(tmp_path: Path):
    """Starts `llmrl run` processes in tmp_path; none survives the test."""
    started: list[Process] = []

    def start(*args: str, env: dict[str, str] | None = None, before: str = "") -> Process:
        started.append(Process(list(args), tmp_path, env, before))
        return started[-1]

    yield start
    for one in started:
        if one.popen.poll() is None:
            one.send(signal.SIGKILL)


def below(root: Path, name: str) -> list[Path]:
    """All files of this name below `root`; unlike rglob it bears folders that a live run removes meanwhile."""
    return sorted(Path(folder, name) for folder, _, files in os.walk(root) if name in files)


def run_directories(root: Path) -> list[Path]:
    """All directories of runs below `root`."""
    return [path.parent for path in below(root, "identity.json")]


def only_run(root: Path) -> Path:
    (found,) = run_directories(root)
    return found


def status(directory: Path) -> str:
    """The status as it was written, whoever is alive; "" where there is none yet."""
    path = directory / "status.json"
    return read_json(path)["status"] if path.exists() else ""
