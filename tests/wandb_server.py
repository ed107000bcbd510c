"""What wandb's client needs of a server, on loopback: it keeps runs with their history, and can hang."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HISTORY = "wandb-history.jsonl"


class WandbServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs: dict[str, dict[str, Any]] = {}  # id -> group, tags, history (line number -> row), summary
        self.hangs = threading.Event()
        self.goes_on = threading.Event()

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "k" * 40, "WANDB_ENTITY": "me"}

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The history of a run, in the order of its lines."""
        return [row for _, row in sorted(self.runs[name]["history"].items())]


class Handler(BaseHTTPRequestHandler):
    server: WandbServer

    def log_message(self, *args: Any) -> None:
        """Prints nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.hangs.is_set():  # until the test ends
            self.server.goes_on.wait()
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path.endswith("/file_stream"):
            self.answer(self.stream(self.path.split("/")[-2], json.loads(body)))
        elif self.path == "/graphql":
            asked = json.loads(body)
            self.answer({"data": self.data(asked["query"], asked.get("variables") or {})})
        else:
            self.answer({})

    do_PUT = do_POST

    def answer(self, value: Any) -> None:
        out = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    def stream(self, name: str, sent: dict[str, Any]) -> dict[str, Any]:
        run = self.server.runs[name]
        if (history := (sent.get("files") or {}).get(HISTORY)) is not None:
            for number, line in enumerate(history["content"], history["offset"]):
                run["history"][number] = json.loads(line)
        return {"exitcode": None, "limits": {}}

    def data(self, query: str, asked: dict[str, Any]) -> dict[str, Any]:
        entity = {"id": "e", "name": "me"}
        if "RunResumeStatus" in query:
            run = self.server.runs.get(asked["name"])
            bucket = run and {
                "id": "b", "name": asked["name"], "displayName": "", "config": "{}", "tags": [], "summaryMetrics": "{}",
                "logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]", "historyLineCount": len(run["history"]),
                "historyTail": json.dumps([json.dumps(row) for row in self.server.rows(asked["name"])[-1:]]),
                "wandbConfig": json.dumps({"t": 1}),
            }  # fmt: skip
            return {"model": {"id": "p", "name": "llmrl", "entity": entity, "bucket": bucket}}
        if "upsertBucket" in query:
            known = asked["name"] in self.server.runs
            run = self.server.runs.setdefault(asked["name"], {"history": {}, "started": 0})
            run["started"] += asked.get("id") is None
            run |= {"group": asked.get("groupName") or run.get("group"), "tags": asked.get("tags") or run.get("tags")}
            project = {"id": "p", "name": asked.get("project"), "entity": entity}
            bucket = {"id": "b", "name": asked["name"], "displayName": "", "description": "", "config": "{}",
                      "sweepName": None, "project": project, "historyLineCount": len(run["history"])}  # fmt: skip
            return {"upsertBucket": {"bucket": bucket, "inserted": not known}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.server.url}/upload"} for name in asked["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {"viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}},
                "serverInfo": None, "QueryType": {"fields": []}, "MutationType": {"fields": []}}  # fmt: skip


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.goes_on.set()
            server.shutdown()
