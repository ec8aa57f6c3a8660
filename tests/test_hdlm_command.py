"""``--answer text`` from data to command: train, resume, load, evaluate, predict, generate."""

import csv
import json
import logging

import numpy as np
import pytest
import transformers
from hdlm_models import PATHS, save_causal, tokenizer, tree
from safetensors.torch import load_file
from typer.testing import CliRunner

import hyperlm
from hyperlm.classifier_text import TextClassifier
from hyperlm.cli import app
from hyperlm.data import LabelledTexts
from hyperlm.errors import DataError, HyperlmError, ModelError, OptionError
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.hdlm import LayerStack
from hyperlm.lm.loading import answers_in_words, load_decoder, load_model
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.training_text import DecoderTrainer
from hyperlm.viz.answering import answerer
from hyperlm.viz.explorer import page_layouts
from hyperlm.viz.sources import collect_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set whose first word betrays the path."""
    made = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for split, each in (("train", 9), ("val", 2), ("test", 2)):
        with (made / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for _ in range(each):
                for cue, path in zip("abcdefgh", PATHS, strict=True):
                    writer.writerow([f"{cue * 3} {random.integers(10)}", " > ".join(path)])
    return made


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return save_causal("llama", tmp_path_factory.mktemp("llama"))


def options(folder, backbone, **changes):
    return TrainingOptions(
        **{
            "data": str(folder), "label_columns": ("label",), "backbone": str(backbone),
            "answer": "text", "layers": "2,3,4", "epochs": 4, "batch_size": 8, "max_length": 20,
            "learning_rate": 1e-2, "precision": "fp32", **changes,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(folder, backbone, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "words"
    train(options(folder, backbone), output, progress=False)
    return output


def test_a_run_is_whole_and_learns(run):
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "model.safetensors", "metrics.json", "README.md", "labels.png"} <= names
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["path_accuracy"] > 0.5
    assert metrics["test"]["path_consistency"] == 1
    assert 0 <= metrics["test"]["raw_consistency"] <= 1
    card = (run / "README.md").read_text()
    assert "labels in words, one tied language head per level" in card
    assert "hyperbolic" not in card.split("---")[1]
    log = [json.loads(line) for line in (run / "train_log.jsonl").read_text().splitlines()]
    assert [line["eval_path_accuracy"] for line in log if "eval_path_accuracy" in line]


def test_what_it_answers_can_be_looked_at(run, folder, tmp_path):
    seen = collect_run(run, split="test", say=lambda line: None)
    model = hyperlm.load(run)
    answers = model.predict(seen.texts.texts, top_k=5)
    assert [model.taxonomy.path(n) for n in seen.texts.predicted] == [a.path for a in answers]
    sure = [answer.probabilities[-1] for answer in answers]
    np.testing.assert_allclose(seen.texts.probability, sure, rtol=1e-5)
    assert ((seen.texts.top_nodes >= 0) == (seen.texts.top_probabilities > 0)).all()
    for name in ("page.html", "confusion.png", "reliability.png"):
        kind = [] if name == "page.html" else ["--figure", name.removesuffix(".png")]
        words = ["visualize", str(run), *kind, "--split", "test", "--output", str(tmp_path / name)]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    one = answerer(model, page_layouts(seen))(seen.texts.texts[0])
    assert one["path"] == list(answers[0].path)
    assert one["top"][0]["node"] == seen.texts.predicted[0]
    assert np.isfinite(one["positions"]["tree"]).all()


def test_loading_gives_a_classifier_that_answers_as_measured(run, folder):
    model = hyperlm.load(run)
    assert isinstance(model, TextClassifier)
    assert model.level_names == ("l1", "l2", "l3")
    with (folder / "test.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    answers = model.predict([row["text"] for row in rows], top_k=8)
    right = [" > ".join(a.path) == row["label"] for a, row in zip(answers, rows, strict=True)]
    measured = json.loads((run / "metrics.json").read_text())["test"]["path_accuracy"]
    assert np.mean(right) == pytest.approx(measured)
    for answer in answers:
        assert list(answer.probabilities) == sorted(answer.probabilities, reverse=True)
        chances = [other.probability for other in answer.top]
        assert chances == sorted(chances, reverse=True)
        assert answer.top[0].path == answer.path
        assert sum(chances) == pytest.approx(1, abs=1e-3)  # eight paths there are
        # An inner node is as probable as all that lies below it.
        for depth, chance in enumerate(answer.probabilities, start=1):
            below = [o.probability for o in answer.top if o.path[:depth] == answer.path[:depth]]
            assert chance == pytest.approx(sum(below), abs=1e-3)
    assert model.predict([""])[0].empty
    sure = model.predict([rows[0]["text"]], threshold=1.0)[0]
    assert sure.path == ()


def test_what_words_do_not_have_is_refused(run):
    model = hyperlm.load(run)
    for ask in (model.logits, model.points):
        with pytest.raises(OptionError, match="neither scores of all labels nor points"):
            ask(["x"])
    with pytest.raises(ModelError, match="answers in words, and what was asked for needs one"):
        load_model(run)


def test_a_model_of_points_does_not_speak(tiny_backbone, tmp_path):
    HierarchicalLM.from_backbone(str(tiny_backbone), tree()).save_pretrained(tmp_path)
    assert not answers_in_words(tmp_path)
    with pytest.raises(ModelError, match="answers with points, .*--answer text"):
        load_decoder(tmp_path)
    told = CliRunner().invoke(app, ["generate", str(tmp_path), "--text", "x"])
    assert told.exit_code == 1
    assert "answers with points" in told.stderr


def test_an_interrupted_run_goes_on_to_the_same_end(run, folder, backbone, tmp_path, monkeypatch):
    """Stopped after its second epoch and resumed, a run ends with the weights of a whole one."""
    saved = DecoderTrainer._save_checkpoint

    def stop(self, *args, **kwargs):
        saved(self, *args, **kwargs)
        if self.state.epoch >= 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(DecoderTrainer, "_save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        train(options(folder, backbone), tmp_path / "parts", progress=False)
    monkeypatch.setattr(DecoderTrainer, "_save_checkpoint", saved)
    train(None, tmp_path / "parts", resume=True, progress=False)
    whole, parts = (load_file(at / "model.safetensors") for at in (run, tmp_path / "parts"))
    assert whole.keys() == parts.keys()
    assert all((whole[name] == parts[name]).all() for name in whole)


def test_learned_weights_and_merged_adapters(folder, backbone, tmp_path):
    settings = options(
        folder, backbone, epochs=1, lora=4, level_weights="learned", gradient_checkpointing=True,
        packed=True, speakers="lora",
    )  # fmt: skip
    train(settings, tmp_path / "run", merge=True, progress=False)
    model = load_decoder(tmp_path / "run")
    assert model.config.lora is None
    assert (model.log_variance != 0).all()
    assert "--answer text" in (tmp_path / "run" / "README.md").read_text()


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"answer": "text", "geometry": "lorentz"}, "--geometry means nothing with --answer text"),
        ({"answer": "text", "freeze": True}, "--freeze means nothing with --answer text"),
        ({"answer": "text", "cone_weight": 1.0}, "--cone-weight means nothing"),
        ({"packed": True}, "--packed means nothing with --answer points"),
        ({"speakers": "lora"}, "--speakers means nothing with --answer points"),
        ({"answer": "text", "level_weights": "a,b"}, "--level-weights 'a,b': give equal, learned"),
        ({"answer": "verse"}, "--answer 'verse' is unknown"),
    ],
)
def test_options_that_do_not_belong_together(wrong, message):
    with pytest.raises(OptionError, match=message):
        TrainingOptions(**wrong)


def test_the_command_line_that_repeats_a_run():
    words = TrainingOptions(answer="text", level_weights="1,2", packed=True).command("runs/x")
    assert words == (
        "hyperlm train --data demo --answer text --level-weights 1,2 --packed --output runs/x"
    )
    assert TrainingOptions(answer="text", level_weights="1,2").loss_weights() == [1.0, 2.0]


def test_weights_for_another_number_of_levels(folder, backbone, tmp_path):
    with pytest.raises(OptionError, match="give 3 numbers, one per level"):
        train(options(folder, backbone, level_weights="1,2"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_packing_a_recurrent_backbone_is_refused(folder, tmp_path):
    mamba = save_causal("mamba", tmp_path / "mamba")
    with pytest.raises(OptionError, match="--packed: MambaModel lets one text of a row see"):
        train(options(folder, mamba, packed=True), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_decoded_is_refused_before_it_is_trained(folder, tmp_path, monkeypatch):
    config = transformers.BambaConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, attn_layer_indices=[1], mamba_n_heads=4,
        mamba_d_head=16, mamba_d_state=4, mamba_n_groups=1, pad_token_id=0, eos_token_id=0,
        tie_word_embeddings=True,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "bamba")
    tokenizer().save_pretrained(tmp_path / "bamba")
    monkeypatch.setattr("hyperlm.training_text.run_trainer", lambda *_: pytest.fail("it trained"))
    with pytest.raises(ModelError, match="mixes recurrent and attention layers"):
        train(options(folder, tmp_path / "bamba", layers="1,1,2"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_an_encoder_is_refused(folder, tiny_backbone, tmp_path):
    with pytest.raises(HyperlmError, match="cannot speak"):
        train(options(folder, tiny_backbone), tmp_path / "run", progress=False)


# --- the command ---------------------------------------------------------------------------------


def command(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def test_generate_tells_level_layer_and_words(run):
    told = command("generate", run, "--text", "aaa 3", "--width", "2")
    assert told.exit_code == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == "aaa 3"
    assert any(line.startswith("  l1 (layer 2): ") for line in lines)
    assert "fewer than at layer 4" in lines[-1]
    chances = [float(line.split()[0]) for line in lines if line.startswith("    ")]
    assert chances == sorted(chances, reverse=True)
    assert len(chances) == 2


def test_generate_as_a_document(run):
    told = command("generate", run, "--text", "aaa 3", "--text", "ccc 4", "--json")
    documents = json.loads(told.stdout)
    assert [document["text"] for document in documents] == ["aaa 3", "ccc 4"]
    for document in documents:
        (answer,) = document["answers"]
        assert [level["layer"] for level in answer["levels"]] == [2, 3, 4]
        product = np.prod([level["probability"] for level in answer["levels"]])
        assert answer["probability"] == pytest.approx(product)
        assert document["cost"]["depth"] == 4


def test_generate_draws_repeatably(run):
    words = ("generate", run, "--text", "aaa 3", "--sample", "2.0", "--free", "--json")
    one, two = (json.loads(command(*words, "--seed", "4").stdout) for _ in range(2))
    assert one[0]["answers"] == two[0]["answers"]
    assert command(*words, "--top-k", "1").exit_code == 0
    wrong = command("generate", run, "--text", "x", "--top-k", "3")
    assert wrong.exit_code == 2
    told = command("generate", run, "--text", "x", "--sample", "0")
    assert told.exit_code == 1
    assert "temperature 0" in told.stderr


def test_predict_evaluate_and_info_know_such_runs(run):
    told = command("predict", run, "--text", "aaa 3", "--json")
    (document,) = json.loads(told.stdout)
    assert tuple(document["path"].split(" > ")) in PATHS
    measured = json.loads(command("evaluate", run, "--json").stdout)
    stored = json.loads((run / "metrics.json").read_text())["test"]
    assert measured["path_accuracy"] == stored["path_accuracy"]
    facts = json.loads(command("info", run, "--json").stdout)
    assert facts["layers"] == [2, 3, 4]
    assert facts["answer"] == "text"
    shown = command("info", run)
    assert shown.exit_code == 0
    assert "in words" in shown.stdout


@pytest.fixture
def readings(monkeypatch):
    """Rows of every pass that reads prompts from their first block on."""
    rows = []
    run_blocks = LayerStack.run

    def spy(self, first, last, **inputs):
        fresh = inputs["input_ids"].shape[1] == inputs["attention_mask"].shape[1]
        if first == 0 and fresh:
            rows.append(len(inputs["input_ids"]))
        return run_blocks(self, first, last, **inputs)

    monkeypatch.setattr(LayerStack, "run", spy)
    return rows


def test_evaluation_reads_each_text_once(run, readings):
    model = hyperlm.load(run, batch_size=8)
    model.warm_up = 0
    texts = tuple(f"{cue * 3} {number}" for number in range(2) for cue in "abcdefgh")
    test = LabelledTexts(texts, tuple((path,) for path in PATHS * 2))
    document = model.evaluate(test)
    assert sum(readings) == len(texts)
    said = [answers[0] for answers in model.decoder.answer(texts, constrained=False).best]
    ends = set(model.taxonomy.terminals.tolist())
    consistent = [bool(a.nodes) and a.nodes[-1] in ends for a in said]
    assert document["raw_consistency"] == np.mean(consistent)
    paths = [answer.path for answer in model.predict(texts)]
    assert document["path_accuracy"] == np.mean(
        [p == q for p, q in zip(paths, PATHS * 2, strict=True)]
    )


@pytest.fixture
def library_log():
    """What transformers logs, which does not reach the root logger."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger, before = logging.getLogger("transformers"), transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_warning()
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)
    transformers.logging.set_verbosity(before)


def test_texts_cut_are_counted_once_a_call(run, monkeypatch, library_log):
    monkeypatch.setattr("hyperlm.classifier._WINDOW", 4)
    model = hyperlm.load(run, batch_size=4)
    model.decoder.tokenizer.model_max_length = 10
    texts = tuple(("short", "long " * 30)[number % 3 == 0] for number in range(10))
    told = "^4 of 10 texts were longer .*20 tokens.*--max-length"
    with pytest.warns(UserWarning, match=told) as seen:
        assert len(model.predict(texts)) == 10
    assert len(seen) == 1
    with pytest.warns(UserWarning, match=told) as seen:
        model.evaluate(LabelledTexts(texts, tuple((PATHS[0],) for _ in texts)))
    assert len(seen) == 1
    model.predict(["short"])  # and none without a reason
    assert library_log == []


def test_a_label_that_is_new_is_still_refused(run):
    with pytest.raises(DataError, match="not in"):
        hyperlm.load(run).evaluate(LabelledTexts(("x",), ((("nothing",),),)))
