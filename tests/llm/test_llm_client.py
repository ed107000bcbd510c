"""The LLM client against a real HTTP server, through the real litellm: failures, replay, budget, keys, signals."""

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from llm_server import GARBAGE, HANG, HANG_UP, NO_CHOICES, Server
from pydantic import TypeAdapter

from llmrl.checks import ConfigError
from llmrl.llm import scripted
from llmrl.llm.client import LLM, BudgetReached, Config, LLMRefused, LLMUnavailable, Reply, preflight
from llmrl.llm.forms import Structured
from llmrl.llm.transcript import ReplayError, ReplayMismatch, ReplayMissing, Transcript
from llmrl.runs.stop import Stop, Stopped

CONF = Path(__file__).parents[2] / "conf" / "llm"
KEY = "sk-very-secret-0123456789"
QUESTION = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "How much?\nIn JSON."}]


def config(name: str = "scripted", **changes: Any) -> Config:
    """A yaml of conf/llm with what it inherits, and with changes."""
    values: dict[str, Any] = {}
    chain = {"scripted": [], "gpt-4o-mini": ["scripted"], "openai_compatible": ["scripted"]}
    for part in [*chain[name], name]:
        values |= yaml.safe_load((CONF / f"{part}.yaml").read_text())
    values.pop("defaults", None)
    return TypeAdapter(Config).validate_python(values | changes)


def hosted(server: Server, **changes: Any) -> Config:
    values = {"model": "test-model", "api_base": server.url, "retries": 2, "retry_wait_s": 0.0, "timeout_s": 30.0}
    return config("openai_compatible", **(values | changes))


def client(directory: Path, of: Config, stop: Stop | None = None, **kwargs: Any) -> LLM:
    return LLM(of, Transcript(directory / "llm.jsonl"), stop or Stop(), **kwargs)


def ask(llm: LLM, index: str = "1/0", schema: type[Structured] | None = None):
    return llm.ask(QUESTION, purpose="test", index=index, schema=schema)


def test_an_answer_is_recorded_and_never_asked_for_twice(tmp_path: Path) -> None:
    timings: list[dict] = []
    with Server("0.5", HANG) as server:
        first = ask(client(tmp_path, hosted(server), timing=timings.append))
        again = ask(client(tmp_path, hosted(server)))
        assert len(server.requests) == 1
    assert first == again
    assert first == Reply(
        "0.5", "served-by-test", prompt_tokens=1000, completion_tokens=100, usd=None, finish_reason="stop"
    )
    assert [row["event"] for row in timings] == ["llm_call"]
    assert "seconds" not in (tmp_path / "llm.jsonl").read_text()


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (429, "rate_limit"),
        (500, "server_error"),
        (503, "server_error"),
        (HANG_UP, "connection"),
        (GARBAGE, "malformed: HTML, not JSON"),
        (NO_CHOICES, "malformed: empty choices"),
    ],
)
def test_what_may_pass_is_tried_again_and_counted(tmp_path: Path, behaviour: Any, reason: str) -> None:
    with Server(behaviour, behaviour, "fine") as server:
        llm = client(tmp_path, hosted(server))
        assert ask(llm).text == "fine"
        assert len(server.requests) == 3
    assert llm.usage()["failures"] == {reason: 2}
    assert Transcript(tmp_path / "llm.jsonl").usage() == llm.usage()


def test_the_waits_between_attempts_double_up_to_a_cap(tmp_path: Path) -> None:
    waits: list[float] = []
    stop = Stop()
    stop.wait = waits.append  # type: ignore[method-assign]
    with Server(500) as server, pytest.raises(LLMUnavailable):
        ask(client(tmp_path, hosted(server, retries=4, retry_wait_s=2.0, retry_wait_max_s=9.0), stop))
    assert waits == [2.0, 4.0, 8.0, 9.0]


def test_when_retries_are_used_up_the_text_says_what_was_tried_and_the_same_call_goes_on(tmp_path: Path) -> None:
    with Server(500, 429, 500, "back again") as server:
        with pytest.raises(LLMUnavailable) as failure:
            ask(client(tmp_path, hosted(server)))
        for part in ("test-model", server.url, "test 1/0", "server_error 2x", "rate_limit 1x", "same command goes on"):
            assert part in str(failure.value)
        llm = client(tmp_path, hosted(server))
        assert ask(llm).text == "back again"
    assert llm.usage()["failures"] == {"rate_limit": 1, "server_error": 2}


def test_an_unreachable_server(tmp_path: Path) -> None:
    with Server("never asked") as server:
        pass  # closed: nobody listens on its port any more
    with pytest.raises(LLMUnavailable, match="connection 3x"):
        ask(client(tmp_path, hosted(server)))


def test_a_server_that_never_answers_times_out(tmp_path: Path) -> None:
    with Server(HANG) as server, pytest.raises(LLMUnavailable, match="timeout 1x"):
        ask(client(tmp_path, hosted(server, timeout_s=0.2, retries=0)))


@pytest.mark.parametrize(("status", "reason"), [(401, "wrong_key"), (403, "forbidden"), (404, "not_found")])
def test_what_will_not_pass_is_not_tried_again(tmp_path: Path, status: int, reason: str) -> None:
    with Server(status) as server, pytest.raises(LLMRefused, match=f"{reason} 1x"):
        ask(client(tmp_path, hosted(server)))
    assert len(server.requests) == 1


def test_every_call_has_a_seed_of_its_own_where_one_is_given(tmp_path: Path) -> None:
    with Server("a", 500, "b") as server:
        ask(client(tmp_path / "none", hosted(server)))
        llm = client(tmp_path / "seed", hosted(server, seed=3))
        ask(llm, "1/0")  # a further attempt is the same call
        ask(llm, "1/1")
        llm.ask(QUESTION, purpose="other", index="1/1")
        ask(client(tmp_path / "same", hosted(server, seed=3)), "1/0")
        ask(client(tmp_path / "another", hosted(server, seed=4)), "1/0")
        first, *seeds = [request.get("seed") for request in server.requests]
    assert first is None and seeds[0] == seeds[1] == seeds[4] and len(set(seeds)) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_content_none_is_an_empty_answer(tmp_path: Path) -> None:
    with Server(None) as server:
        assert ask(client(tmp_path, hosted(server))).text == ""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_ends_the_wait_for_a_slow_answer_and_the_call_goes_on_later(tmp_path: Path, signum: int) -> None:
    stop = Stop()
    with Server(HANG, on_request=lambda: os.kill(os.getpid(), signum)) as server, stop.installed():
        with pytest.raises(Stopped):  # had the signal not ended the wait, it would be LLMUnavailable after 30 s
            ask(client(tmp_path, hosted(server, timeout_s=30.0, retries=0), stop))
        server.behaviours, server.on_request = ["late but fine"], lambda: None
        assert ask(client(tmp_path, hosted(server))).text == "late but fine"
    assert Transcript(tmp_path / "llm.jsonl").usage()["failures"] == {}


def test_a_second_signal_does_not_cut_short_the_checkpoint_of_the_first() -> None:
    stop = Stop()
    with stop.installed(), pytest.raises(Stopped) as stopped, stop.interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGUSR2)
    assert stopped.value.signum == signal.SIGTERM and stop.signum == signal.SIGUSR2


def test_a_signal_ends_the_wait_between_two_attempts(tmp_path: Path) -> None:
    stop = Stop()
    with Server(500, on_request=lambda: setattr(stop, "signum", signal.SIGTERM)) as server:
        with pytest.raises(Stopped):
            ask(client(tmp_path, hosted(server, retry_wait_s=30.0, retry_wait_max_s=30.0), stop))
        assert len(server.requests) == 1


def test_a_budget_pauses_the_run_before_the_next_call_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    price = {"usd_per_million_tokens": (1.0, 10.0)}  # 1000 and 100 tokens: 0.002 USD a call
    with Server("fine") as server:
        llm = client(tmp_path, hosted(server, budget_usd=0.003, **price))
        assert ask(llm, "1/0").usd == pytest.approx(0.002)
        ask(llm, "2/0")
        with pytest.raises(BudgetReached, match=r"llm.budget_usd: 0.0040 of 0.0030 USD"):
            ask(llm, "3/0")
        ask(llm, "1/0")  # known answers cost nothing
        assert len(server.requests) == 2
        llm = client(tmp_path, hosted(server, budget_usd=1.0, **price))
        ask(llm, "3/0")
        assert llm.usage()["usd"] == pytest.approx(0.006)


def test_prices_that_litellm_knows_and_prices_that_nobody_knows(tmp_path: Path) -> None:
    with Server("fine") as server:
        assert ask(client(tmp_path / "known", hosted(server, model="gpt-4o-mini"))).usd == pytest.approx(0.00021)
        unknown = client(tmp_path / "unknown", hosted(server))
        assert ask(unknown).usd is None
        assert unknown.usage()["calls_without_price"] == 1
        with pytest.raises(ConfigError, match="llm.usd_per_million_tokens"):
            ask(client(tmp_path / "budget", hosted(server, budget_usd=1.0)))
        price = {"usd_per_million_tokens": (1.0, 10.0)}
        with pytest.raises(BudgetReached, match="1 of 1 calls of this run cost is not known"):
            ask(client(tmp_path / "unknown", hosted(server, budget_usd=1.0, **price)), "2/0")


def test_a_missing_key_is_named_with_the_ways_round_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError) as failure:
        preflight(config("gpt-4o-mini"))
    for part in ("OPENAI_API_KEY", "gpt-4o-mini", "llm=scripted", "llm.replay="):
        assert part in str(failure.value)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    preflight(config("gpt-4o-mini"))
    preflight(config())


def test_keys_stay_out_of_every_file_and_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with Server(500, "fine", 401) as server:  # its error texts repeat the key
        settings = hosted(server, key_env="MY_KEY")
        llm = client(tmp_path, settings)
        ask(llm, "1/0")
        with pytest.raises(LLMRefused, match="Look at the key in MY_KEY") as failure:
            ask(llm, "2/0")
        assert set(server.keys) == {KEY}
    said = [str(failure.getrepr(showlocals=False)), str(dataclasses.asdict(settings)), caplog.text, *capfd.readouterr()]
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in said + written if KEY in text]
    assert "***" in written[0]


def test_a_server_without_key_env_gets_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server("fine") as server:
        ask(client(tmp_path, hosted(server)))
        assert server.keys == ["none"]


def test_a_replay_needs_no_network_and_writes_the_same_bytes(tmp_path: Path) -> None:
    with Server(500, "one", "two", 429, "three") as server:
        settings = hosted(server)
        original = client(tmp_path / "original", settings)
        for index in ("1/0", "2/0", "3/0"):
            ask(original, index)
            original.event("test", index, "accepted", vector=[0.1, 0.2])
    replayed = client(tmp_path / "replay", dataclasses.replace(settings, replay=str(tmp_path / "original")))
    for index in ("1/0", "2/0", "3/0"):
        assert ask(replayed, index) == ask(original, index)
        replayed.event("test", index, "accepted", vector=[0.1, 0.2])
    assert (tmp_path / "replay/llm.jsonl").read_bytes() == (tmp_path / "original/llm.jsonl").read_bytes()
    with pytest.raises(ReplayMissing, match=r"no answer for test 4/0. It holds test: 3 calls, 1/0 to 3/0"):
        ask(replayed, "4/0")


def test_other_messages_than_recorded_stop_the_run_and_are_shown(tmp_path: Path) -> None:
    with Server("fine") as server:
        llm = client(tmp_path, hosted(server))
        ask(llm)
        with pytest.raises(ReplayMismatch) as failure:
            llm.ask([QUESTION[0], {"role": "user", "content": "How many?\nIn JSON."}], purpose="test", index="1/0")
    assert "-[user] How much?" in str(failure.value)
    assert "+[user] How many?" in str(failure.value)


def test_a_replay_of_nothing_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="llm.replay: .*nowhere"):
        preflight(config(replay=str(tmp_path / "nowhere")))


def test_a_torn_last_line_is_dropped_and_a_broken_one_in_the_middle_is_not(tmp_path: Path) -> None:
    path = tmp_path / "llm.jsonl"
    with Server("fine") as server:
        llm = client(tmp_path, hosted(server))
        ask(llm, "1/0")
        whole = path.read_bytes()
        ask(llm, "2/0")
        both = path.read_bytes()
        for cut in (len(whole) + 1, len(both) - 1):
            path.write_bytes(both[:cut])
            assert list(Transcript(path).calls) == [("test", "1/0")]
            assert path.read_bytes() == whole
        ask(client(tmp_path, hosted(server)), "2/0")
    assert path.read_bytes() == both
    path.write_bytes(whole[:-20] + b"\n" + both[len(whole) :])
    with pytest.raises(ReplayError, match="line 1: no JSON"):
        Transcript(path)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transcript = Transcript(tmp_path / "llm.jsonl")
    transcript.event("test", "1/0", "accepted")
    before = transcript.path.read_bytes()
    write = os.write

    def half(fd: int, data: Any) -> int:
        write(fd, bytes(data)[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space left"):
        transcript.event("test", "2/0", "accepted")
    monkeypatch.setattr(os, "write", write)
    assert transcript.path.read_bytes() == before
    transcript.event("test", "2/0", "accepted")
    assert len(Transcript(transcript.path).events) == 2


def test_an_event_is_not_doubled_and_cannot_change(tmp_path: Path) -> None:
    transcript = Transcript(tmp_path / "llm.jsonl")
    transcript.event("test", "1/0", "rejected", reason="empty")
    transcript.event("test", "1/0", "rejected", reason="empty")
    assert transcript.path.read_bytes().count(b"\n") == 1
    with pytest.raises(ReplayMismatch, match="now comes out as"):
        transcript.event("test", "1/0", "rejected", reason="negative")


def test_a_seed_is_sent_and_is_another_one_for_each_call(tmp_path: Path) -> None:
    with Server("{0: 1.0}") as server:
        seeded = client(tmp_path, hosted(server, seed=3))
        ask(seeded, index="1")
        ask(seeded, index="2")
        ask(client(tmp_path / "again", hosted(server, seed=3)), index="1")
        ask(client(tmp_path / "without", hosted(server)), index="1")
    sent = [request.get("seed") for request in server.requests]
    assert sent[0] == sent[2] != sent[1]
    assert sent[3] is None


@pytest.mark.parametrize(
    ("name", "changes", "key"),
    [
        ("scripted", {"model": "gpt-4o"}, "model"),
        ("openai_compatible", {"api_base": "http://localhost:1/v1"}, "model"),
        ("openai_compatible", {"model": "m"}, "api_base"),
        ("openai_compatible", {"model": "m", "api_base": "http://me:secret@localhost/v1"}, "api_base"),
    ],
)
def test_settings_that_contradict_each_other(name: str, changes: dict, key: str) -> None:
    with pytest.raises(ValueError, match=f"{key}: "):
        config(name, **changes)


def test_scripted_says_what_it_is_and_which_purposes_it_knows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no rule for 'test'; RULES in llmrl/methods/test/scripted.py"):
        ask(client(tmp_path, config()))
    with pytest.raises(ConfigError, match=r"no rule for 'lesr.x'; it knows lesr.sample, lesr.feedback"):
        scripted.answer([{"role": "user", "content": "Hello"}], "lesr.x")
