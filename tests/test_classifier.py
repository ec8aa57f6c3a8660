"""Texts in, paths with probabilities out: order, probabilities, thresholds, evaluation."""

import itertools

import numpy as np
import pytest
import torch

import hyperlm
from hyperlm import Classifier, HierarchicalLM, classifier
from hyperlm.calibration import path_nll
from hyperlm.data import LabelledTexts, load_data
from hyperlm.errors import DataError, ModelError, OptionError
from hyperlm.metrics import expected_calibration_error
from hyperlm.options import TrainingOptions
from hyperlm.training import fit
from hyperlm.viz.reading import read_texts

TEXTS = ["owl0 bird1 animal0 owl2", "", "mint0 word1 word2 herb0 plant1", "   \n", "pike1 pike0"]


@pytest.fixture(scope="module")
def bundle(demo_like):
    return load_data(demo_like)


@pytest.fixture(scope="module")
def run(tiny_backbone, demo_like, bundle, tmp_path_factory):
    """Folder of a model trained for a second or two."""
    folder = tmp_path_factory.mktemp("run")
    options = TrainingOptions(
        data=str(demo_like), backbone=str(tiny_backbone), epochs=6, batch_size=16, dim=8,
        learning_rate=1e-2, head_learning_rate=1e-2, point_learning_rate=1e-2, precision="fp32",
    )  # fmt: skip
    model = HierarchicalLM.from_backbone(
        str(tiny_backbone), bundle.taxonomy, head=options.head_options(),
        level_names=bundle.level_names,
    )  # fmt: skip
    fit(model, bundle, options, folder / "work", progress=False)
    model.save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def trained(run):
    return hyperlm.load(run, device="cpu")


def untrained(tiny_backbone, bundle, **head):
    return Classifier(
        HierarchicalLM.from_backbone(str(tiny_backbone), bundle.taxonomy, head={"dim": 8, **head})
    )


# --- prediction ----------------------------------------------------------------------------------


def test_every_text_gets_one_existing_path_in_order(trained):
    answers = trained.predict(TEXTS)
    assert len(answers) == len(TEXTS)
    known = {trained.taxonomy.path(int(n)) for n in trained.taxonomy.terminals}
    assert all(answer.path in known for answer in answers)
    assert [answer.empty for answer in answers] == [False, True, False, True, False]
    alone = [trained.predict([text])[0] for text in TEXTS]
    for one, many in zip(alone, answers, strict=True):
        assert one.path == many.path
        assert one.probabilities == pytest.approx(many.probabilities, abs=1e-4)


@pytest.mark.parametrize("loss", ["level", "path", "leaf"])
@pytest.mark.parametrize("head", ["points", "linear"])
def test_probabilities_fall_along_a_path_and_alternatives_are_ranked(
    head, loss, tiny_backbone, bundle
):
    model = untrained(tiny_backbone, bundle, kind=head, loss=loss)
    for answer in model.predict(TEXTS, top_k=5):
        assert len(answer.probabilities) == len(answer.path)
        assert all(a >= b - 1e-6 for a, b in itertools.pairwise(answer.probabilities))
        assert all(0 <= p <= 1 for p in answer.probabilities)
        ranked = [alternative.probability for alternative in answer.top]
        assert len(ranked) == 5
        assert ranked == sorted(ranked, reverse=True)
        assert len({alternative.path for alternative in answer.top}) == 5
        assert answer.top[0].path == answer.path
        # The last node of the best path is a leaf: at or below it is the path itself.
        assert ranked[0] == pytest.approx(answer.probabilities[-1], abs=1e-5)


def test_all_paths_together_have_probability_one(trained):
    every = len(trained.taxonomy.terminals)
    for answer in trained.predict(TEXTS, top_k=every + 10):
        assert len(answer.top) == every  # no more than there are
        assert sum(a.probability for a in answer.top) == pytest.approx(1, abs=1e-4)
        top = {}
        for alternative in answer.top:
            first = alternative.path[0]
            top[first] = top.get(first, 0) + alternative.probability
        assert answer.probabilities[0] == pytest.approx(top[answer.path[0]], abs=1e-4)


def test_a_threshold_stops_at_the_deepest_node_that_is_sure_enough(tiny_backbone, bundle):
    model = untrained(tiny_backbone, bundle)
    full = model.predict(TEXTS)
    for threshold in (0.0, 0.2, 0.4, 0.6, 1.0):
        for whole, cut in zip(full, model.predict(TEXTS, threshold=threshold), strict=True):
            kept = sum(p >= threshold for p in whole.probabilities) * (not whole.empty)
            assert cut.path == whole.path[:kept]
            assert cut.probabilities == pytest.approx(whole.probabilities[:kept])
            assert cut.top == whole.top


def test_a_stream_is_read_a_window_at_a_time_and_answers_in_order(trained, monkeypatch):
    monkeypatch.setattr(classifier, "_WINDOW", 3)
    taken = []

    def source():
        for number, text in enumerate(itertools.islice(itertools.cycle(TEXTS), 11)):
            taken.append(number)
            yield text

    stream = trained.stream(source())
    first = next(stream)
    assert len(taken) == 3
    answers = [first, *stream]
    assert len(answers) == 11
    expected = trained.predict(list(itertools.islice(itertools.cycle(TEXTS), 11)))
    assert [a.path for a in answers] == [e.path for e in expected]


@pytest.mark.parametrize("size", [1, 2, 64])
def test_the_batch_size_changes_no_answer(run, trained, size):
    other = hyperlm.load(run, device="cpu", batch_size=size)
    torch.testing.assert_close(other.logits(TEXTS), trained.logits(TEXTS), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(other.points(TEXTS), trained.points(TEXTS), rtol=1e-4, atol=1e-4)


def test_no_texts_no_answers(trained):
    assert trained.predict([]) == []
    assert trained.logits([]).shape == (0, len(trained.taxonomy))
    assert trained.points([]).shape == (0, trained.model.head.dim)


def test_points_have_the_same_width_for_no_text_as_for_one(tiny_backbone, bundle):
    model = untrained(tiny_backbone, bundle, geometry="lorentz")
    assert model.points([]).shape == (0, 9)
    assert model.points(["a"]).shape == (1, 9)


def test_a_model_without_a_tokenizer_says_what_it_lacks(tiny_backbone, bundle):
    model = untrained(tiny_backbone, bundle)
    del model.model.tokenizer
    with pytest.raises(OptionError, match=r"no tokenizer\. Set model\.tokenizer"):
        model.predict(["a"])


def test_a_very_long_text_is_cut_to_what_the_model_reads(trained):
    assert trained.predict(["owl0 " * 5000])[0].path


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.predict("one text"), r"takes a list of texts; for a single one give \[text\]"),
        (lambda m: m.predict(["a"], threshold=1.5), "^threshold 1.5: a probability lies"),
        (lambda m: m.predict(["a"], threshold=-0.1), "^threshold -0.1"),
        (lambda m: m.predict(["a"], threshold=float("nan")), "^threshold nan"),
        (lambda m: m.predict(["a"], top_k=0), "top_k 0: ask for at least 1"),
        (lambda m: m.predict(["a", None]), "text 1 is None; every text is a string"),
        (lambda m: m.logits("one text"), r"logits\(\) takes a list of texts"),
        (lambda m: m.points(["a", 3]), r"points\(\): text 1 is 3"),
        (lambda m: m.points(["caf\udce9"]), "has bytes that were not UTF-8"),
        (lambda m: Classifier(m.model, batch_size=0), "batch_size 0: at least one"),
        (lambda m: m.calibrate("new.csv"), r"labelled texts, not str: .*data\.read_labelled\("),
        (lambda m: m.evaluate(["a"]), r"evaluate\(\) takes labelled texts, not list"),
    ],
)
def test_bad_requests_are_refused(trained, call, message):
    with pytest.raises(OptionError, match=message):
        call(trained)


def test_a_diverged_model_is_named_rather_than_decoded(tiny_backbone, bundle):
    model = untrained(tiny_backbone, bundle)
    with torch.no_grad():
        model.model.head.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        model.predict(["a"])


# --- evaluation ----------------------------------------------------------------------------------


def test_evaluation_agrees_with_counting_the_predictions(trained, bundle):
    test = bundle.split("test")
    document = trained.evaluate(test)
    answers = [answer.path for answer in trained.predict(test.texts)]
    gold = [paths[0] for paths in test.paths]
    assert document["n"] == len(test)
    assert document["path_accuracy"] == pytest.approx(
        np.mean([a == g for a, g in zip(answers, gold, strict=True)])
    )
    assert document["path_accuracy"] > 0.5  # it has learned: chance is an eighth
    for level, figures in enumerate(document["levels"]):
        assert figures["name"] == bundle.level_names[level]
        assert figures["accuracy"] == pytest.approx(
            np.mean([a[level] == g[level] for a, g in zip(answers, gold, strict=True)])
        )
    assert document["path_consistency"] == 1.0
    assert 0 <= document["raw_consistency"] <= 1
    assert document["texts_per_second"] > 0


@pytest.mark.parametrize("loss", ["level", "path", "leaf"])
def test_raw_consistency_looks_at_the_levels_one_by_one(loss, tiny_backbone, bundle):
    model = untrained(tiny_backbone, bundle, loss=loss)
    test = bundle.split("test")
    logits = model.logits(test.texts)
    if loss == "level":
        per_level = logits
    else:  # what lies at or below each node, by listing the leaves
        every = model.predict(test.texts, top_k=len(model.taxonomy.terminals))
        per_level = torch.zeros_like(logits)
        for row, answer in enumerate(every):
            for alternative in answer.top:
                end = model.taxonomy.index(alternative.path)
                nodes = torch.tensor(model.taxonomy.path_nodes(end).copy())
                per_level[row, nodes] += alternative.probability
    best = [
        part.start + per_level[:, part].argmax(1).numpy() for part in model.taxonomy.level_slices
    ]
    parent = model.taxonomy.parent
    consistent = (parent[best[1]] == best[0]) & (parent[best[2]] == best[1])
    document = model.evaluate(test)
    assert document["raw_consistency"] == pytest.approx(consistent.mean(), abs=1e-9)


def test_evaluation_in_windows_is_the_same(trained, bundle, monkeypatch):
    expected = trained.evaluate(bundle.split("test"))
    monkeypatch.setattr(classifier, "_WINDOW", 5)
    got = trained.evaluate(bundle.split("test"))
    del got["texts_per_second"], expected["texts_per_second"]
    assert got.pop("ece") == pytest.approx(expected.pop("ece"), abs=1e-5)
    assert got == expected


def test_texts_without_a_label_cannot_be_evaluated(trained, bundle):
    test = bundle.split("test")
    bare = LabelledTexts(**{**vars(test), "paths": (*test.paths[:-1], ())})
    with pytest.raises(
        DataError, match=r"test\.csv, line 33: no label.*\(1 of 32 texts have none\)"
    ):
        trained.evaluate(bare)


def test_labels_the_model_never_saw_are_all_named(trained, bundle):
    test = bundle.split("test")
    paths = [*test.paths]
    paths[0] = (("animal", "bird", "dodo"),)
    paths[3] = (("mineral", "rock", "slate"),)
    unseen = LabelledTexts(**{**vars(test), "paths": tuple(paths)})
    with pytest.raises(DataError, match="2 of 32 texts have labels that are not in the taxonomy"):
        trained.evaluate(unseen)


def test_nothing_to_evaluate_is_refused(trained, bundle):
    test = bundle.split("test")
    nothing = LabelledTexts(**{**vars(test), "texts": (), "paths": (), "lines": ()})
    with pytest.raises(OptionError, match="at least one text"):
        trained.evaluate(nothing)


def test_loading_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        hyperlm.load(tmp_path / "absent")


def test_points_lie_in_the_ball(trained):
    assert (trained.points(TEXTS).norm(dim=1) < 1).all()


# --- calibration ---------------------------------------------------------------------------------


def test_calibrated_probabilities_travel_with_the_model_and_no_answer_changes(
    run, bundle, tmp_path
):
    model = hyperlm.load(run, device="cpu")
    val, ends = bundle.split("val"), bundle.gold("val")
    before, scores = model.predict(val.texts), model.logits(val.texts)
    found = model.calibrate(val)
    assert found != 1
    assert found == model.temperature
    kind = model.model.head.loss_kind
    heated, plain = (
        path_nll(scores, ends, bundle.taxonomy, loss=kind, temperature=t) for t in (found, 1)
    )
    assert heated < plain
    model.model.save_pretrained(tmp_path / "m")
    after = hyperlm.load(tmp_path / "m", device="cpu").predict(val.texts)
    assert [a.path for a in after] == [b.path for b in before]
    assert [a.probabilities for a in after] != [b.probabilities for b in before]
    # The picture of a run says what predict says.
    read = read_texts(model, val.texts)
    np.testing.assert_allclose(read.probability, [a.top[0].probability for a in after], rtol=1e-5)
    document = model.evaluate(val)
    right = [end in nodes for end, nodes in zip(read.predicted, ends, strict=True)]
    assert document["ece"] == pytest.approx(
        expected_calibration_error(right, read.probability), abs=1e-6
    )
