"""Runs on other data are told apart in a report, and never averaged together."""

from dataclasses import replace

from experiment_data import record

from hyperlm.experiments import report
from hyperlm.experiments.compare_geometries import NAME, arms_of
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.sources import arguments, plain, told_apart

PLAIN = {"name": "wos", "backbone": "minilm", "max_length": 128, "taxonomy": "t", "files": {"a": 1}}


def results_of(tmp_path, *changes, experiment=NAME):
    """A results file with two runs for each change of the data, which answer ever better."""
    results = ResultsFile(tmp_path / "results.jsonl")
    for number, change in enumerate(changes):
        for seed in range(2):
            made = record(seed, path=0.1 * (number + 1), experiment=experiment)
            results.append([replace(made, data=PLAIN | change)])
    return results


def names(results):
    return list(dict.fromkeys(r.data["name"] for r in results.records))


def test_backbone_and_length_are_in_the_name_and_in_the_command(tmp_path):
    results = results_of(
        tmp_path,
        {},
        {"max_length": 256},
        {"backbone": "models/big", "max_length": 64},
        {"backbone": "other/big", "max_length": 64},
        {"backbone": "models/small"},
    )
    apart = told_apart(results)
    assert names(apart) == [
        "wos",
        "wos, 256 tokens",
        "wos, models/big, 64 tokens",
        "wos, other/big, 64 tokens",
        "wos, small",
    ]
    for number, name in enumerate(names(apart)):
        (found,) = arms_of(apart, name).values()
        assert [r.figures["test"]["path_accuracy"] for r in found] == [0.1 * (number + 1)] * 2
    told = [arguments(apart.of(experiment=NAME), name) for name in names(apart)]
    assert told == [
        "--data wos",
        "--data wos --max-length 256",
        "--data wos --backbone models/big --max-length 64",
        "--data wos --backbone other/big --max-length 64",
        "--data wos --backbone models/small",
    ]
    # What is on disk and in the caller's hand keeps its name.
    assert names(results) == ["wos"] == names(ResultsFile(results.path))


def test_precision_is_told_where_runs_differ_in_it(tmp_path):
    one = results_of(tmp_path, {"precision": "bf16"})
    assert names(told_apart(one)) == ["wos"]
    # A tree that no backbone has read has none.
    one.append([replace(one.records[0], data={"name": "wos", "files": {"a": 1}})])
    assert not any("precision" in name for name in names(told_apart(one)))
    (tmp_path / "two").mkdir()
    two = results_of(tmp_path / "two", {"precision": "bf16"}, {"precision": "fp32"}, {})
    apart = told_apart(two)
    assert names(apart) == ["wos, bf16", "wos, fp32", "wos, precision not kept"]
    assert {plain(record.data) for record in apart.records} == {"wos"}
    told = [arguments(apart.records, name) for name in names(apart)]
    assert told == ["--data wos --precision bf16", "--data wos --precision fp32", "--data wos"]
    for number, name in enumerate(names(apart)):
        (found,) = arms_of(apart, name).values()
        assert [r.figures["test"]["path_accuracy"] for r in found] == [0.1 * (number + 1)] * 2


def test_files_that_changed_are_other_data(tmp_path):
    results = results_of(tmp_path, {}, {"files": {"a": 2}}, {"taxonomy": "u"}, {"name": "hwv"})
    found = names(told_apart(results))
    assert found[-1] == "hwv"
    assert len(set(found)) == 4
    assert all(name.startswith("wos, files ") for name in found[:-1])
    # A name is that of the content, whatever else is in the file.
    less = ResultsFile(tmp_path / "less.jsonl")
    less.append(results.records[2:6])
    assert names(told_apart(less)) == found[1:3]
    assert arguments(told_apart(less).records, found[1]) == "--data wos"


def test_what_says_its_backbone_itself_has_it_once(tmp_path):
    change = {"backbone": "smollm2", "max_length": 64}
    results = results_of(tmp_path, change, experiment="answers")
    assert names(told_apart(results)) == ["wos"]


def test_the_report_has_a_section_for_each(tmp_path):
    results = results_of(tmp_path, {}, {"max_length": 256})
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "### wos\n" in text
    assert "### wos, 256 tokens\n" in text
    assert "`hyperlm experiment compare-geometries --data wos --max-length 256`" in text
    assert "| poincare | 10.0 ± 0.0 |" in text
    assert "| poincare | 20.0 ± 0.0 |" in text
