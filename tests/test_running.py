"""Models that several threads ask, or that are asked in training mode, answer as they always do."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hdlm_models import TEXTS, made, save_causal

from hyperlm import HierarchicalLM, Taxonomy
from hyperlm.classifier import Classifier
from hyperlm.classifier_text import TextClassifier
from hyperlm.errors import OptionError
from hyperlm.lm.running import alone, at_rest

pytest_plugins = ["backbone_fixtures"]

ASKED = [text + " x" * more for more in range(6) for text in TEXTS]


TREE = Taxonomy.from_paths([("art", "oil"), ("art", "ink"), ("sport", "chess")])


def joined(backbone, joined=True):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = HierarchicalLM.from_backbone(
            backbone, TREE, layers=[1, 2], head={"dim": 4}, joined=joined
        )
        if joined:
            torch.nn.init.normal_(model.conditioning.weight)
    return model


@pytest.fixture(scope="module")
def models(backbone_of, tmp_path_factory):
    return {
        "joined": Classifier(joined(backbone_of("bert"))),
        "points": Classifier(joined(backbone_of("bert"), joined=False)),
        "words": TextClassifier(
            made(save_causal("gpt2", tmp_path_factory.mktemp("gpt2")), max_length=80)
        ),
    }


@pytest.mark.parametrize("kind", ["joined", "words"])
def test_threads_that_share_a_model_get_the_answers_of_one(models, kind):
    model = models[kind]

    def ask(text):
        (answer,) = model.predict([text], top_k=1)
        return answer.path, answer.probabilities

    wanted = [ask(text) for text in ASKED]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(ask, ASKED))
    assert [path for path, _ in found] == [path for path, _ in wanted]
    for (_, ours), (_, theirs) in zip(found, wanted, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("kind", ["joined", "words", "points"])
def test_a_model_in_training_mode_answers_without_dropout_and_stays_in_it(models, kind):
    model = copy.deepcopy(models[kind])
    drops = [m for m in model.model.modules() if isinstance(m, torch.nn.Dropout)]
    assert drops
    for layer in drops:
        layer.p = 0.5

    def ask(text):
        answers = model._answers([text])
        return answers.nodes.tolist(), answers.confidence.tolist(), model.predict([text])

    wanted = [ask(text) for text in ASKED]
    model.model.train()
    some = drops[0]
    some.eval()  # frozen by its user
    assert [ask(text) for text in ASKED] == wanted
    assert model.model.training
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(ask, ASKED * 2))
    for (nodes, sure, _), (same, as_sure, _) in zip(found, wanted * 2, strict=True):
        assert nodes == same
        assert sure == pytest.approx(as_sure, abs=1e-6)
    assert [part.training for part in model.model.modules()].count(False) == 1
    assert not some.training


def test_the_lock_is_that_of_a_backbone_and_no_part_of_it(models):
    backbone = models["joined"].model.backbone
    with alone(backbone), alone(backbone):  # a pass within a pass
        pickle.dumps(backbone.state_dict())
        copy.deepcopy(models["joined"])
        other = torch.nn.Linear(1, 1)
        with ThreadPoolExecutor(1) as thread:

            def enter():
                with alone(other):
                    return True

            assert thread.submit(enter).result(timeout=60)


def test_rest_ends_with_an_error_too():
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    module[1].eval()
    with pytest.raises(ZeroDivisionError), at_rest(module):
        1 / any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == [True, True, False]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
def test_a_classifier_takes_its_own_kind_of_model(models):
    decoder = models["words"].model
    with pytest.raises(
        OptionError, match=r"not HierarchicalDecoder\. hyperlm\.load.*classifier_text"
    ):
        Classifier(decoder)
    with pytest.raises(OptionError, match="TextClassifier takes a HierarchicalDecoder, not Hier"):
        TextClassifier(models["joined"].model)
    with pytest.raises(OptionError, match="not str"):
        Classifier("runs/mine")
    compiled = Classifier(torch.compile(models["joined"].model, backend="eager"))
    wanted = models["joined"].logits(TEXTS)
    torch.testing.assert_close(compiled.logits(TEXTS), wanted, atol=1e-5, rtol=1e-5)
