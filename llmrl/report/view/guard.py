"""Who may read the page: whoever is on this machine, or has the token; and never another site's page."""

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
}  # fmt: skip
LOCAL = {"localhost", "127.0.0.1", "[::1]"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Checks every request before anything is read for it.

    Args:
        host: where the server listens.
        token: what an address has to bring once, as ?token=…; a cookie remembers it. None: nothing is asked for.
    """

    def __init__(self, host: str, token: str | None) -> None:
        self.token = token
        self.local = is_loopback(host)
        self.names = LOCAL | ({host} if self.local else {host, socket.gethostname(), socket.getfqdn()})
        self.cookie = f"llmrl_view_{secrets.token_hex(4)}"  # cookies are shared by all ports of a host

    @classmethod
    def made_for(cls, host: str, ask: bool) -> "Guard":
        """A guard with a new token, where the address is not this machine's alone, or where one is asked for."""
        return cls(host, None if is_loopback(host) and not ask else secrets.token_urlsafe(24))

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The middleware: hands the request on, or refuses it."""
        if request.method not in ("GET", "HEAD"):
            answer: web.StreamResponse = refusal(405, "this page can only be read", Allow="GET, HEAD")
        elif not self._known(request.host):
            answer = refusal(421, f"this server is not {request.host}; open the address that `llmrl view` printed")
        elif self.token is None or self._matches(request.cookies.get(self.cookie, "")):
            answer = await _answered(request, handler)
        elif self._matches(request.query.get("token", "")):
            answer = web.HTTPFound("./")  # so that the token leaves the address
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="Lax", path="/")
        else:
            answer = refusal(401, "open the address that `llmrl view` printed: it ends in ?token=…")
        if not answer.prepared:
            answer.headers.update(HEADERS)
        return answer

    def _matches(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), (self.token or "").encode())

    def _known(self, host: str) -> bool:
        """Whether the Host header names this server. Another site's name that was made to lead here (DNS rebinding)
        is refused; elsewhere than on loopback an address in numbers can only be ours."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() in {one.lower() for one in self.names}:
            return True
        try:
            return not self.local and bool(ipaddress.ip_address(name.strip("[]")))
        except ValueError:
            return False


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return refusal(error.status, error.text or error.reason)


def refusal(status: int, why: str, **headers: str) -> web.Response:
    """An answer that says what is wrong."""
    return web.json_response({"error": why}, status=status, headers=headers)
