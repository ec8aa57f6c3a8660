"""Dialogues as examples, reply columns, and runs whose answer is a label and then a reply."""

import csv
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hdlm_models import PATHS, made, save_causal, tree
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import hyperlm
from hyperlm.classifier_text import TextClassifier, answer_log_probs
from hyperlm.cli import app
from hyperlm.data import LabelledTexts, load_data, read_labelled
from hyperlm.data.dialogues import holds_dialogues, turns
from hyperlm.data.table import Table, file_table
from hyperlm.errors import DataError, OptionError
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.text_metrics import corpus_bleu, distinct, perplexity, rouge_l

DIALOGUE = {
    "problem_type": "job crisis",
    "situation": "I may lose\nmy job.",
    "dialog": [
        {"speaker": "sys", "text": "Hello, how are you?", "strategy": "Question"},
        {"speaker": "usr", "text": "I am  afraid."},
        {"speaker": "usr", "text": "Very."},
        {"speaker": "sys", "text": "Of what?", "strategy": "Question"},
        {"speaker": "sys", "text": "Jobs come and go.", "strategy": "Information"},
        {"speaker": "guest", "text": "True."},
    ],
}


def dialogue_table(*rows):
    return Table("t.jsonl", tuple(enumerate(rows, start=1)), typed=True)


def write_dialogues(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory):
    """A folder as ESConv comes: train, valid and test, a dialogue to a line."""
    folder = tmp_path_factory.mktemp("sets") / "esconv"
    folder.mkdir()
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        write_dialogues(folder / f"{split}.jsonl.gz", [DIALOGUE] * count)
    return folder


# --- from dialogues to rows ----------------------------------------------------------------------


def test_each_labelled_turn_is_an_example_with_what_came_before():
    rows = list(turns(dialogue_table(DIALOGUE)).rows)
    assert [number for number, _ in rows] == [1, 1, 1]
    first, second, third = (row for _, row in rows)
    assert first == {
        "problem_type": "job crisis",
        "situation": "I may lose\nmy job.",
        "text": "Situation: I may lose my job.",
        "strategy": "Question",
        "reply": "Hello, how are you?",
    }
    assert second["text"].splitlines() == [
        "Situation: I may lose my job.",
        "Supporter: Hello, how are you?",
        "Seeker: I am afraid.",
        "Seeker: Very.",
    ]
    # What a supporter says on top of it has the turn before in its context.
    assert third["text"] == second["text"] + "\nSupporter: Of what?"
    assert (third["strategy"], third["reply"]) == ("Information", "Jobs come and go.")


def test_a_dialogue_without_situation_and_with_other_speakers():
    row = {
        "dialog": [
            {"speaker": "A", "text": "Hm."},
            {"speaker": "B", "text": "Yes?", "strategy": "Question"},
        ]
    }
    ((_, example),) = turns(dialogue_table(row)).rows
    assert example == {"text": "A: Hm.", "strategy": "Question", "reply": "Yes?"}


def test_tables_of_texts_are_no_dialogues():
    assert holds_dialogues(DIALOGUE)
    assert not holds_dialogues({**DIALOGUE, "text": "x"})
    assert not holds_dialogues({"dialog": "Hello."})
    assert not holds_dialogues({"text": "x", "label": ["a"]})


@pytest.mark.parametrize(
    ("dialogue", "message"),
    [
        ("Hello.", "t.jsonl, line 2: 'dialog' is str"),
        (["Hello."], "line 2, turn 1: a turn is an object with 'speaker' and 'text'"),
        ([{"speaker": "usr", "text": "x"}, {"speaker": "sys"}], "line 2, turn 2"),
        ([{"speaker": 1, "text": "x"}], "line 2, turn 1"),
    ],
)
def test_broken_dialogues_are_named(dialogue, message):
    table = turns(dialogue_table(DIALOGUE, {"dialog": dialogue}))
    with pytest.raises(DataError, match=message):
        list(table.rows)


def test_dialogues_without_a_label_are_refused():
    table = turns(dialogue_table({"dialog": [{"speaker": "usr", "text": "x"}]}))
    with pytest.raises(DataError, match="no turn of these dialogues has a 'strategy'"):
        list(table.rows)


# --- data sets -----------------------------------------------------------------------------------


def test_a_folder_of_dialogues_is_a_data_set(dialogues):
    bundle = load_data(dialogues)
    assert bundle.has_replies
    assert bundle.level_names == ("strategy",)
    assert bundle.taxonomy.names == ("Information", "Question")
    assert [len(bundle.split(s)) for s in ("train", "val", "test")] == [12, 6, 6]
    assert bundle.test.replies[:3] == ("Hello, how are you?", "Of what?", "Jobs come and go.")
    assert bundle.test.place(3) == f"{dialogues / 'test.jsonl.gz'}, line 2"
    assert bundle.source["columns"] == {"text": "text", "labels": ["strategy"], "reply": "reply"}


def test_the_set_is_found_by_name(dialogues, monkeypatch):
    monkeypatch.setenv("HYPERLM_DATA", str(dialogues.parent))
    assert load_data("esconv").test == load_data(dialogues).test
    monkeypatch.delenv("HYPERLM_DATA")
    with pytest.raises(DataError, match="--data esconv: the set is not on this machine"):
        load_data("esconv")


def test_dialogues_can_be_labelled_otherwise(dialogues):
    two = load_data(dialogues, label_columns=["problem_type", "strategy"])
    assert two.level_names == ("problem_type", "strategy")
    assert two.train.paths[0] == (("job crisis", "Question"),)
    assert two.has_replies
    assert not load_data(dialogues, reply_column="none").has_replies
    # With a text of its own named, a dialogue is one row.
    whole = load_data(dialogues, text_column="situation", label_columns=["problem_type"])
    assert (len(whole.train), whole.has_replies) == (4, False)


def test_cuts_through_dialogues_are_told(dialogues, tmp_path):
    rows = [{**DIALOGUE, "situation": f"case {n}"} for n in range(20)]
    write_dialogues(tmp_path / "all.jsonl.gz", rows)
    bundle = load_data(tmp_path / "all.jsonl.gz")
    assert any("cut turn by turn" in warning for warning in bundle.source["warnings"])
    assert not any("turn" in warning for warning in load_data(dialogues).source["warnings"])
    # Replies stay with their texts through the cuts.
    for split in ("train", "val", "test"):
        texts = bundle.split(split)
        for text, reply, paths in zip(texts.texts, texts.replies, texts.paths, strict=True):
            assert (reply == "Jobs come and go.") == (paths == (("Information",),))
            assert reply not in text


def test_dialogues_for_a_saved_model(dialogues):
    taxonomy = load_data(dialogues).taxonomy
    test = load_data(dialogues).test
    plain = read_labelled(dialogues, taxonomy=taxonomy)
    assert plain == test
    other = read_labelled(dialogues, taxonomy=taxonomy, trained_on=("blurb", ["genre"], "said"))
    assert other == test
    file = read_labelled(dialogues / "test.jsonl.gz", taxonomy=taxonomy, reply_column="none")
    assert (file.texts, file.replies) == (test.texts, None)


@pytest.mark.skipif(
    not (Path(os.environ.get("HYPERLM_DATA", "")) / "esconv").is_dir(),
    reason="needs a folder esconv in HYPERLM_DATA",
)
def test_every_labelled_turn_of_esconv_is_there():
    folder = Path(os.environ["HYPERLM_DATA"]) / "esconv"
    bundle = load_data("esconv")
    for split, stem in (("train", "train"), ("val", "valid"), ("test", "test")):
        with gzip.open(folder / f"{stem}.jsonl.gz", "rt", encoding="utf-8") as file:
            spoken = [turn for line in file for turn in json.loads(line)["dialog"]]
        said = [(turn["strategy"],) for turn in spoken if turn["speaker"] == "sys"]
        assert [path for (path,) in bundle.split(split).paths] == said
    assert len(bundle.taxonomy) == 8


# --- reply columns of tables ---------------------------------------------------------------------


def write_csv(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def test_a_reply_column_is_no_level(tmp_path):
    table = tmp_path / "t.csv"
    rows = [(f"text {n}", "ab"[n % 2], "xy"[n % 2], f"say {n}") for n in range(20)]
    write_csv(table, ["text", "l1", "l2", "said"], rows)
    bundle = load_data(table, reply_column="said")
    assert bundle.level_names == ("l1", "l2")
    for split in ("train", "val", "test"):
        for text, reply in zip(bundle.split(split).texts, bundle.split(split).replies, strict=True):
            assert reply == text.replace("text", "say")
    # Without the option nothing has changed: the column is one more level.
    plain = load_data(table)
    assert plain.level_names == ("l1", "l2", "said")
    assert not plain.has_replies
    assert "reply" not in plain.source["columns"]
    # A saved model takes the column it was trained with, where the table has it.
    again = read_labelled(
        table, taxonomy=bundle.taxonomy, trained_on=("text", ["l1", "l2"], "said")
    )
    assert again.replies == tuple(row[3] for row in rows)
    without = read_labelled(
        table, taxonomy=bundle.taxonomy, trained_on=("text", ["l1", "l2"], "gone")
    )
    assert without.replies is None


def test_empty_replies_are_kept_and_told(tmp_path):
    table = tmp_path / "t.jsonl"
    table.write_text(
        "\n".join(json.dumps({"text": f"t{n}", "label": "ab"[n % 2], "re": ""}) for n in range(8))
    )
    (warning,) = load_data(table, reply_column="re", splits=("train",)).source["warnings"]
    assert warning.endswith("train replies are empty")


@pytest.mark.parametrize(
    ("columns", "kind", "message"),
    [
        ({"reply_column": "sai"}, DataError, "no column 'sai'.*Did you mean 'said'.*--reply-col"),
        ({"reply_column": "text"}, OptionError, "--reply-column text: this column holds the texts"),
        ({"reply_column": "said", "label_columns": ["l1", "said"]}, OptionError, "or the reply"),
    ],
)
def test_reply_columns_that_cannot_be(tmp_path, columns, kind, message):
    write_csv(tmp_path / "t.csv", ["text", "l1", "said"], [("x", "a", "b"), ("y", "b", "c")])
    with pytest.raises(kind, match=message):
        load_data(tmp_path / "t.csv", **columns)


def test_a_split_without_replies_is_refused(tmp_path):
    write_csv(tmp_path / "train.csv", ["text", "l1", "said"], [("x", "a", "b"), ("y", "b", "c")])
    write_csv(tmp_path / "test.csv", ["text", "l1"], [("x", "a")])
    with pytest.raises(DataError, match=r"test\.csv: no column 'said'.*--reply-column"):
        load_data(tmp_path, reply_column="said")


def test_a_reply_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": "x", "label": "a", "said": 3}\n')
    with pytest.raises(DataError, match="line 1: 'said' holds int '3'.*--reply-column"):
        load_data(tmp_path / "t.jsonl", reply_column="said")


def test_replies_and_texts_are_as_many():
    with pytest.raises(DataError, match="2 texts and 1 replies"):
        LabelledTexts(["a", "b"], [[("x",)], [("y",)]], replies=["r"])


@given(st.integers(1, 30), st.data(), st.integers(0, 3))
def test_samples(count, data, seed):
    texts = LabelledTexts(
        [f"t{n}" for n in range(count)],
        [[(str(n % 3),)] for n in range(count)],
        replies=[f"r{n}" for n in range(count)],
    )
    small = data.draw(st.integers(1, count))
    part, more = texts.sample(small, seed), texts.sample(small + 1, seed)
    assert len(part) == small
    assert len(more) == min(small + 1, count)
    assert set(part.texts) <= set(more.texts)
    assert list(part.lines) == sorted(part.lines)
    assert [text[1:] for text in part.texts] == [reply[1:] for reply in part.replies]
    assert part == texts.sample(small, seed)
    with pytest.raises(OptionError, match="a sample of 0"):
        texts.sample(0)


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


# --- options -------------------------------------------------------------------------------------


def test_points_learn_the_labels_alone_and_say_so(dialogues, tiny_backbone, tmp_path):
    told = command(
        "train", "--data", dialogues, "--backbone", tiny_backbone, "--epochs", 1, "--dim", 4,
        "--output", tmp_path / "run",
    )  # fmt: skip
    assert told.exit_code == 0, told.stderr
    assert "--answer points learns labels alone" in told.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "reply" not in metrics["test"]


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


def test_reading_a_table_of_dialogues_as_rows_is_left_alone(dialogues):
    """Unfolding belongs to data sets: rows of the file stay what they are."""
    _, row = next(iter(file_table(dialogues / "test.jsonl.gz").rows))
    assert row == DIALOGUE
