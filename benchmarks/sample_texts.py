"""A part of a data set as a folder of tables, for comparisons that a small machine can finish.

    python benchmarks/sample_texts.py --data esconv --train 300 --val 60 --test 100 -o esconv-300

Texts are drawn at random by ``--seed``, from each split alone. The tables are JSON lines with the
columns ``text``, ``label`` (a list of names, or of paths) and ``reply`` where the set has replies.
"""

import argparse
from pathlib import Path

from hyperlm.data import SPLITS, load_data, write_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="as hyperlm train takes it")
    for split in SPLITS:
        parser.add_argument(f"--{split}", type=int, required=True, help=f"texts of {split}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to make")
    given = parser.parse_args()
    given.output.mkdir(parents=True)
    bundle = load_data(given.data, seed=given.seed)
    for split in SPLITS:
        texts = bundle.split(split).sample(getattr(given, split), given.seed)
        rows = []
        for at, (text, paths) in enumerate(zip(texts.texts, texts.paths, strict=True)):
            label = list(paths[0]) if len(paths) == 1 else [list(path) for path in paths]
            reply = {} if texts.replies is None else {"reply": texts.replies[at]}
            rows.append({"text": text, "label": label, **reply})
        write_rows(given.output / f"{split}.jsonl", rows)
        print(f"{split}: {len(texts):,} of {len(bundle.split(split)):,} texts")


if __name__ == "__main__":
    main()
