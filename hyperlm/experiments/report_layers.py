"""The section of the report on layers: accuracy by layer and level, the choice and its worth."""

from collections.abc import Sequence
from pathlib import Path

from hyperlm.experiments.layer_sweep import NAME, Sweep, accuracies, sweeps_of
from hyperlm.experiments.markdown import figure, picture, save_picture, signed, spread, table
from hyperlm.experiments.quantities import Quantity, difference, interval, quantities
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.statistics import verdicts
from hyperlm.viz.curves import Panel, curves_figure

__all__ = ["section"]

_LONG = 12  # layers above which a table is folded away


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every sweep that is complete; draws one figure for each."""
    parts: list[str] = []
    for sweep in sweeps_of(results):
        first = sweep.probes["linear"][1][0]
        data, backbone = sweep.data["name"], Path(sweep.data["backbone"]).name
        texts, tokens = first.figures["train_texts"], sweep.data["max_length"]
        kinds = quantities(sweep.levels)[: sweep.levels]
        parts += [
            f"### {backbone} on {data}, {texts:,} training texts of {tokens} tokens at most",
            _by_layer(sweep, kinds),
            _choice(sweep),
        ]
        if set(sweep.checks) == set(sweep.probes):
            parts.append(_checks(sweep))
        image = picture(images, NAME, data, backbone, *map(str, (texts, tokens, sweep.dim)))
        _draw(sweep, kinds, image)
        parts.append(figure(image, f"Accuracy by layer on {data}, {backbone}"))
    if not parts:
        return []
    head = [
        "## Which layer for which level",
        "At every layer of the frozen backbone a linear head and Poincaré points are trained on "
        "the pooled states of that layer alone, at fixed rates, and score all levels; accuracy on "
        "val. A level "
        "takes the earliest layer, above that of the level before, that lies at most one "
        "standard error (paired over the texts, both probes together) behind the best one. "
        f"`hyperlm experiment {NAME}`",
    ]
    return head + parts


def _by_layer(sweep: Sweep, kinds: Sequence[Quantity]) -> str:
    header = ["layer, val", *(f"{kind.name} {probe}" for kind in kinds for probe in sweep.probes)]
    rows = [
        [
            str(layer),
            *(
                spread(interval(at[layer], kind, "val"), kind)
                for kind in kinds
                for at in sweep.probes.values()
            ),
        ]
        for layer in range(1, sweep.depth + 1)
    ]
    shown = table(header, rows)
    if sweep.depth <= _LONG:
        return shown
    return f"<details><summary>All {sweep.depth} layers</summary>\n\n{shown}\n\n</details>"


def _choice(sweep: Sweep) -> str:
    best = accuracies(sweep).argmax(1) + 1
    arms = sweep.arms()
    return (
        f"Chosen: layers {_listed(arms['measured'])}; best on val, each level by itself: "
        f"{_listed(best)}; the rule: {_listed(arms['rule'])}."
    )


def _checks(sweep: Sweep) -> str:
    """The choice, the rule and the last layer, frozen heads on test, each against the rule."""
    kinds = quantities(sweep.levels)[: sweep.levels + 1]
    path = kinds[-1]
    rows = []
    for probe, found in sweep.checks.items():
        arms = {
            name: found[",".join(map(str, layers))]
            for name, layers in sweep.arms().items()
            if ",".join(map(str, layers)) in found
        }
        if "rule" not in arms:
            continue
        others = [name for name in arms if name != "rule"]
        paired = [difference(arms[name], arms["rule"], path, "test") for name in others]
        words = _verdicts(others, arms, path)
        for name, records in arms.items():
            cells = [spread(interval(records, kind, "test"), kind) for kind in kinds]
            told = "-", ""
            if name in others:
                at = others.index(name)
                told = signed(paired[at].over_seeds.mean, path), words[at]
            rows.append([f"{probe}, {name}: {_listed(sweep.arms()[name])}", *cells, *told])
    header = ["frozen heads, test", *(kind.name for kind in kinds), "path less rule", "verdict"]
    return table(header, rows)


def _verdicts(
    others: Sequence[str], arms: dict[str, list[Record]], quantity: Quantity
) -> list[str]:
    found = [difference(arms[name], arms["rule"], quantity, "test") for name in others]
    rule = arms["rule"][0].head.layers
    return [
        "the same layers" if arms[name][0].head.layers == rule else words
        for name, words in zip(
            others, verdicts(found, [(name, "rule") for name in others]), strict=True
        )
    ]


def _draw(sweep: Sweep, kinds: Sequence[Quantity], path: Path) -> None:
    means, arms = accuracies(sweep) * 100, sweep.arms()
    panels = []
    for level, kind in enumerate(kinds):
        series = {
            probe: [
                (float(layer), *at.bar)
                for layer, records in sorted(found.items())
                for at in [interval(records, kind, "val")]
            ]
            for probe, found in sweep.probes.items()
        }
        for name in ("rule", "measured"):
            layer = arms[name][level]
            middle = float(means[level, layer - 1])
            series[name] = [(float(layer), middle, middle, middle)]
        panels.append(Panel(f"{kind.title}, val", "percent", series))
    notes = [
        "Bands: 95 % intervals over seeds. Single marks: the layer the rule takes and the one "
        "measured (in front of it), at the mean of both probes."
    ]
    save_picture(curves_figure(panels, x_label="layer of the backbone", notes=notes), path)


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(str(int(layer)) for layer in layers)
