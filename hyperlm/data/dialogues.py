"""Dialogues whose turns carry a label: each such turn is an example to classify and to answer.

In: rows ``{"situation": ..., "dialog": [{"speaker": ..., "text": ..., "strategy": ...}, ...]}``, as
ESConv has them (Liu et al. 2021, arXiv 2106.01144). Out: a row for every turn with a ``strategy``:
``text`` is the situation and the dialogue before the turn, a line each with its speaker, ``reply``
what the turn says. Other entries of the dialogue (``problem_type``, ...) stand in each of its rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hyperlm.data.table import Row, Table
from hyperlm.errors import DataError

__all__ = ["holds_dialogues", "turns"]

# Names that say to a language model who speaks; other speakers go by their own.
_SPEAKERS = {"usr": "Seeker", "sys": "Supporter"}


def holds_dialogues(row: Row) -> bool:
    """Whether a row is a dialogue to be taken apart: it has a list of turns and no text."""
    turns = row.get("dialog")
    return isinstance(turns, list) and not {"text", "token"} & row.keys()


def turns(table: Table) -> Table:
    """The labelled turns of the dialogues of a table, ``strategy`` being the label by default."""
    return Table(
        table.name, _Turns(table), table.unit, table.typed, labels=("strategy",), reply="reply"
    )


@dataclass(frozen=True)
class _Turns:
    """Rows, read anew by each loop; the number of a row is that of its dialogue."""

    table: Table

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        labelled = False
        for number, row in self.table.rows:
            for example in _examples(row, self.table.place(number)):
                labelled = True
                yield number, example
        if not labelled:
            raise DataError(
                f"{self.table.name}: no turn of these dialogues has a 'strategy', so there is "
                "nothing to learn. Label the turns that are to be answered."
            )


def _examples(row: Row, place: str) -> Iterator[Row]:
    dialogue = row.get("dialog")
    if not isinstance(dialogue, list):
        raise DataError(
            f"{place}: 'dialog' is {type(dialogue).__name__}, where the rows above have a list of "
            "turns. Give every dialogue its turns."
        )
    shared = {key: value for key, value in row.items() if key != "dialog"}
    situation = row.get("situation")
    lines = [f"Situation: {_flat(situation)}"] if isinstance(situation, str) and situation else []
    for at, turn in enumerate(dialogue, start=1):
        speaker, said = _turn(turn, f"{place}, turn {at}")
        if turn.get("strategy") is not None:
            yield {
                **shared,
                "text": "\n".join(lines),
                "strategy": turn["strategy"],
                "reply": said,
            }
        lines.append(f"{speaker}: {said}")


def _turn(turn: Any, place: str) -> tuple[str, str]:
    said = turn.get("text") if isinstance(turn, dict) else None
    speaker = turn.get("speaker") if isinstance(turn, dict) else None
    if not isinstance(said, str) or not isinstance(speaker, str):
        raise DataError(
            f"{place}: a turn is an object with 'speaker' and 'text', both strings, and 'strategy' "
            f"where it is to be answered; this is {str(turn)[:60]}. Mend the turn."
        )
    return _SPEAKERS.get(speaker, speaker), _flat(said)


def _flat(text: str) -> str:
    """On one line: line breaks tell the turns apart."""
    return " ".join(text.split())
