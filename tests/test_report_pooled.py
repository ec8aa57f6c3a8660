"""What the report says of all data sets together is what their records say."""

from dataclasses import replace

import numpy as np
import pytest
from experiment_data import record

from hyperlm.experiments import compare_geometries, report_summary
from hyperlm.experiments.measure import bits
from hyperlm.experiments.quantities import known
from hyperlm.experiments.report_pooled import pooled
from hyperlm.experiments.results import ResultsFile


def runs(name, arm, gain, *, seeds=4, dim=8, texts=40):
    """Records that have ``gain`` of the texts right beyond the first half, more or less."""
    random = np.random.default_rng([seeds, texts, len(name)])
    for seed in range(seeds):
        found = record(seed, arm, dim)
        test = found.figures["test"]
        right = np.arange(texts) < texts * (0.5 + gain) + random.integers(-1, 2)
        answers = test["answers"] | {"right": [*test["answers"]["right"][:-1], bits(right)]}
        test = test | {"n": texts, "answers": answers, "path_accuracy": float(right.mean())}
        figures = found.figures | {"test": test}
        yield replace(found, data=found.data | {"name": name}, figures=figures)


def arms(*records):
    found = {}
    for one in records:
        found.setdefault((one.labels["arm"], one.head.dim), []).append(one)
    return found


def sets(*names, gain=0.2, **say):
    return {
        name: arms(*runs(name, "poincare", gain, **say), *runs(name, "linear", 0.0, **say))
        for name in names
    }


def row(parts, cell):
    lines = [[c.strip() for c in line.strip("|").split("|")] for line in parts[1].splitlines()]
    header = lines[0]
    return dict(zip(header, next(line for line in lines if line[0] == cell), strict=True))


def test_every_set_counts_alike_whatever_its_size(tmp_path):
    small, large = sets("small", gain=0.3), sets("large", gain=0.1)
    large["large"] = arms(
        *(one for records in large["large"].values() for one in records),
        *runs("large", "euclidean", 0.0, seeds=2),
    )
    found = row(pooled({"frozen": small | large}, tmp_path), "frozen: poincare less linear")
    assert (found["sets"], found["d"]) == ("2", "8")
    means = []
    for one in (small["small"], large["large"]):
        values = [
            [r.figures["test"]["path_accuracy"] for r in one[arm, 8]]
            for arm in ("poincare", "linear")
        ]
        means.append(100 * (np.mean(values[0]) - np.mean(values[1])))
    assert found["path"].startswith(f"**+{np.mean(means):.1f}** ± ")


def test_a_difference_too_small_for_one_set_shows_on_several(tmp_path):
    names = ("one", "two", "three", "four")
    together = sets(*names, gain=0.1)
    kind = next(one for one in known(together["one"]["linear", 8]) if one.name == "path")
    for of_set in together.values():
        [(_, _, words)] = compare_geometries.question(of_set, kind, "poincare", "linear")
        assert not words.endswith("better")
    assert row(pooled({"x": together}, tmp_path), "x: poincare less linear")["path"].startswith(
        "**+"
    )


def test_pairs_without_two_sets_of_three_seeds_have_no_row(tmp_path):
    assert pooled({"frozen": sets("one")}, tmp_path) == []
    assert pooled({"frozen": sets("one", "two", seeds=2)}, tmp_path) == []
    # Longer texts of a set are the same set: the one with more runs stands for it.
    assert pooled({"frozen": sets("one") | sets("one, 256 tokens", seeds=5)}, tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_figures_that_not_all_sets_have_say_how_many(tmp_path):
    several = sets("one", "two", "three")
    for records in several["three"].values():
        for at, one in enumerate(records):
            test = {k: v for k, v in one.figures["test"].items() if k != "few"}
            records[at] = replace(one, figures=one.figures | {"test": test})
    found = row(pooled({"x": several}, tmp_path), "x: poincare less linear")
    assert found["few"].endswith(" (2)")
    assert found["sets"] == "3"
    assert not found["hF1"].endswith(")")


def test_it_stands_at_the_beginning_of_the_report(tmp_path):
    results = ResultsFile(tmp_path / "r.jsonl")
    for of_set in sets("one", "two").values():
        results.append([one for records in of_set.values() for one in records])
    text = "\n\n".join(report_summary.section(results, tmp_path))
    assert "| frozen, random start: poincare less linear | 2 | 8 |" in text
    assert "backbone trained: " not in text
    assert text.count("All sets together") == 1
    assert "](images/together.png)" in text
    assert (tmp_path / "together.png").stat().st_size


@pytest.mark.parametrize("swap", [False, True])
def test_a_verdict_is_bold_for_either_sign(swap, tmp_path):
    first, second = (0.0, 0.3) if swap else (0.3, 0.0)
    both = {
        name: arms(*runs(name, "poincare", first), *runs(name, "linear", second))
        for name in ("one", "two")
    }
    cell = row(pooled({"x": both}, tmp_path), "x: poincare less linear")["path"]
    assert cell.startswith("**−" if swap else "**+")
