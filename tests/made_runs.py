"""Run directories as `llmrl run` leaves them, made by hand in milliseconds, for the tests of plots and page."""

import json
from pathlib import Path

from llmrl.runs.files import write_json


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def make_run(outputs: Path, *, method="vanilla", agent="dqn", env="classic/cart_pole", seed=0, study="main",
             status="DONE", returns=(1.0, 2.0, 3.0), k=1, llm: list[dict] | None = None) -> Path:  # fmt: skip
    """A run directory as `llmrl run` leaves it, with an evaluation (of two episodes) at 0, 100, …, and an episode every
    10 env_steps."""
    identity = {"method": {"k": k}, "agent": {"gamma": 0.99}, "env": {"id": env}, "seed": seed}
    path = outputs / study / f"{method}-{agent}" / env.replace("/", "-") / f"s{seed}-{k:08d}"
    path.mkdir(parents=True)
    config = {
        "choices": {"method": method, "agent": agent, "env": env}, "seed": seed, "study": study,
        "agent": {"gamma": 0.99}, "method": {"k": k, "on_failure": "uniform"}, "llm": {"model": "scripted"},
        "env": {"task": {"actions": ["left", "right"]}},
    }  # fmt: skip
    end = 100 * (len(returns) - 1)
    write_json(path / "config.json", config)
    write_json(path / "identity.json", identity)
    write_json(path / "status.json", {"status": status, "env_steps": end, "target_env_steps": end, "reason": None})
    write_json(path / "versions.json", {"starts": [{"code": {"version": "0.1.0"}, "packages": {"torch": "2"}}]})
    rows = [(0, 0.5, "random"), *((100 * i, value, "greedy") for i, value in enumerate(returns))]
    (path / "eval.jsonl").write_text(lines([
        {"env_steps": x, "policy": who, "return_mean": r, "returns": [r - 0.5, r + 0.5]} for x, r, who in rows
    ]))  # fmt: skip
    (path / "metrics.jsonl").write_text(lines([
        {"kind": "episode", "env_steps": 10 * i, "episodes": i, "return": float(i), "length": 10} for i in range(1, 11)
    ]))  # fmt: skip
    usage = {"model": "scripted", "calls": 2, "prompt_tokens": 0, "completion_tokens": 0, "usd": 0.0,
             "calls_without_price": 0, "failures": {}}  # fmt: skip
    if llm is not None:
        (path / "llm.jsonl").write_text(lines(llm))
    if status == "DONE":
        write_json(path / "result.json", {"env_steps": end} | ({"llm": usage} if llm is not None else {}))
    return path


def answered(episode: int, vector: list[float] | None, *, answer="{}", name="distribution") -> list[dict]:
    """The lines of a refresh: a description, and a numeric answer, which is rejected where `vector` is None."""
    index = f"{episode}/0"
    call = {"kind": "call", "index": index, "model": "scripted", "served_model": "scripted", "prompt_tokens": 0,
            "completion_tokens": 0, "usd": 0.0}  # fmt: skip
    asked = [{"role": "system", "content": "the task"}, {"role": "user", "content": f"return {episode}\n\nanalyse"}]
    event = {"kind": "event", "purpose": "llm_explorer.strategy", "index": index}
    verdict = {"event": "rejected", "reason": "no_json", "detail": "x"} if vector is None else {
        "event": "accepted", name: vector}  # fmt: skip
    return [
        {**call, "purpose": "llm_explorer.status", "messages": asked, "answer": f"described {episode}"},
        {"kind": "event", "purpose": "llm_explorer.status", "index": index, "event": "accepted"},
        {**call, "purpose": "llm_explorer.strategy", "messages": asked, "answer": answer},
        event | verdict,
    ]  # fmt: skip
