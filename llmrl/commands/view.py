"""llmrl view [directory] [--port N] [--host ADDRESS] [--token]

Serves a live page about all runs at and below a directory (default: outputs/) until ctrl-C: a list with progress,
curves that grow, what a language model was asked and answered, programs of searches, costs, runs side by side. Nothing
can be changed through it. `llmrl report` writes a page that needs no server.

--port N         default 8765; 0 takes a free one
--host ADDRESS   where to listen (default: 127.0.0.1, which only this machine reaches). Elsewhere the page asks for a
                 token: a random one, which the printed address holds
--token          ask for a token in any case, as on a machine with other users

It needs aiohttp: pip install "llmrl[view]". docs/view.md says more.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from llmrl.checks import ConfigError
from llmrl.waiting import WAITING

USAGE = "llmrl view [directory] [--port N] [--host ADDRESS] [--token]"


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser("llmrl view", add_help=False, usage=USAGE)
    parser.add_argument("directory", type=Path, nargs="?", default=Path("outputs"))
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--token", action="store_true")
    given = parser.parse_args(args)
    try:
        if not given.directory.is_dir():
            raise ConfigError(f"there is no directory {given.directory}: runs are kept in outputs/, or where "
                              "compute.outputs says")  # fmt: skip
        if not 0 <= given.port < 1 << 16:
            raise ConfigError(f"--port {given.port}: a port is a number from 0 to 65535")
        asyncio.run(serve(given.directory, given.host, given.port, ask=given.token))
    except ConfigError as error:
        print(f"llmrl view: {error}", file=sys.stderr)
        return 2
    return 0


async def serve(directory: Path, host: str, port: int, *, ask: bool) -> None:
    """Serves until it is cancelled. Raises ConfigError where it cannot."""
    try:
        from aiohttp import web
    except ImportError as error:
        raise ConfigError(f'the page needs aiohttp ({error}): pip install "llmrl[view]"') from error
    from llmrl.report.view.guard import Guard
    from llmrl.report.view.places import outputs_above
    from llmrl.report.view.server import Server

    root, guard = directory.resolve(), Guard.made_for(host, ask)
    runner = web.AppRunner(Server(outputs_above(root), root).application(guard), shutdown_timeout=0.5, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(_unable(host, port, error)) from None
    print(f"{address(host, runner.addresses[0][1], guard.token)}\n{directory}/ is shown there; ctrl-C ends it",
          flush=True)  # fmt: skip
    WAITING.end()  # it waits for readers, and works on nothing
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def address(host: str, port: int, token: str | None) -> str:
    """What to open in a browser."""
    import socket

    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _unable(host: str, port: int, error: OSError) -> str:
    import errno

    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken, perhaps by another `llmrl view`: --port 0 takes a free one"
    if error.errno == errno.EACCES:
        return f"port {port} of {host} needs rights that you do not have: choose one from 1024 on, or --port 0"
    return f"--host {host}: it is not possible to listen there ({error.strerror or error})"
