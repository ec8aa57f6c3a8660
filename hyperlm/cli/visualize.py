"""``hyperlm visualize``: a run, taxonomy or embedding in; a figure, or a page to explore, out."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperlm.cli.columns import (
    LabelColumns,
    LabelSeparator,
    PathSeparator,
    TextColumn,
    column_arguments,
)
from hyperlm.cli.errors import Debug, say
from hyperlm.cli.output import show_json
from hyperlm.errors import OptionError, OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hyperlm.viz import Layout, RunData

__all__ = ["visualize"]

_FIGURES = (".png", ".svg", ".pdf")
_PAGES = (".html", ".htm")


class FigureName(StrEnum):
    """Repeats ``hyperlm.viz.FIGURES``, which takes seconds to import, and the sweep's."""

    tree = "tree"
    norms = "norms"
    distances = "distances"
    confusion = "confusion"
    reliability = "reliability"
    training = "training"
    sweep = "sweep"


_OF_TEXTS = (FigureName.confusion, FigureName.reliability)


class ProjectionName(StrEnum):
    """Repeats ``hyperlm.viz.PROJECTIONS``."""

    tree = "tree"
    horopca = "horopca"
    pca = "pca"
    umap = "umap"


class ThemeName(StrEnum):
    light = "light"
    dark = "dark"


def visualize(
    run: Annotated[
        str,
        typer.Argument(
            help="Folder of a run, a hub id, a taxonomy file (.json, .yaml, .csv, ...), a table of "
            "labels, with texts or without, a data set, an embedding (.safetensors), or for "
            "--figure sweep a table of scores (.csv, .json).",
            metavar="RUN",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help=f"{', '.join(_FIGURES)} for a figure, .html for a page to explore.  \\[default: "
            "labels.png in the run, or FIGURE.png]",
        ),
    ] = None,
    figure: Annotated[
        FigureName,
        typer.Option(help="What to draw.", rich_help_panel="Figure"),
    ] = FigureName.tree,
    projection: Annotated[
        ProjectionName | None,
        typer.Option(
            help="How labels come to two dimensions: the taxonomy alone (tree), hyperbolic PCA "
            "(horopca), tangent PCA (pca), neighbourhoods (umap).  \\[default: horopca, or tree "
            "without label points]",
            rich_help_panel="Figure",
        ),
    ] = None,
    cones: Annotated[
        bool, typer.Option("--cones", help="Entailment cones.", rich_help_panel="Figure")
    ] = False,
    texts: Annotated[
        bool,
        typer.Option("--texts", help="Where the texts lie.", rich_help_panel="Figure"),
    ] = False,
    confusion: Annotated[
        bool,
        typer.Option(
            "--confusion",
            help="Arcs between siblings taken for each other.",
            rich_help_panel="Figure",
        ),
    ] = False,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Most names to write: a number, or a share such as 25%.  \\[default: all there is "
            "room for]",
            metavar="N|N%",
            rich_help_panel="Figure",
        ),
    ] = None,
    level: Annotated[
        int | None,
        typer.Option(help="Only this level of --figure confusion.", rich_help_panel="Figure"),
    ] = None,
    theme: Annotated[ThemeName, typer.Option(help="Page.", rich_help_panel="Figure")] = (
        ThemeName.light
    ),
    title: Annotated[
        str | None, typer.Option(help="Instead of the run's.", rich_help_panel="Figure")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Of the projection.  \\[default: 0]",
            min=0,
            max=2**32 - 1,
            rich_help_panel="Figure",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled texts.  \\[default: what the run was trained on]",
            rich_help_panel="Texts",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, val or test.  \\[default: val]", rich_help_panel="Texts"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Most texts to read.  \\[default: 20000]", min=0, rich_help_panel="Texts"
        ),
    ] = None,
    text_column: TextColumn = None,
    label_columns: LabelColumns = None,
    path_separator: PathSeparator = None,
    label_separator: LabelSeparator = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="What was drawn as one JSON document.", rich_help_panel="Output"
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Draw the label tree and what a training did, or write the page to explore them."""
    target = _target(run, output, figure)
    page = target.suffix.lower() in _PAGES
    if page and figure is FigureName.sweep:
        raise OptionError(f"{target}: a layer sweep is a figure, {', '.join(_FIGURES)}.")
    given = {
        "--figure": figure is not FigureName.tree,
        "--cones": cones,
        "--texts": texts,
        "--confusion": confusion,
        "--labels": labels is not None,
        "--level": level is not None,
        "--theme": theme is not ThemeName.light,
        "--title": title is not None,
        "--seed": seed is not None and not page,
    }
    _refuse_unused([name for name, said in given.items() if said], figure, page=page)
    columns = column_arguments(text_column, label_columns, path_separator, label_separator)
    of_texts = {"--data": data, "--split": split, "--limit": limit}
    asked = ", ".join(name for name, value in of_texts.items() if value is not None)
    seed = seed or 0
    if figure is FigureName.sweep:
        if columns:
            from hyperlm.options_checks import flag

            raise OptionError(
                f"{', '.join(map(flag, columns))}: of a table of labels; --figure sweep reads "
                "scores. Leave this out."
            )
        _refuse_texts(asked, "--figure sweep reads scores")
        done: dict[str, Any] = {"output": str(target), "figure": "sweep"}
        _write(_sweep(Path(run), title, theme), target)
    else:
        needs = page or texts or confusion or figure in _OF_TEXTS
        source = _read(run, data, split, limit, columns, needs=needs, asked=asked, figure=figure)
        if page:
            how = projection.value if projection is not None else None
            done = {"output": str(target), "figure": "page"}
            _write_page(source, target, how, seed)
        else:
            done = {"output": str(target), "figure": figure.value}
            plan = _layout(source, figure, projection, seed)
            if plan is not None:
                done |= _measured(plan)
            from hyperlm.viz import draw_figure

            drawn = draw_figure(
                source,
                figure.value,
                layout=plan,
                cones=cones,
                texts=texts,
                confusion=confusion,
                level=level,
                max_labels=_most(labels, len(source.taxonomy)),
                title=title,
                dark=theme is ThemeName.dark,
                seed=seed,
            )
            _write(drawn, target)
    if as_json:
        show_json(done)
        return
    typer.echo(f"{target}")
    if "quality" in done:
        for line in done["note"], *done["quality"]["lines"]:
            say(line)


def _refuse_unused(given: list[str], figure: FigureName, *, page: bool) -> None:
    """An option that would change nothing is a mistake that should be said."""
    if page:
        if given:
            raise OptionError(
                f"{', '.join(given)}: the page does without; it has switches of its own. Leave "
                f"this out, or end --output in {', '.join(_FIGURES)}."
            )
        return
    of = {
        "--cones": ("tree",),
        "--texts": ("tree", "norms"),
        "--confusion": ("tree",),
        "--labels": ("tree",),
        "--level": ("confusion",),
        "--seed": ("tree", "distances"),
    }
    for name in given:
        if figure.value not in of.get(name, (figure.value,)):
            raise OptionError(
                f"{name} is of --figure {' and '.join(of[name])}; {figure.value} shows no such "
                "thing. Leave it out, or choose another --figure."
            )


def _refuse_texts(asked: str, why: str) -> None:
    if asked:
        raise OptionError(f"{asked}: of texts; {why}. Leave this out.")


def _target(run: str, output: Path | None, figure: FigureName) -> Path:
    from hyperlm.data.tree import is_run

    if output is None:
        name = "labels.png" if figure is FigureName.tree else f"{figure.value}.png"
        output = Path(run) / name if is_run(run) else Path(name)
    if output.suffix.lower() not in (*_FIGURES, *_PAGES):
        raise OutputError(
            f"{output}: figures end in {', '.join(_FIGURES)}, pages in .html. Choose one of these "
            "suffixes."
        )
    if not output.parent.is_dir():
        raise OutputError(f"{output}: there is no folder {str(output.parent)!r}. Make it first.")
    if output.is_dir():
        raise OutputError(f"{output}: this is a folder. Name a file.")
    return output


def _read(
    run: str,
    data: str | None,
    split: str | None,
    limit: int | None,
    columns: dict[str, Any],
    *,
    needs: bool,
    asked: str,
    figure: FigureName,
) -> "RunData":
    from hyperlm.data.tree import has_labels_to_show
    from hyperlm.quiet import quiet_libraries
    from hyperlm.viz import read_source

    of_run = columns.get("label_columns") if data is None else None
    if not has_labels_to_show(run, label_columns=of_run):
        quiet_libraries()
        if not needs:
            _refuse_texts(asked, f"--figure {figure.value} shows none by itself")
    elif split is not None or limit is not None:
        _refuse_texts(asked, f"{run} is no run, so that its labels alone are shown")
    most = 0 if not needs else 20_000 if limit is None else limit
    return read_source(run, data=data, split=split or "val", limit=most, say=say, columns=columns)


def _layout(
    source: "RunData", figure: FigureName, projection: ProjectionName | None, seed: int
) -> "Layout | None":
    """The projection to draw; None where the figure shows none."""
    from hyperlm.viz import default_projection, project

    if figure is FigureName.tree:
        how = projection.value if projection is not None else default_projection(source)
        return project(source, how, seed=seed)
    if projection is None:
        return None
    if figure is not FigureName.distances:
        raise OptionError(
            f"--projection is of the figures tree and distances; {figure.value} shows none. Leave "
            "it out."
        )
    return project(source, projection.value, seed=seed)


def _measured(plan: "Layout") -> dict[str, Any]:
    """Which projection, and how well it keeps distances, for people and programs."""
    facts: dict[str, Any] = {"projection": plan.name, "note": " ".join(plan.note)}
    quality = plan.quality
    if quality is not None:
        undefined = quality.rank_correlation != quality.rank_correlation
        facts["quality"] = {
            "of": quality.of,
            "distortion": quality.distortion,
            "rank_correlation": None if undefined else quality.rank_correlation,
            "neighbours": quality.neighbours,
            "k": quality.k,
            "lines": list(quality.lines()),
        }
    return facts


def _most(labels: str | None, count: int) -> int | None:
    """The largest number of names that ``--labels`` allows."""
    if labels is None:
        return None
    number, share = labels.strip(), labels.strip().endswith("%")
    try:
        value = float(number.rstrip("%")) if share else int(number)
    except ValueError:
        value = -1
    if not 0 <= value <= (100 if share else sys.maxsize):
        raise OptionError(
            f"--labels {labels}: give a number of names, such as 40, or a share of all, such as "
            "25%."
        )
    return round(count * value / 100) if share else int(value)


def _sweep(table: Path, title: str | None, theme: ThemeName) -> "Figure":
    from hyperlm.viz import layer_sweep_figure, read_sweep

    return layer_sweep_figure(
        read_sweep(table),
        title=table.stem if title is None else title,
        dark=theme is ThemeName.dark,
    )


def _write(figure: "Figure", target: Path) -> None:
    from hyperlm.viz import save_figure

    save_figure(figure, target)


def _write_page(source: "RunData", target: Path, how: str | None, seed: int) -> None:
    from hyperlm.viz import applicable
    from hyperlm.viz.explorer import write_explorer

    # The one that was asked for comes first; the page can switch to the others.
    order = None if how is None else [how, *(name for name in applicable(source) if name != how)]
    write_explorer(source, target, how=order, seed=seed, say=say)
