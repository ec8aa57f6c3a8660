"""BLEU-2, ROUGE-L, distinct-n and perplexity against nltk, rouge-score and worked examples."""

import math
import random
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.lm import MLE
from nltk.translate.bleu_score import corpus_bleu as nltk_bleu
from nltk.util import everygrams, ngrams
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer
from sacrebleu.metrics import BLEU

from hyperlm.errors import OptionError
from hyperlm.text_metrics import corpus_bleu, distinct, perplexity, rouge_l, words_of

# Few different words, so that texts share some.
WORDS = st.sampled_from(["i", "you", "feel", "sad", "don't", "why", "?", ".", "It", "i"])
TEXT = st.lists(WORDS, max_size=9).map(" ".join)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6)


class OurWords(Tokenizer):
    def tokenize(self, text):
        return words_of(text)


def columns(pairs):
    said, wanted = zip(*pairs, strict=True)
    return list(said), list(wanted)


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I don't know, it's late!", ["i", "don't", "know", ",", "it's", "late", "!"]),
        ("  Ça va?\nÉtude n°3 ", ["ça", "va", "?", "étude", "n", "°", "3"]),
        ("'quoted' :-)", ["'", "quoted", "'", ":", "-", ")"]),
        ("", []),
        (" \n", []),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


# --- independent implementations ----------------------------------------------------------------


@given(PAIRS, st.integers(1, 4))
def test_bleu_is_that_of_sacrebleu(pairs, order):
    said, wanted = ([" ".join(words_of(text)) for text in texts] for texts in columns(pairs))
    theirs = BLEU(max_ngram_order=order, tokenize="none", smooth_method="none", force=True)
    expected = theirs.corpus_score(said, [wanted]).score / 100
    assert corpus_bleu(*columns(pairs), order=order) == pytest.approx(expected, abs=1e-12)


@given(PAIRS)
def test_bleu_2_is_that_of_nltk_where_every_text_has_two_words(pairs):
    # A shorter text counts as one wrong pair in nltk, as none here and in sacrebleu.
    said, wanted = columns([(f"so {a} .", b) for a, b in pairs])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nltk warns where an order has no match, and counts on
        theirs = nltk_bleu(
            [[words_of(text)] for text in wanted],
            [words_of(text) for text in said],
            weights=(0.5, 0.5),
        )
    # Where no bigram matches nltk puts the smallest float in the place of 0.
    assert corpus_bleu(said, wanted) == pytest.approx(theirs, abs=1e-100, rel=1e-12)


@given(PAIRS)
def test_rouge_l_is_that_of_rouge_score(pairs):
    said, wanted = columns(pairs)
    scorer = RougeScorer(["rougeL"], tokenizer=OurWords())
    theirs = [scorer.score(b, a)["rougeL"].fmeasure for a, b in pairs]
    assert rouge_l(said, wanted) == pytest.approx(sum(theirs) / len(theirs))


@given(st.lists(TEXT, max_size=6), st.integers(1, 3))
def test_distinct_counts_what_nltk_lists(texts, n):
    grams = [gram for text in texts for gram in ngrams(words_of(text), n)]
    expected = len(set(grams)) / len(grams) if grams else None
    assert distinct(texts, n) == expected


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=20))
def test_perplexity_is_that_of_nltk(words):
    model = MLE(1)
    model.fit([everygrams(words, max_len=1)], vocabulary_text=words)
    logs = [math.log(model.score(word)) for word in words]
    assert perplexity(logs) == pytest.approx(model.perplexity([(word,) for word in words]))


# --- worked by hand ------------------------------------------------------------------------------


def test_bleu_2_by_hand():
    # 4 of 5 words and 2 of 4 pairs occur in the reference of 6 words.
    got = corpus_bleu(["the cat sat on tables"], ["the cat is on the sat"])
    assert got == pytest.approx(math.sqrt(4 / 5 * 1 / 4) * math.exp(1 - 6 / 5))
    # Repeated words count as often as the reference has them.
    assert corpus_bleu(["the the the the"], ["the the cat"]) == pytest.approx(
        math.sqrt(2 / 4 * 1 / 3)
    )


def test_the_counts_of_a_corpus_are_summed_before_they_are_divided():
    said, wanted = ["a b", "c d e f"], ["a b", "x y z w"]
    assert corpus_bleu(said, wanted) == pytest.approx(math.sqrt(2 / 6 * 1 / 4))


def test_rouge_l_by_hand():
    # "police ... the gunman" is common: 3 of 4 words on both sides.
    assert rouge_l(["police kill the gunman"], ["police killed the gunman"]) == 3 / 4
    # Order matters: of "the gunman", "police", "kill" only two keep theirs.
    assert rouge_l(["the gunman kill police"], ["police killed the gunman"]) == 2 / 4
    assert rouge_l(["a b c", "x"], ["a c", "y"]) == pytest.approx((4 / 5 + 0) / 2)


def test_distinct_by_hand():
    assert distinct(["a b a b", "a b"]) == 2 / 4
    assert distinct(["a b c"], 1) == 1
    assert distinct(["a", ""]) is None


def test_perplexity_by_hand():
    assert perplexity([math.log(1 / 4), math.log(1 / 16)]) == pytest.approx(8)
    assert perplexity([]) is None
    assert perplexity([-1e4]) == math.inf


# --- laws ----------------------------------------------------------------------------------------


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_a_text_is_like_itself(texts):
    pairs = any(len(words_of(text)) > 1 for text in texts)
    assert corpus_bleu(texts, texts) == pytest.approx(1.0 if pairs else 0.0)
    empty = sum(not words_of(text) for text in texts)
    assert rouge_l(texts, texts) == pytest.approx(1 - empty / len(texts))


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_the_corpus_says_nothing(pairs, source: random.Random):
    shuffled = source.sample(pairs, len(pairs))
    for metric in (corpus_bleu, rouge_l):
        assert metric(*columns(pairs)) == pytest.approx(metric(*columns(shuffled)))
    assert distinct(columns(pairs)[0]) == distinct(columns(shuffled)[0])


@given(PAIRS)
def test_shares_are_shares(pairs):
    said, wanted = columns(pairs)
    assert 0 <= corpus_bleu(said, wanted) <= 1 + 1e-12
    assert 0 <= rouge_l(said, wanted) <= 1
    assert rouge_l(said, wanted) == pytest.approx(rouge_l(wanted, said))
    share = distinct(said)
    assert share is None or 0 < share <= 1


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_saying_everything_twice_halves_what_is_distinct(texts):
    share = distinct(texts)
    assert distinct(texts * 2) == (None if share is None else pytest.approx(share / 2))


@given(st.lists(st.floats(-20, 0), min_size=1))
def test_perplexity_lies_between_that_of_the_best_and_the_worst_token(logs):
    got = perplexity(logs)
    assert math.exp(-max(logs)) * (1 - 1e-9) <= got <= math.exp(-min(logs)) * (1 + 1e-9)


@pytest.mark.parametrize("metric", [corpus_bleu, rouge_l])
def test_texts_without_a_partner_are_refused(metric):
    for said, wanted in ((["a"], []), ([], []), ("ab", "ab")):
        with pytest.raises(OptionError, match="two lists of equal length"):
            metric(said, wanted)


def test_orders_below_one_are_refused():
    with pytest.raises(OptionError, match="order 0"):
        corpus_bleu(["a"], ["a"], order=0)
    with pytest.raises(OptionError, match="distinct-0"):
        distinct(["a"], 0)
