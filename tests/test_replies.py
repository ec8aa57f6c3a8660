"""Label, then text: perplexity of replies, a run that says them, its options."""

import json

import numpy as np
import pytest
import torch
from hdlm_models import PATHS, made, save_causal, tree
from reply_tables import write_csv
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import hyperlm
from hyperlm import classifier_text
from hyperlm.classifier_text import TextClassifier, answer_log_probs
from hyperlm.cli import app
from hyperlm.data import LabelledTexts, load_data
from hyperlm.errors import OptionError
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.text_metrics import corpus_bleu, distinct, perplexity, rouge_l

# --- perplexity of replies -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return save_causal("llama", tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("layer", [2, 4])
def test_log_probabilities_are_those_of_the_library_on_one_sequence_at_a_time(backbone, layer):
    layers = [1, 1, 2, layer]
    model = made(backbone, text_levels=1, layers=layers, max_text_tokens=9)
    reference = AutoModelForCausalLM.from_pretrained(backbone).eval()
    taxonomy = tree()
    ends = [[taxonomy.index(PATHS[0])], [taxonomy.index(("sport",))], [taxonomy.index(PATHS[3])]]
    texts, replies = ["a b", "the physics of art", ""], ["late times", "", "oil, and more oil"]
    expected = [[], [], [], []]
    for text, (end,), reply in zip(texts, ends, replies, strict=True):
        (prompt,) = model.format.prompts([text])
        ids = list(prompt)
        answer = model.format.answer(end, [reply])
        for level, tokens in enumerate(answer):
            for token in tokens:
                with torch.no_grad():
                    out = reference(torch.tensor([ids]), output_hidden_states=True)
                    state = out.hidden_states[layers[level]][0, -1]
                    # The library has normed the last of its states already.
                    normed = state if layers[level] == 4 else reference.model.norm(state)
                    logs = reference.lm_head(normed).log_softmax(-1)
                expected[level].append(float(logs[token]))
                ids.append(token)
        assert ids[-1] == model.tokenizer.eos_token_id
    for size in (1, 3):
        got = answer_log_probs(model, texts, ends, [[reply] for reply in replies], size)
        for of_level, theirs in zip(got, expected, strict=True):
            assert sorted(of_level) == pytest.approx(sorted(theirs), abs=1e-4)


# --- a run ---------------------------------------------------------------------------------------


STRATEGIES = {"a": ("art", "oil oil"), "b": ("sport", "late art"), "c": ("science", "optics oil")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The first word betrays label and reply."""
    made_at = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for split, each in (("train", 20), ("val", 3), ("test", 4)):
        rows = [
            (f"{cue * 3} {random.integers(10)}", label, reply)
            for _ in range(each)
            for cue, (label, reply) in STRATEGIES.items()
        ]
        write_csv(made_at / f"{split}.csv", ["text", "label", "said"], rows)
    return made_at


def options(folder, backbone, **changes):
    return TrainingOptions(
        **{
            "data": str(folder), "reply_column": "said", "backbone": str(backbone),
            "answer": "text", "layers": "2,4", "epochs": 8, "batch_size": 8, "max_length": 20,
            "learning_rate": 1e-2, "precision": "fp32", "reply_tokens": 12, **changes,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(folder, backbone, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "replies"
    train(options(folder, backbone), output, progress=False)
    return output


def command(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def test_a_run_learns_labels_and_replies(run):
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    assert metrics["path_accuracy"] > 0.6
    assert metrics["path_consistency"] == 1
    reply = metrics["reply"]
    assert reply["bleu_2"] > 0.5
    assert reply["rouge_l"] > 0.5
    assert 1 <= reply["perplexity"] < 3
    assert reply["layer"] == 4
    log = [json.loads(line) for line in (run / "train_log.jsonl").read_text().splitlines()]
    seen = [line for line in log if "eval_reply_perplexity" in line]
    assert seen[-1]["eval_reply_perplexity"] < seen[0]["eval_reply_perplexity"]
    card = (run / "README.md").read_text()
    assert "reply BLEU-2" in card
    assert "--reply-column said" in card


def test_the_checkpoint_kept_is_the_best_of_labels_and_replies_together(run, folder):
    """Not the first whose labels are right: replies go on improving."""
    log = [json.loads(line) for line in (run / "train_log.jsonl").read_text().splitlines()]
    seen = [line for line in log if "eval_loss" in line]
    best = min(seen, key=lambda line: line["eval_loss"])
    first = max(seen, key=lambda line: line["eval_path_accuracy"])
    assert best["eval_reply_perplexity"] < first["eval_reply_perplexity"]
    val = load_data(folder, reply_column="said").val
    model = hyperlm.load(run).decoder
    ends = [[model.taxonomy.index(path)] for (path,) in val.paths]
    logs = answer_log_probs(model, val.texts, ends, [[reply] for reply in val.replies], 4)
    assert -np.mean(logs[0]) - np.mean(logs[1]) == pytest.approx(best["eval_loss"], rel=1e-3)


def test_figures_are_those_of_the_answers(run, folder):
    model = hyperlm.load(run)
    assert isinstance(model, TextClassifier)
    texts = load_data(folder, reply_column="said").test
    document = model.evaluate(texts)
    best = [answers[0] for answers in model.decoder.answer(texts.texts).best]
    said = [answer.words[-1] for answer in best]
    figures = document["reply"]
    assert figures["bleu_2"] == pytest.approx(corpus_bleu(said, texts.replies))
    assert figures["rouge_l"] == pytest.approx(rouge_l(said, texts.replies))
    assert figures["distinct_2"] == distinct(said)
    assert figures["distinct_2_wanted"] == distinct(texts.replies)
    for key, ends in (
        ("perplexity", [[model.taxonomy.index(path)] for (path,) in texts.paths]),
        ("perplexity_own_label", [[answer.nodes[-1]] for answer in best]),
    ):
        replies = [[reply] for reply in texts.replies]
        logs = answer_log_probs(model.decoder, texts.texts, ends, replies, 2)[-1]
        assert figures[key] == pytest.approx(perplexity(logs), rel=1e-4)
    # Labels are measured as if there were no replies.
    bare = LabelledTexts(texts.texts, texts.paths)
    without = model.evaluate(bare)
    assert "reply" not in without
    for key in ("path_accuracy", "raw_consistency", "ece"):
        assert without[key] == pytest.approx(document[key])


def test_a_reply_after_the_right_label_is_measured_once(run, folder, monkeypatch):
    model = hyperlm.load(run)
    texts = load_data(folder, reply_column="said").test
    measured = []

    def spy(decoder, given, *rest):
        measured.extend(given)
        return answer_log_probs(decoder, given, *rest)

    monkeypatch.setattr(classifier_text, "answer_log_probs", spy)
    model.evaluate(texts)
    own = [
        model.taxonomy.path(best.nodes[-1]) for (best,) in model.decoder.answer(texts.texts).best
    ]
    wrong = sum(path != gold for path, (gold,) in zip(own, texts.paths, strict=True))
    assert wrong < len(texts)
    assert len(measured) == len(texts) + wrong


def test_predictions_are_labels_alone(run):
    model = hyperlm.load(run)
    (answer,) = model.predict(["aaa 3"], top_k=3)
    assert len(answer.path) == 1
    assert sum(other.probability for other in answer.top) == pytest.approx(1, abs=1e-3)
    assert answer.probabilities[0] == pytest.approx(answer.top[0].probability)


def test_evaluate_samples_and_says_so(run):
    told = command("evaluate", run, "--limit", 5, "--seed", 3, "--json")
    document = json.loads(told.stdout)
    assert document["n"] == 5
    assert document["sample"] == {"of": 12, "seed": 3}
    assert "a sample of 5 of the 12 texts, drawn with seed 3" in told.stderr
    whole = json.loads(command("evaluate", run, "--limit", 50, "--json").stdout)
    assert whole["n"] == 12
    assert "sample" not in whole
    stored = json.loads((run / "metrics.json").read_text())["test"]
    assert whole["reply"]["perplexity"] == pytest.approx(stored["reply"]["perplexity"], rel=1e-4)
    table = command("evaluate", run, "--reply-tokens", 1)
    assert table.exit_code == 0, table.stderr
    assert "reply perplexity, gold label" in table.stdout
    assert "at most 1 tokens" in table.stdout


def test_evaluate_without_replies(run, folder, tmp_path):
    write_csv(tmp_path / "t.csv", ["text", "label"], [("aaa 1", "art"), ("bbb 2", "sport")])
    told = command("evaluate", run, "--data", tmp_path / "t.csv")
    assert told.exit_code == 0, told.stderr
    assert "no reply column here" in told.stderr
    assert "BLEU" not in told.stdout
    quiet = command("evaluate", run, "--reply-column", "none", "--data", folder)
    assert "BLEU" not in quiet.stdout
    assert "no reply column" not in quiet.stderr


def test_generate_shows_the_label_and_then_the_reply(run):
    told = command("generate", run, "--text", "aaa 3")
    lines = told.stdout.splitlines()
    model = hyperlm.load(run)
    ((answer,),) = model.decoder.answer(["aaa 3"]).best
    assert f"  l1 (layer 2): {answer.words[0]}" in lines
    assert f"  reply (layer 4): {answer.words[1]}" in lines
    assert f"    {answer.probabilities[0]:.3f}  {answer.words[0]}" in lines
    (document,) = json.loads(
        command("generate", run, "--text", "aaa 3", "--reply-tokens", 2, "--json").stdout
    )
    (levels,) = (answer["levels"] for answer in document["answers"])
    assert [level["level"] for level in levels] == ["l1", "reply"]
    assert document["cost"]["levels"][1]["tokens"] <= 2
    several = command("generate", run, "--text", "aaa 3", "--width", 2).stdout.splitlines()
    assert sum(line.startswith("           ") for line in several) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reply_column": "said"}, "--reply-column means nothing with --answer points"),
        ({"reply_tokens": 5}, "--reply-tokens means nothing with --answer points"),
        ({"answer": "text", "reply_tokens": 0}, "--reply-tokens 0"),
    ],
)
def test_options_that_do_not_belong_together(wrong, message):
    with pytest.raises(OptionError, match=message):
        TrainingOptions(**wrong)


def test_labels_alone_have_no_reply_tokens(backbone, tmp_path):
    made(backbone).save_pretrained(tmp_path)
    table = tmp_path / "t.csv"
    write_csv(table, ["text", "label"], [("x", "sport")])
    for name in ("generate", "evaluate"):
        asked = ["--text", "x"] if name == "generate" else ["--data", table]
        told = command(name, tmp_path, *asked, "--reply-tokens", 3)
        assert told.exit_code == 1
        assert "this model says labels alone" in told.stderr


def test_a_long_reply_is_never_cut(backbone):
    model = made(backbone, text_levels=1, layers="1,2,3,4", max_text_tokens=3)
    long = "oil " * 20
    (example,) = model.format.examples(["x"], [[tree().index(("sport",))]], [[long]])
    said = [token for token, level in zip(example.ids, example.levels, strict=True) if level == 4]
    assert model.format.words(said) == long.strip()
    logs = answer_log_probs(model, ["x"], [[tree().index(("sport",))]], [[long]], 1)
    assert len(logs[-1]) == len(said)
