"""log.llm: what a language model answers, and what becomes of it, on the console."""

from conftest import CART_POLE, SHORT, TINY

from llmrl.llm.live import Live, text_of
from llmrl.llm.transcript import Transcript

SEARCH = [*TINY["td3"], *SHORT, "method=lesr", "env=mujoco/hopper", "method.search_env_steps=30", "budget.env_steps=40",
          "method.search.k=1", "method.search.iterations=1", "method.search.states=50"]  # fmt: skip


def test_a_run_prints_what_its_llm_answers_where_that_is_asked_for(llmrl_run):
    run = [*CART_POLE, "method=llm_explorer"]
    assert "llm_explorer.status" not in llmrl_run(*run, "study=silent").err
    done = llmrl_run(*run, "log.llm=true")
    assert "llm_explorer.status 1/0 · scripted" in done.err
    assert "\n  | " in done.err


def test_so_does_one_of_what_it_builds_on(llmrl_run, children_here):
    done = llmrl_run(*SEARCH, "log.llm=true")
    assert done.code == 0, done.err
    assert "lesr.sample 0/0/0 · scripted" in done.err
    assert "  | def revise_state(s):" in done.err
    assert "lesr.sample 0/0/0: accepted (features" in done.err
    assert done.err.count("lesr.sample 0/0/0 · scripted") == 1


def test_a_transcript_is_followed_from_where_it_stands(tmp_path):
    call = {"purpose": "p", "index": "0", "messages": [], "answer": "A", "served_model": "m", "prompt_tokens": 3,
            "completion_tokens": None}  # fmt: skip
    transcript = Transcript(tmp_path / "llm.jsonl")
    transcript.call(call)
    said: list[str] = []
    live = Live(said.append)
    live.follow(transcript.path, own=True)
    with live:
        transcript.call(call | {"index": "1"})
        transcript.failure("p", "2", "timeout", "too late")
        transcript.event("p", "1", "rejected", reason="no_code", detail="there is none")
    assert said == [
        "\np 1 · m · 3 tokens read, ? written\n  | A",
        "  p 2: no answer, timeout: too late",
        "  p 1: rejected, no_code: there is none",
    ]


def test_a_long_answer_is_cut():
    row = {"kind": "call", "purpose": "p", "index": "0", "answer": "x" * 5000, "served_model": "m",
           "prompt_tokens": 1, "completion_tokens": 1}  # fmt: skip
    assert len(text_of(row)) < 4200
