"""Names of failed attempts, which of them waiting can mend, and what a person can do about the others."""

from collections import Counter

from llmrl.llm.forms import REFUSED, STATUSES

REASONS = {400: "bad_request", 401: "wrong_key", 403: "forbidden", 404: "not_found", 408: "timeout",
           422: "bad_request", 429: "rate_limit"}  # fmt: skip
PASSING = (408, 409, 425, 429)  # of 4xx: another time the same request may be answered
SERVER_DIED = "server_died"  # the process of a local model's server has ended
HINTS = {  # what to change, by reason
    "timeout": "llm.timeout_s says how long an answer may take",
    "rate_limit": "llm.retries, llm.retry_wait_max_s and llm.retry_after_max_s say how long it is waited",
    "server_error": "llm.retries and llm.retry_wait_max_s say how long it is waited",
    "connection": "llm.api_base says where the server is",
    SERVER_DIED: "llm.weights needs more memory than is free, or llama.cpp crashes over it",
    "redirected": "llm.api_base has to be the address at which the server answers itself",
    "not_found": "llm.model, llm.provider and llm.api_base say what is asked where",
    "bad_request": "llm.model, llm.temperature, llm.seed and llm.max_tokens say what is asked for",
    "too_long": "llm.max_answer_chars and llm.max_tokens bound an answer",
}


def name(error: Exception, status: int, refusal: str) -> str:
    """The name of a failed attempt that ended with this HTTP status, 0 where there was none; `refusal`: what it is
    called where the server refuses the form that the answer was asked for in."""
    if own := getattr(error, "reason", ""):  # wire.Refused, answer.Malformed
        return own
    kind = type(error).__name__
    if refusal and status in STATUSES:
        return refusal
    if isinstance(error, TimeoutError) or kind == "Timeout":
        return "timeout"
    if kind == "APIConnectionError" or "Connection error" in str(error):
        return "connection"
    return REASONS.get(status) or ("server_error" if status >= 500 else f"http_{status}" if status else "bad_response")


def text(error: Exception) -> str:
    """What an error says, in one line."""
    kind = type(error).__name__
    if getattr(error, "reason", ""):
        return " ".join(str(error).split())
    said = " ".join(str(error).split()).removeprefix(f"litellm.{kind}: ")
    return said if said.startswith(kind) else f"{kind}: {said}"


def is_permanent(reason: str, status: int) -> bool:
    """Whether the same request would be refused for ever."""
    refused = 400 <= status < 500 and status not in PASSING and reason not in REFUSED.values()
    return reason == "redirected" or refused


def hint(reasons: Counter[str], key_env: str | None) -> str:
    """One key to change, for what failed most."""
    if {"wrong_key", "forbidden"} & set(reasons):
        return f" Look at the key in {key_env or 'llm.key_env (none is named)'}."
    known = [reason for reason, _ in reasons.most_common() if reason in HINTS]
    return f" {HINTS[known[0]]}." if known else ""
