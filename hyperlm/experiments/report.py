"""``docs/results.md`` from a results file: nothing in it is written by hand.

In: the records. Out: Markdown and figures beside it. Sections stand only for what was measured.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from hyperlm.errors import DataError, OutputError
from hyperlm.experiments import (
    report_ablate,
    report_answers,
    report_calibration,
    report_compare,
    report_few_shot,
    report_layers,
    report_peers,
    report_starts,
    report_summary,
    report_trees,
    report_tuned,
    trees,
)
from hyperlm.experiments.markdown import table
from hyperlm.experiments.published import COLUMNS, NOTE, ROWS, SETS
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.sources import plain, told_apart

__all__ = ["write_report"]

_SECTIONS: tuple[Callable[[ResultsFile, Path], list[str]], ...] = (
    report_summary.section,
    report_compare.section,
    report_tuned.section,
    report_starts.section,
    report_ablate.section,
    report_calibration.section,
    report_layers.section,
    report_answers.section,
    report_peers.section,
    report_few_shot.section,
    report_trees.section,
)
_TITLE = "# Results"
_COMMAND = "hyperlm experiment report"
_HOW = """Unless a section says otherwise, heads are trained on frozen features of the backbone,
computed once; a run trains a head alone. Figures are on test unless it says val, after exact path
decoding, in percent except tree distances; `±` is half the 95 % interval of the mean over seeds
(Student's t). Where heads on frozen features are compared by geometry, start or calibration, every
seed chooses its learning rates on val for itself, so that what tuning adds to the spread is in the
intervals and in the tests; the texts are the same for all. Other sections say how they choose. An
accuracy at a level is that of the texts that reach it; a level that no test text reaches is left
out, with the macro-F1 of the deepest. *Severity* is the mean number of edges between a wrong answer
and the right one; *raw cons.* the share of texts whose independent answers per level form a path,
before decoding; *few* the accuracy on classes of at most 5 texts in the whole training set. A
verdict compares two arms, over the seeds that both have, by a paired t-test over three seeds or
more (runs that are copies, as where a start stays as it is, count once) and, for what is known text
by text, by one over texts (an exact test where few texts differ, or all by the same), at 5 %. Where
only seeds can be tested, it says *on these texts*: other texts might not show it. Where nothing is
drawn, texts alone decide. Tests of one figure that stand side by side, for several dimensions, arms
or numbers of texts, are adjusted for one another (Holm); where one stands alone, nothing is
adjusted, nor is one figure for another: of so many verdicts some are chance. *hF1* is the F1 of
labels with their ancestors; *distance* the mean number of edges between answer and gold, right
answers included; *ECE* the mean gap between the probability of a path, as training leaves it, and
how often it holds. Of a text the backbone *minilm* reads 128 tokens, except where the name of the
data says otherwise."""

_HOW_TREES = """`±` is half the 95 % interval of the mean over seeds (Student's t). A verdict
compares two arms by a paired t-test over seeds, adjusted (Holm) over the dimensions of one
question, at 5 %."""


def write_report(results: ResultsFile, path: Path) -> None:
    """Write the report and the figures in ``images/`` beside it.

    Raises:
        DataError: the file has no results. OutputError: the report cannot be written there.
    """
    if not len(results):
        raise DataError(
            f"{results.path}: no results yet. Run 'hyperlm experiment compare-geometries' first."
        )
    if path.exists() and not _is_report(path):
        raise OutputError(
            f"{path}: there is a file that is no report, and it is not replaced. Choose another "
            "--document."
        )
    images = path.parent / "images"
    temporary = path.with_name(f".{path.name}.part")
    try:
        images.mkdir(parents=True, exist_ok=True)
        temporary.write_text(_document(told_apart(results), path, images), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: the report could not be written ({error.strerror or error}). Choose another "
            "--document."
        ) from error


def _is_report(path: Path) -> bool:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = path.read_text(encoding="utf-8")
        return not text or (text.startswith(_TITLE) and f"Made by `{_COMMAND}" in text)
    return False


def _document(results: ResultsFile, path: Path, images: Path) -> str:
    command = f"{_COMMAND} --output {results.path} --document {path}"
    made = f"{_provenance(results.records)} Made by `{command}`."
    told = {record.labels.get("experiment") for record in results.records}
    how = _HOW_TREES if told == {trees.NAME} else _HOW
    parts = [_TITLE, how.replace("\n", " "), *_texts(results.records), made]
    for section in _SECTIONS:
        parts += section(results, images)
    if SETS & {plain(record.data) for record in results.records}:
        parts += ["## Figures of others", NOTE, table(COLUMNS, ROWS)]
    return "\n\n".join(parts) + "\n"


def _texts(records: Sequence[Record]) -> list[str]:
    """A sentence on the test texts of each set, and on those of classes with few."""
    found: dict[str, str] = {}
    for record in records:
        test = record.figures.get("test", {})
        # Other names are of the same texts, read otherwise.
        if "answers" in test and "," not in (name := plain(record.data)) and name not in found:
            few = test.get("few", {}).get("texts")
            found[name] = f"{name} {test['n']:,}" + (f" ({few:,} *few*)" if few else "")
    return [f"Test texts: {', '.join(found[name] for name in sorted(found))}."] if found else []


def _provenance(records: Sequence[Record]) -> str:
    """What ran where, and how long it took."""
    trained = [record for record in records if not record.context.get("taken_over")]
    # Peers train in processes of their own.
    seconds = sum(
        record.figures.get("cost", {}).get("train_cpu") or record.context["cpu_seconds"]
        for record in trained
    )
    machines = sorted({record.context["machine"] for record in trained})
    read = sorted({str(r.data["precision"]) for r in trained if "precision" in r.data})
    computed = f"; backbones compute in {' and '.join(read)}" if read else ""
    days = sorted({record.context["at"][:10] for record in trained})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return (
        f"{len(trained)} runs, {seconds / 60:.0f} minutes of processor time, {when}, on "
        f"{'; '.join(machines)}{computed}."
    )
