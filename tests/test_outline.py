"""The documented example with two levels of free text runs as it is, only shorter."""

import importlib.util
import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hyperlm.classifier_text import answer_log_probs
from hyperlm.cli import app
from hyperlm.lm.loading import load_decoder
from hyperlm.text_metrics import perplexity


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parent.parent / "examples" / "outline.py"
    spec = importlib.util.spec_from_file_location("outline", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(example, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outline") / "model"
    return example.main(steps=12, batch_size=8, output=str(folder)), folder


def test_an_outline_has_the_rarest_words_in_their_order(example):
    counts = Counter({"light": 9, "keeper": 1, "tower": 2, "storm": 3, "waits": 8})
    said = "The keeper waits for light: a storm, and the tower holds; the keeper sleeps."
    assert example.outline(said, counts) == "keeper, tower, holds, sleeps"
    assert example.outline("A light.", counts) == "light"
    assert example.outline("", counts) == ""


def test_sentences_are_the_beginnings_of_the_texts(example):
    texts = example.load_data("demo").test
    topics, said = example.sentences("test")
    assert len(topics) == len(said) == len(texts)
    for text, sentence in zip(texts.texts, said, strict=True):
        assert text.startswith(sentence)
    assert "Fashion Designer" in topics
    assert not any(re.search("[a-z][A-Z]", topic) for topic in topics)


def test_it_trains_saves_and_measures_on_test(example, trained):
    results, folder = trained
    model = load_decoder(folder).eval()
    assert model.taxonomy is None
    assert model.layers == (2, 3)
    vocabulary = model.level_logits(1, model.backbone.get_input_embeddings().weight[:1]).shape[-1]
    for value in results.values():
        assert 1 < value < vocabulary  # knows more than that each token is as likely as the others
    train_said = example.sentences("train")[1]
    words = (set(re.findall(r"\w{4,}", text.lower())) for text in train_said)
    counts = Counter(word for of_text in words for word in of_text)
    topics, said = example.sentences("test")
    pairs = [[example.outline(text, counts), text] for text in said]
    own = answer_log_probs(model, topics, None, pairs, 16)
    assert perplexity(own[0]) == pytest.approx(results["outline"], rel=1e-3)
    assert perplexity(own[1]) == pytest.approx(results["text after its outline"], rel=1e-3)


def test_generate_tells_outline_and_text_with_their_layers(trained):
    _, folder = trained
    words = ["generate", str(folder), "--text", "Lighthouse", "--reply-tokens", "5"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.stderr
    assert re.search(r"^  outline \(layer 2\): ", told.stdout, re.MULTILINE)
    assert re.search(r"^  text \(layer 3\): ", told.stdout, re.MULTILINE)
    (document,) = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    (answer,) = document["answers"]
    chances = [level["probability"] for level in answer["levels"]]
    assert math.prod(chances) == pytest.approx(answer["probability"])
    assert all(level["tokens"] <= 5 for level in document["cost"]["levels"])
