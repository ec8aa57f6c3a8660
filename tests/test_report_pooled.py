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

ARMS = ("poincare", "linear", "euclidean", "linear, names")
LESS = "x: poincare less linear"


def runs(name, arm, share, *, seeds=4, dim=8, texts=40, noise=1):
    """Records that have this share of the texts right, by ``noise`` texts more or less."""
    random = np.random.default_rng([ARMS.index(arm), seeds, texts, *map(ord, name)])
    for seed in range(seeds):
        found = record(seed, arm, dim)
        test = found.figures["test"]
        right = np.arange(texts) < texts * share + random.integers(-noise, noise + 1)
        answers = test["answers"] | {"right": [*test["answers"]["right"][:-1], bits(right)]}
        if texts != test["n"]:
            answers["consistent"] = bits(right)
            answers["distance"] = (2.0 * ~right).tolist()
            answers["few"] = bits(np.arange(texts) % 3 == 0)
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
        name: arms(*runs(name, "poincare", 0.5 + gain, **say), *runs(name, "linear", 0.5, **say))
        for name in names
    }


def rows(parts):
    """The table by the first cell; each row by its heads."""
    lines = [[c.strip() for c in line.strip("|").split("|")] for line in parts[1].splitlines()]
    return {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}


def seen(path):
    return sorted(one.name for one in path.iterdir())


def test_every_set_counts_alike_whatever_its_size(tmp_path):
    both = sets("small", gain=0.3, seeds=3) | sets("large", gain=0.1, seeds=6, texts=200)
    found = rows(pooled({"x": both}, tmp_path))[LESS]
    assert (found["sets"], found["d"]) == ("small, large", "8")
    means = [
        np.mean([r.figures["test"]["path_accuracy"] for r in of_set["poincare", 8]])
        - np.mean([r.figures["test"]["path_accuracy"] for r in of_set["linear", 8]])
        for of_set in both.values()
    ]
    assert abs(means[0] - means[1]) > 0.1
    assert found["path"].startswith(f"**+{100 * np.mean(means):.1f}** ± ")
    assert not found["path"].endswith("± 0.0")


def test_a_difference_too_small_for_one_set_shows_on_several(tmp_path):
    names = ("one", "two", "three", "four")
    together = sets(*names, gain=0.1)
    kind = next(one for one in known(together["one"]["linear", 8]) if one.name == "path")
    for of_set in together.values():
        [(_, _, words)] = compare_geometries.question(of_set, kind, "poincare", "linear")
        assert not words.endswith("better")
    assert rows(pooled({"x": together}, tmp_path))[LESS]["path"].startswith("**+")


def test_seeds_or_sets_that_disagree_give_no_verdict(tmp_path):
    torn = sets("one", gain=0.2) | sets("two", gain=-0.2)
    assert "**" not in rows(pooled({"x": torn}, tmp_path))[LESS]["path"]
    loose = sets("one", "two", gain=0.05, noise=12)
    assert "**" not in rows(pooled({"x": loose}, tmp_path))[LESS]["path"]


@pytest.mark.parametrize("swap", [False, True])
def test_a_verdict_is_bold_for_either_sign(swap, tmp_path):
    found = rows(pooled({"x": sets("one", "two", gain=-0.3 if swap else 0.3)}, tmp_path))[LESS]
    assert found["path"].startswith("**−" if swap else "**+")


def test_pairs_without_two_sets_of_three_seeds_have_no_row(tmp_path):
    assert pooled({"x": sets("one")}, tmp_path) == []
    assert pooled({"x": sets("one", "two", seeds=2)}, tmp_path) == []
    # Copies, as where a start stays as it is, are one run.
    copied = sets("one", "two", seeds=1)
    for of_set in copied.values():
        for records in of_set.values():
            records += [replace(records[0], run=replace(records[0].run, seed=s)) for s in (1, 2)]
    assert pooled({"x": copied}, tmp_path) == []
    assert seen(tmp_path) == []


def called(of_sets, name):
    """The same sets as ``told_apart`` leaves them: forms of the set of this name."""
    return {
        own: arms(
            *(
                replace(one, data=one.data | {"name": own, "called": name})
                for records in of_set.values()
                for one in records
            )
        )
        for own, of_set in of_sets.items()
    }


def test_forms_of_a_set_are_one_set(tmp_path):
    forms = called(sets("one") | sets("one, 256 tokens", seeds=5), "one")
    assert pooled({"x": forms}, tmp_path) == []
    # The form with the most runs of the pair, however many another has of one arm.
    other = called({"one, dropout 0": arms(*runs("one", "poincare", 0.5, seeds=40))}, "one")
    found = rows(pooled({"x": forms | other | sets("two")}, tmp_path))
    assert found[LESS]["sets"] == "one (256 tokens), two"


def test_a_set_that_is_not_done_keeps_nobody_waiting(tmp_path):
    some = sets("one", "two") | sets("three", seeds=1)
    some["four"] = arms(*runs("four", "poincare", 0.5), *runs("four", "linear", 0.5, dim=2))
    assert rows(pooled({"x": some}, tmp_path))[LESS]["sets"] == "one, two"


def test_linear_heads_that_start_as_points_do_take_the_place_of_others(tmp_path):
    some = sets("one", "two")
    for name, of_set in some.items():
        of_set |= arms(*runs(name, "linear, names", 0.6))
    assert list(rows(pooled({"x": some}, tmp_path))) == ["x: poincare less linear, names"]
    # Begun on one set alone: there is nothing to say yet, and nothing to draw.
    assert pooled({"x": sets("one") | {"two": some["two"]}}, tmp_path / "none") == []


def test_figures_that_not_all_sets_have_say_how_many(tmp_path):
    several = sets("one", "two", "three")
    for records in several["three"].values():
        for at, one in enumerate(records):
            test = {k: v for k, v in one.figures["test"].items() if k != "few"}
            records[at] = replace(one, figures=one.figures | {"test": test})
    found = rows(pooled({"x": several}, tmp_path))[LESS]
    assert found["few"].endswith(" (2)")
    assert found["sets"] == "one, two, three"
    assert not found["hF1"].endswith(")")


def test_pairs_of_other_dimensions_are_drawn_where_all_have_one(tmp_path):
    apart = sets("one", "two")
    for name, of_set in apart.items():
        of_set |= arms(*runs(name, "euclidean", 0.5, dim=64), *runs(name, "poincare", 0.5, dim=64))
    parts = pooled({"x": apart}, tmp_path)
    assert set(rows(parts)) == {LESS, "x: poincare less euclidean"}
    assert len(parts) == 2
    assert seen(tmp_path) == []
    for name, of_set in apart.items():
        of_set |= arms(*runs(name, "linear", 0.5, dim=64))
    assert "](images/together-x.png)" in pooled({"x": apart}, tmp_path)[2]
    assert seen(tmp_path) == ["together-x.png"]


def test_it_stands_at_the_beginning_of_the_report(tmp_path):
    results = ResultsFile(tmp_path / "r.jsonl")
    for of_set in sets("one", "two").values():
        results.append([one for records in of_set.values() for one in records])
    text = "\n\n".join(report_summary.section(results, tmp_path))
    assert "| frozen, random start: poincare less linear | one, two | 8 |" in text
    assert "backbone trained: " not in text
    assert text.count("All sets together") == 1
    assert (tmp_path / "together-frozen_random_start.png").stat().st_size
