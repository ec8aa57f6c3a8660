"""What may be said next: the names of the children of the label above, or anything.

A level's state is a place in the token trie over the children of the node reached so far, or a
count of free tokens. Ending tokens occur in no name, so no name is cut short by another that
begins with it, and every way through the tries is a path of the taxonomy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hyperlm.lm.hdlm.format import SequenceFormat

__all__ = ["NO_LABEL", "Ended", "FreeState", "Grammar", "LabelState"]

NO_LABEL = -2  # a node number for words that name no child of the label above


@dataclass(frozen=True)
class Ended:
    """A level has been said.

    Attributes:
        node: the label reached, -1 for none.
        stopped: whether the path ends there, so that levels of labels below stay empty.
    """

    node: int
    stopped: bool


@dataclass(frozen=True)
class LabelState:
    """A place in a token trie."""

    branch: dict[int, Any]

    @property
    def allowed(self) -> Sequence[int] | None:
        return list(self.branch)

    def after(self, token: int) -> "LabelState | FreeState | Ended":
        below = self.branch[token]
        return below if isinstance(below, Ended) else LabelState(below)


@dataclass(frozen=True)
class FreeState:
    """Any tokens: how many are left, what was said, and the token that ends it.

    ``labels`` maps what may have been said to the label it names; ``None`` for free text.
    """

    left: int
    end: int
    node: int
    stopped: bool
    said: tuple[int, ...] = ()
    labels: Mapping[tuple[int, ...], Ended] | None = None

    @property
    def allowed(self) -> Sequence[int] | None:
        return [self.end] if self.left <= 1 else None

    def after(self, token: int) -> "LabelState | FreeState | Ended":
        if token != self.end:
            return replace(self, left=self.left - 1, said=(*self.said, token))
        if self.labels is None:
            return Ended(self.node, self.stopped)
        return self.labels.get(self.said, Ended(NO_LABEL, True))


class Grammar:
    """Answers that a format allows.

    Args:
        constrained: confine labels to the taxonomy; otherwise any tokens may be said for a label,
            and what names no child of the label above leads to ``NO_LABEL`` and ends the path.
    """

    def __init__(self, format: SequenceFormat, *, constrained: bool = True) -> None:
        self.format, self.constrained = format, constrained
        self._tries: dict[int, dict[int, Any]] = {}

    def start(self, level: int, node: int, stopped: bool) -> LabelState | FreeState | Ended:
        """The state in which level ``level`` (from 1) begins.

        Args:
            node: label reached by the levels above, -1 for none.
            stopped: whether the path has ended there.
        """
        form = self.format
        if level > form.label_levels:
            assert form.text_end is not None
            return FreeState(form.max_text_tokens, int(form.text_end), node, stopped)
        if stopped or not form.children(node):
            return Ended(node, True)
        if self.constrained:
            return LabelState(self._trie(node))
        longest = max(len(form.names[child]) for child in form.children(node))
        # One token more than any name: what goes on beyond the longest is none.
        return FreeState(longest + 2, form.label_end, node, False, labels=self._labels(node))

    def _trie(self, node: int) -> dict[int, Any]:
        if node not in self._tries:
            form = self.format
            trie: dict[int, Any] = {}
            for name, ended in self._labels(node).items():
                place = trie
                for token in name:
                    place = place.setdefault(token, {})
                place[form.label_end] = ended
            self._tries[node] = trie
        return self._tries[node]

    def _labels(self, node: int) -> dict[tuple[int, ...], Ended]:
        """What may be said below a node, and where it leads; nothing says that the path ends."""
        form = self.format
        said = {
            tuple(form.names[child]): Ended(child, not form.children(child))
            for child in form.children(node)
        }
        return said | ({(): Ended(node, True)} if node in form.terminals else {})
