"""A chat server on loopback that speaks the OpenAI protocol over real HTTP and misbehaves on request.

    with Server("{0: 1.0}", 429, HANG) as server:   # one behaviour per request, the last one for all that follow
        … api_base=server.url …

A behaviour is a text (or None) to answer with, a status code to fail with, or one of the names below.
"""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANG = object()  # takes the request and never answers (until the server is closed)
HANG_UP = object()  # closes the connection instead of answering
GARBAGE = object()  # 200, but no JSON
NO_CHOICES = object()  # 200, JSON, but nothing in it
REFUSE_JSON = object()  # 400 to whoever asks for response_format, else an answer

Behaviour = Any


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
            server.on_request()
            if behaviour is HANG:
                server.closing.wait()
            if behaviour is HANG or behaviour is HANG_UP:
                self.close_connection = True
            elif behaviour is GARBAGE:
                self._send(200, b"<html>it works</html>")
            elif behaviour is NO_CHOICES:
                self._send(200, json.dumps({"id": "x", "object": "chat.completion", "choices": []}).encode())
            elif behaviour is REFUSE_JSON and "response_format" in body:
                self._fail(400, "response_format is not supported by this server")
            elif isinstance(behaviour, int):
                self._fail(behaviour, f"as asked for; your key is {key}")
            else:
                self._answer("{0: 0.25, 1: 0.75}" if behaviour is REFUSE_JSON else behaviour)

        def _answer(self, text: str | None) -> None:
            message = {"role": "assistant", "content": text}
            reply = {
                "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": server.model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
            }  # fmt: skip
            self._send(200, json.dumps(reply).encode())

        def _fail(self, status: int, text: str) -> None:
            self._send(status, json.dumps({"error": {"message": text, "type": "error", "code": status}}).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
