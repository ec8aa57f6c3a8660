"""The section of the report on few texts: figures by texts a class, curves, verdicts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hyperlm.experiments.few_shot import ARMS, NAME, ZERO, ZEROS, arms_of
from hyperlm.experiments.markdown import figure, gathered, picture, save_picture, spread, table
from hyperlm.experiments.quantities import Quantity, difference, interval
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.sources import arguments
from hyperlm.experiments.statistics import verdicts
from hyperlm.viz.curves import Panel, curves_figure

__all__ = ["section"]

_MICRO = Quantity("micro", "micro-F1", ("c_micro_f1",))
_MACRO = Quantity("macro", "macro-F1", ("c_macro_f1",))
_SHOWN = (
    # Decoded answers are paths, of which the constrained F1 is the plain one.
    ("micro-F1 / macro-F1 over the nodes of all levels", (_MICRO, _MACRO)),
    (
        "C-micro-F1 / C-macro-F1 of independent answers per level, before decoding",
        (
            Quantity("C-micro", "C-micro-F1", ("undecoded", "micro")),
            Quantity("C-macro", "C-macro-F1", ("undecoded", "macro")),
        ),
    ),
    ("P-F1", (Quantity("P-F1", "P-F1", ("p_f1",)),)),
)
_QUESTIONS = (
    ("poincare", "linear"),
    ("poincare", "linear, names"),
    ("poincare", "logistic regression"),
    ("poincare", "class means"),
    ("poincare", "class means + names"),
    ("poincare", "poincare, untrained"),
    ("poincare, untrained", "class means + names"),
    ("poincare", "euclidean"),
    ("poincare, described", "poincare"),
    ("linear, described", "linear, names"),
    ("poincare, described", "linear, described"),
    ("poincare + contrastive", "poincare"),
    ("poincare + retrieval", "poincare"),
    ("poincare + both", "poincare"),
)
_HOW = """k texts of every class are drawn from train (all where it has fewer), the same draws
for every arm; `±` is half the 95 % interval over draws. All arms read the same frozen features
of the last layer, and per k each has the settings of its grid that are best on all of val with
two draws of its own. *poincare*: points started from the label names and the drawn texts, names
also trained on as texts, a few steps of a softmax over leaves; *euclidean*: the same in flat
space; *contrastive*: with a supervised contrastive loss per level between the projected texts;
*untrained*: points and projection as discriminants of the drawn texts and the names put them,
and no step, val choosing whether the points lie at one radius; *retrieval*: the posterior of
trained points mixed with the vote of the nearest training texts in the ball; *both*: both.
*linear*: a linear head from a random start; *linear, names*: one started
from the names and the drawn texts and trained on names too, as the flat twin of points;
*logistic regression*: a linear map without a bottleneck; *class means*: the cosine to the mean
of a class's texts, *+ names* with its name among them. *names alone* sees no text. *described*:
the start and what is trained on beside the texts are not the names alone but their mean with
names and what they mean, a line for each label. What knows names and what does not is no
comparison of geometries: poincare against euclidean and against *linear, names* is."""
_PUBLISHED: Mapping[str, Sequence[tuple[str, dict[int, str]]]] = {
    "wos": (
        (
            "HierVerb, BERT-base (Ji et al., ACL 2023)",
            {1: "58.95 / 44.96", 4: "72.58 / 63.12", 16: "80.93 / 73.80"},
        ),
        ("retrieval-style in-context learning (Chen et al., TACL 2024)", {1: "68.91 / 57.41"}),
    ),
    "dbpedia": (
        (
            "HierVerb, BERT-base (Ji et al., ACL 2023)",
            {1: "91.81 / 85.32", 4: "94.75 / 90.77", 16: "96.17 / 93.28"},
        ),
        ("retrieval-style in-context learning (Chen et al., TACL 2024)", {1: "94.54 / 89.75"}),
    ),
}
# Curves that lie on that of poincare would hide it.
_DRAWN = (
    "poincare",
    "poincare, untrained",
    "class means + names",
    "class means",
    "logistic regression",
    "linear",
)
_SPLITS_DIFFER = (
    "Published rows: other splits, other draws, larger fine-tuned or prompted backbones. They "
    "stand here for orientation and cannot be compared one by one."
)
Arms = Mapping[tuple[str, int], Sequence[Record]]


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every data set that has been measured; draws one figure for each."""
    parts: list[str] = []
    for name in dict.fromkeys(r.data["name"] for r in results.of(experiment=NAME)):
        arms = arms_of(results, name)
        shots = sorted({count for _, count in arms if count})
        if not shots:
            continue
        size = {count: _texts(arms, count) for count in shots}
        told = arguments(results.of(experiment=NAME), name)
        if any(ARMS[arm].described for arm, _ in arms):
            told += " --set descriptions=FILE"
        parts += [
            f"### {name}, few texts",
            f"`hyperlm experiment {NAME} {told}`. Training texts: "
            + ", ".join(f"{size[count]:,} at k = {count}" for count in shots)
            + ".",
        ]
        for title, kinds in _SHOWN:
            rows = [_row(arm, arms, shots, kinds) for arm in ARMS if _has(arms, arm)]
            published = _PUBLISHED.get(name, ()) if kinds[0] is _MICRO else ()
            for system, figures in published:
                rows.append([f"*{system}*", *(figures.get(count, "-") for count in shots)])
            parts.append(table([title, *(f"k = {count}" for count in shots)], rows))
            if published:
                parts.append(_SPLITS_DIFFER)
        parts.append(_verdicts(arms, shots))
        image = picture(images, NAME, name)
        _draw(arms, image)
        parts.append(figure(image, f"F1 by texts of a class and method on {name}"))
    return ["## Few texts of each class", _HOW.replace("\n", " "), *parts] if parts else []


def _has(arms: Arms, arm: str) -> bool:
    return any(name == arm for name, _ in arms)


def _texts(arms: Arms, count: int) -> int:
    record = next(records[0] for (_, at), records in arms.items() if at == count)
    return int(record.figures["train_texts"])


def _row(arm: str, arms: Arms, shots: Sequence[int], kinds: Sequence[Quantity]) -> list[str]:
    if arm in ZEROS:  # one figure, whatever k
        cell = " / ".join(spread(interval(arms[arm, 0], kind, "test"), kind) for kind in kinds)
        return [arm, *(cell for _ in shots)]
    return [
        arm,
        *(
            " / ".join(spread(interval(arms[arm, at], kind, "test"), kind) for kind in kinds)
            if (arm, at) in arms
            else "-"
            for at in shots
        ),
    ]


def _verdicts(arms: Arms, shots: Sequence[int]) -> str:
    """A sentence per question and quantity; p-values adjusted (Holm) over the numbers of texts."""
    levels = len(next(iter(arms.values()))[0].figures["test"]["levels"])
    # One path a text: P-F1 is the share of texts answered right, and so known text by text.
    path = Quantity("P-F1", "P-F1", ("p_f1",), texts=("right", levels))
    lines = []
    for first, second in _QUESTIONS:
        both = [at for at in shots if (first, at) in arms and (second, at) in arms]
        for kind in (path, _MACRO) if both else ():
            found = [difference(arms[first, at], arms[second, at], kind, "test") for at in both]
            words = verdicts(found, [(first, second)] * len(both))
            told = list(zip(both, found, words, strict=True))
            lines.append(f"- {first} less {second}, {kind.title}: {gathered(told, kind, 'k')}")
    return "\n".join(lines) if lines else "Only one arm was measured."


def _draw(arms: Arms, path: Path) -> None:
    panels = []
    for kind in (_MICRO, _MACRO):
        series: dict[str, list[tuple[float, float, float, float]]] = {}
        for (arm, count), records in arms.items():
            if arm in _DRAWN:
                at = interval(records, kind, "test")
                series.setdefault(arm, []).append((count, *at.bar))
        if (ZERO, 0) in arms and series:
            at = interval(arms[ZERO, 0], kind, "test")
            counts = sorted({point[0] for points in series.values() for point in points})
            series[ZERO] = [(count, at.mean, at.mean, at.mean) for count in counts]
        panels.append(Panel(kind.title, "percent", series))
    if any(one.series for one in panels):
        save_picture(curves_figure(panels, x_label="texts of a class, k"), path)
