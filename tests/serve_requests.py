"""A served page, and requests to it."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from hyperlm.viz.serve import PageServer

PAGE = "<!doctype html><title>the page: ä</title>"
JSON = {"Content-Type": "application/json"}


@contextmanager
def serving(answer: Callable[[str], Any], **options: Any) -> Iterator[PageServer]:
    host = options.pop("host", "127.0.0.1")
    server = PageServer(host, 0, **options)
    thread = threading.Thread(target=server.serve, args=(PAGE, answer))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()


def ask(
    server: PageServer,
    method: str = "POST",
    path: str = "/predict",
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    with closing(connection):
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
