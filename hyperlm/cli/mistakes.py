"""The table of wrong answers that ``hyperlm evaluate --mistakes`` writes."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperlm.cli.errors import say

if TYPE_CHECKING:
    from hyperlm.data import LabelledTexts

__all__ = ["check_target", "write_mistakes"]

_COLUMNS = ("line", "text", "gold", "answer", "probability", "edges")
_STEP, _OR = " > ", " | "  # between the names of a path, and between several gold paths


def check_target(target: Path) -> None:
    """Refuse before the work what would be refused after it, or would cost somebody a file."""
    from hyperlm.data import read_rows
    from hyperlm.data.splits import names_a_split
    from hyperlm.data.table import table_format
    from hyperlm.errors import HyperlmError, OutputError

    table_format(target)
    if not target.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {str(target.parent)!r}. Make it first.")
    if split := names_a_split(target):
        raise OutputError(
            f"{target}: a table of this name is taken for the {split} split of its folder. Choose "
            "another name for --mistakes."
        )
    if not target.exists():
        return
    if not target.is_file():
        raise OutputError(f"{target}: is no file. Choose another name for --mistakes.")
    try:
        ours = tuple(next(iter(read_rows(target)), ()))[: len(_COLUMNS)] == _COLUMNS
    except HyperlmError:  # also where there are no rows
        ours = False
    if not (ours or target.read_bytes() == _nothing_wrong(target)):
        raise OutputError(
            f"{target}: is there already, and is no table of mistakes. Choose another --mistakes."
        )


def _nothing_wrong(target: Path) -> bytes:
    """The table of a model that makes no mistakes, in the format of the target."""
    from hyperlm.data import write_rows

    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / target.name, (), _COLUMNS)
        return (Path(folder) / target.name).read_bytes()


def write_mistakes(target: Path, found: list[dict[str, Any]], texts: "LabelledTexts") -> None:
    """Write the wrong answers among ``texts``, each with its other columns in the texts' table."""
    from hyperlm.data import write_rows
    from hyperlm.data.table import csv_form, table_format

    source = Path(texts.name)
    own = _own_columns(source, texts, found)
    rows = (
        row
        | {
            "gold": _OR.join(_STEP.join(path) for path in row["gold"]),
            "answer": _STEP.join(row["answer"]),
        }
        | own.get(row["line"], {})
        for row in found
    )
    names = dict.fromkeys(name for row in own.values() for name in row)
    both_csv = own and table_format(source)[0] == table_format(target)[0] == ".csv"
    form = csv_form(source) if both_csv else None
    write_rows(target, rows, [*_COLUMNS, *names], form=form)
    say(f"{len(found):,} of {len(texts):,} answers are wrong: {target}, the surest first.")


def _as_text(value: Any) -> Any:
    """A cell as a text was read from it: tokens are joined by spaces."""
    tokens = isinstance(value, list) and all(isinstance(part, str) for part in value)
    return " ".join(value) if tokens else value


def _own_columns(
    source: Path, texts: "LabelledTexts", found: list[dict[str, Any]]
) -> dict[int, dict[str, Any]]:
    """By line, what the table of the texts says of those answered wrongly; an id, for example."""
    from hyperlm.data.table import file_table, table_format
    from hyperlm.errors import DataError

    try:
        table_format(source)
    except DataError:  # the texts come from no table
        return {}
    # Several texts on one line are turns of a dialogue, whose row is all of it.
    if not source.is_file() or len(set(texts.lines)) < len(texts.lines):
        return {}
    wanted = {row["line"]: row["text"] for row in found}
    rows = {number: row for number, row in file_table(source).rows if number in wanted}
    # The column that holds every text is there already; a title may equal its text here and there.
    held = [
        name
        for name in next(iter(rows.values()), {})
        if all(_as_text(row.get(name)) == wanted[number] for number, row in rows.items())
    ]
    text = "text" if "text" in held else next(iter(held), None)
    return {
        number: {
            f"own_{name}" if name in _COLUMNS else name: value
            for name, value in row.items()
            if name != text
        }
        for number, row in rows.items()
    }
