"""llmrl probe [-n N] [group=choice] [key=value] …
llmrl probe --table [directory]

Asks a language model what a method would ask it, N times (default: 10), without any training: is this model good enough
for the paper? The prompts are the method's own, on real facts of the environment, and each answer passes the method's
own checks. Prints for each kind of call how many answers could be used, with a 95 % interval, why the others could not,
seconds and tokens of an answer; what the calls of the whole run would come to; and two answers to look at.

    llmrl probe method=lesr env=mujoco/hopper llm=openai_compatible llm.model=qwen llm.api_base=http://localhost:8000/v1

What was asked is kept in outputs/probes/, so the same command goes on where it was interrupted, and a larger N asks the
rest. --table shows all that is there, by model, and writes it beside as markdown and csv.

Exit codes: 0 all was asked, 1 a fault, such as a damaged transcript, 2 the command is invalid or refused by the server,
75 try again later (the server does not answer, a budget is spent, another process asks the same), 128 + n stopped by
signal n.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmrl.contracts.probe import Question

FAILURE, BAD_INPUT, TRY_LATER = 1, 2, 75
DEFAULT_N = 10
SHOWN_LINES, SHOWN_CHARS = 60, 4000  # of an answer to look at


def main(args: list[str]) -> int:
    from llmrl.checks import ConfigError

    parser = argparse.ArgumentParser("llmrl probe", add_help=False, usage="llmrl probe [-n N] [group=choice] …")
    parser.add_argument("-n", type=int, default=DEFAULT_N)
    parser.add_argument("--table", nargs="?", const=Path("outputs"), type=Path)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_intermixed_args(args)
    try:
        if given.table is not None:
            if given.overrides:
                raise ConfigError("--table shows what was asked before; it takes a directory, and no overrides")
            return _table(given.table)
        if given.n < 1:
            raise ConfigError(f"-n: must be a whole number from 1 on, not {given.n}")
        if not any(word.startswith("method=") or word.startswith("experiment=") for word in given.overrides):
            raise ConfigError("say which method's prompts: llmrl probe method=lesr env=mujoco/hopper llm=…")
        return _probe(given.overrides, given.n)
    except ConfigError as error:
        return _say(f"llmrl probe: {error}", BAD_INPUT)


def _probe(overrides: list[str], n: int) -> int:
    """Asks, and prints what came of it. Raises ConfigError."""
    from llmrl.config import from_node
    from llmrl.hydra_compose import compose
    from llmrl.llm import client
    from llmrl.llm.transcript import ReplayError
    from llmrl.probes import Alive, Probe
    from llmrl.runs.stop import Paused, Stop, Stopped

    node = compose(overrides)
    node.pop("rerun", None)
    config = from_node(node, overrides)
    client.preflight(config.llm)
    stop = Stop()
    try:
        with stop.installed(), Probe(config, stop) as probe:
            print(f"{probe.title}\nkept in {probe.path}/", file=sys.stderr)
            try:
                probe.ask(n, lambda purpose, number, verdict: print(_line(purpose, number, n, verdict, probe),
                                                                     file=sys.stderr, flush=True))  # fmt: skip
            finally:
                found = probe.write()
            print("\n".join(_told(found, probe.questions)))
            print(_to_look_at(probe))
            return 0
    except Alive as error:
        return _say(f"llmrl probe: {error}", TRY_LATER)
    except ReplayError as error:
        return _say(f"llmrl probe: {error}", FAILURE)
    except Paused as error:
        return _say(str(error), TRY_LATER if error.later else BAD_INPUT)
    except Stopped as error:
        return _say(f"Stopped by {error}. The same command goes on.", 128 + error.signum)


def _line(purpose: str, number: int, n: int, verdict: dict[str, Any], probe: Any) -> str:
    seconds = probe.seconds.get((purpose, str(number)))
    took = "" if seconds is None else f", {seconds:.1f} s"
    what = "accepted" if verdict["event"] == "accepted" else f"{verdict['reason']}: {verdict['detail'][:100]}"
    return f"  {purpose} {number + 1}/{n}{took}: {what}"


def _told(found: dict[str, Any], questions: "list[Question]") -> list[str]:
    """The numbers in lines."""
    from llmrl.commands.columns import columns
    from llmrl.probes import HEAD, RIGHT, cells, listed

    rows = [cells(purpose, facts) for purpose, facts in found["purposes"].items()]
    lines = ["", columns([HEAD, *rows], right=RIGHT)]
    for purpose, facts in found["purposes"].items():
        if facts["reasons"]:
            lines.append(f"  {purpose}: {listed(facts['reasons'])}")
        if facts["facts"]:
            known = ", ".join(f"{name} {value:,.3g}" for name, value in facts["facts"].items())
            lines.append(f"  {purpose}: means of the accepted: {known}")
    return [*lines, "", _whole_run(found, questions)]


def _whole_run(found: dict[str, Any], questions: "list[Question]") -> str:
    """What the calls of the run that would follow come to, and what it trains."""
    run = found["run"]
    if not any(question.needed for question in questions):
        return "The run itself makes no such call."
    if run["calls"] is None:
        return f"Nothing is known of a whole run: no answer to {', '.join(run['without'])}."
    parts = [f"{run['calls']:,.0f} calls"]
    parts += ["an unknown number of tokens" if run["tokens"] is None else f"{run['tokens']:,.0f} tokens"]
    parts += ["an unknown price" if run["usd"] is None else f"{run['usd']:,.2f} USD"]
    parts += ["an unknown time" if run["hours"] is None else f"{run['hours']:,.2f} h"]
    supposed = "".join(f" (with {one})" for one in run["assumes"])
    text = f"The calls of a whole run, were all as these{supposed}: {', '.join(parts)}. Beside them it trains "
    text += f"{found['work']}."
    if run["without"]:
        text += f" No answer to {', '.join(run['without'])} could be used: this model is not good enough."
    return text


def _to_look_at(probe: Any) -> str:
    """One answer that could be used and one that could not, as far as there are such."""
    from llmrl.probes.asking import verdict_of

    parts = []
    for kind in ("accepted", "rejected"):
        for (purpose, index), call in probe.llm.transcript.calls.items():
            verdict = verdict_of(probe.llm.transcript, purpose, index)
            if verdict is None or verdict["event"] != kind or (kind == "accepted" and purpose.endswith(".status")):
                continue
            why = "" if kind == "accepted" else f", {verdict['reason']}: {verdict['detail'][:200]}"
            parts.append(f"--- {purpose} {index}, {kind}{why}\n{_shortened(call['answer'])}")
            break
    return "\n\n".join(["", *parts, ""])


def _shortened(text: str) -> str:
    lines = text[:SHOWN_CHARS].splitlines()
    more = len(text) > SHOWN_CHARS or len(lines) > SHOWN_LINES
    return "\n".join([*lines[:SHOWN_LINES], *(["…"] if more else [])])


def _table(directory: Path) -> int:
    """All that was asked below a directory. Raises ConfigError where that is nothing."""
    from llmrl.checks import ConfigError
    from llmrl.commands.columns import columns
    from llmrl.probes import TABLE_HEAD, TABLE_RIGHT, kept, table_rows, write_table

    found = kept(directory)
    if not found:
        raise ConfigError(f"nothing was asked below {directory}/ yet: llmrl probe method=lesr env=mujoco/hopper llm=…")
    print(columns([TABLE_HEAD, *table_rows(found)], right=TABLE_RIGHT))
    print("\naccepted: the share of answers that the method's checks let through, 95 % (Wilson)")
    for path in write_table(found, directory / "probes"):
        print(f"written: {path}")
    return 0


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code
