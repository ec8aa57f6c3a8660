"""Trees and DAGs placed without training: what distance, neighbours and ancestors are worth by tau.

    python benchmarks/bench_trees.py icd10cm mammals [--dims 2,5,10] [--taus 1,2,3,5] [--json]

A TREE is ``icd10cm`` (needs ``pip install simple-icd-10-cm``), ``icd10cm-all``, ``mammals`` or
``nouns`` (need the variable HYPERLM_DATA, a folder that holds ``wordnet/``), ``random`` (a random
tree of a million nodes: time and distortion alone), or a file that ``Taxonomy.read`` takes. Rows
marked ``refined`` follow in DAGs. Distortion over 20,000 pairs; average precision and retrieval
over 200 nodes, each against all others. Retrieval asks for the ancestors above the parents.
"""

import argparse
import gzip
import json
import os
import sys
import time
import warnings
from pathlib import Path

import networkx as nx
import numpy as np

from hyperlm.manifolds import distortion, fidelity, refine, sarkar
from hyperlm.taxonomy import Taxonomy


def icd10cm(*, extended: bool = False) -> Taxonomy:
    """Chapters, blocks, categories and subcategories; ``extended`` adds codes of 7 characters.

    A block of one category has the category's code: blocks are named "block CODE" here.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(read|open)_text", category=DeprecationWarning)
        import simple_icd_10_cm as codes
    edges: list[tuple[str, str | None]] = []
    seen = set()
    for code in codes.get_all_codes():
        if codes.is_extended_subcategory(code) and not extended:
            continue
        block = codes.is_block(code) and code not in seen  # the block comes before its category
        seen.add(code)
        above = codes.get_parent(code, prioritize_blocks=block)
        in_block = (block or codes.is_category(code)) and above and codes.is_block(above)
        child, parent = f"block {code}" if block else code, f"block {above}" if in_block else above
        edges.append((child, parent or None))
    return Taxonomy.from_edges(edges, tree=True, name="ICD-10-CM")


def _pairs(file: str) -> list[tuple[str, ...]]:
    folder = os.environ.get("HYPERLM_DATA")
    if not folder:
        raise SystemExit("Set HYPERLM_DATA to the folder that holds wordnet/.")
    with gzip.open(Path(folder) / "wordnet" / file, "rt", encoding="utf-8") as lines:
        return [tuple(line.rstrip("\n").split("\t")) for line in lines]


def mammals() -> Taxonomy:
    """The edges of WordNet's mammals, back from their transitive closure."""
    closure = nx.DiGraph(pair for pair in _pairs("mammal_closure.tsv.gz") if pair[0] != pair[1])
    return Taxonomy.from_edges(nx.transitive_reduction(closure).edges, name="mammals")


def nouns() -> Taxonomy:
    """All nouns of WordNet under their hypernyms."""
    rows = _pairs("hypernyms.tsv.gz")[1:]
    return Taxonomy.from_edges([(row[0], row[1]) for row in rows], name="nouns")


def random_tree(size: int = 1_000_000, seed: int = 0) -> Taxonomy:
    """A tree of about seven levels whose nodes have about ten children."""
    generator = np.random.default_rng(seed)
    widths = [size // 10**k for k in range(5, -1, -1)]
    level = np.repeat(np.arange(len(widths)), widths)
    begin = np.concatenate([[0], np.cumsum(widths)])
    child = np.flatnonzero(level > 0)
    above = level[child] - 1
    parent = begin[above] + (generator.random(len(child)) * np.array(widths)[above]).astype(int)
    names = [str(i) for i in range(int(begin[-1]))]
    return Taxonomy(names, np.stack([child, parent], 1), name="random")


def load(name: str) -> Taxonomy:
    known = {
        "icd10cm": icd10cm,
        "icd10cm-all": lambda: icd10cm(extended=True),
        "mammals": mammals,
        "nouns": nouns,
        "random": random_tree,
    }
    return known[name]() if name in known else Taxonomy.read(name)


def rows_of(name: str, dim: int, tau: float, taxonomy: Taxonomy) -> list[dict[str, object]]:
    start = time.perf_counter()
    points = sarkar(taxonomy, dim, tau)
    built = time.perf_counter() - start
    large = len(taxonomy) > 200_000
    row: dict[str, object] = {"tree": name, "dim": dim, "tau": tau, "points": "built"}
    row |= {"seconds": built}
    row |= (
        {"distortion": distortion(taxonomy, points)} if large else fidelity.report(taxonomy, points)
    )
    if large or taxonomy.is_tree:
        return [row]
    start = time.perf_counter()
    points = refine(taxonomy, points)
    refined = row | {"points": "refined", "seconds": time.perf_counter() - start}
    return [row, refined | fidelity.report(taxonomy, points)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trees", nargs="+", metavar="TREE")
    parser.add_argument("--dims", default="2,5,10")
    parser.add_argument("--taus", default="1,2,3,5")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    columns = {
        "tree": "14s", "dim": "5d", "tau": "7.3g", "points": ">9s", "seconds": "9.2f",
        "distortion": "12.4f", "average_precision": "19.4f", "retrieval": "11.4f",
        "retrieval_by_distance": "23.4f", "largest_radius": "16.1f",
    }  # fmt: skip
    found = []
    for name in args.trees:
        taxonomy = load(name)
        print(f"{name}: {taxonomy!r}", file=sys.stderr)
        if not args.json:
            print("".join(format(title, _as_text(spec)) for title, spec in columns.items()))
        for dim in map(int, args.dims.split(",")):
            for tau in map(float, args.taus.split(",")):
                for row in rows_of(name, dim, tau, taxonomy):
                    found.append(row)
                    if not args.json:
                        shown = [
                            format(row[title], spec) if title in row else " " * _width(spec)
                            for title, spec in columns.items()
                        ]
                        print("".join(shown), flush=True)
    if args.json:
        print(json.dumps(found, indent=2))


def _width(spec: str) -> int:
    return int(spec.lstrip(">").split(".")[0].rstrip("sdgf"))


def _as_text(spec: str) -> str:
    return f"{'<' if spec.endswith('s') and not spec.startswith('>') else '>'}{_width(spec)}s"


if __name__ == "__main__":
    main()
