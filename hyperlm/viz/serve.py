"""The explorer behind a small server on this machine: type a text and see where it lands.

In: a page and a function that answers a text. Out: HTTP. ``GET /`` is the page, ``POST /predict``
with ``{"text": ...}`` an answer; there is nothing else, and nothing is ever written. A browser
keeps pages of other sites from reading answers, but not a site whose name was made to point at this
machine (DNS rebinding): hence the checks of Host and Origin.
"""

import errno
import ipaddress
import json
import re
import socket
import socketserver
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hyperlm.errors import HyperlmError, OptionError, OutputError
from hyperlm.viz.explorer import content_policy

__all__ = ["MOST_BYTES", "PageServer"]

MOST_BYTES = 64 * 1024  # of a request
_DRAIN = 1024 * 1024  # of a refused request is read, so that the refusal arrives
_PATIENCE = 30.0  # seconds: for a slow client, and in the queue for the model
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/@\s]+)(:\d{1,5})?")

Answer = Callable[[str], Mapping[str, Any]]


class PageServer(ThreadingHTTPServer):
    """A server that holds its port from the start and answers once it has a page.

    Args:
        host: Name or address to listen on.
        port: 0 for any that is free.
        allow_remote: Listen on addresses that other machines reach.
    Raises:
        OptionError: Other machines would reach it, and that was not asked for.
        OutputError: The port is taken, or the address is none of this machine.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, *, allow_remote: bool = False) -> None:
        if not allow_remote and not _is_loopback(host):
            raise OptionError(
                f"--host {host}: other machines could reach it, and whoever does can use the "
                "model. Use 127.0.0.1 (over ssh: -L), or add --allow-remote if that is meant."
            )
        self.host = host
        self.allow_remote = allow_remote
        self.page = b""
        self.answer: Answer | None = None
        self.model_lock = threading.Lock()
        self.policy = f"{content_policy(served=True)}; frame-ancestors 'none'"
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise OutputError(_no_port(host, port, error)) from error

    def server_bind(self) -> None:
        # Without the look-up of this machine's name, which may ask the network.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    @property
    def url(self) -> str:
        """Where the page is."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
        host = everywhere.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"

    def serve(self, page: str, answer: Answer) -> None:
        """Answer requests until :meth:`shutdown` or an interrupt, then give the port back."""
        self.page, self.answer = page.encode(), answer
        try:
            self.serve_forever()
        finally:
            self.server_close()

    def knows(self, host: str) -> bool:
        """Whether ``host``, a Host header, is a name under which this server may be asked."""
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match.group(1).strip("[]").lower()
        if self.allow_remote:
            # An address cannot be made to point elsewhere, a name can.
            return _is_address(name) or name in {
                "localhost", self.host.lower(), socket.gethostname().lower(),
            }  # fmt: skip
        return _is_loopback(name)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are none of our errors."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Refused(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


class _Handler(BaseHTTPRequestHandler):
    """One connection; ``server`` is the :class:`PageServer`."""

    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    server: PageServer

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def _other(self) -> None:
        self._answer(self.command)

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _other

    def _answer(self, method: str) -> None:
        self.close_connection = True  # one request each: nothing unread is taken for the next
        self._unread = True
        try:
            self._check_sender()
            path = self.path.partition("?")[0]
            allowed = {"/": "GET, HEAD", "/predict": "POST"}.get(path)
            if allowed is None:
                raise _Refused(404, "there is nothing here; the page is /")
            if method not in allowed.split(", "):
                raise _Refused(405, f"{path} takes {allowed}", Allow=allowed)
            if path == "/":
                self._reply(200, self.server.page, "text/html; charset=utf-8")
            else:
                self._reply_json(200, self._predict())
        except _Refused as refused:
            self._drain()
            self._reply_json(refused.status, {"error": refused.reason}, refused.headers)

    def _check_sender(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1:
            raise _Refused(400, "one Host header was expected")
        if not self.server.knows(hosts[0]):
            raise _Refused(403, "this server does not answer under that name")
        origin = self.headers.get("Origin")
        if origin is not None and origin.partition("://")[2].lower() != hosts[0].lower():
            raise _Refused(403, "pages of other sites are not answered")

    def _predict(self) -> Mapping[str, Any]:
        text = self._text()
        if not self.server.model_lock.acquire(timeout=_PATIENCE):
            raise _Refused(503, "too many texts are waiting; try again")
        try:
            if self.server.answer is None:
                raise _Refused(503, "the model is still being loaded")
            return self.server.answer(text)
        except Exception as error:
            if not isinstance(error, HyperlmError):
                traceback.print_exc()
            raise _Refused(500, f"the model failed: {error}") from error
        finally:
            self.server.model_lock.release()

    def _text(self) -> str:
        """The text that the request asks about."""
        if self.headers.get_content_type() != "application/json":
            raise _Refused(415, 'Content-Type must be application/json, the body {"text": "..."}')
        length = self.headers.get("Content-Length")
        if length is None or self.headers.get("Transfer-Encoding") is not None:
            raise _Refused(411, "Content-Length is needed, and no Transfer-Encoding")
        if not re.fullmatch(r"[0-9]{1,18}", length):
            raise _Refused(400, "Content-Length must be a number")
        if int(length) > MOST_BYTES:
            raise _Refused(413, f"a request may have {MOST_BYTES:,} bytes, this one has {length}")
        body = self.rfile.read(int(length))
        self._unread = False
        if len(body) < int(length):
            raise _Refused(400, "the body is shorter than Content-Length says")
        try:
            document = json.loads(body.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise _Refused(400, 'the body must be JSON in UTF-8: {"text": "..."}') from error
        text = document.get("text") if isinstance(document, dict) else None
        if not isinstance(text, str) or len(document) > 1:
            raise _Refused(400, 'the body must be {"text": "..."}, a string and nothing else')
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _Refused(400, "the text holds half of a surrogate pair") from error
        return text

    def _drain(self) -> None:
        """Take a little of what was sent: closing on unread data can destroy the answer."""
        length = self.headers.get("Content-Length", "")
        if self._unread and re.fullmatch(r"[0-9]{1,7}", length) and int(length) <= _DRAIN:
            self.rfile.read(int(length))

    def _reply_json(
        self, status: int, document: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        body = json.dumps(document, ensure_ascii=False, allow_nan=False).encode(errors="replace")
        self._reply(status, body, "application/json; charset=utf-8", headers)

    def _reply(
        self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses by itself: malformed requests, unknown methods."""
        self.close_connection = True
        self.requestline, self.command = "", ""  # they may not have been read yet
        self._reply_json(int(code), {"error": self.responses.get(code, ("refused",))[0]})

    def version_string(self) -> str:
        return "hyperlm"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: what people type is theirs."""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own and nobody else's."""
    name = host.lower()
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


def _no_port(host: str, port: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is taken, perhaps by another 'hyperlm serve'. Choose another "
            "--port; 0 takes any that is free."
        )
    if number == errno.EACCES:
        return f"port {port} of {host} is not for ordinary users. Choose a --port from 1024 on."
    reason = getattr(error, "strerror", None) or error
    return f"cannot listen on {host}, port {port} ({reason}). Choose another --host or --port."
