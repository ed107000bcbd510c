"""The server of the live page: its files, the list of runs as server-sent events, and what of a run is asked for.

All of it is read from the runs' files; nothing is written but the index that every command keeps (outputs/.index).
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from llmrl.llm.transcript import ReplayError
from llmrl.papers import asked, reports
from llmrl.report import page
from llmrl.report.store.files import DamagedFile
from llmrl.report.store.groups import differing, flat
from llmrl.report.store.reading import read_run
from llmrl.report.store.record import RunRecord
from llmrl.report.view import calls, places
from llmrl.report.view.curves import curves
from llmrl.report.view.guard import HEADERS, Guard, refusal
from llmrl.report.view.listing import Listing, row_of
from llmrl.report.view.programs import compared

EVERY_S = 1.0  # between two looks at the disk, while a page is open
SHARE = 0.1  # of the time that looking may take
ALIVE_S = 15.0  # between two signs of life on a stream without news
MOST_RUNS = 12  # that are compared
MOST_TEXT = 20_000  # characters of an error.txt, from its end
HERE, PAGE = Path(__file__).parent / "static", Path(page.__file__).parent
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
STATIC = [*HERE.iterdir(), PAGE / "page.css", PAGE / "page.js"]


class Server:
    """The page of one outputs/. Whatever is read is read in a thread, so that no page waits for another."""

    def __init__(self, outputs: Path, root: Path) -> None:
        self.outputs, self.listing = outputs, Listing(outputs, root)
        self.papers, self.problems = reports()
        self.news = asyncio.Condition()
        self.readers = 0
        self.wanted = asyncio.Event()  # set while a page is open
        self.files = {file.name: (file.read_text(encoding="utf-8"), KINDS[file.suffix]) for file in STATIC}

    def application(self, guard: Guard) -> web.Application:
        """What aiohttp serves."""
        app = web.Application(middlewares=[guard.check])
        app.cleanup_ctx.append(self._watching)
        answers: dict[str, Callable[[web.Request], Any]] = {
            "run": self.run, "calls": self.calls, "call": self.call, "programs": self.programs,
            "compare": self.compare,
        }  # fmt: skip
        for name, answer in answers.items():
            app.router.add_get(f"/api/{name}", _in_a_thread(answer))
        app.router.add_get("/events", self.events)
        app.router.add_get("/", self.file)
        app.router.add_get("/static/{name}", self.file)
        return app

    async def file(self, request: web.Request) -> web.Response:
        """One of the page's own files."""
        text, kind = self.files.get(request.match_info.get("name", "view.html"), (None, ""))
        return refusal(404, "there is no such file") if text is None else web.Response(text=text, content_type=kind)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The list of runs, then whatever of it changes, until the page is closed."""
        stream = web.StreamResponse(headers=HEADERS | {"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        self.readers += 1
        self.wanted.set()
        seen = 0
        try:
            while True:
                if self._newer(seen):
                    news = self.listing.since(seen) | {"outputs": str(self.listing.root), "notices": self.problems}
                    seen = news["version"]
                    await stream.write(f"event: runs\ndata: {_json(news)}\n\n".encode())
                async with self.news:
                    try:
                        newer = partial(self._newer, seen)
                        await asyncio.wait_for(self.news.wait_for(newer), ALIVE_S)
                    except TimeoutError:
                        await stream.write(b": alive\n\n")
        except ConnectionError:  # the page was closed
            return stream
        finally:
            self.readers -= 1
            if not self.readers:
                self.wanted.clear()

    def _newer(self, version: int) -> bool:
        return self.listing.version > version

    async def _watching(self, app: web.Application) -> AsyncIterator[None]:
        watch = asyncio.create_task(self._watch())
        yield
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self.wanted.wait()
            begin = clock()
            if await asyncio.to_thread(self.listing.look):
                async with self.news:
                    self.news.notify_all()
            await asyncio.sleep(max(EVERY_S, (clock() - begin) / SHARE))

    # --- what of a run is asked for -----------------------------------------------------------------------------------

    def run(self, request: web.Request) -> dict[str, Any]:
        """A run whole, but for its transcript."""
        record = self._record(request)
        found, problems = asked(self.papers, "programs", lambda report: report.programs(record))
        return self._drawn(record) | {
            "config": {} if record.damaged else record.config, "programs": len(found), "problems": problems,
            "has_calls": (record.path / "llm.jsonl").exists(), "error": _error(record.path),
            "code": list(record.codes), "processors": list(record.processors),
            "packages": {name: version or "" for name, version in record.packages.items()},
        }  # fmt: skip

    def calls(self, request: web.Request) -> dict[str, Any]:
        """A part of a run's transcript."""
        asked = request.query
        begin = _whole(asked.get("begin", "0"))
        transcript = calls.transcript_at(self._path(request))
        return calls.listed(
            transcript, asked.get("purpose", ""), asked.get("verdict", ""), asked.get("text", ""), begin
        )

    def call(self, request: web.Request) -> dict[str, Any]:
        """One call of it."""
        found = calls.whole(calls.transcript_at(self._path(request)), _whole(request.query.get("number", "")))
        if found is None:
            raise places.NoSuchRun("there is no such call")
        return found

    def programs(self, request: web.Request) -> dict[str, Any]:
        """What a run's search has asked for."""
        record = self._record(request)
        found, problems = asked(self.papers, "programs", lambda report: report.programs(record))
        plain = compared(found)
        for one in plain:
            there = one["training"] and (record.path / one["training"] / "config.json").is_file()
            one["training"] = f"{request.query['run']}/{one['training']}" if there else ""
        return {"programs": plain, "problems": problems}

    def compare(self, request: web.Request) -> dict[str, Any]:
        """Several runs: their curves, and what differs between their configurations."""
        names = list(dict.fromkeys(request.query.getall("run", [])))[:MOST_RUNS]
        records = [read_run(places.run_at(self.outputs, name), self.outputs) for name in names]
        settings = [{} if record.damaged else flat(record.config) for record in records]
        keys = [key for key in differing(settings) if key not in ("study", "rerun")]
        return {
            "runs": [self._drawn(record) for record in records],
            "differences": [[key, *(setting.get(key, "") for setting in settings)] for key in keys],
        }  # fmt: skip

    def _path(self, request: web.Request) -> Path:
        return places.run_at(self.outputs, request.query.get("run", ""))

    def _record(self, request: web.Request) -> RunRecord:
        return read_run(self._path(request), self.outputs)

    def _drawn(self, record: RunRecord) -> dict[str, Any]:
        """A run's row, and its curves."""
        row = row_of(record, self.outputs)
        try:
            drawn = {} if record.damaged else curves(record)
        except DamagedFile as error:
            drawn, row["reason"] = {}, str(error)
        random = sum(record.random) / len(record.random) if record.random else None
        return {"row": row, "curves": drawn, "random": random}


def _in_a_thread(answer: Callable[[web.Request], dict[str, Any]]) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.Response:
        try:
            found = await asyncio.to_thread(answer, request)
        except places.NoSuchRun as error:
            return refusal(404, str(error))
        except Exception as error:  # noqa: BLE001 (whatever a file holds, the page says so)
            named = str(error) if isinstance(error, ReplayError | OSError) else f"{type(error).__name__}: {error}"
            return refusal(409, f"it cannot be read: {named}")
        return web.Response(text=_json(found), content_type="application/json")

    return handle


def _whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise places.NoSuchRun(f"there is nothing of the number {text!r}")
    return int(text)


def _error(path: Path) -> str:
    """What a failed run left of its failure."""
    try:
        return (path / "error.txt").read_text(encoding="utf-8", errors="replace")[-MOST_TEXT:]
    except OSError:
        return ""


def _json(value: Any) -> str:
    """JSON as browsers read it: without NaN, and in one line."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
