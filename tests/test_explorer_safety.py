"""The explorer page as a document: names and texts stay data, nothing else may run."""

import base64
import hashlib
import json

import pytest
from explorer_documents import Page, flat, named, with_texts
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm.errors import OptionError
from hyperlm.viz.explorer import (
    content_policy,
    data_text,
    explorer_html,
    fill_page,
)
from hyperlm.viz.rundata import RunData

HOSTILE = [
    "</script><img onerror=alert(1) src=x>",
    "<!--<script>",
    "-->",
    "]]>",
    "</ScRiPt ><svg/onload=alert(1)>",
    "<\u2028script>\u2029",
    "&lt;b&gt; &amp; &#60;",
    "\\u003cscript\\u003e",
    "\"quotes\" 'and' `ticks` ${1}",
    "__DATA__ __SCRIPT__ __TITLE__",
    "\ud83d half of a pair",
    "\u202eright to left\u202c",
    "\x01\x7f control\x1b[31m",
    "שלום עולם",
    "👩\u200d👩\u200d👧 family",
]
PARTS = {
    "page": '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>__TITLE__</title>'
    "<style>__STYLE__</style></head><body><h1>__TITLE__</h1>"
    '<script type="application/json" id="hyperlm-data">__DATA__</script>'
    "<script>\n__SCRIPT__\n</script></body></html>",
    "style": "h1 { color: red }",
    "script": 'const a = 1 < 2 && "<b>";',
}


# --- names and texts are data ---------------------------------------------------------------------


def plain_tags(run: RunData) -> list[tuple[str, dict[str, str | None]]]:
    return Page(explorer_html(named(["x"]), [flat(named(["x"]))])).tags


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_shows_as_text(name):
    label = name.replace("\ud83d", "?")  # a taxonomy refuses halves of pairs, a text may hold them
    run = with_texts(named([label, "tame"], title=name), [name] * 3)
    page = Page(explorer_html(run, [flat(run)]))
    assert page.tags == plain_tags(run)
    assert page.data["nodes"]["name"] == list(run.taxonomy.names)
    assert page.data["title"] == name
    assert page.data["texts"]["text"] == [" ".join(name.split())] * 3
    (title,) = page.of("title")
    assert title.strip().startswith(name.replace("\ud83d", "\ufffd").strip()[:6])


hostile_text = st.one_of(
    st.text(st.characters(codec=None), max_size=40),
    st.lists(
        st.sampled_from(["<", ">", "</", "script", "<!--", "-->", "&", '"', "'", "\\", "\0", " "]),
        max_size=8,
    ).map("".join),
    st.lists(st.sampled_from(HOSTILE), max_size=3).map("".join),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(hostile_text, min_size=1, max_size=5), hostile_text)
def test_any_names_come_back_exactly_and_add_no_element(texts, title):
    document = {"title": title, "names": texts, **{text: index for index, text in enumerate(texts)}}
    text = fill_page(PARTS, title, data_text(document), served=False)
    text.encode("utf-8")  # it can be written
    page = Page(text)
    assert page.data == document
    names = ["html", "head", "meta", "meta", "title", "style", "body", "h1", "script", "script"]
    assert [tag for tag, _ in page.tags] == names
    assert page.others == []
    assert page.of("style") == [PARTS["style"]]


@settings(max_examples=50, deadline=None)
@given(hostile_text)
def test_the_data_has_no_sign_that_html_knows(text):
    escaped = data_text({text: [text]})
    assert not set(escaped) & set("<>&\u2028\u2029")
    assert json.loads(escaped) == {text: [text]}


@pytest.mark.parametrize("what", ["style", "script"])
@pytest.mark.parametrize("sign", ["</script", "</STYLE", "<!--", "<script"])
def test_a_script_that_would_end_itself_is_refused(what, sign):
    with pytest.raises(OptionError, match="would end it early"):
        fill_page(PARTS | {what: f"'{sign}>'"}, "t", "{}", served=False)


# --- the policy -----------------------------------------------------------------------------------


def sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("served", [False, True])
def test_the_policy_allows_this_script_and_style_alone(served):
    run = named(["a"])
    page = Page(explorer_html(run, [flat(run)], served=served))
    scripts = [
        text
        for (tag, attrs), (_, text) in zip(page.tags, page.inside, strict=True)
        if tag == "script" and attrs.get("type") != "application/json"
    ]
    assert page.policy == {
        "default-src": ["'none'"],
        "script-src": [sha256(text) for text in scripts],
        "style-src": [sha256(text) for text in page.of("style")],
        "img-src": ["data:", "blob:"],
        "connect-src": ["'self'" if served else "'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    assert len(scripts) == 1
    assert page.data["served"] is served


def test_the_policy_comes_before_all_it_governs():
    run = named(["a"])
    names = [tag for tag, _ in Page(explorer_html(run, [flat(run)])).tags]
    assert names[:4] == ["html", "head", "meta", "meta"]


def test_the_page_asks_nobody_for_anything():
    run = named(["a"])
    text = explorer_html(run, [flat(run)])
    for _, attributes in Page(text).tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,"))
    addresses = {part.split('"')[0].split("'")[0] for part in text.split("http")[1:]}
    assert {a for a in addresses if a.startswith(("://", "s://"))} <= {"://www.w3.org/2000/svg"}
    assert "@import" not in text
    assert "url(" not in text


def test_a_policy_can_be_had_without_a_page():
    assert "connect-src 'self'" in content_policy(served=True)
    assert sha256(f"\n{PARTS['script']}\n") in content_policy(PARTS)
