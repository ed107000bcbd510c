"""LLM-Explorer asks for an analysis before the numbers, and tells no more of a task than the authors do."""

import json
from pathlib import Path

import pytest
from llm_server import Server
from test_llm_client import client, config, hosted
from test_llm_explorer import BOX, DISCRETE, TASK_2D, explorer, settings, start

from llmrl.methods.llm_explorer.prompts import task_text

ANALYSIS = 'Answer with one JSON object that has two fields. "analysis": a few sentences about which '
NUMBERS = "{0: 0.5, 1: 0.25, 2: 0.25}"


def requests_of(tmp_path: Path, space=DISCRETE, **changes) -> list[dict]:
    answers = ("a description", NUMBERS) if space is DISCRETE else ("a description", "{0: 0.1, 1: -0.1}")
    with Server(
        *(answers[1:] if changes.get("calls") == 1 or changes.get("answer") == "constant" else answers)
    ) as server:
        wrapped = explorer(client(tmp_path, hosted(server)), space, **changes)
        start(wrapped, 1, space=space)
    assert wrapped.vector is not None
    return server.requests


def asked_form(request: dict) -> list[str]:
    """The fields of the object that the server is asked for, in their order."""
    if "response_format" not in request:
        return []
    return list(request["response_format"]["json_schema"]["schema"]["properties"])


@pytest.mark.parametrize("space", [DISCRETE, BOX])
def test_the_second_call_analyses_and_then_answers(tmp_path, space):
    status, strategy = requests_of(tmp_path, space)
    asked = strategy["messages"][1]["content"]
    question = asked.index("Which actions should the agent explore, so that it gets better at the task?")
    assert question < asked.index(ANALYSIS) < asked.index('{"0": ')
    field = "probabilities" if space is DISCRETE else "biases"
    assert asked.endswith("}}") and f'{{"analysis": "...", "{field}": {{"0": ' in asked
    assert asked_form(status) == [] and asked_form(strategy) == ["analysis", field]


def test_the_schema_asks_for_one_number_of_each_action(tmp_path):
    _, strategy = requests_of(tmp_path)
    form = strategy["response_format"]["json_schema"]
    assert form["strict"] is True
    numbers = {"type": "object", "properties": {n: {"type": "number"} for n in "012"}, "required": ["0", "1", "2"],
               "additionalProperties": False}  # fmt: skip
    assert form["schema"]["properties"] == {"analysis": {"type": "string"}, "probabilities": numbers}
    assert form["schema"]["required"] == ["analysis", "probabilities"]


@pytest.mark.parametrize("changes", [{"calls": 1}, {"answer": "constant"}])
def test_the_ablation_and_the_control_of_one_call_keep_the_analysis(tmp_path, changes):
    (only,) = requests_of(tmp_path, **changes)
    assert ANALYSIS in only["messages"][1]["content"] and asked_form(only) == ["analysis", "probabilities"]


@pytest.mark.parametrize("calls", [1, 2])
def test_the_object_alone_is_an_option(tmp_path, calls):
    *_, last = requests_of(tmp_path, analysis=False, calls=calls)
    asked = last["messages"][1]["content"]
    assert "nalyse" not in asked.partition("Which actions")[2]
    assert "\nAnswer with one JSON object that gives every action, from 0 to 2, its probability" in asked
    assert asked_form(last) == ["0", "1", "2"]


def test_analysis_is_the_default():
    assert (settings().analysis, settings().tell) == (True, "authors")


ANSWERS = {
    "text, then the object": f"Going right pays {{as in episode 3}}: 0.7 would be too much.\n\n{NUMBERS}",
    "a fence": f"The agent stays too often.\n```json\n{json.dumps({'0': 0.5, '1': 0.25, '2': 0.25})}\n```",
    "the format repeated": f'The form is {{"0": probability, "1": probability, "2": probability}}. So: {NUMBERS}',
    "an earlier draft": f"At first {{0: 1, 1: 0, 2: 0}}, but that is too narrow.\n{NUMBERS}",
    "one object of both": '{"analysis": "It stays, {too} often.", "probabilities": {"0": 0.5, "1": 0.25, "2": 0.25}}',
    "numbers alone": NUMBERS,
}


@pytest.mark.parametrize("form", ANSWERS)
@pytest.mark.parametrize("changes", [{}, {"analysis": False}])
def test_the_numbers_are_read_from_the_end_of_an_analysis(tmp_path, form, changes):
    with Server("a description", ANSWERS[form]) as server:
        wrapped = explorer(client(tmp_path, hosted(server)), **changes)
        start(wrapped, 1)
    assert wrapped.inner.distribution.tolist() == [0.5, 0.25, 0.25] and not wrapped.usage()["rejected"]


@pytest.mark.parametrize("space", [DISCRETE, BOX])
@pytest.mark.parametrize("changes", [{}, {"calls": 1}, {"answer": "constant"}])
def test_the_scripted_llm_analyses_where_it_is_asked_to_and_comes_to_the_same(tmp_path, space, changes):
    found = []
    for analysis in (True, False):
        llm = client(tmp_path / str(analysis), config())
        wrapped = explorer(llm, space, analysis=analysis, **changes)
        start(wrapped, 1, space=space)
        last = list(llm.transcript.calls.values())[-1]
        assert ("analysis" in json.loads(last["answer"])) is analysis
        found.append(wrapped.vector.tolist())
    assert found[0] == found[1]


# --- what is told -----------------------------------------------------------------------------------------------------


def test_the_first_call_asks_for_a_description_and_a_strategy_and_for_nothing_else(tmp_path):
    status, _ = requests_of(tmp_path)
    assert status["messages"][1]["content"].split("\n\n")[-1] == (
        "Analyse this episode. Describe the agent's learning status, "
        "and recommend a strategy for what it explores next."
    )


WITHOUT = """\
The task: walk along a corridor
The actions:
0: push, -0.4 to 0.4
1: turn, -0.4 to 0.4
The goal: reach the door"""
WITH = WITHOUT.replace("The goal", "The reward: 1 at the door\nWhen an episode ends: at the door\nThe goal")


@pytest.mark.parametrize(("tell", "text"), [("authors", WITHOUT), ("reward", WITH)])
def test_of_a_continuous_task_the_authors_tell_neither_reward_nor_end(tmp_path, tell, text):
    for request in requests_of(tmp_path, BOX, tell=tell):
        assert request["messages"][0]["content"].endswith("\n\n" + text)
    assert task_text(TASK_2D, "full", with_reward=tell == "reward") == text


@pytest.mark.parametrize("tell", ["authors", "reward"])
def test_of_a_discrete_task_all_is_told(tmp_path, tell):
    for request in requests_of(tmp_path, tell=tell):
        told = request["messages"][0]["content"]
        assert "The reward: 1 at the door\nWhen an episode ends: at the door\nThe goal: reach the door" in told
