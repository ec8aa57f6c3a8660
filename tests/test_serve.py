"""The local server: what it answers over a real loopback port, and whom it refuses."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hyperlm import Classifier, HierarchicalLM
from hyperlm.cli import app
from hyperlm.data import load_data
from hyperlm.errors import ModelError, OptionError, OutputError
from hyperlm.viz.answering import answerer
from hyperlm.viz.explorer import content_policy, page_layouts
from hyperlm.viz.rundata import collect_model, collect_run
from hyperlm.viz.serve import MOST_BYTES, PageServer

PAGE = "<!doctype html><title>the page: ä</title>"
JSON = {"Content-Type": "application/json"}
TEXT = "owl0 bird1 word3 animal0"


@pytest.fixture(scope="module")
def model(tiny_backbone: Path, demo_like: Path) -> Classifier:
    bundle = load_data(demo_like)
    return Classifier(
        HierarchicalLM.from_backbone(
            str(tiny_backbone), bundle.taxonomy, head={"dim": 4}, level_names=bundle.level_names
        )
    )


@pytest.fixture(scope="module")
def run(model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    model.model.save_pretrained(folder)
    return folder


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


@pytest.fixture(scope="module")
def server(model: Classifier) -> Iterator[PageServer]:
    layouts = page_layouts(collect_model(model, "nowhere", limit=0))
    with serving(answerer(model, layouts)) as made:
        yield made


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


def predict(server: PageServer, text: Any) -> tuple[int, Any]:
    status, _, body = ask(server, body=json.dumps({"text": text}), headers=JSON)
    return status, json.loads(body)


def raw(server: PageServer, request: bytes) -> bytes:
    """What comes back for these very bytes."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


# --- the page -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/?a=b", "/?"])
def test_the_page_is_at_the_root(server, path):
    status, headers, body = ask(server, "GET", path)
    assert (status, body.decode()) == (200, PAGE)
    assert headers["Content-Type"] == "text/html; charset=utf-8"


def test_head_tells_the_size_and_sends_nothing(server):
    status, headers, body = ask(server, "HEAD", "/")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) == len(PAGE.encode())


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/none"), ("POST", "/predict"), ("PUT", "/")]
)
def test_every_answer_is_locked_down(server, method, path):
    _, headers, _ = ask(server, method, path)
    wanted = {
        "Content-Security-Policy": f"{content_policy(served=True)}; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Server": "hyperlm",
    }
    assert wanted.items() <= headers.items()
    assert not any(name.startswith("Access-Control") for name in headers)


# --- answers --------------------------------------------------------------------------------------


def test_an_answer_is_that_of_the_model(server, model):
    status, answer = predict(server, TEXT)
    assert status == 200
    said = model.predict([TEXT], top_k=5)[0]
    assert tuple(answer["path"]) == said.path
    assert answer["probabilities"] == pytest.approx(said.probabilities, abs=1e-6)
    assert [tuple(other["path"]) for other in answer["top"]] == [other.path for other in said.top]
    taxonomy = model.taxonomy
    assert [taxonomy.name(node) for node in answer["nodes"]] == answer["path"]
    assert all(taxonomy.path(o["node"]) == tuple(o["path"]) for o in answer["top"])
    assert (answer["text"], answer["empty"]) == (TEXT, False)


def test_a_text_lands_where_the_page_draws_it(server, model, run, demo_like):
    shown = collect_run(run, data=demo_like, split="val")
    for row in (0, 9):
        _, answer = predict(server, shown.texts.texts[row])
        plans = page_layouts(shown)
        assert answer["positions"].keys() == {plan.name for plan in plans}
        for plan in plans:
            assert plan.texts is not None
            np.testing.assert_allclose(answer["positions"][plan.name], plan.texts[row], atol=1e-5)


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_an_empty_text_is_answered_and_flagged(server, text):
    status, answer = predict(server, text)
    assert (status, answer["empty"]) == (200, True)
    assert answer["path"]


@pytest.mark.parametrize(
    "text", ["</script><img src=x>", "שלום 👩\u200d👧 \u2028", "\0", "x" * 60_000]
)
def test_any_text_comes_back_as_it_was(server, text):
    assert predict(server, text)[1]["text"] == text


def test_many_at_once_all_get_their_own_answer(server, model):
    texts = [f"{TEXT} word{i}" for i in range(12)]
    got: dict[str, Any] = {}
    threads = [
        threading.Thread(target=lambda t=text: got.update({t: predict(server, t)[1]}))
        for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for text, said in zip(texts, model.predict(texts), strict=True):
        assert got[text]["text"] == text
        assert got[text]["probabilities"] == pytest.approx(said.probabilities, abs=1e-4)


def test_the_model_works_on_one_text_at_a_time():
    working, most, lock = 0, 0, threading.Lock()

    def answer(text: str) -> dict[str, str]:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        threading.Event().wait(0.02)
        with lock:
            working -= 1
        return {"text": text}

    with serving(answer) as server:
        threads = [threading.Thread(target=predict, args=(server, "x")) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == 1


@pytest.mark.parametrize("error", [ModelError("NaN in the weights"), ZeroDivisionError("oh")])
def test_a_failing_model_does_not_end_the_server(error, capsys):
    def answer(text: str) -> dict[str, str]:
        if text == "bad":
            raise error
        return {"text": text}

    with serving(answer) as server:
        status, said = predict(server, "bad")
        assert (status, said) == (500, {"error": f"the model failed: {error}"})
        assert predict(server, "good") == (200, {"text": "good"})
    # What nobody expected leaves a trace for the one who runs the server.
    assert ("ZeroDivisionError" in capsys.readouterr().err) == (error.args == ("oh",))


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
def test_there_is_nothing_else(server, method, path, status):
    got, headers, body = ask(server, method, path)
    assert got == status
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert json.loads(body)["error"]
    assert ("Allow" in headers) == (status == 405)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'"text"', b"null", b"{}", b'{"text": 5}', b'{"text": null}',
        b'{"text": "\xff"}', b'{"text": "\\ud800"}', b"\xef\xbb\xbf{}", b"[" * 20_000,
    ],
)  # fmt: skip
def test_a_body_that_is_no_text_in_json_is_a_bad_request(server, body):
    status, _, answer = ask(server, body=body, headers=JSON)
    assert (status, "JSON" in json.loads(answer)["error"]) == (400, True)


@pytest.mark.parametrize("size", [MOST_BYTES + 1, 500_000])
def test_a_long_request_is_refused(server, size):
    status, _, answer = ask(server, body=b"x" * size, headers=JSON)
    assert (status, str(size) in json.loads(answer)["error"]) == (413, True)


def test_the_longest_request_is_answered(server):
    body = json.dumps({"text": "x" * (MOST_BYTES - 12)})
    assert len(body) == MOST_BYTES
    assert ask(server, body=body, headers=JSON)[0] == 200


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_other_kinds_of_body_are_refused(server, kind):
    # A form of another site can send these without being asked; JSON it cannot.
    headers = {} if kind is None else {"Content-Type": kind}
    assert ask(server, body='{"text": "x"}', headers=headers)[0] == 415


def test_a_charset_may_be_named(server):
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert ask(server, body='{"text": "x"}', headers=headers)[0] == 200


@pytest.mark.parametrize("length", ["-1", "1e3", "12, 12", "0x10", "", "9" * 30])
def test_odd_lengths_are_refused(server, length):
    start = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{start}Content-Length: {length}\r\n\r\n"
    assert raw(server, request.encode()).startswith(b"HTTP/1.1 400")


def test_lengths_must_be_told_and_true(server):
    start = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert raw(server, start + b"\r\n").startswith(b"HTTP/1.1 411")
    chunked = b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert raw(server, start + chunked).startswith(b"HTTP/1.1 411")
    short = raw(server, start + b'Content-Length: 50\r\n\r\n{"text": "x"}')
    assert short.startswith(b"HTTP/1.1 400")
    assert b"shorter" in short


def test_one_connection_carries_one_request(server):
    # Bytes behind a request are never taken for another.
    request = b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(server, request * 2).count(b"HTTP/1.1 404") == 1


@pytest.mark.parametrize(
    "line", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x00"]
)
def test_noise_does_not_end_the_server(server, line):
    assert b"Traceback" not in raw(server, line)
    assert ask(server, "GET", "/")[0] == 200


# --- who may ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:9", "[::1]:8765", "127.1.2.3"]
)
def test_names_of_this_machine_are_answered(server, host):
    # The port may be another: the far end of a tunnel has its own.
    assert ask(server, "GET", "/", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.7",
        "0.0.0.0", "localhost:x", "a@localhost", "localhost/..", "[::1", "", "::1",
        "127.0.0.1:8765:1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/predict"])
def test_a_name_that_points_here_from_elsewhere_is_refused(server, host, path):
    method = "GET" if path == "/" else "POST"
    assert ask(server, method, path, headers={"Host": host})[0] == 403


def test_there_is_exactly_one_host(server):
    for hosts in (b"", b"Host: localhost\r\nHost: localhost\r\n"):
        assert raw(server, b"GET / HTTP/1.1\r\n" + hosts + b"\r\n").startswith(b"HTTP/1.1 400")


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
def test_pages_of_other_sites_are_refused(server, origin, status):
    headers = JSON | {"Origin": origin.format(port=server.server_port)}
    assert ask(server, body='{"text": "x"}', headers=headers)[0] == status


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


# --- the port and the command ---------------------------------------------------------------------


def test_a_taken_port_is_explained(server):
    with pytest.raises(OutputError, match=f"port {server.server_port} .* is taken.*--port"):
        PageServer("127.0.0.1", server.server_port)


def test_an_address_that_is_not_ours_is_explained():
    with pytest.raises(OutputError, match="cannot listen on 192.0.2.1"):
        PageServer("192.0.2.1", 0, allow_remote=True)
    with pytest.raises(OutputError, match="cannot listen on .*--host"):
        PageServer("no.such.host.invalid", 0, allow_remote=True)


def test_the_port_is_free_again_afterwards():
    with serving(lambda text: {}) as server:
        port = server.server_port
    PageServer("127.0.0.1", port).server_close()


def command(*words: object) -> Any:
    return CliRunner().invoke(app, ["serve", *map(str, words)])


def test_the_command_serves_until_it_is_interrupted(run, demo_like, monkeypatch, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    seen: list[Any] = []

    def serve_forever(self: PageServer) -> None:
        thread = threading.Thread(target=original, args=(self, 0.05))
        thread.start()
        seen.append(ask(self, "GET", "/"))
        seen.append(predict(self, TEXT))
        self.shutdown()
        thread.join()
        raise KeyboardInterrupt

    original = PageServer.serve_forever
    monkeypatch.setattr(PageServer, "serve_forever", serve_forever)
    monkeypatch.chdir(tmp_path)
    done = command(run, "--data", demo_like, "--split", "test", "--port", 0)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (0, "Stopped.")
    assert done.stdout.startswith("http://127.0.0.1:")
    (status, _, page), (answered, _) = seen
    assert (status, answered) == (200, 200)
    assert b'"served":true' in page
    # Nothing was written, neither into the run nor here.
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert list(tmp_path.iterdir()) == []


def test_the_command_explains_what_it_cannot_serve(server, run, tmp_path):
    (tmp_path / "labels.json").write_text("{}")
    cases = [
        ((tmp_path / "labels.json",), "needs a model"),
        ((tmp_path / "none", "--port", 0), "no such folder"),
        ((run, "--host", "0.0.0.0"), "--allow-remote"),
        ((run, "--port", server.server_port), "is taken"),
        ((run, "--port", 0, "--data", tmp_path / "gone.csv"), "gone.csv"),
    ]
    for words, message in cases:
        done = command(*words)
        assert (done.exit_code, message in done.stderr) == (1, True), done.stderr
        assert "Traceback" not in done.stderr
