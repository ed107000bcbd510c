"""Asking again: an answer that is of no use is named, and a model that repeats itself is asked no more."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from llm_server import Answer, Server
from made_search import search_config
from replies import reply
from test_llm_client import QUESTION, client, hosted
from test_llm_explorer import explorer, start

from llmrl.llm.client import LLM
from llmrl.llm.transcript import Transcript
from llmrl.llm.tries import Tries, turns
from llmrl.methods.explorllm import programs as explorllm_programs
from llmrl.methods.explorllm import words as explorllm_words
from llmrl.methods.explorllm.language import Goal
from llmrl.methods.kalm import rollouts as kalm_rollouts
from llmrl.methods.lesr import prompts
from llmrl.methods.lesr.checker import Checker
from llmrl.methods.lesr.search import FEEDBACK, SAMPLE, _Search
from llmrl.runs.files import read_json, read_jsonl

REWARDS = ["llm_explorer.status", "llm_explorer.strategy"]


def verdicts(llm: LLM) -> list[tuple[str, str]]:
    """(index, reason) of all that was rejected, in order."""
    return [(r["index"], r["reason"]) for r in llm.transcript.rows if r["kind"] == "event" and r["event"] == "rejected"]


def test_the_same_to_the_same_is_repeated() -> None:
    other, tries = [{"role": "user", "content": "And?"}], Tries()
    assert [tries.fault(m, reply("a")) for m in (QUESTION, other, QUESTION)] == ["", "", "repeated"]
    assert tries.fault(QUESTION, reply("b")) == ""
    cut = reply("c", "truncated")
    assert [tries.fault(QUESTION, cut), tries.fault(QUESTION, cut)] == ["truncated", "repeated"]


def test_llm_explorer_stops_asking_where_the_answer_stays_the_same(tmp_path: Path) -> None:
    with Server("a description", "no idea") as server:
        llm = client(tmp_path, hosted(server))
        wrapped = explorer(llm, max_tries=10)
        start(wrapped, 1)
        assert len(server.requests) == 3
    assert wrapped.usage()["rejected"] == {"not_json": 1, "repeated": 1}
    assert llm.usage()["rejected"] == {"not_json": 1, "repeated": 1}


@pytest.mark.parametrize("stage", [1, 2])
def test_llm_explorer_takes_nothing_from_an_answer_that_was_not_ended(tmp_path: Path, stage: int) -> None:
    cut = Answer("<think>{0: 0.99, 1: 0.01, 2: 0}"), Answer("{0: 0, 1: 1, 2: 0}", finish_reason="length")
    rest = ["<think>hm</think>a description", "<think>{0: 1}</think>{0: 0.5, 1: 0.5, 2: 0}"]
    with Server(*(rest[: stage - 1]), *cut, *rest[stage - 1 :]) as server:
        wrapped = explorer(client(tmp_path, hosted(server)), max_tries=10)
        start(wrapped, 1)
        assert "hm" not in json.dumps(server.requests[-1]["messages"])
    assert wrapped.inner.distribution.tolist() == [0.5, 0.5, 0]
    assert wrapped.usage()["rejected"] == {"truncated": 2}


# --- LESR -------------------------------------------------------------------------------------------------------------


def search(llm: LLM, folder: Path, *, tell: bool) -> _Search:
    """A search as far as it asks and rejects."""
    found = object.__new__(_Search)
    found.ctx = SimpleNamespace(llm=llm, dir=folder, cfg=SimpleNamespace(log=SimpleNamespace(progress=False)))
    found.config = dataclasses.replace(search_config().method, k=6, max_tries=49, tell_rejections=tell)
    found.asker = SimpleNamespace(
        ask=lambda history: QUESTION,
        retry=lambda m, told: prompts.Asker.retry(None, m, told),
        feedback=lambda c: QUESTION,
    )
    found.candidates, found.past, found.checker = [], Tries(), Checker(found.config, np.zeros((1, 1)), np.zeros(1))
    return found


def test_lesr_stops_asking_where_the_answer_stays_the_same(tmp_path: Path) -> None:
    with Server("prose", "other prose") as server:
        llm = client(tmp_path, hosted(server))
        assert search(llm, tmp_path, tell=False).sample(0, []) == []
        # the next sample begins with the same messages, so it gets the same answer, and so would all others
        asked = [("0/0/0", "no_code"), ("0/0/1", "no_code"), ("0/0/2", "repeated"), ("0/1/3", "repeated")]
        assert verdicts(llm) == asked
        resumed = client(tmp_path, hosted(server))
        assert search(resumed, tmp_path, tell=False).sample(0, []) == []
        assert len(server.requests) == 4


def test_lesr_starts_afresh_where_a_told_retry_repeats_itself(tmp_path: Path) -> None:
    with Server("prose") as server:
        llm = client(tmp_path, hosted(server))
        assert search(llm, tmp_path, tell=True).sample(0, []) == []
        lengths = [len(request["messages"]) for request in server.requests]
    assert lengths == [2, 4, 2, 2]  # asked, told, asked as at first; another sample
    ends = [("0/0/1", "repeated"), ("0/0/2", "repeated"), ("0/1/3", "repeated")]
    assert verdicts(llm) == [("0/0/0", "no_code"), *ends]


def test_lesr_goes_on_with_what_a_fresh_start_brings(tmp_path: Path) -> None:
    with Server("prose", "prose", "third", "fourth", "third") as server:
        llm = client(tmp_path, hosted(server))
        search(llm, tmp_path, tell=True).sample(0, [])
        lengths = [len(request["messages"]) for request in server.requests]
    assert lengths[:6] == [2, 4, 2, 4, 2, 2]  # the fifth answer is the third again, so the sample ends
    assert server.requests[3]["messages"][2]["content"] == "third"


def test_lesr_begins_afresh_after_two_failures_without_the_failed_answers(tmp_path: Path) -> None:
    with Server(*"abcdefgh") as server:
        search(client(tmp_path, hosted(server)), tmp_path, tell=True).sample(0, [])
        texts = [[m["content"] for m in request["messages"][2:]] for request in server.requests]
    assert [t[0] if t else "" for t in texts[:8]] == ["", "a", "", "c", "", "e", "", "g"]
    assert all(len(t) <= 2 for t in texts)


def test_the_calls_are_shared_by_the_samples() -> None:
    def spent(samples: int, limit: int, good: dict[int, int]) -> list[int]:
        """How many calls each sample got; `good`: those of which the n-th call brings what is asked for."""
        calls = [0] * samples
        for sample in turns(samples, limit, lambda n: calls[n] < good.get(n, limit + 1)):
            calls[sample] += 1
        return calls

    assert spent(3, 9, {}) == [3, 3, 3]
    assert spent(3, 10, {}) == [4, 3, 3]
    assert spent(3, 2, {}) == [1, 1, 0]
    assert spent(4, 49, {0: 1, 1: 1, 2: 30, 3: 2}) == [1, 1, 30, 2]
    assert spent(4, 49, {0: 1, 1: 1, 3: 2}) == [1, 1, 45, 2]
    assert spent(2, 0, {}) == [0, 0]


def test_lesr_reads_no_program_out_of_an_answer_that_was_not_ended(tmp_path: Path) -> None:
    whole = "```python\ndef revise_state(s):\n    return s\ndef intrinsic_reward(s):\n    return 0.0\n```"
    with Server(Answer(whole, finish_reason="length"), f"<think>{whole}") as server:
        llm = client(tmp_path, hosted(server))
        search(llm, tmp_path, tell=False).sample(0, [])
    assert verdicts(llm)[:2] == [("0/0/0", "truncated"), ("0/0/1", "truncated")]
    assert {row["purpose"] for row in llm.transcript.rows} == {SAMPLE}


def test_lesr_takes_no_suggestions_that_were_not_ended(tmp_path: Path) -> None:
    with Server(Answer("use mo", finish_reason="length"), "<think>so</think>use more") as server:
        llm = client(tmp_path, hosted(server))
        assert search(llm, tmp_path, tell=False)._suggestions(0, []) == "use more"
    with Server(Answer("use mo", finish_reason="length")) as server:
        llm = client(tmp_path / "b", hosted(server))
        found = search(llm, tmp_path, tell=False)
        assert found._suggestions(0, []) is None
        assert len(server.requests) == 2
    assert llm.usage()["rejected"] == found._rejections() == {"repeated": 1, "truncated": 1}
    assert ("lesr.feedback", "0/1") in llm.transcript.calls and FEEDBACK == "lesr.feedback"


# --- ExploRLLM, KALM --------------------------------------------------------------------------------------------------


def test_words_stop_asking_where_the_answer_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorllm_words.language, "question", lambda *_: QUESTION)
    meant: Goal = (2, 1)
    own: Any = SimpleNamespace(task="goal", max_tries=5)
    with Server(
        "what?", "what?", Answer('{"pick": 2, "place": 4}', finish_reason="length"), '{"pick": 2, "place": 4}'
    ) as s:
        llm = client(tmp_path, hosted(s))
        reader = explorllm_words.Reader(llm, own)
        assert reader.read(None, "x", meant) == (0, 0)
        assert reader.read(None, "x", meant) == meant
    assert reader.unreadable == {"no_json": 1, "repeated": 1, "truncated": 1}


def test_programs_are_asked_for_no_more_where_the_answer_stays_the_same(tmp_path: Path) -> None:
    with Server("nothing") as server:
        found = object.__new__(explorllm_programs.Search)
        found.llm, found.progress, found.seen = client(tmp_path, hosted(server)), lambda text: None, None
        assert found._first("planner", QUESTION, 3) is None
        assert found._candidates(QUESTION, 6) == [None] * 6
        assert len(server.requests) == 4
        assert verdicts(found.llm) == [("0", "no_code"), ("1", "repeated"), ("0", "no_code"), ("1", "repeated")]
        assert found._first("planner", QUESTION, 3) is None and len(server.requests) == 4


def test_kalm_asks_no_more_where_the_answer_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = kalm_rollouts.language.Worded(("one",), np.zeros((1, 6), np.int64))
    monkeypatch.setattr(kalm_rollouts.language, "worded", lambda tier: ours)
    monkeypatch.setattr(kalm_rollouts.language, "prompt", lambda *_: QUESTION)
    monkeypatch.setattr(kalm_rollouts.language, "read", lambda text, goal: [text])
    with Server(Answer("a sent", finish_reason="length"), "two", "two") as server:
        llm = client(tmp_path, hosted(server))
        worded = kalm_rollouts.more_words(SimpleNamespace(llm=llm), "rephrase", 5)
        assert len(server.requests) == 3
    assert list(worded.texts) == ["one", "two"]
    assert verdicts(llm) == [("0/0", "truncated"), ("0/2", "repeated")]


# --- the run ----------------------------------------------------------------------------------------------------------

RUN = ["method=llm_explorer", "agent=dqn", "agent.hidden=[16]", "agent.batch_size=8", "agent.learning_starts=10",
       "agent.random_steps=5", "env=classic/cart_pole", "eval.episodes=2", "eval.max_steps=20", "budget.env_steps=60",
       "llm=openai_compatible", "llm.model=some-model", "log.progress=true"]  # fmt: skip


def test_a_permanent_refusal_fails_the_run_keeps_what_was_trained_and_is_shown(llmrl_run, tmp_path: Path) -> None:
    from llmrl.commands.status import row_of, table

    with Server(404) as server:
        args = [*RUN, f"llm.api_base={server.url}"]
        done = llmrl_run(*args)
        assert done.code == 2 and "not_found 1x" in done.err and "llm.model" in done.err and "Traceback" not in done.err
        (place,) = (path.parent for path in tmp_path.rglob("status.json"))
        assert read_json(place / "status.json")["status"] == "FAILED"
        assert (place / "checkpoint").exists()
        assert "failed" in table([row_of(place)]) and row_of(place).failures == 1
        rows = read_jsonl(place / "metrics.jsonl")
        server.behaviours = [lambda body: "words" if "JSON" not in str(body["messages"]) else '{"0": 0.5, "1": 0.5}']
        again = llmrl_run(*args)
    assert again.code == 0, again.err
    assert read_jsonl(place / "metrics.jsonl")[: len(rows)] == rows
    assert {row["purpose"] for row in Transcript(place / "llm.jsonl").rows} == set(REWARDS)


def test_a_line_says_what_is_waited_for(llmrl_run, tmp_path: Path) -> None:
    body = '{"0": 0.5, "1": 0.5}'
    with Server(503, lambda request: "words" if "JSON" not in str(request["messages"]) else body) as server:
        done = llmrl_run(*RUN, f"llm.api_base={server.url}", "llm.retry_wait_s=0")
    assert done.code == 0, done.err
    assert "waits 0 s after llm_explorer.status 1/0, try 1 of 9: server_error. llm.retries" in done.err
