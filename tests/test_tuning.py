"""Learning rates of the arms of an experiment: tuned until nothing beside the best is untried."""

import itertools
import math
from dataclasses import replace

from experiment_data import pictures, record

from hyperlm.experiments import arms, report
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.settings import HeadRun


def surface(peaks, made):
    """In place of training: path accuracy falls with the distance of the rates from a peak."""

    def run_all(runs, data, results, *, labels, **_):
        made.extend((run, labels["arm"], labels["stage"]) for run in runs)
        return [replace(record(run.seed), run=run, figures=worth(run)) for run in runs]

    def worth(run):
        head, node = peaks[run.seed]
        far = math.log10(run.head_lr / head) ** 2 + math.log10(run.node_lr / node) ** 2
        return {"val": {"path_accuracy": -far}}

    return run_all


def test_every_seed_tunes_until_its_best_rates_are_enclosed(monkeypatch):
    """On made-up surfaces each seed finds its own peak, with everything beside it tried."""
    peaks, made = [(3e-5, 1.0), (1e-2, 3e-2), (3e-3, 1e-1)], []
    monkeypatch.setattr(arms, "run_all", surface(peaks, made))
    labels = {"experiment": "e", "arm": "poincare"}
    measured = arms.tuned(arms.GEOMETRIES["poincare"], None, None, seeds=range(3), labels=labels)
    assert [(r.head.head_lr, r.head.node_lr) for r in measured] == peaks
    assert [r.head.seed for r in measured] == [0, 1, 2]
    tuning = [run for run, _, stage in made if stage == "tune"]
    assert len(tuning) == len(set(tuning))  # nothing twice
    tried = [{(r.head_lr, r.node_lr) for r in tuning if r.seed == seed} for seed in range(3)]
    assert tried[0] > set(itertools.product((1e-5, 3e-5, 1e-4), (3e-1, 1.0, 3.0)))
    assert len(tried[0]) < len(arms.LADDER) ** 2 / 3
    assert len(tried[2]) == 9  # the peak in the midst of the grid needs no more
    rows = [replace(record(run.seed), run=run) for run in tuning]
    assert all(arms.enclosed(record.head, rows) for record in measured)
    assert not arms.enclosed(replace(measured[0].head, seed=2), rows)  # seed 2 was never there


def test_another_arm_of_the_same_model_lends_its_choices(monkeypatch):
    peaks, made = [(1e-3, 3e-1), (1e-2, 3e-2)], []
    monkeypatch.setattr(arms, "run_all", surface(peaks, made))
    measured = arms.tuned(
        arms.GEOMETRIES["lorentz"],
        None,
        None,
        seeds=range(2),
        labels={"experiment": "e", "arm": "lorentz"},
        tune_as=("poincare", arms.GEOMETRIES["poincare"]),
    )
    assert [(r.head.geometry, r.head.head_lr, r.head.node_lr) for r in measured] == [
        ("lorentz", *peak) for peak in peaks
    ]
    tuned = {(run.geometry, arm) for run, arm, stage in made if stage == "tune"}
    assert tuned == {("poincare", "poincare")}


def test_nothing_is_beside_an_untrained_head_and_the_ladder_ends():
    run = HeadRun(head_lr=arms.LADDER[0], node_lr=arms.LADDER[-1])
    near = arms.beside(run, ())
    assert {(r.head_lr, r.node_lr) for r in near} == set(
        itertools.product(arms.LADDER[:2], arms.LADDER[-2:])
    )
    assert arms.beside(run, near) == []
    assert arms.beside(replace(run, epochs=0), ()) == []
    assert arms.beside(replace(run, head_lr=0.02), (run,)) == [
        replace(run, head_lr=0.02, node_lr=rate) for rate in arms.LADDER[-2:]
    ]


def test_the_report_tells_how_many_rates_were_enclosed(tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    chosen = {"poincare": (3e-3, 1e-1), "linear": (3e-3, 3e-2), "euclidean": (1e-5, 1e-1)}
    for (arm, (head, node)), seed in itertools.product(chosen.items(), (0, 1)):
        own = node * 10 ** (seed * (arm == "poincare"))  # its seeds differ
        run = replace(record(arm=arm).head, head_lr=head, node_lr=own, seed=seed)
        results.append([replace(record(seed, arm), run=run)])
        tries = [run, *arms.beside(run, (run,))]
        # One pair beside the linear head's is missing; the Euclidean arm ends where rates do.
        for other in tries[: -1 if arm == "linear" else None]:
            path = 0.9 if other == run else 0.5
            results.append([replace(record(seed, arm, path=path, stage="tune"), run=other)])
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "2 of 6 runs have some compared with all beside them" in text
    assert "poincare 4: 0.003, 0.1 (1) or 0.003, 1 (1);" in text
    assert "linear 4: 0.003, 0.03." in text
    assert pictures(tmp_path / "results.md") == {"compare-geometries"}


def test_rates_that_other_seeds_tuned_are_told(tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    results.append([record(0), record(100, stage="tune")])
    report.write_report(results, tmp_path / "results.md")
    assert "rates that other seeds tuned" in (tmp_path / "results.md").read_text(encoding="utf-8")
    results.append([record(0, stage="tune")])
    report.write_report(results, tmp_path / "results.md")
    assert "other seeds tuned" not in (tmp_path / "results.md").read_text(encoding="utf-8")
