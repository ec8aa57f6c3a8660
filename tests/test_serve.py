"""The local server over a real loopback port: the page, the answers, the command."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serve_requests import JSON, PAGE, ask, serving
from typer.testing import CliRunner

from hyperlm import Classifier
from hyperlm.cli import app
from hyperlm.errors import ModelError, OutputError
from hyperlm.viz.explorer import content_policy, page_layouts
from hyperlm.viz.serve import PageServer
from hyperlm.viz.sources import collect_run

pytest_plugins = ["serve_fixtures"]

TEXT = "owl0 bird1 word3 animal0"


@pytest.fixture(scope="module")
def run(served_model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    served_model.model.save_pretrained(folder)
    return folder


def predict(page_server: PageServer, text: Any) -> tuple[int, Any]:
    status, _, body = ask(page_server, body=json.dumps({"text": text}), headers=JSON)
    return status, json.loads(body)


# --- the page -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/?a=b", "/?"])
def test_the_page_is_at_the_root(page_server, path):
    status, headers, body = ask(page_server, "GET", path)
    assert (status, body.decode()) == (200, PAGE)
    assert headers["Content-Type"] == "text/html; charset=utf-8"


def test_head_tells_the_size_and_sends_nothing(page_server):
    status, headers, body = ask(page_server, "HEAD", "/")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) == len(PAGE.encode())


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/none"), ("POST", "/predict"), ("PUT", "/")]
)
def test_every_answer_is_locked_down(page_server, method, path):
    _, headers, _ = ask(page_server, method, path)
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


def test_an_answer_is_that_of_the_model(page_server, served_model):
    status, answer = predict(page_server, TEXT)
    assert status == 200
    said = served_model.predict([TEXT], top_k=5)[0]
    assert tuple(answer["path"]) == said.path
    assert answer["probabilities"] == pytest.approx(said.probabilities, abs=1e-6)
    assert [tuple(other["path"]) for other in answer["top"]] == [other.path for other in said.top]
    taxonomy = served_model.taxonomy
    assert [taxonomy.name(node) for node in answer["nodes"]] == answer["path"]
    assert all(taxonomy.path(o["node"]) == tuple(o["path"]) for o in answer["top"])
    assert (answer["text"], answer["empty"]) == (TEXT, False)


def test_a_text_lands_where_the_page_draws_it(page_server, served_model, run, demo_like):
    shown = collect_run(run, data=demo_like, split="val")
    for row in (0, 9):
        _, answer = predict(page_server, shown.texts.texts[row])
        plans = page_layouts(shown)
        assert answer["positions"].keys() == {plan.name for plan in plans}
        for plan in plans:
            assert plan.texts is not None
            np.testing.assert_allclose(answer["positions"][plan.name], plan.texts[row], atol=1e-5)


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_an_empty_text_is_answered_and_flagged(page_server, text):
    status, answer = predict(page_server, text)
    assert (status, answer["empty"]) == (200, True)
    assert answer["path"]


@pytest.mark.parametrize(
    "text", ["</script><img src=x>", "שלום 👩\u200d👧 \u2028", "\0", "x" * 60_000]
)
def test_any_text_comes_back_as_it_was(page_server, text):
    assert predict(page_server, text)[1]["text"] == text


def test_many_at_once_all_get_their_own_answer(page_server, served_model):
    texts = [f"{TEXT} word{i}" for i in range(12)]
    got: dict[str, Any] = {}
    threads = [
        threading.Thread(target=lambda t=text: got.update({t: predict(page_server, t)[1]}))
        for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for text, said in zip(texts, served_model.predict(texts), strict=True):
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


# --- the port and the command ---------------------------------------------------------------------


def test_a_taken_port_is_explained(page_server):
    with pytest.raises(OutputError, match=f"port {page_server.server_port} .* is taken.*--port"):
        PageServer("127.0.0.1", page_server.server_port)


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


def test_the_command_explains_what_it_cannot_serve(page_server, run, tmp_path):
    (tmp_path / "labels.json").write_text("{}")
    cases = [
        ((tmp_path / "labels.json",), "needs a model"),
        ((tmp_path / "none", "--port", 0), "no such folder"),
        ((run, "--host", "0.0.0.0"), "--allow-remote"),
        ((run, "--port", page_server.server_port), "is taken"),
        ((run, "--port", 0, "--data", tmp_path / "gone.csv"), "gone.csv"),
    ]
    for words, message in cases:
        done = command(*words)
        assert (done.exit_code, message in done.stderr) == (1, True), done.stderr
        assert "Traceback" not in done.stderr
