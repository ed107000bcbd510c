"""Asking again: when an answer is of no use, and when asking again is of no use."""

import json
from typing import Any

from llmrl.llm.client import Reply

REPEATED = "repeated"


class Tries:
    """The answers of one loop of tries. A model that answers the same to the same would do so for ever."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def fault(self, messages: list[dict[str, Any]], reply: Reply) -> str:
        """Why `reply` to `messages` is not to be read (a name of FAULTS), or "". After `repeated` the loop ends."""
        answered = json.dumps(messages, sort_keys=True), f"{reply.fault} {reply.text}"
        if answered in self._seen:
            return REPEATED
        self._seen.add(answered)
        return reply.fault
