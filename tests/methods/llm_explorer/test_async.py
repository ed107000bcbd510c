"""method.asynchronous: training goes on while the LLM is asked, and a replay does the same at the same env_steps."""

import dataclasses
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CART_POLE, SHORT, TINY, below, only_run, status
from llm_server import HANG, Server
from made_runs import answered, make_run
from test_llm_client import client, hosted
from test_llm_explorer import DISCRETE, episode, explorer

from llmrl.contracts.explorer import Clock
from llmrl.llm.client import BudgetReached, LLMUnavailable
from llmrl.llm.job import Job
from llmrl.llm.transcript import ReplayMismatch, ReplayMissing, Transcript
from llmrl.methods.llm_explorer.method import LLMExplorer
from llmrl.methods.llm_explorer.report import over_training, refreshes
from llmrl.report.store.groups import select
from llmrl.runs.files import read_json, read_jsonl, write_json

ASKS = ["method=llm_explorer", "method.asynchronous=true", "llm=openai_compatible", "llm.model=some-model",
        "llm.retry_wait_s=0.01"]  # fmt: skip
RUNS = {
    "dqn": [*ASKS, *CART_POLE, "budget.env_steps=2000", "agent.updates_per_env_step=2"],
    "td3": [*ASKS, *TINY["td3"], *SHORT, "env=mujoco/half_cheetah", "env.max_episode_steps=20", "eval.every=100",
            "budget.env_steps=300"],
}  # fmt: skip
COMPARED = ("llm.jsonl", "metrics.jsonl", "eval.jsonl", "agent.pt")
PROPOSED = "proposed"


class Slow(Server):
    """A server that thinks for `seconds` before it answers."""

    def __init__(self, *behaviours: Any, seconds: float) -> None:
        super().__init__(*behaviours, on_request=lambda: self.closing.wait(seconds) and None)


class Gate(Server):
    """A server that answers when it is let, and tells that it was asked."""

    def __init__(self, *behaviours: Any) -> None:
        self.asked, self.open = threading.Event(), threading.Event()
        super().__init__(*behaviours, on_request=lambda: self.asked.set() or self.open.wait(30) and None)


def begin(wrapped: LLMExplorer, ended: int, env_steps: int = 0) -> None:
    wrapped.on_episode_start(Clock(env_steps=env_steps, episodes=ended), ended, episode(ended - 1))


def propose(wrapped: LLMExplorer, env_steps: int) -> None:
    """One step of a training whose inner explorer does nothing."""
    wrapped.inner.propose = lambda *args: PROPOSED
    assert wrapped.propose(None, None, Clock(env_steps=env_steps), [], np.random.default_rng(0)) == PROPOSED


def come_back(wrapped: LLMExplorer) -> None:
    assert wrapped._job._done.wait(30)


def ends(directory: Path) -> list[tuple[str, str, int]]:
    """(index, applied or dropped, env_steps) of each refresh."""
    rows = read_jsonl(directory / "llm.jsonl")
    return [(row["index"], row["event"], row["env_steps"]) for row in rows if "env_steps" in row]


def test_the_exploration_changes_when_the_answer_has_come_and_one_is_in_flight_at_most(tmp_path: Path) -> None:
    with Gate("words", "{0: 0.5, 1: 0.25, 2: 0.25}") as server:
        wrapped = explorer(client(tmp_path, hosted(server)), asynchronous=True)
        begin(wrapped, 1, env_steps=150)
        assert server.asked.wait(30)
        for env_steps in range(150, 300):
            propose(wrapped, env_steps)
        begin(wrapped, 2, env_steps=300)  # due, but there is one in flight
        assert wrapped.vector is None and len(server.requests) == 1
        server.open.set()
        come_back(wrapped)
        propose(wrapped, 300)
        assert wrapped.inner.distribution.tolist() == [0.5, 0.25, 0.25]
        begin(wrapped, 3, env_steps=450)
        come_back(wrapped)
    asked = [index for purpose, index in wrapped._llm.transcript.calls if purpose.endswith("strategy")]
    assert asked == ["1/0", "3/0"]  # the episode asked about is the latest; that of 2 is passed over
    assert wrapped.metrics()["llm_refreshes"] == 1
    assert ends(tmp_path) == [("1", "applied", 300)]


def test_a_resumed_run_asks_again_only_for_what_has_not_come(tmp_path: Path) -> None:
    """Killed three times: with one in flight; with it applied, and an older checkpoint; after a step beyond it."""
    with Gate("words", "{0: 1, 1: 0, 2: 0}") as server:
        killed = explorer(client(tmp_path, hosted(server)), asynchronous=True)
        begin(killed, 1)
        in_flight = killed.state_dict()
        server.open.set()
        come_back(killed)

        resumed = explorer(client(tmp_path, hosted(server)), asynchronous=True)
        resumed.load_state_dict(in_flight)
        come_back(resumed)
        propose(resumed, 7)
        assert len(server.requests) == 2 and resumed.vector.tolist() == [1, 0, 0]

    again = explorer(client(tmp_path, hosted(server)), asynchronous=True)  # nobody is there to be asked
    again.load_state_dict(in_flight)
    for env_steps in range(7):
        propose(again, env_steps)
        assert again.vector is None
    propose(again, 7)
    assert again.vector.tolist() == [1, 0, 0]
    np.testing.assert_equal(again.state_dict(), resumed.state_dict())
    assert ends(tmp_path) == [("1", "applied", 7)]


def test_a_failure_is_raised_at_the_next_start_of_an_episode_and_nothing_is_lost(tmp_path: Path) -> None:
    with Server("words", "{0: 1, 1: 0, 2: 0}", 401) as server:
        wrapped = explorer(client(tmp_path, hosted(server)), asynchronous=True)
        begin(wrapped, 1)
        come_back(wrapped)
        propose(wrapped, 3)
        begin(wrapped, 2)
        come_back(wrapped)
        propose(wrapped, 4)  # in the middle of a step nothing is raised
        with pytest.raises(LLMUnavailable, match="wrong_key 1x"):
            begin(wrapped, 3)
        server.behaviours = ["words", "{0: 0, 1: 1, 2: 0}"]
        resumed = explorer(client(tmp_path, hosted(server)), asynchronous=True)
        resumed.load_state_dict(wrapped.state_dict())
        come_back(resumed)
        propose(resumed, 5)
        assert resumed.vector.tolist() == [0, 1, 0]
        poor = dataclasses.replace(hosted(server), budget_usd=0.0, usd_per_million_tokens=(1.0, 1.0))
        resumed = explorer(client(tmp_path / "poor", poor), asynchronous=True)
        begin(resumed, 1)
        come_back(resumed)
        with pytest.raises(BudgetReached):
            begin(resumed, 2)


def test_a_tape_that_does_not_tell_when_stops_the_replay(tmp_path: Path) -> None:
    with Server("words", "{0: 1, 1: 0, 2: 0}") as server:
        of = hosted(server)
        begin(explorer(client(tmp_path / "waiting", of)), 1)
        live = explorer(client(tmp_path / "live", of), asynchronous=True)
        begin(live, 1)
        come_back(live)
        propose(live, 9)
    replay = dataclasses.replace(of, replay=str(tmp_path / "waiting"))
    with pytest.raises(ReplayMissing, match="llm_explorer.refresh 1 began to count"):
        begin(explorer(client(tmp_path / "a", replay), asynchronous=True), 1)
    replay = dataclasses.replace(of, replay=str(tmp_path / "live"))
    wrapped = explorer(client(tmp_path / "b", replay), asynchronous=True)
    begin(wrapped, 1)
    with pytest.raises(ReplayMismatch, match="recorded as applied at 9 env_steps"):
        propose(wrapped, 10)


def test_nothing_is_recorded_once_a_job_was_dropped(tmp_path: Path) -> None:
    with Gate("too late") as server:
        llm = client(tmp_path, hosted(server))
        question = [{"role": "user", "content": "?"}]
        job = Job(llm, "test", "0", lambda: llm.ask(question, purpose="test", index="0/0"))
        assert server.asked.wait(30)
        job.drop(20)
        server.open.set()
        assert job._done.wait(30)
    assert ends(tmp_path) == [("0", "dropped", 20)]
    assert not Transcript(tmp_path / "llm.jsonl").calls and llm.usage()["calls"] == 0


ANSWERS = {
    "dqn": ["It goes left.", '{"0": 0.2, "1": 0.8}', 500, "It goes right.", "no numbers here", '{"0": 0.7, "1": 0.3}',
            "It sways.", '{"0": 0.4, "1": 0.6}', "It falls.", 503, HANG],
    "td3": ["It falls.", '{"0": 0.1, "1": -0.2, "2": 0, "3": 0, "4": 0, "5": 0.3}', None, "It runs.", "{0: 1}",
            '{"0": 0, "1": -0.2, "2": 0, "3": 0.5, "4": 0, "5": 0.3}', "It hops.", HANG],
}  # fmt: skip


@pytest.mark.parametrize("agent", RUNS)
def test_training_goes_on_meanwhile_and_the_replay_equals_it(agent: str, llmrl_run, tmp_path: Path) -> None:
    with Slow(*ANSWERS[agent], seconds=0.01) as server:
        done = llmrl_run(*RUNS[agent], f"llm.api_base={server.url}")
        assert done.code == 0, done.err
        live = only_run(tmp_path)
    rows = read_jsonl(live / "metrics.jsonl")
    steps = {row["episodes"]: row["env_steps"] for row in rows if row["kind"] == "episode"}
    *applied, dropped = ends(live)
    assert len(applied) >= 2 and all(env_steps > steps[int(index)] for index, how, env_steps in applied)
    assert [how for _, how, _ in applied] == ["applied"] * len(applied)
    assert dropped[1:] == ("dropped", max(steps.values()) if agent == "td3" else 2000)
    assert_replays(llmrl_run, live, [*RUNS[agent], "compute.outputs=replayed"], tmp_path / "replayed")


def assert_replays(llmrl_run, live: Path, run: list[str], outputs: Path) -> None:
    """With the server gone, the same files come out."""
    done = llmrl_run(*run, "llm.api_base=http://127.0.0.1:9/v1", f"llm.replay={live}")
    assert done.code == 0, done.err
    for name in COMPARED:
        assert (only_run(outputs) / name).read_bytes() == (live / name).read_bytes(), name


def test_killed_twice_and_replayed(process, llmrl_run, tmp_path: Path) -> None:
    """Killed with a call in flight, and when an answer was just taken up; in the end an answer that never comes."""
    run = [*ASKS, *CART_POLE, "budget.env_steps=4000", "eval.every=2000", "compute.checkpoint_every_s=0.5"]
    outputs = tmp_path / "killed"
    answers = [text for i in range(500) for text in (f"Number {i}.", f'{{"0": {i + 1}, "1": 100}}')]

    def applied() -> int:
        return sum(path.read_bytes().count(b'"applied"') for path in below(outputs, "llm.jsonl"))

    with Slow(*answers, seconds=0.03) as server:
        args = [*run, "compute.outputs=killed", f"llm.api_base={server.url}"]
        first = process(*args)
        assert first.until(lambda: applied() >= 2 and len(server.requests) % 2 == 1), first.end().err
        first.send(signal.SIGKILL)
        before = applied()
        second = process(*args)
        assert second.until(lambda: applied() > before), second.end().err
        second.send(signal.SIGKILL)
        server.behaviours[9:] = [HANG]
        done = llmrl_run(*args)
        assert done.code == 0, done.err
    live = only_run(outputs)
    assert ends(live)[-1][1:] == ("dropped", 4000)
    assert_replays(llmrl_run, live, [*run, "compute.outputs=replayed"], tmp_path / "replayed")


def test_a_signal_does_not_wait_for_an_answer(llmrl_run, tmp_path: Path) -> None:
    with Server(HANG, on_request=lambda: os.kill(os.getpid(), signal.SIGTERM)) as server:
        done = llmrl_run(*ASKS, *CART_POLE, "budget.env_steps=200000", f"llm.api_base={server.url}")
    assert done.code == 128 + signal.SIGTERM, done.err
    assert status(only_run(tmp_path)) == "INTERRUPTED" and (only_run(tmp_path) / "checkpoint").exists()


def test_the_report_draws_an_answer_from_where_it_began_to_count(tmp_path: Path) -> None:
    applied = {"kind": "event", "purpose": "llm_explorer.refresh", "index": "2", "event": "applied", "env_steps": 33}
    llm = [*answered(2, [0.9, 0.1]), applied, *answered(4, [0.2, 0.8])]  # the second one came too late
    run = make_run(tmp_path, method="llm_explorer", llm=llm)
    config = read_json(run / "config.json")
    write_json(run / "config.json", config | {"method": config["method"] | {"asynchronous": True}})
    (record,) = select([tmp_path])
    steps, vectors = over_training(record)
    assert steps.tolist() == [0, 33]
    assert vectors.tolist() == [[0.5, 0.5], [0.9, 0.1]]
    assert [(refresh.env_steps, refresh.counted) for refresh in refreshes(record)] == [(33, True), (40, False)]


def test_a_control_that_asks_nobody_has_nothing_to_wait_for(llmrl_run) -> None:
    done = llmrl_run(*CART_POLE, "method=llm_explorer", "method.asynchronous=true", "method.answer=uniform")
    assert done.code == 2 and "method.asynchronous: method.answer=uniform makes no LLM call to wait for" in done.err


def test_the_inputs_of_what_is_in_flight_are_in_the_checkpoint(tmp_path: Path) -> None:
    with Gate("words") as server:
        wrapped = explorer(client(tmp_path, hosted(server)), DISCRETE, asynchronous=True)
        begin(wrapped, 1)
        assert wrapped.state_dict()["pending"][0] == 1
        assert wrapped.state_dict()["pending"][1].actions.tolist() == episode(0).actions.tolist()
        server.open.set()
