"""Joined models of every architecture, of three levels and a few texts."""

import torch

from hyperlm.lm import HierarchicalLM
from hyperlm.taxonomy import Taxonomy

TEXTS = ["owl0 word3 animal1", "carp2", "word1 word2 word3 mint0 herb1 plant2 word4 word5 word6"]
GOLD = torch.tensor([6, 7, 8])
HEADS = [
    {"geometry": "poincare", "curvature": 1.7},
    {"geometry": "poincare", "curvature": 0.4, "coordinates": "native", "loss": "path"},
    {"geometry": "poincare", "learn_curvature": True},
    {"geometry": "lorentz", "curvature": 2.5},
    {"geometry": "lorentz", "curvature": 2.5, "coordinates": "native"},
    {"geometry": "euclidean"},
    {"kind": "linear", "loss": "path"},
]


def named(head):
    return "-".join(map(str, head.values()))


def tree() -> Taxonomy:
    return Taxonomy.from_paths([(a, a + b, a + b + c) for a in "xy" for b in "12" for c in "pq"])


def made(folder, *, joined=True, **options) -> HierarchicalLM:
    torch.manual_seed(0)  # of the adapters
    head = {"dim": 4, **options.pop("head", {})}
    given = {"taxonomy": tree(), "layers": "1,2,3", "max_length": 32, **options}
    return HierarchicalLM.from_backbone(folder, head=head, joined=joined, **given).eval()


def awake(model: HierarchicalLM, size=2.0) -> HierarchicalLM:
    """With conditioning that shows, and node points far enough apart for it to depend on texts."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        weight = model.conditioning.weight
        weight.copy_(size * torch.randn(weight.shape, generator=random))
    return model


def encoded(model, texts=TEXTS, side="right"):
    model.tokenizer.padding_side = side
    batch = model.tokenizer(list(texts), padding=True, return_tensors="pt")
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def gradients(model, batch=None):
    torch.manual_seed(0)
    model.zero_grad()
    model(**(batch or encoded(model)), targets=GOLD).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
