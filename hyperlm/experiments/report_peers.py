"""The section of the report on other systems: what they reach, and what they cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hyperlm.experiments.markdown import figure, picture, save_picture, signed, spread, table
from hyperlm.experiments.peers import NAME, SYSTEMS, arms_of, features_of
from hyperlm.experiments.quantities import Quantity, interval, known, quantities, values
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.sources import plain
from hyperlm.experiments.statistics import compare, holm
from hyperlm.experiments.trials import Trial
from hyperlm.viz.scatter import scatter_figure

__all__ = ["section"]

Arms = Mapping[str, Sequence[Record]]
_COST = {"training, CPU s": "train_cpu", "an answer, CPU ms": "cpu_ms_a_text", "MB": "peak_mb"}
_ADDED = ("train_cpu", "cpu_ms_a_text")  # of features and of what reads them
# Ours that each system is compared with: what tunes the backbone with what does.
_OURS = {"hyperbolic": False, "hyperbolic-tuned": True}
_PATHS = Quantity("paths", "answers that are paths", ("path_consistency",))
_PUBLISHED: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "wos": (
        (
            "BERT-base, flat, all of WOS-46985, micro/macro-F1 over both levels",
            "85.63/79.07",
            "Wang et al., ACL 2022",
        ),
    ),
}


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every data set that has been measured; draws one figure for each."""
    parts: list[str] = []
    for name in dict.fromkeys(r.data["name"] for r in results.of(experiment=NAME)):
        arms, features = arms_of(results, name), features_of(results, name)
        if not arms:
            continue
        kinds = _kinds(arms)
        parts += [f"### {name}", _table(arms, kinds, features)]
        parts += [*_precision(arms), *_differences(arms)]
        image = picture(images, NAME, name)
        _draw(arms, kinds, features, image)
        parts += [figure(image, f"Accuracy against the cost of training on {name}")]
        published = _PUBLISHED.get(plain(next(iter(arms.values()))[0].data))
        if published is not None:
            parts.append(table(("published, not on this split", "figures", "source"), published))
        parts.append(_settings(arms))
    if not parts:
        return []
    return [
        "## Other systems on the same splits",
        "Every system answers as it does by itself: *paths* is the share of its answers that form "
        "a path, before anybody repairs one; a level counts by the node that was answered there. "
        "Each is trained and asked in a process of its own. Costs are processor time, since other "
        "work may have run beside them: of training with the chosen settings, an answer on test, "
        "and the largest resident memory of the process in MB. Systems on frozen features "
        "(HiClass, logistic regression, geoopt, our heads) have the cost of the features first. "
        "geoopt reads the last layer, the others "
        "a layer for each level. Settings are the best of each grid by path accuracy on val (flat "
        "fine-tuning, SetFit and our fine-tuning have one setting, ours the defaults that were "
        "chosen on these sets). Systems that tune the backbone, and "
        "those that draw nothing, ran once. "
        f"`hyperlm experiment {NAME}`",
        *parts,
    ]


def _kinds(arms: Arms) -> list[Quantity]:
    levels = len(next(iter(arms.values()))[0].figures["test"]["levels"])
    every = {kind.name: kind for kind in quantities(levels)}
    names = [*(f"L{level + 1}" for level in range(levels)), "path", "macro-F1"]
    return [*(every[name] for name in names), _PATHS, every["severity"]]


def _cost(
    arm: str, records: Sequence[Record], features: Record | None, key: str
) -> tuple[float | None, float | None]:
    """Of the frozen features, 0 where the system reads none; and its own, a mean over the runs."""
    found = [record.figures["cost"][key] for record in records]
    own = None if any(value is None for value in found) else float(np.mean(found))
    if not SYSTEMS[arm].frozen:
        return 0.0, own
    return (None if features is None else features.figures["cost"][key]), own


def _amount(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _table(arms: Arms, kinds: Sequence[Quantity], features: Record | None) -> str:
    threads = {record.figures["cost"]["threads"] for records in arms.values() for record in records}
    rows = []
    for arm, records in arms.items():
        # A start that stays as it is draws nothing: repeats of it are one run.
        own = records[:1] if _untrained(records[0]) else records
        rows.append(
            [
                SYSTEMS[arm].title,
                "1, untrained" if _untrained(records[0]) else str(len(records)),
                *(spread(interval(own, kind, "test"), kind) for kind in kinds),
                *(_cell(arm, records, features, key) for key in _COST.values()),
            ]
        )
    count = " or ".join(map(str, sorted(threads)))
    head = f"system ({count} thread{'s' if threads != {1} else ''})"
    return table([head, "runs", *(kind.name for kind in kinds), *_COST], rows)


def _untrained(record: Record) -> bool:
    run = record.run
    assert isinstance(run, Trial)
    return bool(run.settings.get("options", run.settings).get("epochs") == 0)


def _cell(arm: str, records: Sequence[Record], features: Record | None, key: str) -> str:
    below, own = _cost(arm, records, features, key)
    if not SYSTEMS[arm].frozen:
        return _amount(own)
    # One process makes the features, the other reads them: their memory does not add up.
    return f"{_amount(below)} {'+' if key in _ADDED else 'and'} {_amount(own)}"


def _differences(arms: Arms) -> list[str]:
    """Ours less each system, paired over texts; bold where more texts would not undo it."""
    there = known(record for records in arms.values() for record in records)
    kinds = [kind for kind in there if kind.texts is not None and kind.name != "raw cons."]
    parts = []
    for ours, tuned in _OURS.items():
        # Words read no backbone: they are a bar for both kinds of ours.
        others = [
            arm
            for arm in arms
            if arm not in _OURS and (arm == "tfidf" or SYSTEMS[arm].frozen != tuned)
        ]
        if ours not in arms or not others:
            continue
        cells = [_column(arms, ours, others, kind) for kind in kinds]
        rows = [[SYSTEMS[arm].title, *column] for arm, *column in zip(others, *cells, strict=True)]
        title = SYSTEMS[ours].title
        parts.append(table([f"{title}, less", *(kind.name for kind in kinds)], rows))
    if parts:
        parts.append(
            "Bold: a paired test over the test texts (runs averaged; exact for right or wrong of "
            "one run each), adjusted over the systems (Holm), finds a difference at 5 %. It says "
            "that other texts would show it too, not that training once more would."
        )
    return parts


def _column(arms: Arms, ours: str, others: Sequence[str], kind: Quantity) -> list[str]:
    mine, found = arms[ours], []
    for arm in others:
        texts = [
            np.array([kind.by_text(record.figures["test"]) for record in records]).mean(0)
            for records in (mine, arms[arm])
        ]
        means = [[float(np.mean(values(r, kind, "test")))] for r in (mine, arms[arm])]
        found.append(compare(means[0], means[1], first_texts=texts[:1], second_texts=texts[1:]))
    adjusted = holm([float("nan") if d.p_texts is None else d.p_texts for d in found])
    shown = [signed(d.over_seeds.mean, kind) for d in found]
    return [f"**{text}**" if p < 0.05 else text for text, p in zip(shown, adjusted, strict=True)]


def _precision(arms: Arms) -> list[str]:
    """In what the backbones of whole models computed, which costs depend on."""
    ours = [arm for arm in arms if SYSTEMS[arm].method == "hyperlm train"]
    if not ours:
        return []
    titles = " and ".join(SYSTEMS[arm].title for arm in ours)
    told = arms[ours[0]][0].data.get("precision", "a precision that was not kept")
    others = [
        *(["SetFit trained"] if "setfit" in arms else []),
        *(["frozen features were timed"] if any(SYSTEMS[arm].frozen for arm in arms) else []),
    ]
    rest = f"; {' and '.join(others)} in fp32" if others else ""
    return [f"The backbone of {titles} computed in {told}{rest}."]


def _settings(arms: Arms) -> str:
    told = []
    for arm, records in arms.items():
        run = records[0].run
        assert isinstance(run, Trial)
        shown = dict(run.settings.get("options", run.settings))
        if SYSTEMS[arm].head is not None:
            shown = {key: shown[key] for key in ("head_lr", "node_lr", "dim", "epochs")}
        words = ", ".join(f"{key} {value}" for key, value in shown.items()) or "the defaults"
        told.append(f"{SYSTEMS[arm].title}: {words}")
    return f"<details><summary>Settings</summary>\n\n{'; '.join(told)}.\n\n</details>"


def _draw(arms: Arms, kinds: Sequence[Quantity], features: Record | None, path: Path) -> None:
    deepest = next(kind for kind in reversed(kinds) if kind.is_level)
    points = {}
    for arm, records in arms.items():
        below, own = _cost(arm, records, features, "train_cpu")
        at = interval(records, deepest, "test")
        if below is not None and own is not None:
            points[SYSTEMS[arm].title] = (below + own, *at.bar)
    figure_ = scatter_figure(
        points,
        x_label="training, processor seconds (features included)",
        y_label=f"{deepest.title}, percent",
        notes=["Bars: 95 % interval over seeds, where a system was trained more than once."],
    )
    save_picture(figure_, path)
