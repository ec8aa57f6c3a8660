"""The explorer: a page to look around in a run, as one HTML file without any network.

In: a :class:`~hyperlm.viz.rundata.RunData`. Out: HTML text, or a file. Template, style and script
are the files of the folder ``page/``, which are joined in the order of their names. Names and texts
are data: they stand in a JSON block in which no ``<``, ``>`` or ``&`` is left, and the page's own
policy allows this style and this script alone, by their hashes.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

from hyperlm.errors import HyperlmError, OptionError, OutputError
from hyperlm.runfolder import replacing
from hyperlm.viz.layout import Layout
from hyperlm.viz.pagedata import page_document
from hyperlm.viz.project import applicable, project
from hyperlm.viz.rundata import RunData

__all__ = [
    "content_policy",
    "data_text",
    "explorer_html",
    "fill_page",
    "page_layouts",
    "write_explorer",
]

_NONE, _SELF = "'none'", "'self'"
# What HTML would take for a sign, what old scripts took for the end of a line, and halves of
# surrogate pairs, which UTF-8 cannot hold.
_ESCAPED = {
    code: f"\\u{code:04x}" for code in (*map(ord, "<>&\u2028\u2029"), *range(0xD800, 0xE000))
}
_PLACE = re.compile("__(TITLE|STYLE|SCRIPT|DATA)__")
_CHARSET = '<meta charset="utf-8">'
# What would end the element, or change how the rest of it is read.
_CLOSING = re.compile(r"</(script|style)|<!--|<script", re.IGNORECASE)


def explorer_html(
    run: RunData,
    layouts: Sequence[Layout] | None = None,
    *,
    served: bool = False,
) -> str:
    """The page.

    Args:
        layouts: In the order in which the page offers them; by default those of
            :func:`page_layouts`.
        served: Whether a server stands behind the page (``hyperlm serve``), which answers texts.
    Returns:
        A whole HTML document; equal data make equal documents.
    """
    plans = page_layouts(run) if layouts is None else layouts
    document = page_document(run, plans, served=served)
    return fill_page(_page_files(), run.title, data_text(document), served=served)


def write_explorer(
    run: RunData,
    output: str | Path,
    *,
    how: Sequence[str] | None = None,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Write the page to ``output`` and return the path; an existing file is replaced at the end.

    Args:
        how: Projections, in the order in which the page offers them; None for all that apply,
            without UMAP, which is slow.
        seed: Of the projections.
        say: Told of projections that failed and are left out.
    Raises:
        OptionError: The ending is not .html. OutputError: The file cannot be written.
    """
    path = Path(output)
    if path.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"{path}: the explorer is a page; its name must end in .html.")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {str(path.parent)!r}. Make it first.")
    page = explorer_html(run, page_layouts(run, how, seed=seed, say=say))
    try:
        with replacing(path) as temporary:
            temporary.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(
            f"{path}: could not be written ({error.strerror or error}). What was there before is "
            "unchanged; free some space or choose another place."
        ) from error
    return path


def page_layouts(
    run: RunData,
    how: Sequence[str] | None = None,
    *,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> list[Layout]:
    """The projections a page offers.

    Args:
        how: Their names; an error in one of them is raised. By default all that apply to this run,
            without UMAP; one that fails is left out then, and ``say`` is told.
        seed: Of the projections.
    """
    if how is not None:
        return [project(run, name, seed=seed) for name in how]
    plans = []
    for name in applicable(run):
        try:
            plans.append(project(run, name, seed=seed))
        except HyperlmError as error:
            if name == "tree":  # always there: what goes wrong with it is wrong with the page
                raise
            if say is not None:
                say(f"The page has no projection {name!r}: {error}")
    return plans


def data_text(document: Mapping[str, Any]) -> str:
    """JSON that may stand inside an HTML element: nothing in it can end or open one."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPED)


def fill_page(parts: dict[str, str], title: str, data: str, *, served: bool) -> str:
    """Put style, script, title and data into the template and add the policy.

    Args:
        parts: ``page``, ``style`` and ``script``; the page has the places ``__TITLE__``,
            ``__STYLE__``, ``__SCRIPT__``, ``__DATA__``.
        data: From :func:`data_text`.
    """
    for name in ("style", "script"):
        found = _CLOSING.search(parts[name])
        if found:
            raise OptionError(
                f"the page's {name} holds {found.group()!r}, which would end it early. Write it in "
                "two parts."
            )
    # NUL and halves of pairs have no place in HTML text.
    clean = re.sub("[\0\ud800-\udfff]", "\ufffd", title)
    values = {
        "TITLE": html.escape(clean), "STYLE": parts["style"], "SCRIPT": parts["script"],
        "DATA": data,
    }  # fmt: skip
    # In one pass: a title may itself be called __DATA__. The policy says nothing of the data.
    page = _PLACE.sub(lambda place: values[place.group(1)], parts["page"])
    policy = html.escape(content_policy(parts, served=served))
    meta = f'{_CHARSET}\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    if _CHARSET not in page:
        raise OptionError(f"the page has no {_CHARSET}, after which its policy belongs.")
    return page.replace(_CHARSET, meta, 1)


def content_policy(parts: dict[str, str] | None = None, *, served: bool = False) -> str:
    """The Content-Security-Policy under which the page runs and nothing else does.

    No network at all; served, requests to where the page came from.

    Args:
        parts: As for :func:`fill_page`; by default those of the explorer.
    """
    parts = _page_files() if parts is None else parts
    blank = parts | {"title": "", "data": ""}
    found = _Inline()
    found.feed(_PLACE.sub(lambda place: blank[place.group(1).lower()], parts["page"]))
    found.close()
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {found.sources('script')}",
            f"style-src {found.sources('style')}",
            "img-src data: blob:",  # exported pictures
            f"connect-src {_SELF if served else _NONE}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


class _Inline(HTMLParser):
    """Collects what stands in the page's scripts and styles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self._inside: str | None = None
        self._found: dict[str, list[str]] = {"script": [], "style": []}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = dict(attrs).get("type")
        self._inside = tag if tag in self._found and kind != "application/json" else None
        if self._inside:
            self._found[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self._found[self._inside][-1] += data

    def sources(self, tag: str) -> str:
        hashes = [
            base64.b64encode(hashlib.sha256(part.encode()).digest()).decode("ascii")
            for part in self._found[tag]
        ]
        return " ".join(f"'sha256-{digest}'" for digest in hashes) or _NONE


@cache
def _page_files() -> dict[str, str]:
    """Template, style and script of the page, from the package's data."""
    folder = files("hyperlm.viz").joinpath("page")
    parts = {"page": "", "style": "", "script": ""}
    kinds = {".html": "page", ".css": "style", ".js": "script"}
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        kind = kinds.get(Path(file.name).suffix)
        if kind:
            # A hash is of what the browser reads, and that has no carriage returns.
            parts[kind] += file.read_text(encoding="utf-8").replace("\r\n", "\n")
    return parts
