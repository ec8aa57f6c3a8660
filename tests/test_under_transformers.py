"""Under the Trainer, and inside a model of transformers that a user has written."""

import pytest
import torch
import transformers

from hyperlm import HierarchicalLM, HyperbolicHead
from hyperlm.errors import OptionError
from hyperlm.heads import HierarchicalHead
from hyperlm.manifolds import ManifoldParameter
from hyperlm.optim import build_optimizer
from hyperlm.taxonomy import Taxonomy


def tree() -> Taxonomy:
    return Taxonomy.from_paths([(a, a + b, a + b + c) for a in "xy" for b in "12" for c in "pq"])


def model_on(folder) -> HierarchicalLM:
    return HierarchicalLM.from_backbone(str(folder), tree(), head={"dim": 8, "dropout": 0.0})


def inputs(model, texts):
    ids = model.tokenizer(texts, padding=True, return_tensors="pt")
    return {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"]}


def test_accumulated_gradients_are_those_of_one_batch(tiny_backbone, tmp_path):
    """The Trainer divides by the batches it gathers, unless a model says that it does so itself."""
    texts = [f"owl{n % 3} word{n % 5} carp{n % 2}" for n in range(8)]
    leaves = tree().leaves
    losses = []
    for rows, gathered in ((8, 1), (2, 4)):
        model = model_on(tiny_backbone)
        ids = inputs(model, texts)
        data = [
            {"input_ids": ids["input_ids"][n], "attention_mask": ids["attention_mask"][n],
             "labels": int(leaves[n])}
            for n in range(8)
        ]  # fmt: skip
        arguments = transformers.TrainingArguments(
            str(tmp_path), per_device_train_batch_size=rows, gradient_accumulation_steps=gathered,
            max_steps=1, learning_rate=0.0, report_to=[], save_strategy="no", use_cpu=True,
            disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        trainer = transformers.Trainer(model, arguments, train_dataset=data)
        losses.append(trainer.train().training_loss)
    assert losses[1] == pytest.approx(losses[0], rel=0.1)  # dropout differs


class Mine(transformers.BertPreTrainedModel):
    """A user's own model around a head, as the documentation says."""

    def __init__(self, config):
        super().__init__(config)
        self.bert = transformers.BertModel(config)
        self.head = HyperbolicHead(config.hidden_size, tree(), dim=8)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, HierarchicalHead):
            module.reset_parameters()
        else:
            super()._init_weights(module)


def test_a_head_in_a_model_of_transformers_starts_as_a_head_does(tiny_backbone, tmp_path):
    want = HyperbolicHead(32, tree(), dim=8).state_dict()
    model = Mine.from_pretrained(tiny_backbone)
    config = transformers.AutoConfig.from_pretrained(tiny_backbone)
    for head in (model.head, Mine(config).head):
        for name, value in head.state_dict().items():
            torch.testing.assert_close(value, want[name])
    with torch.no_grad():
        model.head.bias += 1
    model.save_pretrained(tmp_path)
    again = Mine.from_pretrained(tmp_path)
    assert torch.equal(again.head.bias, model.head.bias)
    build_optimizer(again, learning_rate=1e-3)
    assert isinstance(again.head.points, ManifoldParameter)


def test_labels_are_targets_and_unknown_arguments_are_refused(tiny_backbone):
    model = model_on(tiny_backbone)
    texts, ends = (
        inputs(model, ["owl0 word1", "carp2 carp1 word3", "oak1"]),
        torch.tensor(model.taxonomy.terminals[:3]),
    )
    loss = model(**texts, targets=ends).loss
    torch.testing.assert_close(model(**texts, labels=ends).loss, loss)
    model(**texts, token_type_ids=texts["attention_mask"], num_items_in_batch=3)
    with pytest.raises(OptionError, match="takes no target"):
        model(**texts, target=ends)
    with pytest.raises(OptionError, match="one thing"):
        model(**texts, labels=ends, targets=ends)
