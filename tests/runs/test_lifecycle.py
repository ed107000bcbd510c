"""A run from its configuration to its RunResult, as a program calls it: without a command line, in any thread."""

import signal
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from conftest import CART_POLE, compose, only_run, status

from llmrl.agents.dqn import DQN
from llmrl.config import from_node
from llmrl.runs.files import read_json
from llmrl.runs.lifecycle import RunResult, carry_out
from llmrl.runs.stop import Stop


@pytest.fixture
def node(tmp_path) -> dict[str, Any]:
    return compose([*CART_POLE, f"compute.outputs={tmp_path / 'outputs'}"])


def in_a_thread(call: Callable[[], RunResult]) -> RunResult:
    ended: list[RunResult] = []
    thread = threading.Thread(target=lambda: ended.append(call()))
    thread.start()
    thread.join()
    return ended[0]


def test_a_run_is_done_and_then_was_done_before(node, capsys):
    told: list[str] = []
    first = carry_out(node, tell=told.append)
    assert (first.status, first.code, first.message, first.before) == ("DONE", 0, "", False)
    assert first.result == read_json(first.path / "result.json") and first.result["env_steps"] == 60
    again = carry_out(node, tell=told.append)
    assert again == RunResult(first.path, "DONE", 0, first.result, before=True)
    assert told == [] and capsys.readouterr().out == ""
    with pytest.raises(FrozenInstanceError):
        first.code = 1


def test_a_checked_configuration_is_the_same_run_as_its_node(node):
    config = from_node(node)
    first = carry_out(config)
    assert first.status == "DONE"
    assert carry_out(node) == RunResult(first.path, "DONE", 0, first.result, before=True)


def test_a_node_is_left_as_it_was(node):
    before = node | {"rerun": True}
    given = dict(before)
    assert carry_out(given).status == "DONE" and given == before


def test_in_a_thread_no_signal_is_heard_but_it_can_be_asked_to_stop(node, monkeypatch, tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    stop, update = Stop(), DQN.update

    def asks(self, batch):
        assert signal.getsignal(signal.SIGTERM) is handler
        if self.updates == 5:
            stop.ask()
        return update(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(DQN, "update", asks)
        ended = in_a_thread(lambda: carry_out(node, stop=stop))
    assert (ended.status, ended.code, ended.result) == ("INTERRUPTED", 128 + signal.SIGTERM, None)
    assert "The same command goes on." in ended.message and (ended.path / "checkpoint").exists()
    whole = carry_out(node | {"study": "whole"})
    ended = in_a_thread(lambda: carry_out(node))
    assert (ended.status, whole.status) == ("DONE", "DONE")
    for name in ("metrics.jsonl", "eval.jsonl"):
        assert (ended.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_a_wait_ends_when_somebody_asks():
    stop = Stop()
    threading.Timer(0.05, stop.ask, [signal.SIGUSR2]).start()
    with pytest.raises(BaseException, match="SIGUSR2"):
        stop.wait(60)


def test_what_is_wrong_is_returned_and_leaves_nothing(node, tmp_path):
    told: list[str] = []
    ended = carry_out(node | {"seed": -1}, tell=told.append)
    assert (ended.path, ended.status, ended.code) == (None, "REFUSED", 2)
    assert "seed: must be a whole number" in ended.message and told == [ended.message]
    node["compute"]["device"] = "cuda:99"  # found when the directory is there
    ended = carry_out(node)
    assert (ended.status, ended.code) == ("REFUSED", 2) and "compute.device" in ended.message
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_returned_with_its_reason(node, monkeypatch, tmp_path):
    def fails(self, batch):
        raise ValueError("no such batch")

    monkeypatch.setattr(DQN, "update", fails)
    ended = carry_out(node)
    assert (ended.path, ended.status, ended.code) == (only_run(tmp_path), "FAILED", 1)
    assert "ValueError: no such batch" in ended.message and (ended.path / "error.txt").exists()
    assert status(ended.path) == "FAILED"


def test_one_that_is_alive_is_left_alone(node, monkeypatch):
    ends: list[RunResult] = []
    update = DQN.update

    def second(self, batch):
        if not ends:
            ends.append(carry_out(node))
        return update(self, batch)

    monkeypatch.setattr(DQN, "update", second)
    assert carry_out(node).status == "DONE"
    assert (ends[0].status, ends[0].code) == ("RUNNING", 75) and "is running elsewhere" in ends[0].message


def test_a_fault_of_ours_is_raised(node, monkeypatch):
    def broken(*args: object) -> Path:
        raise ZeroDivisionError

    monkeypatch.setattr("llmrl.runs.lifecycle.run_path", broken)
    with pytest.raises(ZeroDivisionError):
        carry_out(node)
