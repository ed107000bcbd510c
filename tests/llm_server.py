"""A chat server on loopback that speaks the OpenAI protocol over real HTTP and misbehaves on request.

    with Server("{0: 1.0}", 429, HANG) as server:   # one behaviour per request, the last one for all that follow
        … api_base=server.url …

A behaviour is a text (or None) to answer with, a status code to fail with, one of the names below, an Answer, or a Raw
response. A function of the request's body returns one of these.
"""

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANG = object()  # takes the request and never answers (until the server is closed)
HANG_UP = object()  # closes the connection instead of answering
GARBAGE = object()  # 200, but no JSON
NO_CHOICES = object()  # 200, JSON, but nothing in it
REFUSE_JSON = object()  # 400 to whoever asks for response_format, else an answer
REFUSE_SCHEMA = object()  # 400 to whoever asks for a JSON schema, else an answer

Behaviour = Any
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


@dataclass
class Answer:
    """A chat completion that is not an ordinary one."""

    text: Any = "fine"
    finish_reason: Any = "stop"
    usage: Any = field(default_factory=lambda: USAGE)  # None: the server tells none
    message: dict = field(default_factory=dict)  # beside the text


@dataclass
class Raw:
    """A response as it is; `body` may be pieces that come one after the other, without a length."""

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


class Server:
    """Counts and keeps every request: `requests` holds the JSON bodies, `keys` what stood in Authorization."""

    model = "served-by-test"

    def __init__(self, *behaviours: Behaviour, on_request: Callable[[], None] = lambda: None) -> None:
        self.behaviours = list(behaviours)
        self.requests: list[dict] = []
        self.keys: list[str] = []
        self.on_request = on_request
        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> "Server":
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    def next(self) -> Behaviour:
        return self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            server.requests.append(body)
            server.keys.append(key)
            behaviour = server.next()
            if callable(behaviour):
                behaviour = behaviour(body)
            server.on_request()
            if behaviour is HANG:
                server.closing.wait()
            if behaviour is HANG or behaviour is HANG_UP:
                self.close_connection = True
            elif isinstance(behaviour, Raw):
                self._raw(behaviour)
            elif behaviour is GARBAGE:
                self._send(200, b"<html>it works</html>")
            elif behaviour is NO_CHOICES:
                self._send(200, json.dumps({"id": "x", "object": "chat.completion", "choices": []}).encode())
            elif behaviour is REFUSE_JSON and "response_format" in body:
                self._fail(400, "response_format is not supported by this server")
            elif behaviour is REFUSE_SCHEMA and body.get("response_format", {}).get("type") == "json_schema":
                self._fail(400, "'type' of 'response_format' must be 'text' or 'json_object'")
            elif isinstance(behaviour, int):
                self._fail(behaviour, f"as asked for; your key is {key}")
            else:
                self._answer("{0: 0.25, 1: 0.75}" if behaviour in (REFUSE_JSON, REFUSE_SCHEMA) else behaviour)

        def _answer(self, answer: Any) -> None:
            answer = answer if isinstance(answer, Answer) else Answer(answer)
            message = {"role": "assistant", "content": answer.text} | answer.message
            reply = {
                "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": server.model,
                "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
            }  # fmt: skip
            self._send(200, json.dumps(reply | ({"usage": answer.usage} if answer.usage is not None else {})).encode())

        def _fail(self, status: int, text: str) -> None:
            self._send(status, json.dumps({"error": {"message": text, "type": "error", "code": status}}).encode())

        def _raw(self, raw: Raw) -> None:
            self.send_response(raw.status)
            for name, value in raw.headers.items():
                self.send_header(name, value)
            pieces = [raw.body] if isinstance(raw.body, bytes) else raw.body
            if isinstance(raw.body, bytes):
                self.send_header("Content-Length", str(len(raw.body)))
            self.end_headers()
            self.close_connection = not isinstance(raw.body, bytes)
            try:
                for piece in pieces:
                    self.wfile.write(piece)
            except OSError:  # the client has had enough
                self.close_connection = True

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
