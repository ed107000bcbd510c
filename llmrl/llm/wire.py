"""The HTTP below litellm: nobody is redirected, no body is without end, and what a server really said can be looked at.

One httpx client for both of litellm's ways: the OpenAI SDK takes it as it is, litellm's own handlers as a transport.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

CODINGS = ("", "identity", "gzip", "deflate")  # of which a piece of 64 KB is never more than 66 MB


class Refused(Exception):
    """A response that is not read on; `reason` is its name, for the counts."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass
class Exchange:
    """One request: what its response may be, and what it was."""

    most_bytes: int  # of the body
    deadline: float  # monotonic seconds
    response: httpx.Response | None = None
    refused: Refused | None = None

    def status(self) -> int:
        """0 where nothing came."""
        return 0 if self.response is None else self.response.status_code

    def body(self) -> bytes | None:
        """The whole body of a 200, if that is what came."""
        try:
            return self.response.content if self.response is not None and self.response.is_success else None
        except httpx.ResponseNotRead:  # it broke off
            return None

    def asked_wait(self) -> float:
        """Seconds that the server asks to wait; 0 where it asks for nothing that can be read."""
        return 0.0 if self.response is None else said_wait(self.response.headers)


_of_thread = threading.local()


def watch(exchange: Exchange) -> None:
    """From now on this thread's exchange is this one."""
    _of_thread.exchange = exchange


def session(verify: Any) -> httpx.Client:
    """A client that watches every response. `verify`: as httpx takes it."""
    return httpx.Client(
        verify=verify, follow_redirects=False, event_hooks={"request": [_ask_plainly], "response": [_watch]}
    )


class Through(httpx.BaseTransport):
    """A transport that sends by a client, so that another client has its hooks, and proxies, too."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._client.send(request, stream=True, follow_redirects=False)


def said_wait(headers: httpx.Headers) -> float:
    """Seconds that a server asks to wait; 0 where it asks for nothing that can be read."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
            return seconds if 0 < seconds < float("inf") else 0.0
        except (KeyError, ValueError):
            continue
    try:
        until = parsedate_to_datetime(headers["retry-after"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return 0.0
    try:
        now = parsedate_to_datetime(headers["date"]).timestamp()  # by the server's own clock
    except (KeyError, ValueError, TypeError, OverflowError):
        now = time.time()
    return max(until - now, 0.0)


def _ask_plainly(request: httpx.Request) -> None:
    request.headers["Accept-Encoding"] = "gzip, deflate"


def _watch(response: httpx.Response) -> None:
    """Called when the head of a response is there, before its body is read."""
    exchange: Exchange = _of_thread.exchange
    exchange.response = response
    if 300 <= response.status_code < 400:
        to = urlsplit(response.headers.get("location", ""))
        where = f"{to.scheme}://{to.netloc}" if to.netloc else "another address"
        _refuse(exchange, "redirected", f"the server sends us on to {where}, and neither prompt nor key is sent there")
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in CODINGS:
        _refuse(
            exchange, "malformed: content encoding", f"the answer comes as {coding[:40]!r}, which was not asked for"
        )
    decoded = response.iter_bytes

    def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
        total = 0
        for chunk in decoded(chunk_size):
            total += len(chunk)
            if total > exchange.most_bytes:
                _refuse(
                    exchange,
                    "too_long",
                    f"the answer has more than {exchange.most_bytes:,} bytes (llm.max_answer_chars)",
                )
            if time.monotonic() > exchange.deadline:  # nobody waits for it any more
                _refuse(exchange, "timeout", "the answer did not end in time")
            yield chunk

    response.iter_bytes = iter_bytes  # type: ignore[method-assign]  # read() takes it


def _refuse(exchange: Exchange, reason: str, detail: str) -> None:
    exchange.refused = Refused(reason, detail)
    raise exchange.refused
