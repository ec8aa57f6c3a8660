"""Runs to results: skips what the results file has, trains the rest, appends as each group ends.

Runs of one shape (see :class:`~.settings.HeadRun`) train together; the others one by one.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from hyperlm import __version__
from hyperlm.decoding import Loss
from hyperlm.experiments.features import FrozenData, Split
from hyperlm.experiments.fitting import fit_alone, fit_together, training_rows
from hyperlm.experiments.measure import geometry_of, measure, node_logits
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.trials import machine
from hyperlm.heads import HierarchicalHead
from hyperlm.taxonomy import Taxonomy

__all__ = ["Extra", "run_all"]

Extra = Callable[[dict[str, Tensor], Taxonomy, dict[str, Split], Loss], dict[str, Any]]
"""Node scores of val and test, taxonomy, splits, loss -> figures."""

TOGETHER = 18  # heads that train at once: the grids of two seeds, whose draws are made once


def run_all(
    runs: Sequence[HeadRun],
    data: FrozenData,
    results: ResultsFile,
    *,
    labels: dict[str, Any],
    extra: Mapping[str, Extra] | None = None,
    progress: bool = False,
) -> list[Record]:
    """The records of runs, from the file or from training.

    Args:
        labels: what the runs are for (``experiment``, ``stage`` and the like); kept in each record.
            The figures of an equal run made for another purpose are taken over.
        extra: more figures than every run has, by the name they are kept under; a run without
            them is made again.
    Returns:
        One record per run, in order.
    """
    source = data.describe()
    missing = []
    for run in dict.fromkeys(runs):
        needed = tuple(extra or ())
        if results.find(source, run, labels, figures=needed) is not None:
            continue
        known = results.find(source, run, figures=needed)
        if known is None:
            missing.append(run)
        else:
            context = known.context | {"taken_over": True}
            results.append([replace(known, labels=labels, context=context)])
    if missing:
        results.making(len(missing))
    groups: dict[HeadRun, list[HeadRun]] = {}
    for run in missing:
        groups.setdefault(run.shape(), []).append(run)
    what = " ".join(str(value) for value in labels.values())
    with tqdm(total=len(missing), desc=what, disable=not progress, leave=False) as bar:
        for shape, group in groups.items():
            size = TOGETHER if shape.stackable else 1
            for start in range(0, len(group), size):
                part = group[start : start + size]
                results.append(_train(part, data, source, labels, extra))
                bar.update(len(part))
    found = [results.find(source, run, labels, figures=needed) for run in runs]
    return [record for record in found if record is not None]


def _train(
    runs: Sequence[HeadRun],
    data: FrozenData,
    source: dict[str, Any],
    labels: dict[str, Any],
    extra: Mapping[str, Extra] | None,
) -> list[Record]:
    train = data.splits(runs[0])["train"]  # features are no part of a run's time
    heads = [data.head(run) for run in runs]
    start, cpu = time.perf_counter(), time.process_time()
    if len(runs) > 1 or runs[0].stackable:
        fit_together(heads, train.features, train.targets, runs)
    else:
        fit_alone(heads[0], train.features, train.targets, runs[0])
    seconds = (time.perf_counter() - start) / len(runs)
    cpu = (time.process_time() - cpu) / len(runs)
    return [
        Record(
            run=run,
            data=source,
            labels=labels,
            figures=_figures(head, data, run, extra),
            seconds=round(seconds, 3),
            context={
                "together": len(runs),
                "cpu_seconds": round(cpu, 3),
                "machine": machine(),
                "hyperlm": __version__,
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
        for run, head in zip(runs, heads, strict=True)
    ]


def _figures(
    head: HierarchicalHead,
    data: FrozenData,
    run: HeadRun,
    extra: Mapping[str, Extra] | None,
) -> dict[str, Any]:
    splits = data.splits(run)
    logits = {name: node_logits(head, splits[name].features) for name in ("val", "test")}
    figures: dict[str, Any] = {
        name: measure(
            logits[name],
            data.taxonomy,
            splits[name],
            loss=head.loss_kind,
            few=data.few(name),
        )
        for name in logits
    }
    figures["geometry"] = geometry_of(head, splits["val"].features)
    figures["train_texts"] = len(training_rows(len(splits["train"].features), run))
    for name, compute in (extra or {}).items():
        figures[name] = compute(logits, data.taxonomy, splits, head.loss_kind)
    return figures
