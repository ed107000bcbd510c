"""Answers of a form: a schema is asked for where the server takes it, JSON where it does not, else the prompt alone."""

from pathlib import Path
from typing import Any, Literal

import pytest
from llm_server import HANG, REFUSE_JSON, REFUSE_SCHEMA, Server
from pydantic import Field
from test_llm_client import ask, client, config, hosted

from llmrl.llm.client import LLMRefused
from llmrl.llm.forms import Structured, schema_of


class Part(Structured):
    """What the schema has no need to tell."""

    title: str
    number: float = Field(alias="0")
    choice: Literal[1]


class Price(Structured):
    reasoning: str
    parts: list[Part]
    unit: Literal["usd", "eur"]


PART = {"type": "object", "additionalProperties": False, "required": ["title", "0", "choice"],
        "properties": {"title": {"type": "string"}, "0": {"type": "number"},
                       "choice": {"type": "integer", "enum": [1]}}}  # fmt: skip
PRICE = {"type": "object", "additionalProperties": False, "required": ["reasoning", "parts", "unit"],
         "properties": {"reasoning": {"type": "string"}, "parts": {"type": "array", "items": PART},
                        "unit": {"type": "string", "enum": ["usd", "eur"]}}}  # fmt: skip


def forms(server: Server) -> list[str]:
    """The forms that the server was asked for, one for each request."""
    return [request.get("response_format", {"type": "prompt"})["type"] for request in server.requests]


def test_a_schema_has_no_references_and_keeps_the_order_of_its_fields() -> None:
    assert schema_of(Price) == PRICE
    assert list(schema_of(Price)["properties"]) == ["reasoning", "parts", "unit"]  # models write in this order


def test_the_schema_is_sent_through_litellm_as_it_is(tmp_path: Path) -> None:
    with Server("{}") as server:
        ask(client(tmp_path, hosted(server)), schema=Price)
        (request,) = server.requests
    assert request["response_format"] == {
        "type": "json_schema", "json_schema": {"name": "Price", "strict": True, "schema": PRICE}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("behaviour", "asked", "failures"),
    [
        ("{}", ["json_schema"], {}),
        (REFUSE_SCHEMA, ["json_schema", "json_object"], {"schema_refused": 1}),
        (REFUSE_JSON, ["json_schema", "json_object", "prompt"], {"json_mode_refused": 1, "schema_refused": 1}),
        (lambda body: 422 if "response_format" in body else "{}", ["json_schema", "json_object", "prompt"],
         {"json_mode_refused": 1, "schema_refused": 1}),
        (lambda body: 501 if "json_schema" in str(body) else "{}", ["json_schema", "json_object"],
         {"schema_refused": 1}),
    ],
)  # fmt: skip
def test_the_strictest_form_that_the_server_takes_is_asked_for_and_remembered(
    tmp_path: Path, behaviour: Any, asked: list[str], failures: dict[str, int]
) -> None:
    with Server(behaviour) as server:
        llm = client(tmp_path, hosted(server))
        ask(llm, "1/0", Price)
        assert forms(server) == asked and llm.usage()["failures"] == failures
        ask(llm, "2/0", Price)
        ask(client(tmp_path, hosted(server)), "3/0", Price)  # after a restart it is remembered
        assert forms(server)[len(asked) :] == [asked[-1]] * 2
        ask(client(tmp_path / "another", hosted(server)), "1/0", Price)  # another run tries again
        assert forms(server)[len(asked) + 2] == "json_schema"


def test_a_run_that_was_refused_json_before_there_were_schemas_goes_on(tmp_path: Path) -> None:
    """Its transcript does not say whether the server takes a schema, so that is tried."""
    with Server(REFUSE_JSON) as server:
        llm = client(tmp_path, hosted(server))
        llm.transcript.failure("test", "0/0", "json_mode_refused", "not supported")
        ask(client(tmp_path, hosted(server)), "1/0", Price)
        assert forms(server) == ["json_schema", "prompt"]


def test_no_form_is_asked_for_where_the_user_or_the_call_wants_none(tmp_path: Path) -> None:
    with Server("{}") as server:
        ask(client(tmp_path / "a", hosted(server, json=False)), "1/0", Price)
        ask(client(tmp_path / "b", hosted(server)), "1/0")
        assert forms(server) == ["prompt", "prompt"]


def test_a_request_that_is_refused_in_every_form_ends_the_run(tmp_path: Path) -> None:
    with Server(400) as server:
        with pytest.raises(LLMRefused, match="bad_request 1x"):
            ask(client(tmp_path, hosted(server)), "1/0", Price)
        assert forms(server) == ["json_schema", "json_object", "prompt"]


@pytest.mark.parametrize(("behaviour", "reason"), [(429, "rate_limit"), (503, "server_error"), (401, "wrong_key")])
def test_what_has_nothing_to_do_with_the_form_changes_none(tmp_path: Path, behaviour: int, reason: str) -> None:
    with Server(behaviour, "{}") as server:
        llm = client(tmp_path, hosted(server))
        if reason == "wrong_key":
            with pytest.raises(LLMRefused):
                ask(llm, "1/0", Price)
        ask(llm, "1/0", Price)
        assert forms(server) == ["json_schema", "json_schema"] and llm.usage()["failures"] == {reason: 1}


def test_a_model_that_litellm_knows_to_take_no_form_is_asked_in_words(tmp_path: Path) -> None:
    with Server("{}") as server:
        llm = client(tmp_path, hosted(server, model="gpt-4"))
        ask(llm, "1/0", Price)
        assert forms(server)[-1] in ("prompt", "json_object") and len(llm.transcript.calls) == 1


def test_a_replay_and_the_scripted_llm_need_no_form(tmp_path: Path) -> None:
    with Server(REFUSE_SCHEMA, REFUSE_SCHEMA, HANG) as server:
        first = ask(client(tmp_path / "a", hosted(server)), "1/0", Price)
    replayed = client(tmp_path / "b", hosted(server, replay=str(tmp_path / "a")))
    assert ask(replayed, "1/0", Price) == first
    assert (tmp_path / "a/llm.jsonl").read_bytes() == (tmp_path / "b/llm.jsonl").read_bytes()
    messages = [{"role": "user", "content": "the 3 actions; a probability distribution over the 3 actions"}]
    client(tmp_path / "c", config()).ask(messages, purpose="llm_explorer.constant", index="0", schema=Price)
