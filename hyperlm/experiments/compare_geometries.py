"""Which geometry, at which dimension, for which figure? Four heads that differ in nothing else.

Poincaré points, Lorentz points, Euclidean points and a linear head share projection, features,
loss, decoding, order of texts and the random start of the nodes; each has learning rates of its
own, tuned on val by every seed for itself (the hyperboloid takes those of the ball). Command:
``hyperlm experiment compare-geometries``; with ``--set trained=model`` the backbone is trained too
(:mod:`.compare_tuned`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hyperlm.errors import OptionError
from hyperlm.experiments import compare_tuned
from hyperlm.experiments.arms import GEOMETRIES, chosen, named, tuned
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.quantities import Quantity, difference
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.statistics import Difference, verdicts

__all__ = ["DIMS", "NAME", "arms_of", "parts", "question", "run"]

NAME = "compare-geometries"
DIMS = (2, 4, 8, 16, 32, 64, 128)


def run(
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: int = 5,
    dims: Sequence[int] | None = None,
    arms: Sequence[str] | None = None,
    trained: str = "head",
    rates: str = compare_tuned.RATES,
    paces: str = "own",
    backbone_dropout: str = "own",
    progress: bool = False,
    **settings: Any,
) -> None:
    """Train what is missing in the results file.

    Args:
        seeds: of each arm and dimension, 0, 1, ...; each tunes its learning rates for itself.
        dims: :data:`DIMS` by default, or 64 alone for whole models.
        arms: of ``GEOMETRIES``, or for whole models of ``compare_tuned.ARMS``; all by default.
        trained: ``head``, on frozen features, or ``model``, the backbone with it.
        rates, paces, backbone_dropout: see :func:`.compare_tuned.run`, for whole models.
        settings: of :class:`~.settings.HeadRun`, for every arm; heads alone have them.
    Raises:
        OptionError: another ``trained``, an unknown arm.
    """
    _check(trained, backbone_dropout)
    if trained == "model":
        compare_tuned.run(
            data,
            results,
            seeds=seeds,
            dims=dims or (64,),
            arms=named(arms, compare_tuned.ARMS),
            rates=rates,
            paces=paces,
            backbone_dropout=backbone_dropout,
            progress=progress,
        )
        return
    for dim in dims or DIMS:
        for arm in named(arms, GEOMETRIES):
            # One space has one tuning: that of the ball, which the hyperboloid would only repeat.
            same = arm == "lorentz"
            like = replace(GEOMETRIES["poincare"], dim=dim, **settings)
            tuned(
                replace(GEOMETRIES[arm], dim=dim, **settings),
                data,
                results,
                seeds=range(seeds),
                labels={"experiment": NAME, "arm": arm},
                tune_as=("poincare", like) if same else None,
                progress=progress,
            )


def parts(
    *,
    dims: Sequence[int] | None = None,
    arms: Sequence[str] | None = None,
    trained: str = "head",
    **settings: Any,
) -> dict[str, dict[str, Any]]:
    """:func:`run` in parts that do not wait for one another, the long ones first.

    Returns:
        Settings of ``run`` by the title of the part; none for whole models, each of which uses all
        cores.
    """
    _check(trained, settings.get("backbone_dropout", "own"))
    if trained == "model":
        return {}
    told = settings | {"trained": trained}
    names = named(arms, GEOMETRIES)
    groups = [[name] for name in names if name != "lorentz" or "poincare" not in names]
    for group in groups:
        if group == ["poincare"] and "lorentz" in names:
            group.append("lorentz")  # which takes what the ball has tuned
    return {
        f"{' and '.join(group)}, d = {dim}": told | {"dims": (dim,), "arms": group}
        for dim in sorted(dims or DIMS, reverse=True)
        for group in groups
    }


def _check(trained: str, backbone_dropout: str) -> None:
    if trained not in ("head", "model"):
        raise OptionError(f"--set trained={trained}: choose head or model.")
    if trained == "head" and backbone_dropout != "own":
        raise OptionError(
            f"--set backbone_dropout={backbone_dropout}: of --set trained=model; frozen backbones "
            "drop nothing. Leave one out, or add the other."
        )


def arms_of(results: ResultsFile, data: str) -> dict[tuple[str, int], list[Record]]:
    """The measured runs of a data set: by arm and dimension, in the order of the arms."""
    groups: dict[tuple[str, int], list[Record]] = {}
    for record in results.of(experiment=NAME):
        if record.data["name"] == data:
            groups.setdefault((record.labels["arm"], record.head.dim), []).append(record)
    measured = {at: chosen(records) for at, records in groups.items()}
    found = {at: records for at, records in measured.items() if records}
    order = list(GEOMETRIES)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))


def question(
    arms: dict[tuple[str, int], list[Record]],
    quantity: Quantity,
    first: str,
    second: str,
    *,
    split: str = "test",
) -> list[tuple[int, Difference, str]]:
    """Is ``first`` better than ``second``? Per dimension: the difference, and the verdict.

    The p-values of the dimensions are adjusted together (Holm), since they answer one question.
    """
    dims = sorted(dim for arm, dim in arms if arm == first and (second, dim) in arms)
    found = [difference(arms[first, dim], arms[second, dim], quantity, split) for dim in dims]
    pairs = [(first, second)] * len(dims)
    words = verdicts(found, pairs, higher_is_better=quantity.higher is not False)
    return list(zip(dims, found, words, strict=True))
