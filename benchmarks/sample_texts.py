"""A part of a data set as a folder of tables, for comparisons that a small machine can finish.

    python benchmarks/sample_texts.py --data esconv --train 300 --val 60 --test 100 -o esconv-300

Texts are drawn at random by ``--seed``, from each split alone; ``--every-path`` begins train with a
text of every path. The tables are JSON lines with the columns ``text``, ``label`` (a list of names,
or of paths) and ``reply`` where the set has replies.
"""

import argparse
import random
from pathlib import Path

from hyperlm.data import SPLITS, LabelledTexts, load_data, write_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="as hyperlm train takes it")
    for split in SPLITS:
        parser.add_argument(f"--{split}", type=int, required=True, help=f"texts of {split}")
    parser.add_argument("--every-path", action="store_true", help="of train, a text of each first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to make")
    given = parser.parse_args()
    given.output.mkdir(parents=True)
    bundle = load_data(given.data, seed=given.seed)
    for split in SPLITS:
        count, every = getattr(given, split), given.every_path and split == "train"
        whole = bundle.split(split)
        texts = _every_path(whole, count, given.seed) if every else whole.sample(count, given.seed)
        rows = []
        for at, (text, paths) in enumerate(zip(texts.texts, texts.paths, strict=True)):
            label = list(paths[0]) if len(paths) == 1 else [list(path) for path in paths]
            reply = {} if texts.replies is None else {"reply": texts.replies[at]}
            rows.append({"text": text, "label": label, **reply})
        write_rows(given.output / f"{split}.jsonl", rows)
        print(f"{split}: {len(texts):,} of {len(bundle.split(split)):,} texts")


def _every_path(texts: LabelledTexts, count: int, seed: int) -> LabelledTexts:
    """``count`` texts in their order, among them one of every path."""
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    first: dict[tuple[str, ...], int] = {}
    for at in order:
        for path in texts.paths[at]:
            first.setdefault(path, at)
    chosen = dict.fromkeys(first.values())
    if count < len(chosen):
        raise SystemExit(f"--train {count}: one text of every path takes {len(chosen):,}.")
    return texts.take(sorted([*chosen, *(at for at in order if at not in chosen)][:count]))


if __name__ == "__main__":
    main()
