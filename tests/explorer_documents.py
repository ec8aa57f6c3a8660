"""The explorer page read by a parser of the standard library, which stands for the browser."""

import dataclasses
import json
from html.parser import HTMLParser
from typing import Any

import numpy as np

from hyperlm import Taxonomy
from hyperlm.viz.layout import Layout
from hyperlm.viz.rundata import RunData, TextData, taxonomy_data


class Page(HTMLParser):
    """Elements in order, and what stands in those that matter."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.others: list[str] = []
        self.open = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append((tag, ""))
        self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = False

    def handle_data(self, data: str) -> None:
        if self.open:
            tag, before = self.inside[-1]
            self.inside[-1] = (tag, before + data)

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)

    def unknown_decl(self, data: str) -> None:
        self.others.append(data)

    def of(self, tag: str, **attributes: str) -> list[str]:
        found = zip(self.tags, self.inside, strict=True)
        return [
            text
            for (name, have), (_, text) in found
            if name == tag and attributes.items() <= have.items()
        ]

    @property
    def data(self) -> Any:
        (text,) = self.of("script", id="hyperlm-data")
        return json.loads(text)

    @property
    def policy(self) -> dict[str, list[str]]:
        (content,) = [
            attrs["content"]
            for tag, attrs in self.tags
            if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
        ]
        assert content is not None
        rules = (rule.split() for rule in content.split("; "))
        return {name: values for name, *values in rules}


def named(names: list[str], title: str = "t") -> RunData:
    """A taxonomy of one level."""
    taxonomy = Taxonomy(names, np.zeros((0, 2), dtype=np.int64))
    return taxonomy_data(taxonomy, title=title)


def flat(run: RunData) -> Layout:
    """The cheapest layout there is."""
    return Layout("tree", np.zeros((len(run.taxonomy), 2)), None, ("flat",))


def with_texts(run: RunData, texts: list[str], **changes: Any) -> RunData:
    count, size = len(texts), len(run.taxonomy)
    gold = np.arange(count) % size
    data = TextData(
        tuple(texts),
        np.random.default_rng(0).normal(size=(count, 3)),
        gold,
        (gold + (np.arange(count) % 4 == 0)) % size,
        np.linspace(0.2, 0.9, count),
        np.stack([gold, (gold + 1) % size], 1),
        np.tile([0.6, 0.3], (count, 1)),
        "val",
    )
    return dataclasses.replace(run, texts=dataclasses.replace(data, **changes))
