"""`llmrl probe`: what a model makes of a method's prompts, without training."""

import csv
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, below
from llm_server import HANG, Answer, Server

from llmrl.commands.probe import main
from llmrl.contracts.probe import Question
from llmrl.methods.lesr import prompts as lesr_prompts
from llmrl.probes.asking import calls_of, whole_run
from llmrl.runs.files import read_json, read_jsonl

ASKED = {  # command: kind of call -> (answers, accepted) of the scripted LLM, of which some are broken on purpose
    "method=lesr env=classic/pendulum agent=td3 method.search.states=50": {"lesr.sample": (4, 3)},
    "method=lesr/search env=classic/pendulum agent=td3 method.states=50": {"lesr.sample": (4, 3)},
    "method=eureka env=mujoco/half_cheetah agent=td3 method.search.states=50": {"eureka.sample": (4, 3)},
    "method=explorllm env=pick_place/short_horizon agent=sac_crops method.programs.crops=3":
        {"explorllm.planner": (1, 1), "explorllm.affordance": (4, 3), "explorllm.place": (1, 1),
         "explorllm.goal": (4, 4)},
    "method=explorllm/programs env=pick_place/long_horizon method.crops=3":
        {"explorllm.planner": (1, 1), "explorllm.affordance": (4, 3), "explorllm.place": (1, 1),
         "explorllm.plan": (3, 3)},  # two tables have the same things on them, so their messages are the same
    "method=llm_explorer env=classic/cart_pole agent=dqn": {"llm_explorer.status": (4, 4),
                                                            "llm_explorer.strategy": (4, 4)},
    "method=llm_explorer method.calls=1 env=classic/pendulum agent=td3": {"llm_explorer.strategy_directly": (4, 4)},
    "method=llm_explorer method.answer=constant env=classic/pendulum agent=td3": {"llm_explorer.constant": (1, 1)},
    "method=kalm/rollouts env=clevr_robot/base": {"kalm.rephrase": (4, 4)},
}  # fmt: skip
SMALL = ["method=lesr", "env=classic/pendulum", "agent=td3", "method.search.states=50", "method.search.k=2",
         "method.search.iterations=2", "method.search.max_tries=5", "llm=openai_compatible", "llm.model=small",
         "llm.retry_wait_s=0", "llm.retries=1"]  # fmt: skip
GOOD = """```python
import numpy as np
def revise_state(s):
    return np.concatenate([s, [s[0] * %s]])
def intrinsic_reward(updated_s):
    return updated_s[3]
```"""


@pytest.fixture
def probe(tmp_path, monkeypatch, capfd):
    """`llmrl probe <args>` in this process, with tmp_path as the working directory."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> Done:
        capfd.readouterr()
        code = main(list(args))
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return call


def result(root: Path) -> dict[str, Any]:
    (file,) = below(root, "result.json")
    return read_json(file)


@pytest.mark.parametrize("command", ASKED)
def test_the_prompts_of_every_paper_can_be_tried(probe, tmp_path, command):
    done = probe("-n", "4", *command.split())
    assert done.code == 0, done.err
    found = result(tmp_path)
    assert {p: (f["answers"], f["accepted"]) for p, f in found["purposes"].items()} == ASKED[command]
    for purpose, (answers, accepted) in ASKED[command].items():
        assert purpose in done.out and f"{accepted} of {answers}" in done.out
    assert not below(tmp_path, "metrics.jsonl") and not below(tmp_path, "status.json")  # nothing is trained


def test_what_a_server_answers_is_counted_timed_and_shown(probe, tmp_path):
    replies = [GOOD % 2, "I would rather not.", Answer(GOOD % 3, finish_reason="length"), GOOD % 2, GOOD % 4]
    with Server(*replies) as server:
        done = probe("-n", "5", *SMALL, f"llm.api_base={server.url}", "llm.usd_per_million_tokens=[1,10]")
        assert done.code == 0, done.err
        assert len(server.requests) == 4
        found = result(tmp_path)
        facts = found["purposes"]["lesr.sample"]
        # the fourth repeats the first, which says nothing of its quality, and ends the tries
        assert facts["reasons"] == {"no_code": 1, "truncated": 1, "repeated": 1}
        assert (facts["answers"], facts["accepted"]) == (3, 1)
        assert facts["prompt_tokens"] == 1000 and facts["usd"] == pytest.approx(0.002) and facts["seconds"] > 0
    assert "no_code 1x" in done.out and "s[0] * 2" in done.out and "I would rather not." in done.out


def test_the_same_command_asks_nothing_again_and_a_larger_n_the_rest(probe, tmp_path):
    with Server(lambda body: GOOD % len(server.requests)) as server:
        args = [*SMALL, f"llm.api_base={server.url}"]
        assert probe("-n", "2", *args).code == 0
        before = (below(tmp_path, "llm.jsonl")[0]).read_bytes()
        again = probe("-n", "2", *args)
        assert again.code == 0 and len(server.requests) == 2
        assert (below(tmp_path, "llm.jsonl")[0]).read_bytes() == before
        assert probe("-n", "4", *args).code == 0 and len(server.requests) == 4
        assert (below(tmp_path, "llm.jsonl")[0]).read_bytes().startswith(before)
        assert result(tmp_path)["purposes"]["lesr.sample"]["answers"] == 4
        assert len(read_jsonl(below(tmp_path, "timing.jsonl")[0])) == 4
        probe("-n", "1", *args, "llm.temperature=0.5")  # another model, as it were
    assert len(below(tmp_path, "result.json")) == 2


def test_other_prompts_are_another_probe(probe, tmp_path, monkeypatch):
    """Who works on a prompt compares the new one with the old one, and mixes no answers of both."""
    args = ["-n", "2", "method=lesr", "env=classic/pendulum", "agent=td3", "method.search.states=50"]
    assert probe(*args).code == 0
    first = lesr_prompts.first
    shorter = {"role": "user", "content": "Be short."}
    monkeypatch.setattr(lesr_prompts, "first", lambda asker: [*first(asker), shorter])
    assert probe(*args).code == 0
    assert len(below(tmp_path, "result.json")) == 2


@pytest.mark.parametrize(
    ("behaviour", "code", "text"),
    [(503, 75, "server_error 2x"), (404, 2, "not_found"), (401, 2, "wrong_key")],
)
def test_a_server_that_does_not_answer_or_refuses(probe, tmp_path, behaviour, code, text):
    with Server(GOOD % 1, behaviour) as server:
        args = [*SMALL, f"llm.api_base={server.url}"]
        done = probe("-n", "3", *args)
        assert done.code == code and text in done.err and "Traceback" not in done.err
        assert result(tmp_path)["purposes"]["lesr.sample"]["answers"] == 1  # what there is
        server.behaviours = [GOOD % 2, GOOD % 3]
        assert probe("-n", "3", *args).code == 0
    assert result(tmp_path)["purposes"]["lesr.sample"]["answers"] == 3


def test_a_signal_stops_it_and_the_same_command_goes_on(probe, tmp_path):
    with Server(GOOD % 1, HANG) as server:
        args = ["-n", "3", *SMALL, f"llm.api_base={server.url}"]
        server.on_request = lambda: os.kill(os.getpid(), signal.SIGTERM) if len(server.requests) == 2 else None
        done = probe(*args)
        assert done.code == 143 and "same command goes on" in done.err
        server.behaviours = [lambda body: GOOD % len(server.requests)]
        assert probe(*args).code == 0
        assert len(server.requests) == 4
    assert result(tmp_path)["purposes"]["lesr.sample"]["answers"] == 3


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "llmrl probe method=lesr"),
        (["env=mujoco/hopper"], "llmrl probe method=lesr"),
        (["method=vanilla"], "has no prompts"),
        (["method=lesr", "env=atari/freeway", "agent=dqn"], "env.task.observation"),
        (["method=eureka", "env=classic/pendulum", "agent=td3"], "mujoco"),
        (["method=llm_explorer", "method.answer=uniform"], "asks no LLM"),
        (["-n", "0", "method=lesr"], "-n"),
        (["method=lesr", "no_such=key"], "no_such"),
        (["--table", "method=lesr"], "nothing was asked below"),
        (["--table", ".", "method=lesr"], "no overrides"),
    ],
)
def test_what_is_asked_wrongly_is_said_and_leaves_nothing(probe, tmp_path, args, text):
    done = probe(*args)
    assert done.code == 2 and text in done.err
    assert not list(tmp_path.iterdir())


def test_the_table_has_a_line_for_each_model_and_call(probe, tmp_path):
    for model in ("a", "b"):
        with Server(GOOD % 1, "no", lambda body: GOOD % len(server.requests)) as server:
            args = [*SMALL, f"llm.api_base={server.url}", f"llm.model={model}"]
            assert probe("-n", "3", *args).code == 0
    assert probe("-n", "2", "method=llm_explorer", "env=classic/cart_pole", "agent=dqn").code == 0
    done = probe("--table")
    assert done.code == 0 and "2 of 3" in done.out and "no_code 1x" in done.out
    with open(tmp_path / "outputs/probes/acceptance.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["call"]) for row in rows] == [
        ("a", "lesr.sample"), ("b", "lesr.sample"), ("scripted", "llm_explorer.status"),
        ("scripted", "llm_explorer.strategy"),
    ]  # fmt: skip
    assert rows[0]["accepted"] == "0.67" and rows[0]["95 %"] == "0.21-0.94"  # Wilson's, of 2 in 3
    table = (tmp_path / "outputs/probes/acceptance.md").read_text()
    assert "| lesr | classic/pendulum | lesr.sample | 2 of 3 | 0.67 | 0.21-0.94 |" in table


def question(purpose: str, needed: float, limit: float | None, **more: Any) -> Question:
    return Question(purpose, lambda n, earlier: [], lambda n, reply, fault: {}, needed, limit, **more)


def test_what_a_whole_run_would_come_to() -> None:
    """18 answers of which every third can be used, and two analyses; one call that is never refused."""
    facts = {"answers": 3, "accepted": 1, "rate": 1 / 3, "seconds": 36.0, "prompt_tokens": 900,
             "completion_tokens": 100, "usd": 0.01}  # fmt: skip
    sure = facts | {"accepted": 3, "rate": 1.0, "seconds": 3600.0, "usd": 0.0}
    asked = [question("a", 18, 147, beside=2), question("b", 5, None, assumes="so")]
    found = whole_run(asked, {"a": facts, "b": sure})
    assert found["calls"] == pytest.approx(54 + 2 + 5) and found["tokens"] == pytest.approx(61_000)
    assert found["usd"] == pytest.approx(0.56) and found["hours"] == pytest.approx(0.56 + 5)
    assert found["without"] == [] and found["assumes"] == ["so"]
    assert calls_of(asked[0], 0.0) == 147 and calls_of(asked[1], 0.0) == 5
    poor = whole_run(asked, {"a": facts | {"accepted": 0, "rate": 0.0}, "b": sure})
    assert poor["calls"] == 147 + 2 + 5 and poor["without"] == ["a"]
    assert whole_run(asked, {"a": facts | {"usd": None}, "b": sure})["usd"] is None
    assert whole_run(asked, {"a": facts | {"answers": 0}, "b": sure})["calls"] is None
