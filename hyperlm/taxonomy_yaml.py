"""Taxonomies as nested YAML: mappings and lists of names, the outermost are top nodes; trees only.

Numbers, dates and words such as ``no`` stay the text they are, and nothing recurses, so that depth
is bounded by memory alone.
"""

import re
from typing import NoReturn

from hyperlm.errors import TaxonomyError
from hyperlm.taxonomy import PATH_SEPARATOR, Taxonomy

_PLAIN = re.compile(r"[^\W\d_](?:[\w ]*\w)?")  # unquoted never a number
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def read_yaml(text: str, *, name: str) -> Taxonomy:
    """The tree of the nested names of one document."""
    return Taxonomy.from_paths(_leaf_paths(text), name=name)


def _leaf_paths(text: str) -> list[tuple[str, ...]]:
    """Paths to all leaves, from parser events."""
    import yaml

    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    paths: list[tuple[str, ...]] = []
    here: list[str] = []  # names down to the open block
    blocks: list[bool] = []  # is each open block a mapping (or a list)?
    siblings: list[set[str]] = []
    waiting = False  # is a mapping's key waiting for its value?
    documents = 0

    def refuse(what: str) -> NoReturn:
        line = event.start_mark.line + 1 if event.start_mark else 0
        raise TaxonomyError(f"line {line}: {what}")

    def enter(label: str) -> None:
        if not label.strip():
            refuse("a name is empty.")
        if label in siblings[-1]:
            refuse(f"{label!r} occurs twice below {PATH_SEPARATOR.join(here) or 'the root'!r}.")
        siblings[-1].add(label)
        here.append(label)

    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    refuse("a second document starts; a file holds one taxonomy.")
            elif isinstance(event, yaml.AliasEvent):
                refuse(f"*{event.anchor} is an alias; nested YAML holds trees, use an edge list.")
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                is_mapping = isinstance(event, yaml.MappingStartEvent)
                if blocks and blocks[-1] and not waiting:
                    refuse("a name must be text, got a mapping or a list.")
                if is_mapping and blocks and not blocks[-1] and not waiting:
                    siblings.append(siblings[-1])  # "- a: ..." adds to the list's own children
                elif not is_mapping and blocks and not blocks[-1]:
                    refuse("a list directly in a list gives no names.")
                else:
                    siblings.append(set())
                blocks.append(is_mapping)
                waiting = False
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                blocks.pop()
                if not siblings.pop() and here:
                    paths.append(tuple(here))  # {} and []: a leaf
                if blocks and blocks[-1]:
                    here.pop()
                waiting = False
            elif isinstance(event, yaml.ScalarEvent):
                empty = event.implicit[0] and event.value in ("", "~", "null", "Null", "NULL")
                if not blocks:
                    refuse(f"expected names with children, got {event.value!r:.80}.")
                elif blocks[-1] and not waiting:
                    enter(event.value)
                    waiting = True
                    continue
                elif blocks[-1]:  # the value of a key: nothing, or its only child
                    if not (empty or event.value.strip()):
                        refuse("a name is empty.")
                    paths.append(tuple(here) if empty else (*here, event.value))
                    here.pop()
                else:
                    enter("" if empty else event.value)
                    paths.append(tuple(here))
                    here.pop()
                waiting = False
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise TaxonomyError(f"line {line}: not YAML ({error.problem}).") from error
    except yaml.YAMLError as error:
        raise TaxonomyError(f"not YAML ({error}).") from error
    return paths


def yaml_text(taxonomy: Taxonomy) -> str:
    """What ``read_yaml`` reads: one name a line, indented by its depth."""
    if not taxonomy.is_tree:
        raise TaxonomyError("nested YAML holds trees, and this is a DAG; write .json or .csv.")
    lines = []
    stack = taxonomy.levels[0].tolist()[::-1]
    while stack:
        node = stack.pop()
        children = taxonomy.children(node).tolist()
        indent = "  " * (int(taxonomy.depth[node]) - 1)
        label = _quoted(taxonomy.names[node])
        # YAML wants "? " before a key that is longer than 1024 characters
        lines.append(f"{indent}{label}:" if len(label) < 1000 else f"{indent}? {label}\n{indent}:")
        if not children:
            lines[-1] += " {}"
        stack.extend(children[::-1])
    return "\n".join(lines) + "\n"


def _quoted(label: str) -> str:
    if _PLAIN.fullmatch(label) and label.lower() not in _WORDS and label.isascii():
        return label
    escaped = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in label)
    return f'"{"".join(escaped)}"'
