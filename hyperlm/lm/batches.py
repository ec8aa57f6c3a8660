"""Texts as batches: token ids once, then padded to the longest of each batch.

Leaves dictionaries of ``input_ids (B, T)``, ``attention_mask (B, T)`` (or ``features
(B, taps, D)`` for a frozen backbone) and ``targets``.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from tqdm.auto import tqdm
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hyperlm.lm.cache import cache_key, cached
from hyperlm.lm.model import HierarchicalLM
from hyperlm.taxonomy import Taxonomy

__all__ = [
    "Collator",
    "EncodedTexts",
    "LengthGroupedSampler",
    "blank_token",
    "pooled_features",
    "targets_of",
    "tokenise",
]

_MEGABATCH = 16  # batches that are sorted by length together: enough to save padding, still random


def tokenise(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    keep: bool = True,
) -> list[list[int]]:
    """Token ids of each text, truncated to ``max_length``, never empty.

    Args:
        keep: store them on disk under a key of the texts and the tokenizer, so that a second run
            starts at once.
    """

    def compute() -> dict[str, Tensor]:
        # A tokenizer given an empty list answers with an error.
        ids: list[list[int]] = (
            tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
            if texts
            else []
        )
        ids = [row or [blank_token(tokenizer)] for row in ids]
        flat = [token for row in ids for token in row]
        return {
            "ids": torch.tensor(flat, dtype=torch.int32),
            "lengths": torch.tensor([len(row) for row in ids], dtype=torch.int32),
        }

    identity = _identity(tokenizer)
    if not keep or identity is None:
        return _split(compute())
    key = cache_key(texts=list(texts), tokenizer=identity, max_length=max_length)
    return _split(cached("tokens", key, compute))


def blank_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """What a model reads where a text has no tokens, as an empty one has for many decoders."""
    return int(tokenizer.bos_token_id or tokenizer.eos_token_id or tokenizer.pad_token_id or 0)


def _identity(tokenizer: PreTrainedTokenizerBase) -> Any:
    """What a tokenizer's answers depend on; ``None`` where that cannot be told."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    # It remembers the truncation and padding of its last call, which say nothing of the next.
    kept = json.loads(backend.to_str())
    kept = {key: value for key, value in kept.items() if key not in ("truncation", "padding")}
    blank = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return [kept, tokenizer.truncation_side, blank]


def _split(arrays: Mapping[str, Tensor]) -> list[list[int]]:
    parts = torch.split(arrays["ids"], arrays["lengths"].tolist())
    return [part.tolist() for part in parts]


class EncodedTexts(Dataset):
    """Token ids or pooled features, and where the gold paths end.

    Args:
        ids: token ids of each text.
        gold: end nodes of each text's gold paths; empty arrays for unlabelled texts.
        features: ``(n, taps, D)``, instead of token ids.
    """

    def __init__(
        self,
        ids: Sequence[Sequence[int]],
        gold: Sequence[np.ndarray] | None = None,
        features: Tensor | None = None,
    ) -> None:
        self.ids, self.gold, self.features = ids, gold, features
        self.lengths = [1] * len(ids) if features is not None else [len(row) for row in ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = (
            {"input_ids": self.ids[index]}
            if self.features is None
            else {"features": self.features[index]}
        )
        if self.gold is not None:
            item["targets"] = self.gold[index]
        return item


class Collator:
    """Pads on the right and stacks the targets.

    Targets are end nodes ``(B,)`` while every text has at most one gold path, and marked nodes
    ``(B, N)`` once texts have several.

    Args:
        several: whether any text of the data has several gold paths; decided for the whole data,
            so that all batches look alike.
    """

    def __init__(self, taxonomy: Taxonomy, pad_id: int, *, several: bool = False) -> None:
        self.taxonomy, self.pad_id, self.several = taxonomy, pad_id, several

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        if "features" in items[0]:
            batch = {"features": torch.stack([item["features"] for item in items])}
        else:
            longest = max(len(item["input_ids"]) for item in items)
            ids = torch.full((len(items), longest), self.pad_id)
            mask = torch.zeros(len(items), longest, dtype=torch.long)
            for row, item in enumerate(items):
                tokens = item["input_ids"]
                ids[row, : len(tokens)] = torch.tensor(tokens)
                mask[row, : len(tokens)] = 1
            batch = {"input_ids": ids, "attention_mask": mask}
        if "targets" in items[0]:
            gold = [item["targets"] for item in items]
            batch["targets"] = targets_of(gold, self.taxonomy, several=self.several)
        return batch


def targets_of(
    gold: Sequence[np.ndarray], taxonomy: Taxonomy, *, several: bool | None = None
) -> Tensor:
    """What a head learns from: end nodes ``(n,)``, or marked nodes ``(n, N)``.

    Args:
        gold: end nodes of each text's gold paths.
        several: whether to mark nodes; by default, where any of these texts has several gold paths.
    """
    if several is None:
        several = any(len(ends) > 1 for ends in gold)
    if not several:
        return torch.tensor([int(ends[0]) if len(ends) else -100 for ends in gold])
    marked = torch.zeros(len(gold), len(taxonomy), dtype=torch.bool)
    for row, ends in enumerate(gold):
        for end in ends:
            marked[row, int(end)] = True
            marked[row, torch.as_tensor(taxonomy.ancestors(int(end)).copy())] = True
    return marked


class LengthGroupedSampler(Sampler[int]):
    """Random order in which neighbours have similar lengths, the same for a seed and an epoch.

    Sixteen batches at a time are sorted by length, then the batches are shuffled: little padding,
    and an order that a resumed run repeats without any stored state.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.lengths))
        lengths = np.asarray(self.lengths)
        size, span = self.batch_size, self.batch_size * _MEGABATCH
        batches = []
        for start in range(0, len(order), span):
            group = order[start : start + span]
            group = group[np.argsort(-lengths[group], kind="stable")]
            batches += [group[i : i + size] for i in range(0, len(group), size)]
        # The one short batch stays last: in front it would shift the borders of all others.
        whole = [batch for batch in batches if len(batch) == size]
        rest = [batch for batch in batches if len(batch) < size]
        picked = [whole[i] for i in random.permutation(len(whole))] + rest
        yield from (int(i) for batch in picked for i in batch)


def by_batches(rows: Sequence[int], size: int, work: Callable[[Sequence[int]], None]) -> None:
    """``work`` on ``size`` rows at a time; on half as many from where a GPU's memory ends.

    Nothing depends on the size but time: what was computed of a batch is written over.
    """
    start = 0
    while start < len(rows):
        try:
            work(rows[start : start + size])
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
        else:
            start += size


@torch.no_grad()  # not inference mode, whose tensors a head could not be trained on
def pooled_features(
    model: HierarchicalLM,
    ids: Sequence[Sequence[int]],
    *,
    batch_size: int = 64,
    precision: torch.dtype = torch.float32,
    progress: bool = False,
) -> Tensor:
    """Pooled states of the tapped layers for every text, ``(n, taps, D)`` float32.

    Computed once and kept on disk: training the head on them costs no backbone pass.
    """

    def compute() -> dict[str, Tensor]:
        was_training = model.training
        model.eval()
        collate = Collator(model.taxonomy, pad_id=0)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        width = model.config.backbone_config.get_text_config().hidden_size
        out = torch.empty(len(ids), len(model.taps), width)

        def pooled(rows: Sequence[int]) -> None:
            batch = collate([{"input_ids": ids[row]} for row in rows])
            batch = {name: value.to(model.device) for name, value in batch.items()}
            with torch.autocast(
                model.device.type, dtype=precision, enabled=precision != torch.float32
            ):
                out[rows] = model.pooled_states(**batch).float().cpu()
            bar.update(len(rows))

        with tqdm(total=len(ids), desc="features", disable=not progress, leave=False) as bar:
            by_batches(order, batch_size, pooled)
        model.train(was_training)
        return {"features": out}

    # States of joined levels depend on all that the head predicts with.
    seen = model.backbone if model.conditioning is None else model
    tensors = itertools.chain(seen.named_parameters(), seen.named_buffers())
    key = cache_key(
        weights=[(name, str(p.dtype), list(p.shape), _digest(p)) for name, p in tensors],
        shape=_shape(model),
        ids=[list(row) for row in ids],
        taps=list(model.taps),
        pooling=model.config.pooling,
        precision=str(precision),
    )
    return cached("features", key, compute)["features"]


def _digest(tensor: Tensor) -> str:
    """SHA-256 of what a tensor holds, bit for bit."""
    held = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(held.numpy().data).hexdigest()


def _shape(model: HierarchicalLM) -> dict[str, Any]:
    """What a backbone computes besides its weights: equal ones may have other heads or functions.

    Not where it was read from, what its weights say, or which kernel attends.
    """
    told = json.loads(model.backbone.config.to_json_string(use_diff=False))
    names = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
    kept = {key: value for key, value in told.items() if key not in names}
    return {"kind": type(model.backbone).__name__, "config": kept, "lora": model.config.lora}
