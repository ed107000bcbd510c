"""What hostile and broken servers send, through the real litellm, and what becomes of it."""

import gzip
import json
import os
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from llm_server import HANG, Answer, Raw, Server
from test_llm_client import QUESTION, ask, client, config, hosted

from llmrl.checks import ConfigError
from llmrl.commands.status import row_of, table
from llmrl.llm import waits
from llmrl.llm.answer import without_thoughts
from llmrl.llm.client import BudgetReached, LLMRefused, LLMUnavailable, preflight
from llmrl.llm.redact import redact
from llmrl.llm.transcript import Transcript
from llmrl.runs.console import TrainingProgress
from llmrl.runs.identity import RunDirectory
from llmrl.runs.lifecycle import StatusReport
from llmrl.runs.stop import Stop

HTML = {"Content-Type": "text/html"}


def chat(**parts: Any) -> Raw:
    """A 200 with a choice that has these keys."""
    return Raw(json.dumps({"choices": [{"index": 0, "finish_reason": "stop"} | parts]}).encode())


def content(value: Any) -> Raw:
    return chat(message={"role": "assistant", "content": value})


MALFORMED = {
    "empty body": Raw(b""),
    "HTML, not JSON": Raw(b"<html><body>It works</body></html>", headers=HTML),
    "not JSON": Raw(b"upstream is away", headers={"Content-Type": "text/plain"}),
    "JSON that breaks off or is broken": Raw(b'{"choices": [{"message": {"content": "0.'),
    "JSON that is a list": Raw(b"[]"),
    "JSON that is a number": Raw(b"7"),
    "JSON that is null": Raw(b"null"),
    "an error in place of an answer": Raw(b'{"error": {"message": "out of memory", "code": 500}}'),
    "no choices": Raw(b'{"id": "x"}'),
    "choices that are null": Raw(b'{"choices": null}'),
    "choices that are an object": Raw(b'{"choices": {"0": 1}}'),
    "empty choices": Raw(b'{"choices": []}'),
    "a choice that is a text": Raw(b'{"choices": ["hello"]}'),
    "no message": chat(),
    "a message that is a text": chat(message="hello"),
    "content that is a list": content([{"type": "text", "text": "hello"}]),
    "content that is a number": content(0.5),
    "content that is an object": content({"0": 0.5}),
    "content that is a truth value": content(True),
}


@pytest.mark.parametrize(("what", "response"), MALFORMED.items(), ids=MALFORMED)
def test_an_answer_that_is_none_carries_the_name_of_its_fault(tmp_path: Path, what: str, response: Raw) -> None:
    with Server(response, "fine") as server:
        llm = client(tmp_path, hosted(server))
        assert ask(llm).text == "fine"
    assert llm.usage()["failures"] == {f"malformed: {what}": 1}
    (failure,) = llm.transcript.failures["test", "1/0"]
    assert failure["detail"].startswith(f"malformed: {what}") and "\n" not in failure["detail"]


def test_an_answer_that_can_be_read_is_read_whatever_stands_beside_it(tmp_path: Path) -> None:
    body = {"choices": [{"message": {"content": "fine"}, "finish_reason": 7}], "model": [], "usage": "a lot"}
    with Server(Raw(json.dumps(body).encode(), headers={"Content-Type": "text/plain"})) as server:
        reply = ask(client(tmp_path, hosted(server)))
    assert (reply.text, reply.model, reply.finish_reason, reply.prompt_tokens) == ("fine", "test-model", None, None)


# --- thoughts, and answers that were not ended ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left", "ended"),
    [
        ("{0: 1}", "{0: 1}", True),
        ("<think>{0: 0.99}</think>{0: 1}", "{0: 1}", True),
        ("{0: 0.99} hm</think>\n{0: 1}", "\n{0: 1}", True),  # the opening tag was part of the prompt
        ("First <THINKING>a</THINKING>{0: 1}<reasoning>b</reasoning>.", "First {0: 1}.", True),
        ("<think>a <think> b</think> c</think>d", "d", True),
        ("<think>what if {0: 0.99, 1: 0.01", "", False),
        ("{0: 1}<think>or rather", "{0: 1}", False),
    ],
)
def test_thoughts_are_no_part_of_the_answer(text: str, left: str, ended: bool) -> None:
    assert without_thoughts(text) == (left, ended)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer("{0: 1}", finish_reason="length"), "the server's limit of tokens"),
        (Answer("{0: 1}", finish_reason="content_filter"), "content filter"),
        (Answer("<think>{0: 1}"), "thought"),
        (Answer("", finish_reason="length", message={"reasoning_content": "{0: 1}"}), "the server's limit of tokens"),
        (Answer("x" * 101), "max_answer_chars"),
        (Answer("x" * 100), ""),
        (Answer("<think>{0: 1}</think>"), ""),
        (Answer("fine", message={"reasoning_content": "{0: 1}"}), ""),
    ],
)
def test_an_answer_that_was_not_ended_is_truncated(tmp_path: Path, answer: Answer, why: str) -> None:
    fault = "truncated" if why else ""
    with Server(answer) as server:
        live = ask(client(tmp_path, hosted(server, max_answer_chars=100)))
        again = ask(client(tmp_path, hosted(server, max_answer_chars=100)))
        assert len(server.requests) == 1
    assert live.fault == fault and live == again
    assert why in live.why and bool(why) is bool(live.why)
    assert "{0: 1}" not in live.text or answer.text == "{0: 1}"
    row = Transcript(tmp_path / "llm.jsonl").calls["test", "1/0"]
    assert row["finish_reason"] == ("max_answer_chars" if len(answer.text) > 100 else answer.finish_reason)


@pytest.mark.parametrize(
    ("finish", "max_tokens", "cut"),
    [("length", 64, True), ("stop", 100, False), (None, 100, True), (None, 101, False), (None, None, False)],
)
def test_an_answer_at_the_limit_of_tokens_names_it(
    tmp_path: Path, finish: str | None, max_tokens: int | None, cut: bool
) -> None:
    """Some servers do not say why they stopped; 100 tokens are what the answer has."""
    with Server(Answer("fine", finish_reason=finish)) as server:
        reply = ask(client(tmp_path, hosted(server, max_tokens=max_tokens)))
    assert (f"the limit of {max_tokens} tokens (llm.max_tokens)" in reply.why) is cut is (reply.fault == "truncated")


# --- characters and sizes ---------------------------------------------------------------------------------------------


def test_half_letters_and_control_characters_do_no_harm(tmp_path: Path) -> None:
    with Server("a\ud800b\0c\x1b[2Jd\te\nf \U0001f600") as server:
        reply = ask(client(tmp_path, hosted(server)))
        assert reply.text == "a\ufffdb\ufffdc\ufffd[2Jd\te\nf \U0001f600"
        again = [*QUESTION, {"role": "assistant", "content": reply.text}]
        client(tmp_path, hosted(server)).ask(again, purpose="test", index="2/0")  # it can be sent on
        assert server.requests[-1]["messages"][-1]["content"] == reply.text


def endless() -> Any:
    while True:
        yield b" " * 65536


@pytest.mark.parametrize(
    "response",
    [
        Raw(b'{"choices": "' + b"x" * 5_000_000 + b'"}'),
        Raw(endless()),
        Raw(gzip.compress(b" " * 50_000_000), headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}),
    ],
    ids=["large", "endless", "bomb"],
)
def test_a_body_without_end_is_not_read_on(tmp_path: Path, response: Raw) -> None:
    with Server(response) as server, pytest.raises(LLMUnavailable, match="too_long 1x.*llm.max_answer_chars"):
        ask(client(tmp_path, hosted(server, retries=0, max_answer_chars=1000)))


def test_a_coding_that_was_not_asked_for_is_not_decoded(tmp_path: Path) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip, gzip"}
    with Server(Raw(gzip.compress(gzip.compress(b"{}")), headers=headers), "fine") as server:
        llm = client(tmp_path, hosted(server))
        ask(llm)
    assert llm.usage()["failures"] == {"malformed: content encoding": 1}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nobody_is_redirected(tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-0123456789")
    with Server("caught") as other, Server(Raw(b"", status, {"Location": f"{other.url}/chat/completions"})) as server:
        with pytest.raises(LLMRefused, match="redirected 1x.*http://127.0.0.1.*llm.api_base"):
            ask(client(tmp_path, hosted(server, key_env="MY_KEY")))
        assert (len(server.requests), len(other.requests)) == (1, 0)


def test_the_other_way_of_litellm_is_watched_too(tmp_path: Path) -> None:
    """Providers that litellm asks without the OpenAI SDK."""
    with Server("caught") as other, Server(Raw(b"", 307, {"Location": f"{other.url}/x"}), Raw(endless())) as server:
        settings = hosted(server, provider="anthropic", retries=0, max_answer_chars=1000)
        with pytest.raises(LLMRefused, match="redirected 1x"):
            ask(client(tmp_path, settings))
        with pytest.raises(LLMUnavailable, match="too_long 1x"):
            ask(client(tmp_path, settings))
        assert len(other.requests) == 0


# --- money ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": 0, "completion_tokens": 5},
        {"prompt_tokens": 5, "completion_tokens": 0},
        {"prompt_tokens": -1e9, "completion_tokens": 5},
        {"prompt_tokens": -5, "completion_tokens": 5},
        {"prompt_tokens": 5, "completion_tokens": 10**9},
        {"prompt_tokens": 10**9, "completion_tokens": 5},
        {"prompt_tokens": "5", "completion_tokens": "5"},
        {"prompt_tokens": True, "completion_tokens": True},
        {"prompt_tokens": float("nan"), "completion_tokens": float("inf")},
        {"prompt_tokens": 5, "completion_tokens": None},
        {"prompt_tokens": [5]},
    ],
    ids=str,
)
def test_a_cost_that_is_not_known_stops_a_run_with_a_budget(tmp_path: Path, usage: dict | None) -> None:
    with Server(Answer("fine", usage=usage)) as server:
        llm = client(tmp_path, hosted(server, budget_usd=1.0, usd_per_million_tokens=(1.0, 1.0)))
        assert ask(llm, "1/0").usd is None
        with pytest.raises(BudgetReached, match="1 of 1 calls of this run cost is not known"):
            ask(llm, "2/0")
        assert len(server.requests) == 1


def test_no_text_may_have_no_tokens(tmp_path: Path) -> None:
    with Server(Answer("", usage={"prompt_tokens": 5, "completion_tokens": 0})) as server:
        assert ask(client(tmp_path, hosted(server, usd_per_million_tokens=(1.0, 1.0)))).usd == pytest.approx(5e-6)


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LLM_PASSWORD", "openai_api_key", "MINE"])
@pytest.mark.parametrize("key", ["hunter2", "abcd", 'sk-"quoted\\key"/+=', "a pass  phrase of words"])
def test_a_key_is_never_kept_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    monkeypatch.setenv(name, key)
    answer = Answer(f"My key is {key}, is it not?", finish_reason=f"stop {key}")
    with Server(401, answer) as server:
        server.model = f"model of {key}"
        settings = hosted(server, key_env=name)
        with pytest.raises(LLMRefused) as refused:
            ask(client(tmp_path, settings))
        reply = ask(client(tmp_path, settings), "2/0")
        assert server.keys == [key, key]
    assert key not in str(refused.value) and " ".join(key.split()) not in str(refused.value)
    assert reply.text == "My key is ***, is it not?" and reply.model == "model of ***"
    assert (
        key not in (tmp_path / "llm.jsonl").read_text() and json.dumps(key) not in (tmp_path / "llm.jsonl").read_text()
    )
    monkeypatch.setenv(name, "another one")  # what was recorded is what is read, with whatever key
    assert ask(client(tmp_path, settings), "2/0") == reply


@pytest.mark.parametrize(
    "form",
    [
        "sk-Very/secret+0123456789",
        "Bearer sk-Very/secret+0123456789",
        "SK-VERY/SECRET+0123456789",
        "sk-Very/sec\n  ret+0123456789",
        "sk-Very%2Fsecret%2B0123456789",
        "c2stVmVyeS9zZWNyZXQrMDEyMzQ1Njc4OQ==",
        "dXNlcjpzay1WZXJ5L3NlY3JldCswMTIzNDU2Nzg5",  # of user:…
        "Basic OnNrLVZlcnkvc2VjcmV0KzAxMjM0NTY3ODk6",  # of :…:
        "736b2d566572792f7365637265742b30313233343536373839",
        "sk-Very\\/secret+0123456789",
    ],
)
def test_a_key_is_found_in_whatever_form(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("MINE", "sk-Very/secret+0123456789")
    text = redact(f"before {form} after", "MINE")
    assert "***" in text and text.startswith("before ") and text.endswith(" after")
    assert not any(piece in text for piece in ("0123456789", "456789", "zZWNyZXQr", "2/secret", "ecret"))


def test_other_keys_of_the_environment_are_not_kept_either(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("A_KEY", "B_TOKEN", "C_SECRET", "D_PASSWORD", "E_PASS", "F_CREDENTIAL", "g_auth"):
        monkeypatch.setenv(name, f"value-of-{name}")
        assert redact(f"({os.environ[name]})", None) == "(***)"
    monkeypatch.setenv("HARMLESS", "value-of-harmless")
    assert redact("value-of-harmless", None) == "value-of-harmless"


@pytest.mark.parametrize("key", ["x", "abc", "schlüssel", "a\nb-long-key"])
def test_a_key_that_cannot_be_one_is_refused_before_training(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MINE", key)
    with pytest.raises(ConfigError, match="llm.key_env") as refused:
        preflight(config("gpt-4o-mini", key_env="MINE"))
    assert repr(key) not in str(refused.value)


# --- waiting ----------------------------------------------------------------------------------------------------------


def waits_of(tmp_path: Path, server: Server, **settings: Any) -> list[float]:
    found: list[float] = []
    stop = Stop()
    stop.wait = found.append  # type: ignore[method-assign]
    with server, pytest.raises(LLMUnavailable):
        ask(client(tmp_path, hosted(server, **settings), stop))
    return found


@pytest.mark.parametrize("status", [429, 500, 503, 529])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "6"}, 6.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After-Ms": "2500"}, 2.5),
        ({"Retry-After": "86400"}, 100.0),  # the cap
        ({"Retry-After": "-5"}, 1.0),
        ({"Retry-After": "nan"}, 1.0),
        ({"Retry-After": "soon"}, 1.0),
        ({"Retry-After": "0"}, 1.0),
    ],
    ids=str,
)
def test_it_waits_at_least_what_the_server_says(tmp_path: Path, status: int, headers: dict, seconds: float) -> None:
    server = Server(Raw(b"{}", status, headers))
    assert waits_of(tmp_path, server, retries=1, retry_wait_s=1.0, retry_after_max_s=100.0) == [seconds]


def test_a_time_of_day_is_waited_for(tmp_path: Path) -> None:
    server = Server(Raw(b"{}", 429, {"Retry-After": formatdate(time.time() + 90, usegmt=True)}))
    (seconds,) = waits_of(tmp_path, server, retries=1, retry_wait_s=1.0)
    assert 85 <= seconds <= 91


def test_the_defaults_outlast_a_limit_per_minute_twice(tmp_path: Path) -> None:
    default = config("openai_compatible", model="m", api_base="http://localhost:1/v1")
    server = Server(429)
    found = waits_of(
        tmp_path, server, **{k: getattr(default, k) for k in ("retries", "retry_wait_s", "retry_wait_max_s")}
    )
    assert sum(found) == 183


def test_waiting_is_told_with_the_call_the_try_and_the_key_to_change(tmp_path: Path) -> None:
    told: list[str] = []
    with Server(503, "fine") as server:
        ask(
            client(tmp_path, hosted(server), waiting=lambda text, failed: told.append(text) if failed else None), "12/0"
        )
    assert told == [
        "waits 0 s after test 12/0, try 1 of 3: server_error. llm.retries and llm.retry_wait_max_s say how long it is "
        "waited."
    ]


# --- permanent mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "gpt-4o-mimi"}, "llm.model: litellm knows no model 'gpt-4o-mimi'"),
        ({"model": "deepinfa/llama"}, "llm.model: litellm knows no model"),
        ({"provider": "opnai"}, "llm.model: litellm knows no model 'opnai/gpt-4o-mini'"),
        ({"model": "o3-mini"}, "temperature=0.0.*llm.temperature=null"),
        ({"model": "gpt-5-mini"}, "temperature=0.0.*llm.temperature=null"),
        ({"key_env": None}, "llm.key_env: gpt-4o-mini needs a key.*llm.key_env=OPENAI_API_KEY"),
    ],
    ids=str,
)
def test_what_litellm_would_not_send_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, changes: dict, told: str
) -> None:
    monkeypatch.setenv("MINE", "sk-0123456789")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=told):
        preflight(config("gpt-4o-mini", **({"key_env": "MINE"} | changes)))


def test_no_temperature_and_the_name_of_the_limit_that_a_model_wants(tmp_path: Path) -> None:
    with Server("fine") as server:
        ask(client(tmp_path / "a", hosted(server, model="o3-mini", temperature=None, max_tokens=50)))
        ask(client(tmp_path / "b", hosted(server, temperature=0.5, max_tokens=50)))
    reasoner, other = server.requests
    assert "temperature" not in reasoner and "max_tokens" not in reasoner and reasoner["max_completion_tokens"] == 50
    assert other["temperature"] == 0.5 and other["max_tokens"] == 50


@pytest.mark.parametrize(
    "api_base", ["127.0.0.1:8000", "localhost", "ftp://x/v1", "http://", "http:///v1", "not a url", "http://x:port/v1"]
)
def test_an_address_has_a_scheme_and_a_host(api_base: str) -> None:
    with pytest.raises(ValueError, match="api_base: .*http://"):
        config("openai_compatible", model="m", api_base=api_base)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422])
def test_what_is_refused_for_ever_does_not_say_later(tmp_path: Path, status: int) -> None:
    with Server(status) as server, pytest.raises(LLMRefused) as refused:
        ask(client(tmp_path, hosted(server)))
    assert not refused.value.later and len(server.requests) == 1
    assert LLMUnavailable.later and "same command goes on" in str(refused.value)


def test_a_request_under_way_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "TICK_S", 0.01)
    told: list[str] = []
    with Server(HANG) as server, pytest.raises(LLMUnavailable, match=r"llm\.timeout_s says how long"):
        settings = hosted(server, retries=0, timeout_s=0.2)
        ask(client(tmp_path, settings, waiting=lambda text, failed: told.append(text)), "12/0")
    assert told[0] == "waits for test 12/0, try 1 of 1: 0 of 0.2 s (llm.timeout_s says how long an answer may take)"


def test_progress_and_status_say_what_is_waited_for(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.acquire({})
    with TrainingProgress(100, enabled=True) as progress:
        report = StatusReport(directory, progress)
        for text, failed in (("waits for a", False), ("waits for a, still", False), ("waits 2 s after a", True)):
            report.waiting(text, failed)
    assert capsys.readouterr().err.splitlines() == ["waits for a", "waits 2 s after a"]
    assert directory.status()["waiting_for"] == "waits for a"
    assert "RUNNING, waits for a" in table([row_of(directory.path)])
    directory.release()
    with TrainingProgress(100, enabled=False) as progress:
        progress.waiting("silence", True)
    assert capsys.readouterr().err == ""
