"""A run that asked a model over HTTP is replayed from its transcript, with no key and no network, byte for byte."""

import torch
from conftest import CART_POLE, only_run, run_directories
from llm_server import Server

ASKS = [*CART_POLE, "budget.env_steps=200", "method=llm_explorer", "llm=openai_compatible", "llm.model=some-model",
        "llm.retry_wait_s=0.01", "llm.usd_per_million_tokens=[1,10]"]  # fmt: skip
ANSWERS = ["It goes left.", '{"0": 0.2, "1": 0.8}', 500, "It goes right.", "no numbers here", '{"0": -1, "1": 2}',
           '{"0": 0.7, "1": 0.3}', "It sways.", '{"0": 0.4, "1": 0.6}']  # fmt: skip


def test_a_replayed_run_equals_the_one_that_asked(llmrl_run, tmp_path):
    with Server(*ANSWERS) as server:
        done = llmrl_run(*ASKS, f"llm.api_base={server.url}")
        assert done.code == 0, done.err
        assert len(server.requests) > len(ANSWERS)
        asked = only_run(tmp_path)
        requests = len(server.requests)
    # the server is gone, and the address leads nowhere
    done = llmrl_run(*ASKS, "llm.api_base=http://127.0.0.1:9/v1", f"llm.replay={asked}")
    assert done.code == 0, done.err
    assert len(server.requests) == requests
    (replayed,) = set(run_directories(tmp_path)) - {asked}
    for name in ("llm.jsonl", "metrics.jsonl", "eval.jsonl"):
        assert (replayed / name).read_bytes() == (asked / name).read_bytes(), name
    nets = [torch.load(run / "agent.pt", weights_only=False)["q"] for run in (asked, replayed)]
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])
    failures = ("server_error", "not_json", "negative")
    assert all(reason in (asked / "llm.jsonl").read_text() for reason in failures)
    assert "failures" in done.out and "not_json" in done.out


def test_a_tape_of_another_run_stops_the_run_and_shows_what_differs(llmrl_run, tmp_path):
    scripted = [a for a in ASKS if not a.startswith("llm")]
    assert llmrl_run(*scripted).code == 0
    tape = only_run(tmp_path)
    done = llmrl_run(*scripted, "seed=1", f"llm.replay={tape}")
    assert done.code == 1
    assert "was recorded with other messages" in done.err
    assert not (tape / "error.txt").exists()
