"""The page's server: this machine only, and only for whoever holds the token."""

from __future__ import annotations

import hmac
import json
import secrets
import socketserver
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from persllm.errors import UserError
from persllm.review.desk import Desk, RefusedError
from persllm.review.page import render

HOST = "127.0.0.1"
USUAL_PORT = 8737
"""Tried first where no port is named: a browser keeps the reviewer's name for one address."""
LARGEST = 1 << 20
"""Bytes of a request's body."""


class PageServer(ThreadingHTTPServer):
    """Serves one desk.

    Args:
        desk: what is under review.
        port: of 127.0.0.1; 0 for any that is free.

    Raises:
        UserError: the port cannot be had.
    """

    daemon_threads = True

    def __init__(self, desk: Desk, port: int) -> None:
        self.desk = desk
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port or USUAL_PORT), _Handler)
        except (OSError, OverflowError) as error:
            if port:
                why = getattr(error, "strerror", None) or str(error)
                raise UserError(f"--port {port}: {why}; name another one or leave it out") from error
            super().__init__((HOST, 0), _Handler)

    def server_bind(self) -> None:
        """Bind without asking anybody for this host's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    @property
    def address(self) -> str:
        """The page's address, with the token."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about a browser that went away; let everything else be told."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer  # type: ignore[assignment]
    server_version, sys_version = "persllm", ""
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: a request line holds the token."""

    def do_GET(self) -> None:
        """Answer with the page, or with what has changed."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Take a decision."""
        # Read even where the request is refused: closing on unread bytes would cut the answer off.
        length = self.headers.get("Content-Length", "")
        fits = len(length) <= len(str(LARGEST)) and length.isascii() and length.isdecimal() and int(length) <= LARGEST
        body = self.rfile.read(int(length)) if fits else None
        self._answer(lambda name: self._post(name, body))

    def _answer(self, work: Callable[[str], None]) -> None:
        try:
            name = self._admitted()
            work(name)
        except RefusedError as error:
            if error.status >= 500:
                print(f"error: {error}", file=sys.stderr, flush=True)
            self._send(error.status, {"error": str(error)})
        except (UserError, OSError) as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            print(f"error: {error}", file=sys.stderr, flush=True)
            self._send(500, {"error": str(error)})

    def _admitted(self) -> str:
        """Return what is asked for, after the token.

        The host's name is checked, its port is not, so that a forwarded port serves too: a strange page that resolves
        its own name to this machine still sends its own name.
        """
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in (HOST, "localhost"):
            raise RefusedError(403, f"this page is served to {HOST} and localhost only")
        if self.headers.get("Origin", f"http://{host}") != f"http://{host}":
            raise RefusedError(403, "this request comes from another page")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise RefusedError(403, "this request comes from another page")
        try:
            path = urlsplit(self.path).path
        except ValueError as error:
            raise RefusedError(400, f"no such address ({error}); open the one that the terminal shows") from error
        token, _, name = path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise RefusedError(403, "no access without the token; open the whole address that the terminal shows")
        return name

    def _get(self, name: str) -> None:
        if name == "" and not urlsplit(self.path).path.endswith("/"):
            # The page asks for what lies beside its own address.
            self._send(308, {}, {"Location": f"/{self.server.token}/"})
        elif name == "":
            page, policy = render(self.server.desk)
            self._send(200, page, {"Content-Security-Policy": policy})
        elif name == "changes":
            query = parse_qs(urlsplit(self.path).query).get("since", [""])[0]
            try:
                found = self.server.desk.changes([int(count) for count in query.split(",") if count])
            except ValueError as error:
                raise RefusedError(400, "since: expected one whole number for each persona") from error
            self._send(200, found)
        else:
            raise RefusedError(404, "no such page; open the address that the terminal shows")

    def _post(self, name: str, body: bytes | None) -> None:
        if name != "decide":
            raise RefusedError(404, "no such page; open the address that the terminal shows")
        # Browsers send another page's post of this type only after asking, which nobody answers here.
        if self.headers.get("Content-Type", "").partition(";")[0] != "application/json" or "Origin" not in self.headers:
            raise RefusedError(403, "expected JSON from this server's own page")
        if body is None:
            raise RefusedError(413, f"expected at most {LARGEST} bytes, their number in Content-Length")
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RefusedError(400, f"expected JSON ({error})") from error
        self._send(200, self.server.desk.decide(asked))

    def _send(self, status: int, content: str | dict[str, Any], more: dict[str, str] | None = None) -> None:
        page = isinstance(content, str)
        data = (content if page else json.dumps(content)).encode()
        self.send_response(status)
        headers = {
            "Content-Type": f"{'text/html' if page else 'application/json'}; charset=utf-8",
            "Content-Length": str(len(data)),
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for key, value in (headers | (more or {})).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)
