"""How texts and answers are written as tokens: ``[start, text, cue, r1, ..., rD]``.

In: texts, end nodes of label paths, free-text answers. Out: token ids with the level of each.

A label is said as its name after a space, then a token that ends the level (a line break, where the
tokenizer has one for it, else end-of-text), so that "art" and "art history" are told apart. A path
that may end at an inner node says so by the ending token alone. Below a leaf nothing is said. Free
text ends with end-of-text. In a DAG a node is said along ``taxonomy.parent``.

A text too long loses its beginning, never the cue or the answer.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hyperlm.errors import DataError, HyperlmWarning, ModelError, OptionError
from hyperlm.taxonomy import Taxonomy

__all__ = ["Example", "SequenceFormat"]


@dataclass(frozen=True)
class Example:
    """Token ids of prompt and answers, and the level each token belongs to (0 for the prompt)."""

    ids: tuple[int, ...]
    levels: tuple[int, ...]


class SequenceFormat:
    """Tokens of prompts and answers for one tokenizer and one taxonomy.

    Args:
        taxonomy: labels; its levels come first. ``None`` for free text alone.
        text_levels: levels of free text after them.
        max_length: most tokens of a text.
        context: most tokens the backbone reads, ``None`` for no limit.
        max_text_tokens: most tokens generated on a level of free text.
        cue: between text and answer.
    Raises:
        OptionError: no level at all; lengths below 1; names that tokenise to nothing, or siblings
            that tokenise alike; a context that the answers alone fill. ModelError: no token to end
            with.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        taxonomy: Taxonomy | None,
        *,
        text_levels: int = 0,
        max_length: int = 128,
        context: int | None = None,
        max_text_tokens: int = 64,
        cue: str = "\nLabels:",
    ) -> None:
        self.tokenizer, self.taxonomy = tokenizer, taxonomy
        self.label_levels = taxonomy.num_levels if taxonomy is not None else 0
        self.num_levels = self.label_levels + text_levels
        if text_levels < 0 or self.num_levels < 1:
            raise OptionError(
                f"{text_levels} levels of free text and {self.label_levels} of labels: there must "
                "be at least one level. Give a taxonomy, or text_levels of 1 or more."
            )
        if min(max_length, max_text_tokens) < 1:
            raise OptionError(
                f"max_length {max_length}, max_text_tokens {max_text_tokens}: of a text, and of a "
                "level of free text, there is at least 1 token."
            )
        self.max_length, self.context = max_length, context
        self.max_text_tokens = max_text_tokens
        bos = tokenizer.bos_token_id
        begins = tokenizer("x")["input_ids"][:1]
        self.start: list[int] = [bos] if bos is not None and begins == [bos] else []
        self.cue: list[int] = self._ids([cue])[0] if cue else []
        self.label_end = self._label_end()
        self.text_end = tokenizer.eos_token_id
        if text_levels and self.text_end is None:
            raise ModelError(
                "The tokenizer has no end-of-text token, which ends an answer in free text. Set "
                "tokenizer.eos_token and save the tokenizer beside the model."
            )
        self.names: list[list[int]] = self._name_tokens() if taxonomy is not None else []
        self._refuse_twins()
        if self.context is not None and self._room(self.longest_answer) < 1:
            raise OptionError(
                f"The longest answer takes {self.longest_answer} tokens and the model reads "
                f"{self.context}: nothing is left for the text. Use shorter label names, a smaller "
                "max_text_tokens, or a model with a longer context."
            )

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [
            list(ids)
            # The library would warn of texts too long for the model; they are cut, and counted.
            for ids in self.tokenizer(
                list(texts), add_special_tokens=False, verbose=False
            ).input_ids
        ]

    def _label_end(self) -> int:
        line = self._ids(["\n"])[0]
        if len(line) == 1 and self.tokenizer.decode(line) == "\n":
            return line[0]
        if self.tokenizer.eos_token_id is None:
            raise ModelError(
                "The tokenizer has neither a token for a line break nor one for the end of a text, "
                "so a label has nothing to end with. Set tokenizer.eos_token."
            )
        return int(self.tokenizer.eos_token_id)

    def _name_tokens(self) -> list[list[int]]:
        assert self.taxonomy is not None
        words = [" " + " ".join(name.split()) for name in self.taxonomy.names]
        tokens = self._ids(words)
        mute = [n for n, ids in enumerate(tokens) if not str(self.tokenizer.decode(ids)).strip()]
        if mute:
            listed = ", ".join(repr(self.taxonomy.name(n)) for n in mute[:5])
            raise OptionError(
                f"{len(mute)} label names tokenise to nothing with this backbone's tokenizer: "
                f"{listed}. Rename them, or use a backbone whose tokenizer knows their script."
            )
        clash = [n for n, ids in enumerate(tokens) if self.label_end in ids]
        if clash:
            raise OptionError(
                f"The label name {self.taxonomy.name(clash[0])!r} holds the token that ends a "
                f"label ({self.tokenizer.decode([self.label_end])!r}). Rename it."
            )
        return tokens

    def _refuse_twins(self) -> None:
        seen: dict[tuple[int, tuple[int, ...]], int] = {}
        for node, ids in enumerate(self.names):
            assert self.taxonomy is not None
            key = (int(self.taxonomy.parent[node]), tuple(ids))
            other = seen.setdefault(key, node)
            if other != node:
                raise OptionError(
                    f"The labels {self.taxonomy.name(other)!r} and {self.taxonomy.name(node)!r} "
                    "under one parent are the same tokens to this backbone's tokenizer, so no "
                    "answer could tell them apart. Rename one, or use another backbone."
                )

    @cached_property
    def longest_answer(self) -> int:
        """Most tokens that all levels of an answer take together."""
        labels = 0
        if self.taxonomy is not None:
            total = np.zeros(len(self.names), dtype=np.int64)
            for node, parent in enumerate(self.taxonomy.parent):  # parents have smaller numbers
                total[node] = len(self.names[node]) + 1 + (total[parent] if parent >= 0 else 0)
            labels = int(total.max()) + 1  # an inner node may be followed by an ending token
        return labels + (self.num_levels - self.label_levels) * self.max_text_tokens

    def children(self, node: int) -> list[int]:
        """The nodes said after ``node``, -1 above the top ones: main children that lead to an end.

        In a graph a node may have none but children whose main parent is another; nobody who says
        it comes to a place where a path may end.
        """
        return self._children.get(node, [])

    @cached_property
    def _children(self) -> dict[int, list[int]]:
        below: dict[int, list[int]] = {}
        if self.taxonomy is not None:
            parent, leads = self.taxonomy.parent, set(self.terminals)
            for node in reversed(range(len(parent))):  # parents have lower numbers
                if node in leads:
                    leads.add(int(parent[node]))
            for node in sorted(leads - {-1}):
                below.setdefault(int(parent[node]), []).append(node)
        return below

    @cached_property
    def terminals(self) -> frozenset[int]:
        """Nodes where a path may end."""
        ends = () if self.taxonomy is None else self.taxonomy.terminals
        return frozenset(int(node) for node in ends)

    def _room(self, answer: int) -> int:
        """Tokens of text that fit before an answer of so many."""
        assert self.context is not None
        return self.context - len(self.start) - len(self.cue) - answer

    def prompts(
        self, texts: Sequence[str], answers: Sequence[Sequence[Sequence[int]]] | None = None
    ) -> list[list[int]]:
        """Prompts ``[start, text, cue]``, with one warning that counts the texts cut.

        See :meth:`cut_prompts`.
        """
        prompts, cut = self.cut_prompts(texts, answers)
        self.warn_cut(cut, len(prompts))
        return prompts

    def cut_prompts(
        self, texts: Sequence[str], answers: Sequence[Sequence[Sequence[int]]] | None = None
    ) -> tuple[list[list[int]], int]:
        """Prompts ``[start, text, cue]``, and how many texts lost their beginning.

        Args:
            answers: token ids per level of each text; without them the longest answer is assumed.
        Raises:
            DataError: an answer that does not fit into the context.
        """
        prompts, cut = [], 0
        for row, ids in enumerate(self._ids(texts) if texts else []):
            room = self.max_length
            if self.context is not None:
                length = self.longest_answer
                if answers is not None:
                    length = sum(len(level) for level in answers[row])
                fits = self._room(length)
                if fits < 0:
                    raise DataError(
                        f"The answer to text {row + 1} takes {length} tokens and the model reads "
                        f"{self.context}. Shorten the answer; answers are never cut."
                    )
                room = min(room, fits)
            cut += len(ids) > room
            prompt = [*self.start, *ids[len(ids) - min(len(ids), room) :], *self.cue]
            # A model needs one token to read.
            prompts.append(prompt or [self.text_end or self.label_end])
        return prompts, cut

    def warn_cut(self, cut: int, total: int) -> None:
        """Say how many texts lost their beginning, if any did."""
        if cut:
            warnings.warn(
                f"{cut:,} of {total:,} texts were longer than the model takes "
                f"({self.max_length} tokens, or what the answer leaves of its context) and lost "
                "their beginning. Train with a larger --max-length (max_length) to keep more.",
                HyperlmWarning,
                stacklevel=3,
            )

    def answer(self, node: int = -1, texts: Sequence[str] = ()) -> list[list[int]]:
        """Tokens of each level of an answer, with their ending tokens.

        Args:
            node: where the gold path ends.
            texts: of the levels of free text.
        """
        if len(texts) != self.num_levels - self.label_levels:
            raise DataError(
                f"{len(texts)} free texts were given for an answer with "
                f"{self.num_levels - self.label_levels} levels of free text. Give one each."
            )
        levels: list[list[int]] = []
        if self.taxonomy is not None:
            path = [int(n) for n in self.taxonomy.path_nodes(node)]
            levels = [[*self.names[n], self.label_end] for n in path]
            # What comes below is open where a path may end here or go on, else there is nothing.
            stops = bool(self.children(node)) and node in self.terminals
            levels += [[self.label_end] if stops else []] * (len(levels) < self.label_levels)
            levels += [[]] * (self.label_levels - len(levels))
        return levels + [[*ids, self.text_end] for ids in (self._ids(texts) if texts else [])]

    def example(self, prompt: Sequence[int], answer: Sequence[Sequence[int]]) -> Example:
        """One sequence to train on."""
        ids, levels = list(prompt), [0] * len(prompt)
        for number, tokens in enumerate(answer, start=1):
            ids += tokens
            levels += [number] * len(tokens)
        return Example(tuple(ids), tuple(levels))

    def examples(
        self,
        texts: Sequence[str],
        ends: Sequence[Sequence[int]] | None = None,
        replies: Sequence[Sequence[str]] | None = None,
        *,
        warn: bool = True,
    ) -> list[Example]:
        """Sequences to train on: one for each gold path of each text.

        Args:
            ends: end nodes of each text's gold paths; texts without any are left out.
            replies: free texts of each text's answer.
            warn: of texts cut.
        """
        pairs = [
            (text, self.answer(int(end), replies[row] if replies is not None else ()))
            for row, text in enumerate(texts)
            for end in (ends[row] if ends is not None else [-1])
        ]
        answers = [answer for _, answer in pairs]
        prompts, cut = self.cut_prompts([text for text, _ in pairs], answers)
        if warn:
            self.warn_cut(cut, len(prompts))
        return [self.example(p, a) for p, a in zip(prompts, answers, strict=True)]

    def words(self, tokens: Sequence[int]) -> str:
        """What an answer's tokens say, without the one that ends it."""
        ends = {self.label_end, self.text_end}
        kept = list(tokens[:-1]) if tokens and tokens[-1] in ends else list(tokens)
        return str(self.tokenizer.decode(kept)).strip()
