"""Parts of an experiment in processes: all of it once, news that arrive, ends that are clean."""

import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import worked_parts
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.errors import DataError, DataWarning, HyperlmError, OptionError
from hyperlm.experiments import (
    ablate,
    calibration,
    compare_geometries,
    few_shot,
    starts,
    trees,
    workers,
)
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.workers import Part, cores, run_parts


def part(number, source="0", **settings):
    reading = {"offset": 10}
    return Part("worked_parts", source, reading, {"number": number, **settings}, f"part {number}")


def sums(path):
    return sorted(record.figures["sum"] for record in ResultsFile(path).records)


def test_all_parts_run_side_by_side_and_warnings_are_said(tmp_path, capsys, monkeypatch):
    path = tmp_path / "r.jsonl"
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    parts = [
        part(1, meet=(one, two)),  # ends only if the next has begun
        part(2, meet=(two, one), then="warn"),
        part(3, source="5"),
        part(4),
    ]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MALLOC_TOP_PAD_")}
    handler = signal.getsignal(signal.SIGINT)
    with pytest.warns(DataWarning) as said:
        run_parts(parts, path, jobs=2, progress=True)
    # What reading says has been said by whoever read it first.
    assert [str(warning.message) for warning in said] == ["2 looks odd"]
    assert "4 of 4 parts" in capsys.readouterr().err
    assert sums(path) == [11, 12, 14, 18]
    made = ResultsFile(path).records
    assert path.read_text().count("\n") == len(made)  # none twice
    assert len({record.context["pid"] for record in made}) == 2
    assert os.getpid() not in {record.context["pid"] for record in made}
    assert {record.labels["omp"] for record in made} == {str(max(1, cores() // 2))}
    assert {name: os.environ.get(name) for name in before} == before
    assert signal.getsignal(signal.SIGINT) == handler


@pytest.mark.parametrize(
    ("then", "error", "match"),
    [
        ("refuse", DataError, "line 7: no number"),
        ("die", HyperlmError, r"part 2: its process was ended by SIGKILL, .* memory"),
    ],
)
def test_what_ends_a_part_ends_all_and_keeps_what_was_made(tmp_path, then, error, match):
    path = tmp_path / "r.jsonl"
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    parts = [part(1, meet=(one, two), then="stay"), part(2, meet=(two, one), then=then), part(3)]
    start = time.monotonic()
    with pytest.raises(error, match=match) as caught:
        run_parts(parts, path, jobs=2)
    assert time.monotonic() - start < worked_parts.STAY  # nobody waited for the one that stayed
    if then != "die":
        assert "worked_parts.py" in caught.value.__notes__[0]  # where it happened, for --debug
    assert {11, 12} >= set(sums(path)) >= {12}


def test_errors_go_through_a_pipe():
    try:
        raise ZeroDivisionError("by nothing", lambda: None)  # which no pipe can carry
    except ZeroDivisionError as error:
        found = pickle.loads(pickle.dumps(workers._sendable(error)))
    assert isinstance(found, RuntimeError)
    assert "ZeroDivisionError: " in str(found)
    assert "by nothing" in str(found)
    assert "test_experiments_workers.py" in found.__notes__[0]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_worker_ends_with_the_one_that_started_it(tmp_path, how):
    path = tmp_path / "r.jsonl"
    code = (
        "import signal\n"
        "from hyperlm.experiments.workers import Part, run_parts\n"
        "from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        # Shells start what runs in the background deaf to it.
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    part = Part('worked_parts', '0', {}, {'number': 1, 'then': 'stay'}, '')\n"
        f"    run_parts([part], Path({str(path)!r}), jobs=1)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, script], env=surroundings, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        deadline = time.monotonic() + worked_parts.WAIT
        while not (path.exists() and len(ResultsFile(path)) == 1):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        worker = ResultsFile(path).records[0].context["pid"]
        assert worker != process.pid
        deadline = time.monotonic() + worked_parts.WAIT
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does
        else:
            process.kill()
        _, errors = process.communicate(timeout=worked_parts.WAIT)
        while not _ended(worker):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if how == signal.SIGINT:
        assert errors.decode().count("KeyboardInterrupt") == 1  # of the first process alone
    assert len(ResultsFile(path)) == 1


def _ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


# -- the parts of each experiment -----------------------------------------------------------------

Asked = list[tuple]


@pytest.fixture
def asked(monkeypatch) -> Asked:
    """What an experiment asks for, instead of training."""
    found: Asked = []

    def tuned(arm, data, results, *, seeds, labels, tune_as=None, **more):
        found.append((str(arm), tuple(seeds), json.dumps(labels, sort_keys=True), bool(tune_as)))

    def run_all(runs, data, results, *, labels, **more):
        found.extend((str(run), json.dumps(labels, sort_keys=True)) for run in runs)

    for module in (calibration, compare_geometries, starts):
        monkeypatch.setattr(module, "tuned", tuned)
    monkeypatch.setattr(ablate, "run_all", run_all)
    monkeypatch.setattr(trees, "_tune", lambda arm, told, seed, *_: found.append((arm, told, seed)))
    monkeypatch.setattr(few_shot, "Bench", lambda *_, **__: type("Bench", (), {"trained": {}}))

    def few(name, shots, chosen, bench, results, tune, seeds):
        base = few_shot.ARMS[name].base
        assert base is None or base in chosen
        found.append((name, shots, tuple(tune), tuple(seeds)))
        return {}

    monkeypatch.setattr(few_shot, "_arm", few)
    return found


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (compare_geometries, {"seeds": 2}),
        (compare_geometries, {"dims": [4, 64], "arms": ["lorentz", "linear"], "layers": "6"}),
        (starts, {"seeds": 3, "dims": [8, 16], "arms": ["texts", "random"], "shares": "0.25,1"}),
        (starts, {}),
        (starts, {"arms": ["random"], "shares": "0.3333333,0.3333334"}),
        (calibration, {"dims": [8, 16]}),
        (ablate, {"seeds": 2}),
        (trees, {"seeds": 2, "pairs": "edges", "dims": [2, 3]}),
        (few_shot, {"seeds": 2}),
        (few_shot, {"descriptions": "labels.csv", "shots": "4,1"}),
        (few_shot, {"arms": ["names alone"], "dims": [8]}),
        (few_shot, {"arms": ["linear"], "shots": "2,3"}),
    ],
    ids=lambda value: value.NAME if hasattr(value, "NAME") else "-".join(value),
)
def test_parts_are_the_whole(module, told, asked):
    data = trees.Tree("small", None, {})
    module.run(data, None, **told)
    whole, asked[:] = list(asked), []
    for settings in module.parts(**told).values():
        module.run(data, None, **settings)
    assert whole
    assert sorted(map(str, asked)) == sorted(map(str, whole))


def test_who_takes_what_another_has_tuned_comes_after_it_in_one_part(asked):
    found = compare_geometries.parts(dims=[4, 8])
    assert [part["dims"] for part in found.values()] == [(8,)] * 3 + [(4,)] * 3  # long ones first
    together = [part["arms"] for part in found.values() if "lorentz" in part["arms"]]
    assert together == [["poincare", "lorentz"]] * 2
    assert compare_geometries.parts(trained="model") == {}


def test_wrong_words_are_found_before_anything_starts():
    with pytest.raises(OptionError, match="arm 'x' is unknown"):
        compare_geometries.parts(arms=["x"])
    with pytest.raises(OptionError, match="choose head or model"):
        compare_geometries.parts(trained="all")
    with pytest.raises(OptionError, match="frozen backbones drop nothing"):
        compare_geometries.parts(backbone_dropout="0")
    with pytest.raises(OptionError, match="at one dimension"):
        few_shot.parts(dims=[4, 8])
    with pytest.raises(OptionError, match="run both"):
        few_shot.parts(arms=["poincare + both"])
    with pytest.raises(OptionError, match="descriptions=FILE"):
        few_shot.parts(arms=["poincare, described"])
    with pytest.raises(OptionError, match="shots=1,4,16"):
        few_shot.parts(shots="some")


# -- the command ----------------------------------------------------------------------------------


def test_the_command_makes_the_same_runs_in_processes_as_in_one(
    tiny_backbone, demo_like, tmp_path, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = {}
    for jobs in ("1", "2"):
        path = tmp_path / f"{jobs}.jsonl"
        words = ["calibration", "--data", demo_like, "--backbone", tiny_backbone, "--dims", "2,3"]
        words += ["--arm", "linear", "--seeds", "1", "--jobs", jobs, "-o", path, "--json"]
        done = CliRunner().invoke(app, ["experiment", *map(str, words)])
        assert done.exit_code == 0, done.output
        made = ResultsFile(path).records
        assert json.loads(done.stdout)["new"] == len(made) == path.read_text().count("\n")
        found[jobs] = {(str(r.run), r.labels["stage"]): r for r in made}
    assert set(found["1"]) == set(found["2"])
    for at, record in found["1"].items():
        other = found["2"][at]
        assert other.figures["val"]["answers"] == record.figures["val"]["answers"]
        assert f" {max(1, cores() // 2)} thread" in other.context["machine"]
    # What is complete needs nothing any more.
    monkeypatch.setattr(FrozenData, "splits", lambda *_: pytest.fail("features were asked for"))
    monkeypatch.setattr(workers, "run_parts", lambda *_, **__: pytest.fail("a process was started"))
    words[words.index("--jobs") :] = ["-o", path, "--json"]
    done = CliRunner().invoke(app, ["experiment", *map(str, words)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["new"] == 0


@pytest.mark.parametrize(
    "words",
    [["peers"], ["layer-sweep"], ["compare-geometries", "--set", "trained=model"], ["report"]],
    ids=" ".join,
)
def test_what_needs_all_cores_says_so(words, tmp_path):
    told = ["--data", "demo", "--jobs", "2", "-o", str(tmp_path / "r.jsonl")]
    done = CliRunner().invoke(app, ["experiment", *words, *told])
    assert done.exit_code == 1
    assert "--jobs" in done.stderr
    assert not list(itertools.chain(tmp_path.iterdir()))


@pytest.mark.parametrize(
    ("told", "at_most"), [("max 100000\n", 8), ("150000 100000\n", 1), ("300000 100000\n", 3),
                         ("50000 100000\n", 1), ("900000 100000\n", 8), (None, 8), ("odd", 8)],
)  # fmt: skip
def test_a_container_has_the_cores_whose_time_it_is_given(told, at_most, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(workers, "_CPU_MAX", tmp_path / "cpu.max")
    if told is not None:
        (tmp_path / "cpu.max").write_text(told)
    assert cores() == at_most
