"""Texts become batches: little padding, an order that can be repeated, targets of one shape."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from hyperlm import HierarchicalLM
from hyperlm.classifier import Classifier
from hyperlm.lm import batches
from hyperlm.lm.base import backbone_settings
from hyperlm.lm.batches import (
    Collator,
    EncodedTexts,
    LengthGroupedSampler,
    by_batches,
    pooled_features,
    tokenise,
)
from hyperlm.lm.cache import cache_folder, cache_key, cached
from hyperlm.lm.config import HierarchicalLMConfig
from hyperlm.taxonomy import Taxonomy


def tree() -> Taxonomy:
    return Taxonomy.from_paths([(a, a + b) for a in "xy" for b in "pqr"])


@pytest.fixture
def tokenizer(tiny_backbone):
    return transformers.AutoTokenizer.from_pretrained(tiny_backbone)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, counted."""
    monkeypatch.setenv("HYPERLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# --- tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
def test_tokens_are_those_of_the_tokenizer_in_order(tokenizer, cache, keep):
    texts = ["owl0 wren1", "", "word1 " * 40, "carp2"]
    ids = tokenise(texts, tokenizer, 10, keep=keep)
    expected = [tokenizer(text, truncation=True, max_length=10)["input_ids"] for text in texts]
    assert ids == expected
    assert max(map(len, ids)) == 10
    assert tokenise([], tokenizer, 10, keep=keep) == []


def test_a_second_run_reads_the_tokens_from_the_cache(tokenizer, cache, monkeypatch):
    texts = ["owl0", "wren1 word2"]
    first = tokenise(texts, tokenizer, 10)
    monkeypatch.setattr(
        type(tokenizer), "__call__", lambda *a, **k: pytest.fail("tokenised a second time")
    )
    assert tokenise(texts, tokenizer, 10) == first


def test_the_cache_knows_texts_length_and_vocabulary(tokenizer, cache):
    tokenise(["owl0 owl1 owl2"], tokenizer, 10)
    assert len(tokenise(["owl0 owl1 owl2"], tokenizer, 4)[0]) == 4
    assert tokenise(["owl0 owl1"], tokenizer, 10) != tokenise(["owl0 owl1 owl2"], tokenizer, 10)
    tokenise(["brandnew"], tokenizer, 10)
    tokenizer.add_tokens(["brandnew"])
    assert len(tokenizer) - 1 in tokenise(["brandnew"], tokenizer, 10)[0]


def test_an_empty_text_keeps_one_token_where_the_tokenizer_gives_none(tokenizer, cache):
    class Bare:
        """A decoder's tokenizer, which adds nothing."""

        bos_token_id, eos_token_id, pad_token_id = None, 3, 0
        name_or_path = "bare"

        def __call__(self, texts, truncation, max_length):
            return {"input_ids": [[9] * len(text.split()) for text in texts]}

        def __len__(self):
            return 10

    assert tokenise(["", "a b"], Bare(), 10) == [[3], [9, 9]]


@pytest.mark.parametrize("damage", [b"", b"not safetensors at all"])
def test_a_damaged_cache_is_read_past_and_written_anew(cache, damage):
    made = []

    def compute():
        made.append(1)
        return {"x": torch.arange(3)}

    key = cache_key(some=1, other=[1, "a"])
    assert key == cache_key(other=[1, "a"], some=1) != cache_key(some=2, other=[1, "a"])
    cached("kind", key, compute)
    cached("kind", key, compute)
    assert len(made) == 1
    (file,) = cache.rglob("*.safetensors")
    file.write_bytes(damage)
    assert torch.equal(cached("kind", key, compute)["x"], torch.arange(3))
    assert len(made) == 2
    cached("kind", key, compute)
    assert len(made) == 2
    assert not list(cache.rglob("*.part"))


def test_an_unwritable_cache_costs_nothing_but_time(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    monkeypatch.setenv("HYPERLM_CACHE", str(blocked))
    assert torch.equal(cached("kind", "key", lambda: {"x": torch.ones(2)})["x"], torch.ones(2))


def test_a_user_without_a_home_can_name_the_cache(tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "home", homeless)
        patch.setenv("HYPERLM_CACHE", str(tmp_path / "own"))
        assert cache_folder() == tmp_path / "own"
        patch.delenv("HYPERLM_CACHE")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "hyperlm"
    monkeypatch.delenv("HYPERLM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "hyperlm"


# --- collating -----------------------------------------------------------------------------------


def test_batches_are_padded_to_their_longest_text_alone():
    data = EncodedTexts([[5, 6, 7], [8], [9, 9, 9, 9, 9]])
    assert len(data) == 3
    assert data.lengths == [3, 1, 5]
    batch = Collator(tree(), pad_id=1)([data[0], data[1]])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert "targets" not in batch


def test_targets_are_end_nodes_or_marked_nodes():
    taxonomy = tree()
    gold = [np.array([4]), np.array([], dtype=np.int64), np.array([2, 7])]
    data = EncodedTexts([[5], [6], [7]], gold)
    single = Collator(taxonomy, 0)([data[0], data[1]])["targets"]
    assert single.tolist() == [4, -100]
    marked = Collator(taxonomy, 0, several=True)([data[0], data[1], data[2]])["targets"]
    assert marked.dtype == torch.bool
    for row, ends in enumerate(gold):
        expected = {int(n) for end in ends for n in taxonomy.path_nodes(int(end))}
        assert set(marked[row].nonzero().flatten().tolist()) == expected


def test_features_are_stacked_and_all_of_one_length():
    features = torch.randn(3, 2, 4)
    data = EncodedTexts([[5], [6, 7], [8]], None, features)
    assert data.lengths == [1, 1, 1]
    batch = Collator(tree(), 0)([data[2], data[0]])
    assert set(batch) == {"features"}
    assert torch.equal(batch["features"], features[[2, 0]])


# --- order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 64, 65, 1000])
def test_every_text_comes_once_an_epoch(n):
    sampler = LengthGroupedSampler(list(range(n)), 8, seed=0)
    assert sorted(sampler) == list(range(n))
    assert len(sampler) == n


def test_the_order_follows_seed_and_epoch_alone():
    lengths = np.random.default_rng(0).integers(1, 100, 300).tolist()
    sampler = LengthGroupedSampler(lengths, 8, seed=3)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    again = LengthGroupedSampler(lengths, 8, seed=3)
    again.set_epoch(1)
    assert list(again) == second
    assert list(LengthGroupedSampler(lengths, 8, seed=4)) != first


def test_neighbours_have_similar_lengths_and_the_short_batch_comes_last():
    random = np.random.default_rng(0)
    lengths = random.integers(1, 200, 1003)
    sampler = LengthGroupedSampler(lengths.tolist(), 16, seed=0)

    def padding(order):
        groups = [lengths[order[i : i + 16]] for i in range(0, len(order), 16)]
        return sum(int((group.max() - group).sum()) for group in groups)

    order = list(sampler)
    assert padding(np.array(order)) < 0.25 * padding(random.permutation(1003))
    longest = [lengths[order[i : i + 16]].max() for i in range(0, 1003, 16)]
    assert longest != sorted(longest)  # grouped, not sorted: batches come at random
    assert len(order) % 16 == 11


# --- features of a frozen backbone ---------------------------------------------------------------


def counted(model):
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_features_are_the_pooled_states_and_are_computed_once(tiny_backbone, cache):
    taxonomy = tree()
    model = HierarchicalLM.from_backbone(str(tiny_backbone), taxonomy, layers="1,2").train()
    texts = ["owl0 word1 word2", "carp1", "oak2 tree0 word3 word4 word5", "", "mint1 herb2"]
    ids = tokenise(texts, model.tokenizer, 16)
    calls = counted(model)
    features = pooled_features(model, ids, batch_size=2)
    assert model.training  # left as it was, though dropout was off meanwhile
    assert len(calls) == 3
    model.eval()
    for row, tokens in enumerate(ids):
        with torch.inference_mode():
            expected = model.pooled_states(torch.tensor([tokens]))[0]
        torch.testing.assert_close(features[row], expected, rtol=1e-4, atol=1e-5)
    del calls[:]
    assert torch.equal(pooled_features(model, ids, batch_size=2), features)
    assert not calls


def test_features_of_other_weights_or_taps_are_not_mixed_up(tiny_backbone, cache):
    model = HierarchicalLM.from_backbone(str(tiny_backbone), tree(), layers="1,2")
    ids = [[5, 6, 7]]
    first = pooled_features(model, ids)
    with torch.no_grad():
        next(model.backbone.parameters()).mul_(1.5)
    assert not torch.equal(pooled_features(model, ids), first)
    # The same numbers in another order, and the same in another arithmetic.
    words = model.backbone.get_input_embeddings().weight
    with torch.no_grad():
        before = pooled_features(model, ids)
        words[[5, 9]] = words[[9, 5]].clone()
    assert not torch.equal(pooled_features(model, ids), before)
    half = model.backbone.bfloat16()
    of_half = pooled_features(model, ids)
    half.float()  # its weights are those of before to the bit
    assert not torch.equal(pooled_features(model, ids), of_half)
    other = HierarchicalLM.from_backbone(str(tiny_backbone), tree(), layers="2")
    assert pooled_features(other, ids).shape == (1, 1, 32)
    pooled = HierarchicalLM.from_backbone(str(tiny_backbone), tree(), layers="2", pooling="last")
    assert not torch.equal(pooled_features(pooled, ids), pooled_features(other, ids))


def test_features_do_not_depend_on_the_batch_size(tiny_backbone, cache, monkeypatch):
    model = HierarchicalLM.from_backbone(str(tiny_backbone), tree(), layers="1,2")
    ids = [[5, 6, 7], [8], [9] * 9, [10, 11]]
    monkeypatch.setattr(batches, "cached", lambda kind, key, compute: compute())
    one = pooled_features(model, ids, batch_size=1)
    torch.testing.assert_close(pooled_features(model, ids, batch_size=4), one)
    assert os.environ["HYPERLM_CACHE"] == str(cache)
    assert not cache.exists()


def test_equal_weights_of_another_backbone_have_features_of_their_own(cache):
    """Number of attention heads and activation are in no weight."""
    ids, taxonomy, found = [[3, 4, 5, 6]], tree(), []
    for heads, act in ((2, "gelu"), (4, "relu")):
        config = transformers.BertConfig(
            vocab_size=20, hidden_size=16, num_hidden_layers=2, intermediate_size=32,
            num_attention_heads=heads, hidden_act=act,
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone = transformers.BertModel(config)
        settings = backbone_settings("x", backbone, layers="2", num_levels=2, lora=None)
        made = HierarchicalLMConfig(**settings, taxonomy=taxonomy.to_dict(), head={"dim": 4})
        model = HierarchicalLM(made, backbone=backbone).eval()
        with torch.no_grad():
            fresh = model.pooled_states(torch.tensor(ids))
        kept = pooled_features(model, ids)
        torch.testing.assert_close(kept, fresh)
        found.append(kept)
    assert not torch.allclose(*found, atol=1e-3)


def test_tokens_cut_on_the_other_side_are_other_tokens(tokenizer, cache):
    texts = ["owl0 wren1 carp2 word1 word2 word3"]
    right = tokenise(texts, tokenizer, 5)
    tokenizer.truncation_side = "left"
    left = tokenise(texts, tokenizer, 5)
    assert left == tokenise(texts, tokenizer, 5, keep=False) != right


@pytest.mark.parametrize("room", [1, 3, 8, 100])
def test_batches_are_halved_from_where_memory_ends(room):
    """Longer texts come later: what has fitted may not fit any more."""
    done, tried = [], []

    def work(rows):
        tried.append(len(rows))
        if len(rows) > (room if rows[0] > 20 else 2 * room):
            raise torch.OutOfMemoryError
        done.extend(rows)

    by_batches(range(50), 16, work)
    assert done == list(range(50))
    assert tried[0] == 16
    with pytest.raises(torch.OutOfMemoryError):
        by_batches(range(50), 16, lambda rows: work([*rows] * 999))


def test_an_answer_survives_a_full_gpu(tiny_backbone, cache, monkeypatch):
    model = HierarchicalLM.from_backbone(str(tiny_backbone), tree(), layers="1,2").eval()
    texts = ["owl0 wren1", "carp2", "word1 word2 word3 owl1", "", "wren2"]
    wanted = Classifier(model).logits(texts)
    ids = tokenise(texts, model.tokenizer, 16)
    pooled = pooled_features(model, ids)
    original = HierarchicalLM.pooled_states

    def small(self, input_ids, *args, **kwargs):
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError
        return original(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(HierarchicalLM, "pooled_states", small)
    monkeypatch.setattr(batches, "cached", lambda kind, key, compute: compute())
    torch.testing.assert_close(Classifier(model, batch_size=4).logits(texts), wanted)
    torch.testing.assert_close(pooled_features(model, ids, batch_size=5), pooled)
