"""Decoding in stages says, token for token, what recomputing everything would say."""

import itertools

import pytest
import torch
import transformers
from hdlm_models import ARCHITECTURES, PATHS, TEXTS, made, save_causal
from hdlm_oracle import beam, greedy_path, next_scores, prompt

from hyperlm.errors import ModelError, OptionError
from hyperlm.lm.hdlm import Grammar, LayerStack, Sampling, Session
from hyperlm.lm.hdlm.search import search

CLOSE = {"rel": 1e-3, "abs": 1e-5}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: save_causal(name, tmp_path_factory.mktemp(name)) for name in ARCHITECTURES}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request, folders):
    return made(folders[request.param])


@pytest.fixture(scope="module")
def llama(folders):
    return made(folders["llama"])


def test_greedy_labels_of_a_ragged_batch(model):
    layers = (1, 1, 3) if model.config.backbone_config.model_type == "llama" else (2, 3, 4)
    answers = model.answer(TEXTS, layers=layers)
    for text, (answer,) in zip(TEXTS, answers.best, strict=True):
        path, tokens, log_probs = greedy_path(model, PATHS, text, layers)
        assert list(answer.tokens) == tokens
        assert model.taxonomy.path(answer.nodes[-1]) == path
        expected = torch.tensor(log_probs).exp().tolist()
        assert answer.probabilities == pytest.approx(expected, **CLOSE)


def test_a_copy_is_answered_as_if_the_prompts_had_been_read_again(model):
    ways = ({"width": 3}, {"constrained": False}, {"width": 2, "scoring": "free"})
    session = Session(model.stack, model.format.prompts(TEXTS), layers=(2, 3, 4))
    sessions = [session.copy(), session.copy(), session]
    for shared, how in zip(sessions, ways, strict=True):
        found = model.answer_prompts(shared, **how).best
        alone = model.answer(TEXTS, layers=(2, 3, 4), **how).best
        for ours, theirs in zip(found, alone, strict=True):
            assert [a.tokens for a in ours] == [a.tokens for a in theirs]
            assert [a.probability for a in ours] == pytest.approx(
                [a.probability for a in theirs], **CLOSE
            )


def test_greedy_free_text_of_a_ragged_batch(model):
    """Rows end their levels after different numbers of tokens, so holes must be closed."""
    free = made(model.config.backbone_name, taxonomy=None, text_levels=3, max_text_tokens=7)
    end = free.tokenizer.eos_token_id
    ends_early(free, TEXTS)
    said = free.answer(TEXTS).best
    assert len({len(a.tokens[0]) for (a,) in said} | {len(a.tokens[1]) for (a,) in said}) > 1
    for text, (answer,) in zip(TEXTS[:3], said, strict=False):
        ((log_prob, tokens),) = beam(free, text, free.layers, 1, 7, end)
        assert [list(level) for level in answer.tokens] == tokens
        assert answer.probability == pytest.approx(
            float(torch.tensor(log_prob).exp()), rel=1e-3, abs=1e-9
        )


@pytest.mark.parametrize("architecture", ["mistral", "mamba"])
def test_beam_search_for_free_text(folders, architecture):
    free = made(folders[architecture], taxonomy=None, text_levels=2, layers="2,4",
                max_text_tokens=5)  # fmt: skip
    ends_early(free, TEXTS)
    said = free.answer(TEXTS, width=3)
    lengths = set()
    for text, answers in zip(TEXTS, said.best, strict=True):
        expected = beam(free, text, free.layers, 3, 5, free.tokenizer.eos_token_id)
        assert [[list(level) for level in a.tokens] for a in answers] == [t for _, t in expected]
        lengths |= {len(level) for a in answers for level in a.tokens}
    assert len(lengths) > 1  # rows did end at different times


def ends_early(model, texts):
    """Let the end of a text win wherever the token said most often would have."""
    found = model.answer(texts, width=3).best
    said = [t for best in found for a in best for level in a.tokens for t in level[1:-1]]
    own = model.unembedding
    matrix = model.backbone.get_input_embeddings().weight if own is None else own.weight
    with torch.no_grad():
        matrix[model.tokenizer.eos_token_id] = 1.05 * matrix[max(set(said), key=said.count)]


def test_sampling_is_repeatable_and_knows_no_batch(llama):
    sampling = Sampling(temperature=1.4, seed=5)
    drawn = llama.answer(TEXTS, sampling=sampling).best
    alone = [
        llama.answer([text], sampling=Sampling(temperature=1.4, seed=5 + row)).best[0]
        for row, text in enumerate(TEXTS)
    ]
    assert [a[0].tokens for a in drawn] == [a[0].tokens for a in alone]
    again = llama.answer(TEXTS, sampling=sampling).best
    assert [a[0].tokens for a in drawn] == [a[0].tokens for a in again]


def test_samples_follow_the_probabilities(llama):
    """Shares of 400 draws against the probabilities of the paths: a chi-square within its bound."""
    text = TEXTS[2]
    paths = llama.answer([text], width=50).best[0]
    counts = dict.fromkeys((a.nodes for a in paths), 0)
    for start in range(0, 400, 100):
        drawn = llama.answer([text] * 100, sampling=Sampling(seed=start)).best
        for (answer,) in drawn:
            counts[answer.nodes] += 1
    usual = [(counts[a.nodes], 400 * a.probability) for a in paths if a.probability > 0.02]
    chi = sum((seen - expected) ** 2 / expected for seen, expected in usual)
    assert chi < 3 * len(usual) + 10


def test_a_temperature_near_nothing_and_a_single_choice_are_greedy(llama):
    greedy = [a[0].tokens for a in llama.answer(TEXTS).best]
    for sampling in (Sampling(temperature=1e-4), Sampling(top_k=1), Sampling(top_p=1e-6)):
        assert [a[0].tokens for a in llama.answer(TEXTS, sampling=sampling).best] == greedy


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.5}])
def test_sampling_out_of_range_is_refused(wrong):
    with pytest.raises(OptionError, match=r"temperature|top_k"):
        Sampling(**wrong)


def test_states_carried_up_are_those_of_a_whole_pass(model):
    """After two advances and an extension, the last state at each layer is the unstaged one."""
    rows = [prompt(model, text) for text in TEXTS]
    more = [[5], [6, 7, 8], [], [9, 3]]
    session = Session(model.stack, rows, layers=(2, 3, 4))
    with torch.inference_mode():
        session.advance(2)
        passes = session.extend(more)
        assert passes == (3 if session.cache.recurrent else 1)
        for layer in (2, 3, 4):
            session.advance(layer)
            for row, (ids, extra) in enumerate(zip(rows, more, strict=True)):
                whole = model.stack.run(0, layer, input_ids=torch.tensor([ids + extra]))[layer]
                torch.testing.assert_close(session.last[row], whole[0, -1], rtol=1e-3, atol=1e-4)


def test_rows_can_be_taken_several_times_and_in_any_order(model):
    rows = [prompt(model, text) for text in TEXTS]
    session = Session(model.stack, rows, layers=(2, 3, 4))
    order = [2, 0, 2, 3, 3]
    more = [[4], [5, 6], [], [7], [8, 9]]
    with torch.inference_mode():
        session.advance(2)
        session.select(order)
        said = [[rows[row], extra] for row, extra in zip(order, more, strict=True)]
        session.extend(more)
        check_last(session, said, 2)
        session.advance(3)
        check_last(session, said, 3)
        # A second time, after holes have come up: rows that said little beside rows that said more.
        again = [4, 1, 1, 2]
        session.select(again)
        said = [
            [*said[row], extra] for row, extra in zip(again, ([6], [], [3, 3, 8], [1]), strict=True)
        ]
        session.extend([row[-1] for row in said])
        check_last(session, said, 3)
        session.advance(4)
        check_last(session, said, 4)
        session.extend([[1], [2, 3], [4], []])
        check_last(session, [[*s, e] for s, e in zip(said, ([1], [2, 3], [4], []), strict=True)], 4)


def check_last(session, said, layer):
    for at, parts in enumerate(said):
        ids = torch.tensor([[token for part in parts for token in part]])
        whole = session.stack.run(0, layer, input_ids=ids)[layer]
        torch.testing.assert_close(session.last[at], whole[0, -1], rtol=1e-3, atol=1e-4)


def test_copies_share_their_prompt(llama):
    """Carried up once for each text, however many hypotheses there are."""
    llama.answer(TEXTS[:1])  # asks once, with a token of its own, what the blocks return
    seen = []
    top = llama.stack.layers[3].input_layernorm
    hook = top.register_forward_hook(lambda _, args, __: seen.append(args[0].shape[:2].numel()))
    try:
        llama.answer(TEXTS[2:3], layers=(2, 2, 4), width=6)
    finally:
        hook.remove()
    assert seen[0] == len(prompt(llama, TEXTS[2]))
    assert max(seen[1:]) < 6 * seen[0]


def test_free_text_at_the_last_layer_is_what_the_library_generates(folders):
    """A single level at the top is an ordinary language model, and ``generate`` its oracle."""
    for name in ("gpt2", "mistral"):
        free = made(folders[name], taxonomy=None, text_levels=1, layers="4", max_text_tokens=9)
        plain = transformers.AutoModelForCausalLM.from_pretrained(folders[name]).eval()
        for text in TEXTS[1:3]:
            ids = torch.tensor([prompt(free, text)])
            out = plain.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False,
                pad_token_id=0,
            )  # fmt: skip
            ((answer,),) = free.answer([text]).best
            assert list(answer.tokens[0][:8]) == out[0, ids.shape[1] :].tolist()


def test_only_the_blocks_needed_run(folders):
    """Blocks above the level's layer see its tokens later, all at once."""
    llama = made(folders["llama"], taxonomy=None, text_levels=3, max_text_tokens=4)
    llama.answer(TEXTS[:1])  # asks once, with a token of its own, what the blocks return
    seen = []
    hooks = [
        # The blocks that are passed over are called as well; their norms are not.
        layer.input_layernorm.register_forward_hook(
            lambda _, args, __, n=n: seen.append((n, args[0].shape[1]))
        )
        for n, layer in enumerate(llama.stack.layers, start=1)
    ]
    try:
        cost = llama.answer(TEXTS[:1], layers=(2, 2, 4)).cost
    finally:
        for hook in hooks:
            hook.remove()
    below = [width for n, width in seen if n == 1]
    above = [width for n, width in seen if n == 3]
    first, second, third = cost.levels
    assert len(below) == 1 + first.passes + second.passes + third.passes
    assert above[0] == sum(below[: 1 + first.passes + second.passes])  # carried up in one pass
    assert len(above) == 1 + third.passes
    assert (first.lifted, second.lifted, third.lifted) == (2, 0, 2)
    sequential = 2 * (first.passes + second.passes) + 4 * third.passes
    assert cost.blocks_in_sequence == sequential
    full = 4 * (first.passes + second.passes + third.passes)
    assert cost.saved == pytest.approx(1 - sequential / full)


def test_the_model_is_as_before_afterwards(llama):
    ids = torch.tensor([prompt(llama, TEXTS[0])])
    before = llama.backbone(input_ids=ids).last_hidden_state
    llama.answer(TEXTS, width=3)
    with pytest.raises(RuntimeError, match="stop"):
        llama.answer(TEXTS, watch=_stop)
    assert torch.equal(llama.backbone(input_ids=ids).last_hidden_state, before)
    assert not any("forward" in layer.__dict__ for layer in llama.stack.layers)


def _stop(*_):
    raise RuntimeError("stop")


def test_watching_sees_every_level_grow(llama):
    seen = []
    (answer,) = llama.answer(
        TEXTS[:1], watch=lambda level, found: seen.append((level, found[0].tokens))
    ).best[0]
    levels = [level for level, _ in seen]
    assert levels == sorted(levels)
    assert seen[-1][1] == answer.tokens
    for (_, before), (_, after) in itertools.pairwise(seen):
        assert sum(map(len, before)) <= sum(map(len, after))
        assert [t for level in after for t in level][: sum(map(len, before))] == [
            t for level in before for t in level
        ]


def test_nothing_to_answer(llama):
    assert llama.answer([]).best == []
    with pytest.raises(OptionError, match="takes a list of texts"):
        llama.answer("a text")
    with pytest.raises(OptionError, match="text 1 is None; every text is a string"):
        llama.answer(["a", None])
    with pytest.raises(OptionError, match=r"text 0, 'caf.*not UTF-8.*iconv"):
        llama.answer([b"caf\xe9".decode("utf-8", "surrogateescape")])


def never_ending(model):
    """Scores of a model with those of the ending token taken away."""
    scores, end = model.level_logits, model.tokenizer.eos_token_id

    def without(level, states, tokens=None):
        found = scores(level, states, tokens).clone()
        ids = torch.arange(found.shape[-1]) if tokens is None else tokens
        return found.masked_fill(ids == end, -1e9)

    return without


def test_settings_that_change_are_followed(folders):
    free = made(folders["llama"], taxonomy=None, text_levels=1, layers="4", max_text_tokens=9)
    free.level_logits = never_ending(free)
    lengths = []
    for longest in (9, 3, 5):
        free.config.max_text_tokens = longest
        lengths.append(len(free.answer(["x y"]).best[0][0].tokens[0]))
    assert lengths == [9, 3, 5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_whether_empty_places_count_is_seen_in_every_precision(dtype):
    size = {"vocab_size": 60, "initializer_range": 0.25}
    for seed in range(6):
        torch.manual_seed(seed)
        by_distance = transformers.MptConfig(
            **size, d_model=64, n_layers=4, n_heads=4, expansion_ratio=4, max_seq_len=96
        )
        turned = transformers.LlamaConfig(
            **size, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
            intermediate_size=96,
        )  # fmt: skip
        for config, counts in ((by_distance, True), (turned, False)):
            stack = LayerStack(transformers.AutoModel.from_config(config, dtype=dtype).eval())
            assert stack.new_cache().windowed is counts


def test_wrong_widths_and_scorings_are_refused(llama):
    with pytest.raises(OptionError, match="width 0"):
        llama.answer(TEXTS, width=0)
    with pytest.raises(OptionError, match="1 when sampling"):
        llama.answer(TEXTS, width=2, sampling=Sampling())
    with pytest.raises(OptionError, match=r"layers=\[3\]\) names 1 layers, .* 3 levels"):
        llama.answer(TEXTS, layers=[3])
    with pytest.raises(OptionError, match="layers must not decrease"):
        llama.answer(TEXTS, layers=[4, 2, 3])
    with pytest.raises(OptionError, match="scoring 'odd' is unknown"):
        llama.answer(TEXTS, scoring="odd")


def test_an_architecture_of_both_kinds_is_refused_for_decoding():
    config = transformers.BambaConfig(
        vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, attn_layer_indices=[1], mamba_n_heads=4,
        mamba_d_head=16, mamba_d_state=4, mamba_n_groups=1,
    )  # fmt: skip
    stack = LayerStack(transformers.AutoModel.from_config(config))
    with pytest.raises(ModelError, match="mixes recurrent and attention layers"):
        Session(stack, [[1, 2]], layers=(1, 2))


def test_search_alone_needs_only_scores(llama):
    """The search asks a function for scores: with one that knows only numbers it is predictable."""
    form = llama.format
    want = form.names[form.children(-1)[1]]

    def scores(level, states, tokens):
        size = len(llama.tokenizer) if tokens is None else len(tokens)
        ids = torch.arange(size) if tokens is None else tokens
        liked = torch.isin(ids, torch.tensor(want)).float() * 10
        return liked.expand(len(states), size)

    session = Session(llama.stack, [[1, 2, 3]], layers=(2, 3, 4))
    with torch.inference_mode():
        ((best,),), _, _ = search(session, Grammar(form), (2, 3, 4), scores)
    assert best.tokens[0][: len(want)] == tuple(want)
    assert next_scores(llama, [1, 2, 3], 1, 2).shape == (len(llama.tokenizer),)
