"""Learning rates of the arms of an experiment: tuned until nothing beside the best is untried."""

import itertools
import math
from dataclasses import replace

from experiment_data import pictures, record

from hyperlm.experiments import arms, report
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.settings import HeadRun


def test_tuning_goes_on_until_the_best_rates_are_enclosed(monkeypatch):
    """On a made-up surface the peak is found wherever it lies, and everything beside it tried."""
    peak, made = (3e-5, 1.0), []

    def run_all(runs, data, results, *, labels, **_):
        made.extend((run, labels["stage"]) for run in runs)
        far = [math.log10(run.head_lr / peak[0]) ** 2 + math.log10(run.node_lr / peak[1]) ** 2
               for run in runs]  # fmt: skip
        return [
            replace(record(run.seed), run=run, figures={"val": {"path_accuracy": -distance}})
            for run, distance in zip(runs, far, strict=True)
        ]

    monkeypatch.setattr(arms, "run_all", run_all)
    arm = arms.GEOMETRIES["poincare"]
    measured = arms.tuned(arm, None, None, seeds=range(3), labels={"experiment": "e"})
    assert {(r.head.head_lr, r.head.node_lr) for r in measured} == {peak}
    assert [r.head.seed for r in measured] == [0, 1, 2]
    tried = {(run.head_lr, run.node_lr) for run, stage in made if stage == "tune"}
    assert tried > set(itertools.product((1e-5, 3e-5, 1e-4), (3e-1, 1.0, 3.0)))
    assert len(tried) < len(arms.LADDER) ** 2 / 3
    tuning = [run for run, stage in made if stage == "tune"]
    assert len(tuning) == len(set(tuning)) == 2 * len(tried)  # each rate once for each seed


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


def test_the_report_tells_which_rates_were_not_enclosed(tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    chosen = {"poincare": (3e-3, 1e-1), "linear": (3e-3, 3e-2), "euclidean": (1e-5, 1e-1)}
    for arm, (head, node) in chosen.items():
        run = replace(record(arm=arm).head, head_lr=head, node_lr=node)
        results.append([replace(record(seed, arm), run=replace(run, seed=seed)) for seed in (0, 1)])
        tries = [run, *arms.beside(run, (run,))]
        # One pair beside the linear head's is missing; the Euclidean arm ends where rates do.
        for other in tries[: -1 if arm == "linear" else None]:
            path = 0.9 if other == run else 0.5
            tried = replace(record(100, arm, path=path, stage="tune"), run=replace(other, seed=100))
            results.append([tried])
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "1 of 3 arms have rates that were compared with all beside them" in text
    assert "Not compared with all beside them: euclidean 4, linear 4." in text
    assert "poincare 4: 0.003, 0.1;" in text
    assert pictures(tmp_path / "results.md") == {"compare-geometries"}
