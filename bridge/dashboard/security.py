"""Who may come in: token, cookie, host, origin; and the headers of every answer.

The first visit has the token in the address, as in Jupyter: it is answered by a cookie and a
redirect to the same address without it. Programs send ``Authorization: Bearer TOKEN`` instead. The
cookie is made from the token and is not the token. A page of another origin gets nothing: its
requests carry no cookie (``SameSite=Strict``), and those that change something, and WebSockets,
are turned away by their ``Origin``.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import os
import secrets
import socket
import stat
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.dashboard.hub import HubStatistics
from bridge.dashboard.options import ServerOptions
from bridge.errors import ConfigError

__all__ = ["CONTENT_POLICY", "TOKEN_FILE", "Gate", "find_token", "make_token"]

TOKEN_FILE = "dashboard.token"
"""In the folder of a run: the token of all its dashboards."""

CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        # The viewer of molecules computes surfaces in workers that it makes itself.
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
OPEN = frozenset({"/api/health"})
"""What needs no token: it says nothing but that somebody is there."""

_DENIED = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Headrace: token needed</title></head>
<body><main><h1>This dashboard needs its token</h1>
<p>Open the whole address that <code>headrace run</code> or <code>headrace dashboard</code>
printed; it ends with <code>?token=…</code>. For a run that is under way, or over,
<code>headrace dashboard RUN</code> prints one.</p>
<form method="get" action="./"><label>Or enter the token:
<input name="token" type="password" autocomplete="off"></label>
<button>Open</button></form></main></body></html>
"""
_ONWARD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={url}">
<title>Headrace</title></head><body><p><a href="{url}">Go on to the dashboard.</a></p></body></html>
"""


def make_token() -> str:
    """Return a new token of 192 bits."""
    return secrets.token_urlsafe(24)


def find_token(folder: Path) -> str:
    """Return the token of a run's dashboards; made at the first time, readable by its owner alone.

    Raises
    ------
    ConfigError
        If the file cannot be read or written, or others can read it.
    """
    path = folder / TOKEN_FILE
    for _ in range(2):
        with contextlib.suppress(FileNotFoundError):
            return _read_token(path)
        # Whole or not at all: two dashboards that begin at the same time end up with one token.
        beside = folder / f".{TOKEN_FILE}-{secrets.token_hex(4)}"
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(make_token() + "\n")
            with contextlib.suppress(FileExistsError):
                os.link(beside, path)
        except OSError as error:
            # A run that may only be read is shown all the same, with a token for this time.
            if isinstance(error, PermissionError) or error.errno == 30:
                return make_token()
            raise ConfigError(f"Cannot write {path}: {error.strerror}.") from error
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()
    return _read_token(path)


def _read_token(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        token = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise
    except PermissionError:
        # Somebody else's run: a token of one's own, as far as its files may be read.
        return make_token()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"Cannot read {path}: {error}.") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            f"Others can read {path}, and whoever has the token can steer the run. Remove the "
            "file; the next dashboard makes another."
        )
    return token


class Gate:
    """The first to see every request.

    Parameters
    ----------
    app
        What lies behind.
    options
        With the token, the names and the base path.
    statistics
        Where it counts whom it turned away.
    """

    def __init__(self, app: ASGIApp, options: ServerOptions, statistics: HubStatistics) -> None:
        self._app = app
        self._options = options
        self._statistics = statistics
        self._token = options.token.encode()
        self._proof = hmac.new(self._token, b"headrace dashboard", hashlib.sha256).hexdigest()
        # Browsers do not tell ports apart: dashboards of two runs on a machine need two names.
        self.cookie = f"headrace-{hashlib.sha256(b'name' + self._token).hexdigest()[:8]}"
        self._names = {name.lower() for name in options.names}
        self._hosts = {"localhost", socket.gethostname().lower(), options.host.lower()}
        self._hosts |= {_host_of(name) for name in self._names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through or turn away."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope = self._strip(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._judge(scope)
        if refusal is None:
            await self._app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            self._statistics.refused += 1
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        else:
            self._statistics.refused += refusal.status_code >= 400
            await refusal(scope, receive, send_with_headers)

    # ------------------------------------------------------------- judging

    def _strip(self, scope: Scope) -> Scope:
        """Take the base path off, where the proxy did not."""
        base, path = self._options.base_path, scope["path"]
        if base and (path == base or path.startswith(f"{base}/")):
            path = path[len(base) :] or "/"
        return {**scope, "path": path, "raw_path": path.encode()}

    def _judge(self, scope: Scope) -> Response | None:
        """Return the answer to whoever is turned away, None for whoever may come in."""
        connection = HTTPConnection(scope)
        headers = connection.headers
        path = scope["path"]
        if not self._knows_host(headers.get("host", "")):
            return _refuse(
                421, "This is not a name of this dashboard; say --name when it is started."
            )
        if path in OPEN and scope["type"] == "http":
            return None
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope["type"] == "http" and "token" in query:
            return self._let_in(scope, headers, query)
        bearer = headers.get("authorization", "")
        if bearer:
            scheme, _, given = bearer.partition(" ")
            if scheme.lower() == "bearer" and self._same(given.strip(), self._token):
                return self._check_origin(headers, required=False)
            return _refuse(401, "The token is wrong.")
        if not self._same(connection.cookies.get(self.cookie, ""), self._proof.encode()):
            return self._ask(headers, path)
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        return self._check_origin(headers, required=True) if changes else None

    def _let_in(self, scope: Scope, headers: Headers, query: dict[str, str]) -> Response:
        """Answer a visit with the token in its address."""
        if not self._same(query.pop("token"), self._token):
            return self._ask(headers, scope["path"])
        rest = f"?{urlencode(query)}" if query else ""
        url = f"{self._options.base_path}{quote(_one_slash(scope['path']))}{rest}"
        # A cookie of SameSite=Strict is not sent along a redirect that another site began; a page
        # that goes on by itself begins anew.
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            answer = Response(status_code=303, headers={"Location": url})
        else:
            answer = HTMLResponse(_ONWARD.format(url=url.replace("&", "&amp;")))
        answer.set_cookie(
            self.cookie,
            self._proof,
            path=f"{self._options.base_path}/",
            secure=self._options.secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    def _ask(self, headers: Headers, path: str) -> Response:
        if "text/html" in headers.get("accept", "") and not path.startswith("/api/"):
            return HTMLResponse(_DENIED, status_code=401)
        return _refuse(
            401,
            "The token is missing or wrong. Open the address that headrace printed, or send the "
            "header 'Authorization: Bearer TOKEN'.",
        )

    def _check_origin(self, headers: Headers, *, required: bool) -> Response | None:
        origin = headers.get("origin")
        if origin is None:
            return _refuse(403, "The header 'Origin' is missing.") if required else None
        try:
            parts = urlsplit(origin)
        except ValueError:
            # Such as http://[1, which no browser sends.
            return _refuse(403, "The header 'Origin' is not an origin.")
        schemes = ("https",) if self._options.secure else ("http", "https")
        place = parts.netloc.lower()
        same = place == headers.get("host", "").lower() or place in self._names
        if parts.scheme in schemes and same:
            return None
        return _refuse(403, "Pages of other origins may not do this.")

    def _knows_host(self, given: str) -> bool:
        """Return whether a Host is one of ours: another's name may have been pointed here."""
        host = _host_of(given.lower())
        try:
            # An address is no name, so it was not pointed here by anybody.
            ipaddress.ip_address(host.strip("[]"))
            return True
        except ValueError:
            return host in self._hosts

    @staticmethod
    def _same(given: str, wanted: bytes) -> bool:
        return hmac.compare_digest(given.encode(), wanted)


def _one_slash(path: str) -> str:
    # Two slashes in front would be another host.
    return "/" + path.lstrip("/\\")


def _host_of(place: str) -> str:
    if place.startswith("["):
        return place.partition("]")[0] + "]"
    return place.partition(":")[0]


def _refuse(status: int, sentence: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": sentence}, status_code=status, headers=headers)
