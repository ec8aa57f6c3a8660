"""Stratified cuts: sizes by class, determinism, independence of row order."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm.data import LabelledTexts, stratified_split
from hyperlm.data.splits import cut, find_split_files
from hyperlm.errors import DataError, OptionError

LABELS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=120)
FRACTIONS = st.sampled_from([0.05, 0.1, 0.2, 1 / 3, 0.5])


@settings(max_examples=150, deadline=None)
@given(LABELS, FRACTIONS, st.integers(0, 5))
def test_every_class_gives_its_share_and_keeps_one(labels, fraction, seed):
    rest, part = stratified_split(labels, [str(i) for i in range(len(labels))], fraction, seed)
    assert sorted([*rest, *part]) == list(range(len(labels)))
    counts, given_ = Counter(labels), Counter(labels[i] for i in part)
    for label, count in counts.items():
        assert given_[label] <= count - 1
        if len(part) > 1:  # a single row may have to come from anywhere
            assert abs(given_[label] - fraction * count) < 1 + 1e-6
    assert len(part) <= max(1, fraction * len(labels) + 0.5 + 1e-6)
    assert bool(len(part)) == (max(counts.values()) > 1)


@settings(max_examples=50, deadline=None)
@given(LABELS, FRACTIONS, st.integers(0, 5))
def test_the_cut_does_not_depend_on_the_order_of_rows(labels, fraction, seed):
    rows = [(label, f"text {i}") for i, label in enumerate(labels)]
    shuffled = rows[:]
    random.Random(seed).shuffle(shuffled)

    def chosen(rows):
        _, part = stratified_split([r[0] for r in rows], [r[1] for r in rows], fraction, seed)
        return {rows[i] for i in part}

    assert chosen(rows) == chosen(shuffled)


def test_a_seed_repeats_and_another_differs():
    labels, texts = ["a", "b"] * 100, [str(i) for i in range(200)]
    first, again, other = (stratified_split(labels, texts, 0.1, s)[1].tolist() for s in (1, 1, 2))
    assert first == again != other
    assert len(first) == 20


def test_the_total_comes_near_the_fraction_with_many_small_classes():
    labels = [i // 4 for i in range(400)]  # 100 classes of 4: each would give 0.4 texts
    _, part = stratified_split(labels, [str(i) for i in range(400)], 0.1, 0)
    assert len(part) == 40


@pytest.mark.parametrize("fraction", [0.0, -0.1, 0.6, float("nan")])
def test_fractions_outside_the_range_are_refused(fraction):
    with pytest.raises(OptionError, match=r"above 0 and up to 0\.5"):
        stratified_split(["a", "a"], ["x", "y"], fraction, 0)


@given(
    st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=3, unique=True), min_size=4),
    st.sampled_from([0.1, 0.25, 0.5]),
    st.integers(0, 50),
    st.randoms(use_true_random=False),
)
def test_texts_with_several_labels_are_drawn_and_every_label_keeps_a_text(
    labels, fraction, seed, random
):
    rows = [(f"t{row}", tuple((name,) for name in names)) for row, names in enumerate(labels)]

    def parts(rows):
        some = LabelledTexts(tuple(t for t, _ in rows), tuple(p for _, p in rows))
        rest, part, _ = cut(some, fraction, seed)
        return rest, () if part is None else part.texts

    rest, drawn = parts(rows)
    kept = {path for paths in rest.paths for path in paths}
    assert kept == {path for _, paths in rows for path in paths}
    assert len(drawn) <= max(1, round(fraction * len(rows)) + 7)  # a rounding of each label
    shuffled = random.sample(rows, len(rows))
    assert sorted(parts(shuffled)[1]) == sorted(drawn)


@given(
    st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=3), min_size=4),
    st.sampled_from([0.1, 0.25, 0.5]),
    st.integers(0, 50),
    st.randoms(use_true_random=False),
)
def test_a_text_with_a_row_for_each_label_is_one_text(labels, fraction, seed, random):
    rows = [(f"t{at}", ((name,),)) for at, names in enumerate(labels) for name in names]

    def parts(rows):
        some = LabelledTexts(tuple(t for t, _ in rows), tuple(p for _, p in rows))
        rest, part, _ = cut(some, fraction, seed)
        return rest, set() if part is None else set(part.texts)

    rest, drawn = parts(rows)
    assert not drawn & set(rest.texts)
    assert set(rest.paths) == {paths for _, paths in rows}  # every label keeps a text
    assert parts(random.sample(rows, len(rows)))[1] == drawn
    joined = [(f"t{at}", tuple((name,) for name in set(names))) for at, names in enumerate(labels)]
    assert parts(joined)[1] == drawn  # as where one row has all of them


def test_combinations_that_occur_once_are_drawn_like_others():
    """Every pair of ten labels, and each label alone four times."""
    pairs = [((a,), (b,)) for a in range(10) for b in range(a)]
    alone = [((a,),) for a in range(10)] * 4
    paths = [tuple((str(name),) for (name,) in some) for some in (*pairs, *alone)]
    texts = LabelledTexts(tuple(f"t{row}" for row in range(len(paths))), tuple(paths))
    _, part, _ = cut(texts, 0.2, 0)
    several = sum(len(some) > 1 for some in part.paths)
    assert len(part) == 17
    assert 5 <= several <= 13  # 45 of 85 texts


def test_a_cut_is_recorded_and_texts_keep_their_lines():
    paths = [(("a", "b"),)] * 10 + [(("a",),)] * 10
    texts = LabelledTexts([str(i) for i in range(20)], paths, "t.csv", list(range(2, 22)))
    rest, part, record = cut(texts, 0.2, 3)
    assert record["seed"] == 3
    assert record["rows"] == len(part) == 4
    assert record["cut_from"] == "t.csv"
    assert len(record["rows_sha256"]) == 64
    assert sorted(rest.lines + part.lines) == list(range(2, 22))
    assert all(int(text) + 2 == line for text, line in zip(part.texts, part.lines, strict=True))
    assert part.place(0) == f"t.csv, line {part.lines[0]}"


def test_split_files_have_several_names(tmp_path):
    for name in ("train.csv", "Dev.jsonl.gz", "test.parquet", "notes.txt", "train.txt"):
        (tmp_path / name).touch()
    found = find_split_files(tmp_path)
    assert {s: p.name for s, p in found.items()} == {
        "train": "train.csv", "val": "Dev.jsonl.gz", "test": "test.parquet"
    }  # fmt: skip
    (tmp_path / "valid.csv").touch()
    with pytest.raises(DataError, match=r"Dev\.jsonl\.gz and valid\.csv all claim to be the val"):
        find_split_files(tmp_path)
