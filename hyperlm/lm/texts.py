"""Texts as they arrive, before a tokenizer is asked: strings of characters, nothing else.

Tokenizers tell of other things in words of their own, and not of which text they mean.
"""

from collections.abc import Sequence
from typing import Any

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hyperlm.errors import OptionError

__all__ = ["check_texts", "tokenizer_of"]


def check_texts(texts: Sequence[str], name: str, *, first: int = 0) -> None:
    """Refuse what is no list of strings.

    Args:
        name: the method that was called, for messages.
        first: number of the first text, where they come in parts.
    Raises:
        OptionError: a single string, which is a sequence of characters; another type among the
            texts; bytes that were not UTF-8, as Python keeps those of a command line.
    """
    if isinstance(texts, str):
        raise OptionError(f"{name}() takes a list of texts; for a single one give [text].")
    for row, text in enumerate(texts, start=first):
        if not isinstance(text, str):
            raise OptionError(f"{name}(): text {row} is {text!r}; every text is a string.")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise OptionError(
                f"{name}(): text {row}, {text[:40]!r}, has bytes that were not UTF-8. Convert it, "
                "as with 'iconv -f latin1 -t utf-8'."
            ) from None


def tokenizer_of(model: Any) -> PreTrainedTokenizerBase:
    """The tokenizer that belongs to a model.

    Raises:
        OptionError: there is none, as where a model was made from a configuration.
    """
    tokenizer: PreTrainedTokenizerBase | None = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise OptionError(
            "This model has no tokenizer. Set model.tokenizer, as with "
            "AutoTokenizer.from_pretrained(name of the backbone)."
        )
    return tokenizer
