"""What a server sent, as an answer: the text, why it ended, the tokens that can be believed.

Every server's reply is read in the shape of an OpenAI chat completion; litellm brings those of other protocols into it.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

CUT = "max_answer_chars"  # the finish_reason of an answer that we cut
AT_THE_LIMIT = ("length", "max_tokens")  # of tokens
FILTERED = "content_filter"
FAULTS = {
    "truncated": "the answer, or the thought before it, was not ended",
    "repeated": "the same messages got the same answer before",
}
_THOUGHT = re.compile(r"<(/?)(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
CHARS_PER_TOKEN = 100  # more than any text has: fewer tokens than that are not believed
TOKENS_PER_CHAR = 4  # more than any text has
TOKENS_BESIDE = 100_000  # a chat template, images
THOUGHT_TOKENS = 1_000_000  # that no text shows


class Malformed(Exception):
    """A server's 200 that holds no answer; `reason` is its name, for the counts."""

    def __init__(self, what: str, detail: str = "") -> None:
        self.reason = f"malformed: {what}"
        super().__init__(f"{self.reason}. It begins: {detail[:100]!r}" if detail else self.reason)


@dataclass(frozen=True)
class Answer:
    """A server's answer before anything is known of its price."""

    text: str
    finish_reason: str | None
    model: str | None
    prompt_tokens: Any
    completion_tokens: Any


def read_body(content: bytes) -> Any:
    """The JSON of a response's body. Raises Malformed."""
    text = content.decode("utf-8-sig", "replace")
    if not text.strip():
        raise Malformed("empty body")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    start = text.lstrip()[:100]
    if start.startswith("<"):
        raise Malformed("HTML, not JSON", start)
    raise Malformed("JSON that breaks off or is broken" if start[0] in "{[" else "not JSON", start)


def read_completion(body: Any) -> Answer:
    """The answer in a chat completion. Raises Malformed."""
    if not isinstance(body, dict):
        raise Malformed(f"JSON that is {_kind(body)}")
    choices = body.get("choices")
    if body.get("error") and not choices:
        raise Malformed("an error in place of an answer", json.dumps(body["error"]))
    if "choices" not in body:
        raise Malformed("no choices", json.dumps(body))
    if not isinstance(choices, list):
        raise Malformed(f"choices that are {_kind(choices)}")
    if not choices:
        raise Malformed("empty choices")
    choice = choices[0]
    if not isinstance(choice, dict):
        raise Malformed(f"a choice that is {_kind(choice)}")
    if not isinstance(message := choice.get("message"), dict):
        raise Malformed("no message" if message is None else f"a message that is {_kind(message)}")
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise Malformed(f"content that is {_kind(content)}")
    finish, model, usage = choice.get("finish_reason"), body.get("model"), body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Answer(
        content or "",  # None, as after a refusal, is an empty answer
        finish if isinstance(finish, str) else None,
        model if isinstance(model, str) and model else None,
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
    )


def clean(text: str) -> str:
    """`text` without lone surrogates, which no file holds, and control characters, which steer a terminal."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def without_thoughts(text: str) -> tuple[str, bool]:
    """`text` without its <think> blocks, and whether each was ended. Some servers leave out the first opening tag."""
    kept: list[str] = []
    at, thinks = 0, False
    for tag in _THOUGHT.finditer(text):
        if not thinks:
            kept.append(text[at : tag.start()])
        if tag[1]:
            kept = kept if thinks else []
        thinks, at = not tag[1], tag.end()
    return "".join(kept if thinks else [*kept, text[at:]]), not thinks


def unfinished(ended: bool, finish_reason: str | None, tokens: int | None, max_tokens: int | None) -> str:
    """Why an answer is not whole; "" where it is. `ended`: every thought in it was; `tokens`: those of the answer."""
    if finish_reason == FILTERED:
        return "the server's content filter cut the answer"
    if finish_reason == CUT:
        return "the answer is longer than llm.max_answer_chars, and was cut there"
    unknown = finish_reason is None and max_tokens is not None and tokens is not None and tokens >= max_tokens
    if finish_reason in AT_THE_LIMIT or unknown:
        limit = "the server's limit of tokens" if max_tokens is None else f"the limit of {max_tokens:,} tokens"
        return f"the answer was cut at {limit} (llm.max_tokens)"
    return "" if ended else "a thought before the answer was not ended"


def believed(messages: list[dict], answer: Answer) -> tuple[int | None, int | None]:
    """The prompt's and the completion's tokens; None for what a server did not say, or what cannot be. litellm and
    some servers say 0 where they do not know."""
    read, sent = _chars(messages), len(json.dumps(messages))  # images have fewer tokens than characters
    prompt, completion = answer.prompt_tokens, answer.completion_tokens
    most_sent = TOKENS_PER_CHAR * sent + TOKENS_BESIDE
    most_written = TOKENS_PER_CHAR * len(answer.text) + THOUGHT_TOKENS
    return (
        prompt if type(prompt) is int and max(1, read // CHARS_PER_TOKEN) <= prompt <= most_sent else None,
        completion if type(completion) is int
        and -(-len(answer.text) // CHARS_PER_TOKEN) <= completion <= most_written else None,
    )  # fmt: skip


def _chars(messages: list[dict]) -> int:
    """Characters of text."""
    contents = [message["content"] for message in messages]
    parts = [part for content in contents for part in (content if isinstance(content, list) else [{"text": content}])]
    return sum(len(part.get("text") or "") for part in parts)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
