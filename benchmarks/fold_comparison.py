"""Two ways of training, compared on many held-out texts: more than one small test split can say.

    python benchmarks/fold_comparison.py --data dbpedia --folds 2 \\
        --first "" \\
        --second "--head linear --init random --loss leaf --layers 6 --learning-rate 2e-4"

Figures from before training read 256 tokens need ``--max-length 128`` in both.

The train and val texts of a set are pooled and shuffled once. Each fold holds out a quarter of
them, trains both ways on the rest (fold k with seed k; the best epoch is chosen on the held-out
texts, for both alike) and measures both on the same held-out texts. Printed: accuracy per level
of each way, and their difference with its standard error over texts, paired. Full fine-tuning
takes about ten minutes a run on two CPU cores; a run that is done is kept in --folder.
"""

import argparse
import csv
import json
import random
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

import hyperlm
from hyperlm.data import load_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="dbpedia")
    parser.add_argument("--folds", type=int, default=2, choices=(1, 2, 3, 4))
    parser.add_argument("--first", default="", help="options of hyperlm train")
    parser.add_argument("--second", default="--head linear --loss leaf --layers 6")
    parser.add_argument("--folder", type=Path, default=Path("runs/folds"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    bundle = load_data(args.data)
    texts = [*bundle.train.texts, *bundle.split("val").texts]
    paths = [
        bundle.taxonomy.path(int(gold[0]))
        for split in ("train", "val")
        for gold in bundle.gold(split)
    ]
    order = list(range(len(texts)))
    random.Random(7).shuffle(order)
    right: dict[str, list[np.ndarray]] = {"first": [], "second": []}
    for fold, part in enumerate(np.array_split(order, 4)[: args.folds]):
        held = part.tolist()
        folder = args.folder / f"fold{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        inside = set(held)
        rest = [row for row in order if row not in inside]
        for name, rows in (("train", rest), ("val", held), ("test", held)):
            write_rows(folder / f"{name}.csv", texts, paths, rows)
        gold = [paths[row] for row in held]
        for arm in right:
            run = folder / arm
            if not (run / "metrics.json").is_file():
                train(folder, run, fold, shlex.split(getattr(args, arm)))
            answers = hyperlm.load(run).predict([texts[row] for row in held])
            right[arm].append(agreement([answer.path for answer in answers], gold))
    first, second = (np.concatenate(right[arm]) for arm in ("first", "second"))  # (texts, L)
    gain = 100 * (first - second)
    document = {
        "texts": len(first),
        "first": (100 * first.mean(0)).round(2).tolist(),
        "second": (100 * second.mean(0)).round(2).tolist(),
        "difference": gain.mean(0).round(2).tolist(),
        "standard_error": (gain.std(0) / len(gain) ** 0.5).round(2).tolist(),
    }
    if args.json:
        print(json.dumps(document))
        return
    print(f"{document.pop('texts')} held-out texts, accuracy per level in percent")
    for name, values in document.items():
        print(f"{name:15s}" + "".join(f"{value:8.2f}" for value in values))


def write_rows(path: Path, texts: list[str], paths: list, rows: list[int]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["text", *(f"l{level + 1}" for level in range(len(paths[0])))])
        table.writerows([texts[row], *paths[row]] for row in rows)


def train(data: Path, run: Path, seed: int, options: list[str]) -> None:
    command = [sys.executable, "-m", "hyperlm", "train", "--data", str(data), "--seed", str(seed)]
    subprocess.run(
        [*command, "--patience", "0", *options, "--output", str(run), "--overwrite"],
        check=True,
        stdout=sys.stderr,
    )


def agreement(predicted: list[tuple[str, ...]], gold: list[tuple[str, ...]]) -> np.ndarray:
    """``(n, L)``: 1.0 where the first l labels are right."""
    return np.array(
        [
            [float(p[: at + 1] == g[: at + 1]) for at in range(len(g))]
            for p, g in zip(predicted, gold, strict=True)
        ]
    )


if __name__ == "__main__":
    main()
