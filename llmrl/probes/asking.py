"""Asks the questions of a paper n times each, without any training, and counts what could be used."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmrl.contracts.probe import Question, Unusable
from llmrl.intervals import share
from llmrl.llm.client import LLM, Reply
from llmrl.llm.transcript import Transcript
from llmrl.llm.tries import REPEATED, Tries

Tell = Callable[[str, int, dict[str, Any]], None]  # purpose, number, the verdict that was recorded
DETAIL_CHARS = 500


def ask(llm: LLM, questions: Sequence[Question], n: int, tell: Tell) -> None:
    """Asks each question n times, as far as that was not done before. What was made of an answer is an event of the
    transcript. A model that repeats an answer to the same messages is asked no more: all further ones would be equal.

    Raises what LLM.ask raises.
    """
    earlier: defaultdict[str, list[str]] = defaultdict(list)
    for question in questions:
        tries = Tries()
        for number in range(n):
            if (messages := question.messages(number, earlier)) is None:
                break
            index = str(number)
            known = verdict_of(llm.transcript, question.purpose, index)
            reply = llm.ask(messages, purpose=question.purpose, index=index, schema=question.schema)
            fault = tries.fault(messages, reply)
            verdict = known or _judge(llm, question, number, reply, fault)
            if verdict["event"] == "accepted":
                question.accepted(reply)
                earlier[question.purpose].append(reply.text)
            if known is None:
                tell(question.purpose, number, verdict)
            if verdict.get("reason") == REPEATED and question.messages(number + 1, earlier) == messages:
                break


def verdict_of(transcript: Transcript, purpose: str, index: str) -> dict[str, Any] | None:
    """What was recorded of an answer: an event "accepted" or "rejected"."""
    found = (transcript.events.get((purpose, index, kind)) for kind in ("accepted", "rejected"))
    return next((event for event in found if event is not None), None)


def _judge(llm: LLM, question: Question, number: int, reply: Reply, fault: str) -> dict[str, Any]:
    index = str(number)
    try:
        facts = question.check(number, reply, fault)
    except Unusable as error:
        llm.event(question.purpose, index, "rejected", reason=error.name, detail=error.detail[:DETAIL_CHARS])
    else:
        llm.event(question.purpose, index, "accepted", **facts)
    verdict = verdict_of(llm.transcript, question.purpose, index)
    assert verdict is not None
    return verdict


# --- what came of it --------------------------------------------------------------------------------------------------


def summary(transcript: Transcript, questions: Sequence[Question], seconds: Mapping[tuple[str, str], float]) -> dict:
    """The numbers for each question, by its purpose, and for the whole run that would follow. `seconds`: of each call,
    by (purpose, index), as far as they are known."""
    purposes = {q.purpose: _counts(transcript, q.purpose, seconds) for q in questions}
    return {"purposes": purposes, "run": whole_run(questions, purposes)}


def _counts(transcript: Transcript, purpose: str, seconds: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    verdicts = {index: verdict for (name, index) in transcript.calls
                if name == purpose and (verdict := verdict_of(transcript, purpose, index)) is not None}  # fmt: skip
    # a repeated answer says that the model repeats itself, and nothing of its quality
    used = [v["event"] == "accepted" for v in verdicts.values() if v.get("reason") != REPEATED]
    calls = [transcript.calls[purpose, index] for index in verdicts]
    taken = [seconds[purpose, index] for index in verdicts if (purpose, index) in seconds]
    reasons = Counter(verdict["reason"] for verdict in verdicts.values() if verdict["event"] == "rejected")
    facts = defaultdict(list)
    for verdict in verdicts.values():
        for name, value in verdict.items():
            if verdict["event"] == "accepted" and isinstance(value, int | float):
                facts[name].append(float(value))
    rate, low, high = share(used) if used else (None, None, None)
    return {
        "answers": len(used), "accepted": sum(used), "rate": rate, "low": low, "high": high,
        "reasons": dict(reasons.most_common()), "seconds": _mean(taken), "timed": len(taken),
        "prompt_tokens": _mean([call["prompt_tokens"] for call in calls]),
        "completion_tokens": _mean([call["completion_tokens"] for call in calls]),
        "usd": _mean([call["usd"] for call in calls]),
        "facts": {name: round(statistics.mean(values), 6) for name, values in sorted(facts.items())},
    }  # fmt: skip


def whole_run(questions: Sequence[Question], purposes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the questions of a whole run would come to, if all its calls were as these: calls, tokens, usd and hours,
    None where a call's is not known; and `without`: questions that would, or may, bring nothing."""
    total: dict[str, float | None] = {"calls": 0.0, "tokens": 0.0, "usd": 0.0, "hours": 0.0}
    without = []
    for question in questions:
        found = purposes[question.purpose]
        if not question.needed:
            continue
        if not found["answers"]:
            return dict.fromkeys(total) | {"without": [question.purpose], "assumes": []}
        if not found["accepted"]:
            without.append(question.purpose)
        calls = calls_of(question, found["rate"]) + question.beside
        tokens = [found[name] for name in ("prompt_tokens", "completion_tokens")]
        each = {
            "calls": 1.0, "tokens": None if None in tokens else sum(tokens), "usd": found["usd"],
            "hours": None if found["seconds"] is None else found["seconds"] / 3600,
        }  # fmt: skip
        for name, one in each.items():
            before = total[name]
            total[name] = None if one is None or before is None else before + calls * one
    assumed = sorted({question.assumes for question in questions if question.needed and question.assumes})
    return total | {"without": without, "assumes": assumed}


def calls_of(question: Question, rate: float) -> float:
    """Calls that a run makes for the answers that it needs."""
    if question.limit is None:
        return question.needed
    return min(question.needed / rate, question.limit) if rate else question.limit


def _mean(values: Sequence[float | None]) -> float | None:
    """None where there is no value, or one is not known."""
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known and len(known) == len(values) else None
