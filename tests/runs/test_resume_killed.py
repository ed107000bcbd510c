"""Real `llmrl run` processes that are killed, stopped by signals, or out of disk: they end as if nothing had been."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import SHORT, TINY, below, run_directories, status
from here import CHILDREN

from llmrl.runs.files import read_json, read_jsonl
from llmrl.runs.identity import RunDirectory

OFTEN = [*SHORT, "compute.checkpoint_every_s=0.1"]
LLM = ["method=llm_explorer", "method.m=20"]
RUNS = {
    "dqn": [*LLM, *TINY["dqn"], "env=classic/cart_pole", "method.k=5", "agent.replay_size=900",
            "budget.env_steps=3000", "eval.every=1000"],
    "td3": [*LLM, *TINY["td3"], "env=mujoco/half_cheetah", "env.max_episode_steps=100", "agent.replay_size=500",
            "budget.env_steps=1200", "eval.every=400"],
    "explorllm": ["experiment=explorllm/guided", "method.epsilon=0.5", "method.programs.tables=2",
                  "method.programs.crops=3", "agent.hidden=[8]", "agent.batch_size=4", "agent.learning_starts=30",
                  "agent.random_steps=20", "agent.replay_size=100", "budget.env_steps=200", "eval.every=100",
                  "eval.sets=[unseen_colours]", "eval.set_episodes=1"],
}  # fmt: skip
COMPARED = ("metrics.jsonl", "eval.jsonl", "llm.jsonl", "agent.pt", "result.json")


def checkpoint_number(root: Path) -> int:
    """The number of the newest checkpoint below `root`; -1 where there is none."""
    names = [path.parent.name for path in below(root, "manifest.json")]
    return max((int(name) for name in names if name.isdigit()), default=-1)


def run_below(outputs: Path) -> Path:
    """The one run that was asked for, without what it builds on."""
    (found,) = [path for path in run_directories(outputs) if "artifacts" not in path.parts]
    return found


def results(directory: Path) -> dict[str, bytes]:
    assert status(directory) == "DONE"
    left = {name: (directory / name).read_bytes() for name in COMPARED}
    outputs = read_json(directory / "config.json")["compute"]["outputs"]  # below which lies what the run builds on
    return left | {"result.json": left["result.json"].replace(outputs.encode(), b"outputs")}


@pytest.fixture
def expected(llmrl_run, tmp_path):
    """What an uninterrupted run of these arguments leaves."""

    def of(args: list[str]) -> dict[str, bytes]:
        done = llmrl_run(*args, *SHORT, "compute.outputs=whole")
        assert done.code == 0, done.err
        return results(run_below(tmp_path / "whole"))

    return of


@pytest.mark.parametrize("agent, signals", [
    ("dqn", [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL]),
    ("td3", [signal.SIGUSR2, signal.SIGKILL]),
    ("explorllm", [signal.SIGKILL, signal.SIGTERM]),
])  # fmt: skip
@pytest.mark.usefixtures("children_here")
def test_killed_and_stopped_at_random(agent, signals, process, llmrl_run, expected, tmp_path):
    """Each time some checkpoints after the start (how many, is drawn); in the end the newest checkpoint is torn too."""
    args, outputs = [*RUNS[agent], *OFTEN, "compute.outputs=killed"], tmp_path / "killed"
    rng = np.random.default_rng(1)
    for signum in signals:
        target = checkpoint_number(outputs) + int(rng.integers(1, 4))
        run = process(*args, before=CHILDREN)
        assert run.until(lambda target=target: checkpoint_number(outputs) >= target), run.end().err
        ended = run.send(signum)
        directory = run_below(outputs)
        if signum == signal.SIGKILL:
            assert ended.code == -signal.SIGKILL
            assert status(directory) == "RUNNING"  # nobody could write anything else …
            known = RunDirectory(directory).status()
            assert (known["status"], known["reason"]) == ("INTERRUPTED", "killed")  # … but the lock tells
        else:
            assert ended.code == 128 + signum
            assert signal.Signals(signum).name in ended.err and "The same command goes on" in ended.err
            assert status(directory) == "INTERRUPTED"
    newest = directory / "checkpoint" / str(checkpoint_number(outputs))
    (newest / "state.pt").write_bytes((newest / "state.pt").read_bytes()[:1000])
    done = llmrl_run(*args)
    assert done.code == 0, done.err
    assert "is damaged" in done.err and "The one before it is used" in done.err
    assert len(read_json(directory / "versions.json")["starts"]) == len(signals) + 1
    assert results(directory) == expected(RUNS[agent])


def test_a_signal_cuts_a_long_evaluation_short(process, tmp_path):
    """The evaluation would take minutes; the process is gone within the 20 s that `send` waits."""
    run = process(*TINY["td3"], "env=mujoco/half_cheetah", "eval.episodes=2000", "eval.max_steps=1000")
    assert run.until(lambda: any(status(path.parent) == "RUNNING" for path in below(tmp_path, "status.json")))
    assert run.send(signal.SIGTERM).code == 143
    directory = run_below(tmp_path)
    assert status(directory) == "INTERRUPTED"
    assert read_jsonl(directory / "eval.jsonl") == []
    assert checkpoint_number(tmp_path) == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 6 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk(process, llmrl_run, expected, tmp_path, small_disk):
    """A clear message and exit code 1; once there is space again the run goes on from its checkpoint."""
    args = [*RUNS["td3"], *OFTEN, f"compute.outputs={small_disk}"]
    run = process(*args)
    assert run.until(lambda: checkpoint_number(small_disk) >= 2), run.end().err
    ballast = small_disk / "ballast"
    fill(ballast)
    full = run.end()
    assert full.code == 1, full.err
    assert "is full" in full.err and "Free some space" in full.err and "Traceback" not in full.err
    directory = run_below(small_disk)
    assert checkpoint_number(small_disk) >= 1
    again = llmrl_run(*args)  # still full
    assert again.code == 1 and "is full" in again.err and "Traceback" not in again.err
    ballast.unlink()
    done = llmrl_run(*args)
    assert done.code == 0, done.err
    assert results(directory) == expected(RUNS["td3"])
    assert read_jsonl(directory / "timing.jsonl")  # no torn line in the middle


def fill(ballast: Path) -> None:
    """Writes a file until nothing more fits, to the byte."""
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 16, 1 << 10, 1):
            with suppress(OSError):
                while True:
                    os.write(fd, b"0" * size)
    finally:
        os.close(fd)
