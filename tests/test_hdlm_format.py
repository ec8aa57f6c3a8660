"""Prompts and answers as tokens: what is cut, what never is, what batches look like."""

import pytest
import torch
from hdlm_models import CONTEXT, PATHS, TEXTS, tokenizer, tree
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm.errors import DataError, ModelError, OptionError
from hyperlm.lm.hdlm import SequenceCollator, SequenceFormat
from hyperlm.lm.hdlm.format import Example
from hyperlm.taxonomy import Taxonomy

WORDS = tokenizer()


def form(taxonomy=None, **options):
    return SequenceFormat(WORDS, tree() if taxonomy is None else taxonomy, **options)


def ids(text):
    return WORDS(text, add_special_tokens=False).input_ids


def test_a_sequence_is_text_cue_and_levels():
    made = form(cue=" :")
    end = made.taxonomy.index(("art", "art history", "modern times"))
    (example,) = made.examples(["x y"], [[end]])
    expected = ids("x y") + ids(" :")
    for name in ("art", "art history", "modern times"):
        expected += [*ids(" " + name), *ids("\n")]
    assert list(example.ids) == expected
    levels = [0] * len(ids("x y") + ids(" :"))
    for level, name in enumerate(("art", "art history", "modern times"), start=1):
        levels += [level] * (len(ids(" " + name)) + 1)
    assert list(example.levels) == levels


def test_ragged_paths_say_that_they_end_only_where_it_is_open():
    made = form()
    index = made.taxonomy.index
    end = ids("\n")
    assert made.answer(index(("sport",)))[1:] == [[], []]  # a leaf: nothing is open
    assert made.answer(index(("art history", "modern")))[2] == end  # others go on from here
    assert made.answer(index(("art history", "modern", "late")))[2] == [*ids(" late"), *end]


def test_a_text_with_several_paths_becomes_several_sequences():
    made = form()
    a, b = (made.taxonomy.index(path) for path in PATHS[:2])
    examples = made.examples(["x", "y", "z"], [[a, b], [], [b]])
    assert len(examples) == 3
    assert [e.ids[0] for e in examples] == [ids("x")[0], ids("x")[0], ids("z")[0]]


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text(alphabet="ab ü\n", max_size=60), min_size=1, max_size=4),
    max_length=st.integers(1, 30),
    spare=st.integers(1, 40),
)
def test_only_the_beginning_of_a_text_is_ever_cut(texts, max_length, spare):
    bare = form(cue=" :")
    context = len(bare.cue) + bare.longest_answer + spare
    made = form(cue=" :", max_length=max_length, context=context)
    limit = min(max_length, spare)
    long = sum(len(ids(text)) > limit for text in texts)
    if long:
        with pytest.warns(UserWarning, match=f"^{long} of {len(texts)} texts were longer"):
            prompts = made.prompts(texts)
    else:
        prompts = made.prompts(texts)
    for text, prompt in zip(texts, prompts, strict=True):
        whole = ids(text) + ids(" :")
        assert prompt == whole[-(min(len(ids(text)), limit) + len(ids(" :"))) :]
        assert len(prompt) + made.longest_answer <= context


def test_the_longest_answer_is_longer_than_no_answer():
    made = form()
    lengths = [sum(map(len, made.answer(int(n)))) for n in made.taxonomy.terminals]
    assert max(lengths) <= made.longest_answer <= max(lengths) + 1
    with_text = form(text_levels=2, max_text_tokens=7)
    assert with_text.longest_answer == made.longest_answer + 14


def test_answers_that_leave_no_room_are_refused():
    with pytest.raises(OptionError, match=r"nothing is left for the text"):
        form(context=form().longest_answer)


def test_a_reply_is_never_cut():
    replies = SequenceFormat(WORDS, None, text_levels=1, context=20, max_text_tokens=5, cue=" :")
    with pytest.warns(UserWarning, match="1 of 1 texts"):
        (example,) = replies.examples(["a b c d e f g h i j k l"], None, [["o p q r s"]])
    assert len(example.ids) <= 20
    assert list(example.ids[-len(ids("o p q r s")) - 1 :]) == [*ids("o p q r s"), 0]
    with pytest.raises(DataError, match=r"answer to text 1 takes .* answers are never cut"):
        replies.examples(["a"], None, [["o p q r s t u v w x y z " * 3]])
    with pytest.raises(DataError, match="2 free texts were given for an answer with 1"):
        replies.examples(["a"], None, [["b", "c"]])


def test_without_any_level_there_is_nothing_to_say():
    with pytest.raises(OptionError, match="at least one level"):
        SequenceFormat(WORDS, None)


def test_a_tokenizer_that_can_end_nothing_is_refused():
    bare = tokenizer()
    bare.eos_token = None
    with pytest.raises(ModelError, match="no end-of-text token"):
        SequenceFormat(bare, None, text_levels=1)


def test_a_tokenizer_without_line_breaks_ends_labels_with_its_end_of_text(tmp_path):
    from conftest import save_tokenizer
    from transformers import AutoTokenizer

    save_tokenizer(tmp_path)
    words = AutoTokenizer.from_pretrained(tmp_path)
    words.eos_token = "[SEP]"
    made = SequenceFormat(words, Taxonomy.from_paths([("owl",), ("oak",)]))
    assert made.label_end == words.convert_tokens_to_ids("[SEP]")
    assert made.words([*made.names[0], made.label_end]) == "owl"
    words.eos_token = None
    with pytest.raises(ModelError, match="neither a token for a line break"):
        SequenceFormat(words, Taxonomy.from_paths([("owl",), ("oak",)]))


def test_siblings_that_are_the_same_tokens_are_refused():
    with pytest.raises(OptionError, match="'a b' and 'a  b' under one parent are the same tokens"):
        form(Taxonomy.from_paths([("a b",), ("a  b",)]))
    # Under different parents they are told apart by what was said above.
    form(Taxonomy.from_paths([("x", "a b"), ("y", "a  b")]))


def test_names_that_tokenise_to_nothing_are_refused():
    from tokenizers import Regex, normalizers

    words = tokenizer()
    words.backend_tokenizer.normalizer = normalizers.Replace(Regex("[0-9]"), "")
    with pytest.raises(OptionError, match="2 label names tokenise to nothing.*'12', '3 4'"):
        SequenceFormat(words, Taxonomy.from_paths([("12",), ("3 4",), ("a1",)]))


def test_an_empty_text_still_has_a_token():
    assert all(form(cue="").prompts(["", "a"]))
    assert form().prompts([]) == []


# --- batches -------------------------------------------------------------------------------------


def some_examples():
    made = form(cue=" :", context=CONTEXT)
    ends = [[made.taxonomy.index(path)] for path in PATHS[:4]]
    return made.examples(TEXTS, ends)


def test_padding_stands_on_the_right():
    examples = some_examples()
    batch = SequenceCollator(pad_id=7)(examples)
    assert set(batch) == {"input_ids", "attention_mask", "levels"}
    for row, example in enumerate(examples):
        size = len(example.ids)
        assert batch["input_ids"][row, :size].tolist() == list(example.ids)
        assert batch["levels"][row, :size].tolist() == list(example.levels)
        assert batch["attention_mask"][row].sum() == size
        assert (batch["input_ids"][row, size:] == 7).all()
        assert (batch["levels"][row, size:] == 0).all()


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=20), width=st.integers(1, 30))
def test_packing_keeps_every_sequence_whole_and_once(lengths, width):
    examples = [
        Example(tuple(100 * at + t for t in range(size)), (0,) * (size - 1) + (1,))
        for at, size in enumerate(lengths, start=1)
    ]
    batch = SequenceCollator(pad_id=0, packed=True, width=width)(examples)
    assert batch["input_ids"].shape[1] <= max(width, max(lengths))
    found = []
    for ids_, places in zip(batch["input_ids"], batch["position_ids"], strict=True):
        starts = [at for at, place in enumerate(places.tolist()) if place == 0]
        for start, end in zip(starts, [*starts[1:], len(places)], strict=True):
            if ids_[start] > 0:
                found.append(tuple(ids_[start:end].tolist()))
                assert places[start:end].tolist() == list(range(end - start))
    assert sorted(found) == sorted(example.ids for example in examples)
    assert int((batch["levels"] > 0).sum()) == len(lengths)
    rows = len(batch["input_ids"])
    assert rows <= len(lengths)
    if width >= sum(lengths):
        assert rows == 1


def test_batches_are_what_torch_expects():
    for packed in (False, True):
        batch = SequenceCollator(pad_id=0, packed=packed)(some_examples())
        assert all(value.dtype == torch.long for value in batch.values())
