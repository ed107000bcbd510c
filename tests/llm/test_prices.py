"""A price that nobody knows is shown as unknown, in every place, and never as 0.00."""

import json
import re

from command_line import in_process  # noqa: F401 (the fixture llmrl)
from made_runs import make_run

from llmrl.llm.transcript import Transcript
from llmrl.report.page.write import write
from llmrl.report.store.groups import select
from llmrl.report.store.record import dollars
from llmrl.runs.console import print_result
from llmrl.runs.files import read_json, write_json

CALL = {"kind": "call", "purpose": "p", "messages": [], "answer": "x", "model": "m", "served_model": "m",
        "prompt_tokens": 5, "completion_tokens": 2}  # fmt: skip


def transcript(*prices):
    return "".join(json.dumps(CALL | {"index": f"{i}", "usd": usd}) + "\n" for i, usd in enumerate(prices))


def test_the_sum_with_an_unknown_price_is_null(tmp_path):
    (tmp_path / "llm.jsonl").write_text(transcript(0.5, None))
    usage = Transcript(tmp_path / "llm.jsonl", read_only=True).usage()
    assert usage["usd"] is None and usage["calls_without_price"] == 1
    (tmp_path / "llm.jsonl").write_text(transcript(0.5, 0.25))
    assert Transcript(tmp_path / "llm.jsonl", read_only=True).usage()["usd"] == 0.75


def test_status_page_and_console_say_unknown(llmrl, tmp_path, capfd):
    for seed, usd in enumerate((None, 0.0)):  # null, and as older runs have it
        run = make_run(tmp_path, seed=seed, llm=[])
        result = read_json(run / "result.json") | {"updates": 1, "episodes": 1}
        write_json(run / "result.json", result | {"llm": result["llm"] | {"usd": usd, "calls_without_price": 2}})
    capfd.readouterr()
    print_result(run, read_json(run / "result.json"), title="Done")
    assert "2 calls of scripted, USD unknown (2 calls without a known price)" in capfd.readouterr().out
    lines = [line for line in llmrl("status", str(tmp_path)).out.splitlines() if "vanilla-dqn" in line]
    assert len(lines) == 2 and all(re.search(r" 2 +0 +unknown", line) for line in lines)
    html = write(select([tmp_path]), tmp_path / "report.html", "study").read_text()
    assert "unknown" in re.search(r"summary-table.*?</table>", html, re.DOTALL)[0]
    assert re.search(r"id=\"llm\".*?</table>", html, re.DOTALL)[0].count(">unknown<") == 2
    assert [dollars(record.llm) for record in select([tmp_path])] == [None, None]
