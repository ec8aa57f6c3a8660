"""The section of the report on geometries: tables, curves, verdicts, targets."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hyperlm.experiments.arms import HEAD_RATES, NODE_RATES, enclosed
from hyperlm.experiments.compare_geometries import NAME, arms_of, question
from hyperlm.experiments.markdown import (
    BARS,
    figure,
    gathered,
    picture,
    save_picture,
    signed,
    spread,
    table,
)
from hyperlm.experiments.quantities import Quantity, interval, known, seeds_of
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.sources import arguments
from hyperlm.experiments.statistics import (
    BETTER,
    BETTER_HERE,
    NO_DIFFERENCE,
    NO_VERDICT,
    Difference,
)
from hyperlm.experiments.trials import Trial
from hyperlm.viz.curves import Panel, curves_figure
from hyperlm.viz.intervals import Lines, intervals_figure

__all__ = ["PAIRS", "Arms", "by_dimension", "differences", "section", "verdicts", "widest"]

PAIRS = (
    ("poincare", "linear"),
    ("poincare", "euclidean"),
    ("euclidean", "linear"),
    ("poincare", "linear, names"),
    ("euclidean", "linear, names"),
    ("linear, names", "linear"),
)
Arms = dict[tuple[str, int], list[Record]]
_LENT = (
    "**Some seeds here have rates that other seeds tuned, as a former version did: what tuning "
    "adds to the spread is in none of their intervals and tests.**"
)


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every data set that has been measured; draws one figure for each."""
    names = list(dict.fromkeys(r.data["name"] for r in results.of(experiment=NAME)))
    if not names:
        return []
    parts = ["## Geometry against geometry", _method()]
    for name in names:
        arms = arms_of(results, name)
        if not arms:
            continue
        kinds = known(record for records in arms.values() for record in records)
        command = f"`hyperlm experiment {NAME} {arguments(results.of(experiment=NAME), name)}`"
        parts += [f"### {name}", command + _cost(results, name)]
        path = next(kind for kind in kinds if kind.name == "path")
        parts += [widest(arms, kinds), by_dimension(arms, path)]
        parts += [_rates(arms, results, name)]
        parts += ["Differences; bold where a verdict is given:", verdicts(arms, kinds)]
        image = picture(images, NAME, name)
        _draw(arms, kinds, image)
        parts.append(figure(image, f"Figures by dimension and geometry on {name}"))
    return parts


def _method() -> str:
    def listed(rates: Sequence[float]) -> str:
        return ", ".join(f"{rate:g}" for rate in rates)

    nodes = "; ".join(f"nodes of {head} {listed(some)}" for head, some in NODE_RATES.items())
    return (
        "Same projection, features, loss, decoding, order of texts and random start of the nodes; "
        "only the geometry differs. Lorentz points are stored and moved in coordinates of the "
        "hyperboloid; the space is isometric to the ball, so that they should agree with Poincaré "
        "points up to rounding and what training makes of it; they take the same learning rates. "
        "Of every other arm and dimension each seed tunes for itself: on a grid of rates, "
        f"projections {listed(HEAD_RATES)}; {nodes}; and then on the rates beside the best ones, a "
        "factor of about three at a time, until the best have been compared with all that are "
        "beside them; where that is not so, the learning rates below say it."
    )


def _cost(results: ResultsFile, name: str) -> str:
    """What training the heads of a data set took, tuning included."""
    made = [
        record
        for record in results.of(experiment=NAME)
        if record.data["name"] == name and not record.context.get("taken_over")
    ]
    if not made:
        return ""
    seconds = sum(record.context["cpu_seconds"] for record in made)
    return f" trained {len(made)} heads in {seconds / 60:.0f} minutes of CPU time."


def widest(arms: Arms, kinds: Sequence[Quantity]) -> str:
    """All quantities at d = 64, or the largest dimension that was run."""
    dims = sorted({dim for _, dim in arms})
    dim = 64 if 64 in dims else dims[-1]
    rows = [
        [arm, *(spread(interval(records, kind, "test"), kind) for kind in kinds), _radius(records)]
        for (arm, at), records in arms.items()
        if at == dim
    ]
    seeds = seeds_of(records for (_, at), records in arms.items() if at == dim)
    table_ = table([f"d = {dim}, {seeds}", *(kind.name for kind in kinds), "radius"], rows)
    return table_ + "\n\nRadius: mean distance of the nodes from the origin times sqrt(c)."


def _radius(records: Sequence[Record]) -> str:
    radii = [r.figures["geometry"].get("node_radius") for r in records]
    known = [radius for radius in radii if radius is not None]
    return f"{sum(known) / len(known):.2f}" if known else "-"


def by_dimension(arms: Arms, kind: Quantity) -> str:
    """One quantity: a row for each arm, a column for each dimension."""
    dims = sorted({dim for _, dim in arms})
    rows = [
        [
            arm,
            *(
                spread(interval(arms[arm, dim], kind, "test"), kind) if (arm, dim) in arms else "-"
                for dim in dims
            ),
        ]
        for arm in dict.fromkeys(arm for arm, _ in arms)
    ]
    return table([kind.title, *(f"d = {dim}" for dim in dims)], rows)


def _rates(arms: Arms, results: ResultsFile, name: str) -> str:
    """Learning rates that the seeds have chosen, and how many of them tuning has enclosed."""
    tried = [r for r in results.of(experiment=NAME, stage="tune") if r.data["name"] == name]
    listed, runs, open_ = [], 0, 0
    tuned = {r.head.seed for r in tried}
    lent = any(r.head.seed not in tuned for records in arms.values() for r in records)
    for (arm, dim), records in arms.items():
        at = Counter(f"{r.head.head_lr:g}, {r.head.node_lr:g}" for r in records)
        shares = (rates + f" ({count})" * (len(at) > 1) for rates, count in at.most_common())
        listed.append(f"{arm} {dim}: {' or '.join(shares)}")
        for record in records:
            run = record.head
            if arm == "lorentz":  # takes what the ball has found
                run = replace(run, geometry="poincare", coordinates="tangent")
            runs, open_ = runs + 1, open_ + (not enclosed(run, tried))
    text = (
        "Rates chosen (arm, dimension: projection, nodes; in brackets by how many seeds, where "
        f"they differ): {'; '.join(listed)}."
    )
    summary = f"Learning rates: {runs - open_} of {runs} runs have some compared with all beside"
    folded = f"<details><summary>{summary} them</summary>\n\n{text}\n\n</details>"
    return folded + ("\n\n" + _LENT) * lent


def verdicts(arms: Arms, kinds: Sequence[Quantity]) -> str:
    """A table of differences per pair of arms, and a sentence for each that is more than noise."""
    there = {arm for arm, _ in arms}
    parts = []
    for first, second in PAIRS:
        if not {first, second} <= there:
            continue
        found = {kind.name: question(arms, kind, first, second) for kind in kinds}
        dims = sorted({at for answers in found.values() for at, _, _ in answers})
        rows = [
            [kind.title, *differences(found[kind.name], dims, kind)]
            for kind in kinds
            if found[kind.name]
        ]
        parts.append(
            table([f"{first} less {second}", *(f"d = {dim}" for dim in dims)], rows)
            if rows
            else f"{first} against {second}: not measured."
        )
        parts += _sentences(found, kinds, f"{first} and {second}")
    parts += _isometry(arms, kinds)
    return "\n\n".join(parts) if parts else "Only one arm was measured."


def differences(
    found: Sequence[tuple[int, Difference, str]], dims: Sequence[int], kind: Quantity
) -> list[str]:
    """One cell per dimension; bold where a verdict is given."""
    cells = dict.fromkeys(dims, "-")
    for at, difference, words in found:
        shown = signed(difference.over_seeds.mean, kind)
        cells[at] = f"**{shown}**" if words.endswith((BETTER, BETTER_HERE)) else shown
    return list(cells.values())


def _sentences(
    found: dict[str, list[tuple[int, Difference, str]]], kinds: Sequence[Quantity], pair: str
) -> list[str]:
    answers = [words for of_kind in found.values() for _, _, words in of_kind]
    if answers and all(words.startswith(NO_VERDICT) for words in answers):
        return [f"{'; '.join(dict.fromkeys(answers))}.".capitalize()]  # the table has the figures
    lines = []
    for kind in kinds:
        told = [answer for answer in found[kind.name] if answer[2] != NO_DIFFERENCE]
        if told:
            lines.append(f"- {kind.title}: {gathered(told, kind)}")
    if not lines:
        return [f"Verdict: {NO_DIFFERENCE} between {pair}, in any figure."]
    return ["\n".join([*lines, f"- everywhere else: {NO_DIFFERENCE}."])]


def _isometry(arms: Arms, kinds: Sequence[Quantity]) -> list[str]:
    """How far two coordinates of one space came apart: a check, not a question for a test."""
    gaps = [
        abs(interval(arms["lorentz", dim], kind, "test").mean - interval(ours, kind, "test").mean)
        for (arm, dim), ours in arms.items()
        if arm == "poincare" and _comparable(ours, arms.get(("lorentz", dim), ()))
        for kind in kinds
        if kind.percent
    ]
    if not gaps:
        return []
    return [
        "lorentz against poincare: the same space in other coordinates; the means differ by "
        f"{max(gaps):.1f} points at most, in any figure and at any dimension."
    ]


def _comparable(ours: Sequence[Record], theirs: Sequence[Record]) -> bool:
    """Whether two arms have the same seeds and learning rates."""

    def of(records: Sequence[Record]) -> set[tuple[object, ...]]:
        heads = ("head_lr", "node_lr")  # on frozen features; the others of whole models
        rates = ("learning_rate", "head_learning_rate", "point_learning_rate", *heads)
        settings = (
            r.run.settings["options"] if isinstance(r.run, Trial) else r.run.to_json()
            for r in records
        )
        return {
            (record.run.seed, *(some.get(rate) for rate in rates))
            for record, some in zip(records, settings, strict=True)
        }

    return bool(theirs) and of(ours) == of(theirs)


def _draw(arms: Arms, kinds: Sequence[Quantity], path: Path) -> None:
    shown = [kind for kind in kinds if kind.name in ("path", "raw cons.", "severity", "ECE")]
    # One curve would cover the other.
    hidden = {"poincare", "lorentz"} <= {arm for arm, _ in arms}
    if len({dim for _, dim in arms}) == 1:  # no curve, but intervals one below the other
        lines: dict[str, Lines] = {
            kind.name: {
                arm: interval(records, kind, "test").bar for (arm, _), records in arms.items()
            }
            for kind in shown
        }
        save_picture(
            intervals_figure(lines, x_label="percent; severity: edges", notes=[BARS]), path
        )
        return
    panels = []
    for kind in shown:
        series: dict[str, list[tuple[float, float, float, float]]] = {}
        for (arm, dim), records in arms.items():
            if hidden and arm == "lorentz":
                continue
            at = interval(records, kind, "test")
            series.setdefault(arm, []).append((dim, *at.bar))
        panels.append(Panel(kind.title, "percent" if kind.percent else "edges", series))
    notes = ["Lorentz points, which are the ball in other coordinates, stand in the tables."]
    figure_ = curves_figure(panels, x_label="dimension d", notes=notes if hidden else ())
    save_picture(figure_, path)
