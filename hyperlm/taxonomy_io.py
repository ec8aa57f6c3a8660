"""Taxonomies as files and networkx graphs; what is written reads back as an equal taxonomy.

==========================  ====================================================================
``.json``                   ``Taxonomy.to_dict``; holds every taxonomy
``.csv``, ``.tsv``          edge list; a header names the columns ``child`` and ``parent``; with
                            semicolons where the header has them and no comma
``.taxonomy``               edge list; a parent, then its children, on every line, with tabs
``.yaml``, ``.yml``         nested mappings of names; trees only
==========================  ====================================================================

A further ``.gz`` compresses. Text is UTF-8. Only JSON and networkx keep inner terminals. Edge lists
are handled in ``taxonomy_edges``, YAML in ``taxonomy_yaml``.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperlm.errors import OutputError, TaxonomyError
from hyperlm.taxonomy import Taxonomy
from hyperlm.taxonomy_build import below_root
from hyperlm.taxonomy_edges import csv_text, families_text, read_csv, read_families
from hyperlm.taxonomy_yaml import read_yaml, yaml_text

if TYPE_CHECKING:
    import networkx

SUFFIXES = (".json", ".csv", ".tsv", ".yaml", ".yml", ".taxonomy")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read(path: str | PathLike[str]) -> Taxonomy:
    """Read a taxonomy by the suffix of its file name; its title is the stem unless JSON has one."""
    path = Path(path)
    suffix, packed = _suffix(path)
    text = _read_text(path, packed)
    stem = Path(path.name.removesuffix(".gz")).stem
    try:
        match suffix:
            case ".json":
                return _read_json(text)
            case ".yaml" | ".yml":
                return read_yaml(text, name=stem)
            case ".taxonomy":
                return read_families(text, name=stem)
            case _:
                header, _, _ = text.partition("\n")
                # As Excel writes it in much of Europe; tables of texts are read alike.
                semicolons = suffix == ".csv" and ";" in header and "," not in header
                delimiter = ";" if semicolons else _DELIMITERS[suffix]
                return read_csv(text, delimiter, name=stem)
    except TaxonomyError as error:
        raise TaxonomyError(f"{path}: {error}") from error


def write(taxonomy: Taxonomy, path: str | PathLike[str]) -> None:
    """Write by suffix, through a temporary file beside it, so that no half file is left."""
    path = Path(path)
    suffix, packed = _suffix(path)
    try:
        data = _text(taxonomy, suffix).encode()
    except TaxonomyError as error:
        raise TaxonomyError(f"{path}: {error}") from error
    if packed:
        data = gzip.compress(data, mtime=0)  # equal taxonomies make equal files
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)


def _text(taxonomy: Taxonomy, suffix: str) -> str:
    if suffix == ".json":
        return json.dumps(taxonomy.to_dict(), ensure_ascii=False) + "\n"
    inner = np.setdiff1d(taxonomy.terminals, taxonomy.leaves)
    if inner.size:
        raise TaxonomyError(
            f"paths may end at {len(inner)} inner nodes, the first {taxonomy.name(inner[0])!r}, "
            "which this format cannot say; write .json, or drop them with with_terminals([])."
        )
    match suffix:
        case ".yaml" | ".yml":
            return yaml_text(taxonomy)
        case ".taxonomy":
            return families_text(taxonomy)
        case _:
            return csv_text(taxonomy, _DELIMITERS[suffix])


def _suffix(path: Path) -> tuple[str, bool]:
    name = path.name.lower()
    packed = name.endswith(".gz")
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in SUFFIXES:
        raise TaxonomyError(
            f"{path}: the format follows from the suffix, which must be one of "
            f"{', '.join(SUFFIXES)}, or one of these and .gz."
        )
    return suffix, packed


def _read_text(path: Path, packed: bool) -> str:
    try:
        data = path.read_bytes()
        if packed:
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise TaxonomyError(
            f"{path}, line {line}: byte 0x{error.object[error.start]:02x} at offset {error.start} "
            "is not UTF-8. Save the file as UTF-8."
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TaxonomyError(f"{path}: not a whole gzip file ({error}).") from error
    except OSError as error:
        raise TaxonomyError(f"{path}: cannot be read: {error.strerror or error}.") from error


def _read_json(text: str) -> Taxonomy:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise TaxonomyError(
            f"line {error.lineno}, column {error.colno}: not JSON ({error.msg})."
        ) from error
    except RecursionError as error:
        raise TaxonomyError("nested too deeply for a taxonomy in JSON.") from error
    return Taxonomy.from_dict(data)


def to_networkx(taxonomy: Taxonomy) -> networkx.DiGraph[Any]:
    """Edges parent -> child on the integers -1 (the root) to N-1, every top node under -1.

    Node attributes: ``name``, and ``terminal`` (bool). The graph attribute ``name`` is the title.
    """
    import networkx

    graph: networkx.DiGraph[Any] = networkx.DiGraph(name=taxonomy.title)
    graph.add_node(-1, name="root", terminal=False)
    terminals = set(taxonomy.terminals.tolist())
    for node, label in enumerate(taxonomy.names):
        graph.add_node(node, name=label, terminal=node in terminals)
    graph.add_edges_from((-1, int(node)) for node in taxonomy.levels[0])
    graph.add_edges_from((parent, child) for child, parent in taxonomy.edges.tolist())
    return graph


def from_networkx(graph: networkx.DiGraph[Any]) -> Taxonomy:
    """From a directed graph with edges parent -> child.

    A node's name is its attribute ``name``, or else the node itself as a string; ``terminal=True``
    lets paths end there. A single node without parents is the root and no node of the taxonomy.
    """
    if not graph.is_directed():
        raise TaxonomyError("The graph is undirected; edges must point from parent to child.")
    number = {node: i for i, node in enumerate(graph)}
    pairs = [(number[child], number[parent]) for child in graph for parent in graph.pred[child]]
    parts = below_root(
        [data.get("name", str(node)) for node, data in graph.nodes(data=True)],
        np.array(pairs, np.int64).reshape(-1, 2),
        [number[node] for node, terminal in graph.nodes(data="terminal") if terminal],
    )
    return Taxonomy(*parts, name=str(graph.graph.get("name", "")))
