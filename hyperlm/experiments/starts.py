"""Where should a head start? From the tree, in random directions, from label names, or from texts.

Poincaré points, with all training texts and with a quarter of them; every start has its own tuned
learning rates. Starts from names and from texts come with their controls, Euclidean points and a
linear head; one from texts stays untrained where val prefers that. Command: ``hyperlm experiment
starts``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hyperlm.experiments.arms import chosen, named, tuned
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.told import shares_in

__all__ = ["NAME", "SHARES", "STARTS", "arms_of", "parts", "run"]

NAME = "starts"
_TEXTS = HeadRun(init="texts", temperature=20.0, radius_on_val=True)
STARTS: Mapping[str, HeadRun] = {
    "random": HeadRun(init="random"),
    "tree, tau = 0.3": HeadRun(init="tree", init_step=0.3),
    "tree, tau = 1": HeadRun(init="tree", init_step=1.0),
    "names": HeadRun(init="names"),
    "names, T = 20": HeadRun(init="names", temperature=20.0),
    "names, Euclidean": HeadRun(init="names", temperature=20.0, geometry="euclidean"),
    "names, linear": HeadRun(init="names", temperature=20.0, head="linear"),
    "texts": _TEXTS,
    "texts, Euclidean": replace(_TEXTS, geometry="euclidean"),
    "texts, linear": replace(_TEXTS, head="linear"),
    "random, linear": HeadRun(head="linear"),
}
SHARES = "1,0.25"


def run(
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: int = 5,
    dims: Sequence[int] = (64,),
    arms: Sequence[str] | None = None,
    shares: str = SHARES,
    progress: bool = False,
) -> None:
    """Train what is missing in the results file.

    Args:
        shares: of the training texts, numbers up to 1 with commas.
    """
    for dim in dims:
        for share in _shares(shares):
            for name in named(arms, STARTS):
                tuned(
                    replace(STARTS[name], dim=dim, train_share=share),
                    data,
                    results,
                    seeds=range(seeds),
                    labels={"experiment": NAME, "arm": name, "share": share},
                    progress=progress,
                )


def parts(
    *,
    dims: Sequence[int] = (64,),
    arms: Sequence[str] | None = None,
    shares: str = SHARES,
    **settings: Any,
) -> dict[str, dict[str, Any]]:
    """:func:`run` in parts that do not wait for one another, the long ones first, by title."""
    return {
        f"{name}, share {share}, d = {dim}": settings
        | {"dims": (dim,), "arms": [name], "shares": str(share)}
        for dim in sorted(dims, reverse=True)
        for share in sorted(_shares(shares), reverse=True)
        for name in named(arms, STARTS)
    }


def _shares(told: str) -> list[float]:
    return shares_in(told, "--set shares", example=f"shares={SHARES}")


def arms_of(results: ResultsFile, data: str, share: float, dim: int) -> dict[str, list[Record]]:
    """The measured runs of a data set, a share of its texts and a dimension, by start."""
    found: dict[str, list[Record]] = {name: [] for name in STARTS}
    for record in results.of(experiment=NAME, share=share):
        if record.data["name"] == data and record.head.dim == dim:
            found[record.labels["arm"]].append(record)
    measured = {name: chosen(records) for name, records in found.items()}
    return {name: records for name, records in measured.items() if records}
