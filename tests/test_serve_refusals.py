"""What the local server refuses, and whom."""

import json
import socket

import pytest
from serve_requests import JSON, ask, serving

from hyperlm.errors import OptionError, OutputError
from hyperlm.viz.serve import MOST_BYTES, PageServer

pytest_plugins = ["serve_fixtures"]


def raw(page_server: PageServer, request: bytes) -> bytes:
    """What comes back for these very bytes."""
    with socket.create_connection(("127.0.0.1", page_server.server_port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/none", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/../../etc/passwd", 404),
        ("POST", "/none", 404),
        ("GET", "/predict", 405),
        ("POST", "/", 405),
        ("PUT", "/predict", 405),
        ("DELETE", "/", 405),
        ("OPTIONS", "/predict", 405),
        ("BREW", "/", 501),
    ],
)
def test_there_is_nothing_else(page_server, method, path, status):
    got, headers, body = ask(page_server, method, path)
    assert got == status
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert json.loads(body)["error"]
    assert ("Allow" in headers) == (status == 405)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        *(
            (body, "JSON")
            for body in (b"", b"{", b'{"text": "\xff"}', b"\xef\xbb\xbf{}", b"[" * 20_000)
        ),
        *(
            (body, "a string and nothing else")
            for body in (
                b"[]", b'"text"', b"null", b"{}", b'{"text": 5}', b'{"text": null}',
                b'{"text": "a", "top_k": 2}',
            )
        ),
        (b'{"text": "\\ud800"}', "surrogate"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_text_in_json_is_a_bad_request(page_server, body, said):
    status, _, answer = ask(page_server, body=body, headers=JSON)
    assert status == 400
    assert said in json.loads(answer)["error"]


@pytest.mark.parametrize("size", [MOST_BYTES + 1, 500_000])
def test_a_long_request_is_refused(page_server, size):
    status, _, answer = ask(page_server, body=b"x" * size, headers=JSON)
    assert (status, str(size) in json.loads(answer)["error"]) == (413, True)


def test_the_longest_request_is_answered(page_server):
    body = json.dumps({"text": "x" * (MOST_BYTES - 12)})
    assert len(body) == MOST_BYTES
    assert ask(page_server, body=body, headers=JSON)[0] == 200


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_other_kinds_of_body_are_refused(page_server, kind):
    # A form of another site can send these without being asked; JSON it cannot.
    headers = {} if kind is None else {"Content-Type": kind}
    assert ask(page_server, body='{"text": "x"}', headers=headers)[0] == 415


def test_a_charset_may_be_named(page_server):
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert ask(page_server, body='{"text": "x"}', headers=headers)[0] == 200


@pytest.mark.parametrize("length", ["-1", "1e3", "12, 12", "0x10", "", "9" * 30])
def test_odd_lengths_are_refused(page_server, length):
    start = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{start}Content-Length: {length}\r\n\r\n"
    assert raw(page_server, request.encode()).startswith(b"HTTP/1.1 400")


def test_lengths_must_be_told_and_true(page_server):
    start = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert raw(page_server, start + b"\r\n").startswith(b"HTTP/1.1 411")
    chunked = b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert raw(page_server, start + chunked).startswith(b"HTTP/1.1 411")
    short = raw(page_server, start + b'Content-Length: 50\r\n\r\n{"text": "x"}')
    assert short.startswith(b"HTTP/1.1 400")
    assert b"shorter" in short


def test_one_connection_carries_one_request(page_server):
    # Bytes behind a request are never taken for another.
    request = b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(page_server, request * 2).count(b"HTTP/1.1 404") == 1


@pytest.mark.parametrize(
    "line", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x00"]
)
def test_noise_does_not_end_the_server(page_server, line):
    assert b"Traceback" not in raw(page_server, line)
    assert ask(page_server, "GET", "/")[0] == 200


# --- who may ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:9", "[::1]:8765", "127.1.2.3"]
)
def test_names_of_this_machine_are_answered(page_server, host):
    # The port may be another: the far end of a tunnel has its own.
    assert ask(page_server, "GET", "/", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.7",
        "0.0.0.0", "localhost:x", "a@localhost", "localhost/..", "[::1", "", "::1",
        "127.0.0.1:8765:1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/predict"])
def test_a_name_that_points_here_from_elsewhere_is_refused(page_server, host, path):
    method = "GET" if path == "/" else "POST"
    assert ask(page_server, method, path, headers={"Host": host})[0] == 403


def test_there_is_exactly_one_host(page_server):
    for hosts in (b"", b"Host: localhost\r\nHost: localhost\r\n"):
        assert raw(page_server, b"GET / HTTP/1.1\r\n" + hosts + b"\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:{port}", 200),
        ("http://localhost:{port}", 403),  # not the name the page was asked under
        ("http://127.0.0.1:1", 403),
        ("http://127.0.0.1", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
    ],
)
def test_pages_of_other_sites_are_refused(page_server, origin, status):
    headers = JSON | {"Origin": origin.format(port=page_server.server_port)}
    assert ask(page_server, body='{"text": "x"}', headers=headers)[0] == status


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "example.org", "::", ""])
def test_other_machines_are_kept_out_unless_asked_in(host):
    with pytest.raises(OptionError, match="--allow-remote"):
        PageServer(host, 0)


def test_asked_in_addresses_are_answered_and_foreign_names_are_not():
    with serving(lambda text: {"text": text}, host="0.0.0.0", allow_remote=True) as server:
        for host in ("192.168.1.7:8765", "[2001:db8::1]", "localhost", socket.gethostname()):
            assert ask(server, "GET", "/", headers={"Host": host})[0] == 200
        assert ask(server, "GET", "/", headers={"Host": "evil.example"})[0] == 403
        assert server.url == f"http://127.0.0.1:{server.server_port}/"


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_loopback_works():
    try:
        server = PageServer("::1", 0)
    except OutputError:
        pytest.skip("this machine has no IPv6 loopback address")
    server.server_close()
    assert server.url == f"http://[::1]:{server.server_port}/"
