"""Asking again: when an answer is of no use, and when asking again is of no use."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from llmrl.llm.answer import FAULTS
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


def why(fault: str, reply: Reply) -> str:
    """What a fault of `reply` means, as exactly as it is known."""
    return reply.why if reply.why and fault == reply.fault else FAULTS[fault]


def turns(samples: int, limit: int, wanted: Callable[[int], bool]) -> Iterator[int]:
    """Spends `limit` calls over samples 0, 1, …: yields the sample that the next call is for.

    Each sample gets an equal share, so that none spends all of them in vain; what the others leave is shared in the
    same way by those that are still `wanted`.
    """
    left, waiting = limit, list(range(samples))
    while left and waiting:
        share = max(1, left // len(waiting))
        for sample in waiting:
            for _ in range(min(share, left)):
                if not wanted(sample):
                    break
                left -= 1
                yield sample
        waiting = [sample for sample in waiting if wanted(sample)]
