"""Label paths in words: always paths, with probabilities that a brute force confirms."""

import math

import pytest
import torch
from hdlm_models import PATHS, TEXTS, made, save_causal, tree
from hdlm_oracle import path_log_prob
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperlm.lm.hdlm import Grammar
from hyperlm.lm.hdlm.format import SequenceFormat
from hyperlm.lm.hdlm.grammar import NO_LABEL, Ended
from hyperlm.taxonomy import Taxonomy


@pytest.fixture(scope="module", params=["gpt2", "mamba"])
def model(request, tmp_path_factory):
    return made(save_causal(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return made(save_causal("qwen2", tmp_path_factory.mktemp("qwen")))


KNOWN = {}


def brute_force(model, text, *, free=False):
    """All paths with their probabilities, best first."""
    key = (id(model), text, free)
    if key not in KNOWN:
        scored = [
            (math.exp(path_log_prob(model, PATHS, text, path, model.layers, free=free)), path)
            for path in PATHS
        ]
        KNOWN[key] = sorted(scored, key=lambda item: -item[0])
    return KNOWN[key]


@pytest.mark.parametrize("free", [False, True])
def test_a_wide_beam_gives_every_path_with_its_probability(model, free):
    scoring = "free" if free else "constrained"
    texts = TEXTS[1:3]
    found = model.answer(texts, width=len(PATHS), scoring=scoring)
    for text, answers, certain in zip(texts, found.best, found.certain, strict=True):
        expected = brute_force(model, text, free=free)
        paths = [model.taxonomy.path(a.nodes[-1]) for a in answers]
        assert paths == [path for _, path in expected]
        assert [a.probability for a in answers] == pytest.approx(
            [probability for probability, _ in expected], rel=2e-3, abs=1e-9
        )
        assert certain == len(PATHS)
        total = sum(a.probability for a in answers)
        assert (total < 1) if free else total == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_what_is_called_certain_is_the_brute_force_answer(qwen, width):
    texts = TEXTS[:3]
    found = qwen.answer(texts, width=width)
    for text, answers, certain in zip(texts, found.best, found.certain, strict=True):
        assert len(answers) <= width
        expected = [path for _, path in brute_force(qwen, text)]
        sure = [qwen.taxonomy.path(a.nodes[-1]) for a in answers[:certain]]
        assert sure == expected[:certain]
    if width == 3:
        assert any(found.certain)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(st.text(max_size=9), min_size=1, max_size=3), width=st.integers(1, 4))
def test_every_answer_is_a_path(qwen, texts, width):
    for answers in qwen.answer(texts, width=width).best:
        assert len({a.nodes for a in answers}) == len(answers)
        for answer in answers:
            path = qwen.taxonomy.path(answer.nodes[-1])
            assert path in PATHS
            assert path == tuple(word for word in answer.words if word)
            assert path == tuple(qwen.taxonomy.name(node) for node in answer.nodes)
            assert all(0 <= p <= 1 for p in answer.probabilities)


def test_an_answer_does_not_depend_on_its_batch(model):
    together = model.answer(TEXTS, width=3).best
    for text, answers in zip(TEXTS, together, strict=True):
        alone = model.answer([text], width=3).best[0]
        assert [a.nodes for a in alone] == [a.nodes for a in answers]
        assert [a.probability for a in alone] == pytest.approx(
            [a.probability for a in answers], rel=1e-3
        )


def test_without_a_trie_words_are_still_matched_with_labels(qwen):
    """Whatever an unconstrained level says either names a child of the level above or ends."""
    for (answer,) in qwen.answer(TEXTS, constrained=False).best:
        named = [node for node in answer.nodes if node != NO_LABEL]
        assert len(answer.nodes) - len(named) <= 1
        for at, node in enumerate(named):
            assert qwen.taxonomy.name(node) == answer.words[at]


def test_what_goes_on_beyond_the_longest_name_is_no_label(qwen, monkeypatch):
    """Said to its end: a model that would have gone on has not named what it began with."""
    form = qwen.format
    longest = max(form.children(-1), key=lambda node: len(form.names[node]))
    speech = [*form.names[longest], form.names[longest][0], *[form.label_end] * 9]
    said = iter(speech)

    def scores(level, states, tokens=None):
        ids = torch.arange(len(qwen.tokenizer)) if tokens is None else tokens
        return 50.0 * (ids == next(said)).float().expand(len(states), -1)

    monkeypatch.setattr(qwen, "level_logits", scores)
    ((answer,),) = qwen.answer(["oil"], constrained=False, scoring="free").best
    assert answer.nodes[0] == NO_LABEL
    said = iter([*form.names[longest], *[form.label_end] * 9])
    ((answer,),) = qwen.answer(["oil"], constrained=False, scoring="free").best
    assert answer.nodes[0] == longest


# --- the trie ------------------------------------------------------------------------------------


def say(grammar, level, node, tokens):
    state = grammar.start(level, node, False)
    for token in tokens:
        assert state.allowed is None or token in state.allowed
        state = state.after(token)
    return state


def test_names_that_begin_with_one_another_end_where_they_should(qwen):
    form, taxonomy = qwen.format, qwen.taxonomy
    grammar = Grammar(form)
    for path in (("art",), ("art history",)):
        node = taxonomy.index(path)
        ended = say(grammar, 1, -1, [*form.names[node], form.label_end])
        assert ended == Ended(node, False)
    # "art" alone may go on to "art history" or end, and nothing else.
    state = say(grammar, 1, -1, form.names[taxonomy.index(("art",))])
    longer = form.names[taxonomy.index(("art history",))]
    assert sorted(state.allowed) == sorted({form.label_end, longer[1]})


def test_a_path_may_end_only_where_the_taxonomy_lets_it(qwen):
    form, taxonomy = qwen.format, qwen.taxonomy
    grammar = Grammar(form)
    inner = taxonomy.index(("art history", "modern"))  # a path ends here, others go on
    assert form.label_end in grammar.start(3, inner, False).allowed
    assert say(grammar, 3, inner, [form.label_end]) == Ended(inner, True)
    through = taxonomy.index(("science",))  # no path ends here
    assert form.label_end not in grammar.start(2, through, False).allowed
    leaf = taxonomy.index(("sport",))
    assert grammar.start(2, leaf, True) == Ended(leaf, True)


def test_a_dag_is_spoken_along_its_first_parents(tmp_path):
    dag = Taxonomy.from_edges([("c", "a"), ("c", "b"), ("d", "c"), ("e", "b")])
    folder = save_causal("gpt2", tmp_path)
    model = made(folder, taxonomy=dag, layers="2,3,4")
    answers = model.answer(["x"], width=20).best[0]
    said = {tuple(w for w in a.words if w) for a in answers}
    assert said == {dag.path(int(node)) for node in dag.terminals}
    assert sum(a.probability for a in answers) == pytest.approx(1, abs=1e-5)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_way_through_a_dag_ends_where_a_path_may(qwen, data):
    """Also where all children of a node have another main parent, so that nothing leads on."""
    names = "abcdefgh"
    edges: list[tuple[str, str | None]] = [("a", None)]
    for child in range(1, len(names)):
        above = data.draw(st.sets(st.sampled_from(names[:child]), max_size=3))
        edges += [(names[child], parent) for parent in sorted(above) or [None]]
    dag = Taxonomy.from_edges(edges)
    form = SequenceFormat(qwen.format.tokenizer, dag)
    grammar, ends = Grammar(form), set(map(int, dag.terminals))

    def walk(level, node, stopped):
        state = grammar.start(level, node, stopped) if level <= form.label_levels else None
        if state is None or isinstance(state, Ended):
            yield node if state is None else state.node
            return
        places = [state]
        while places:
            place = places.pop()
            for token in place.allowed:
                after = place.after(token)
                if isinstance(after, Ended):
                    yield from walk(level + 1, after.node, after.stopped)
                else:
                    places.append(after)

    assert set(walk(1, -1, False)) == ends


def test_a_node_from_which_no_path_is_spoken_is_never_said(qwen):
    dag = Taxonomy.from_edges(
        [("A", None), ("B", None), ("C", "B"), ("Y", "A"), ("Y", "C"), ("Z", "C")]
    )
    form = SequenceFormat(qwen.format.tokenizer, dag)
    assert [dag.path(node) for node in form.children(-1)] in ([("A",), ("B",)], [("B",)])
    for node in range(len(dag)):
        assert form.children(node) or node in form.terminals or node == dag.index(("A",))


def test_free_text_after_labels(tmp_path):
    """Strategy, then reply: a label at an inner layer, free text at the last."""
    strategies = Taxonomy.from_paths([("question",), ("self-disclosure",), ("advice",)])
    model = made(save_causal("llama", tmp_path), taxonomy=strategies, text_levels=1, layers="2,4",
                 max_text_tokens=6)  # fmt: skip
    for (answer,) in model.answer(TEXTS).best:
        assert answer.words[0] in ("question", "self-disclosure", "advice")
        assert len(answer.nodes) == 1
        assert 1 <= len(answer.tokens[1]) <= 6
        assert answer.tokens[1][-1] == model.tokenizer.eos_token_id
    widths = model.answer(TEXTS, width=3)
    for best in widths.best:
        chances = [a.probability for a in best]
        assert chances == sorted(chances, reverse=True)


def test_tokens_of_labels_are_found_again(qwen):
    """What the format writes for a gold path, the grammar reads as that path."""
    form, grammar = qwen.format, Grammar(qwen.format)
    for path in PATHS:
        end = qwen.taxonomy.index(path)
        node, stopped = -1, False
        for level, tokens in enumerate(form.answer(end), start=1):
            state = grammar.start(level, node, stopped)
            if not tokens:
                assert isinstance(state, Ended)
                continue
            state = say(grammar, level, node, tokens)
            node, stopped = state.node, state.stopped
        assert node == end


def test_probabilities_are_finite_far_from_certainty(qwen):
    """Scores of thousands, as a diverging model gives, still make probabilities."""
    with torch.no_grad():
        before = qwen.unembedding.weight.clone()
        qwen.unembedding.weight.mul_(1e4)
        try:
            found = qwen.answer(TEXTS, width=4).best
        finally:
            qwen.unembedding.weight.copy_(before)
    for answers in found:
        assert all(math.isfinite(a.probability) for a in answers)
        assert answers[0].probability == pytest.approx(1, abs=1e-3)


def test_the_tree_of_the_tests_has_what_they_speak_of():
    taxonomy = tree()
    assert len(taxonomy.terminals) == len(PATHS)
    assert len(set(taxonomy.leaves)) < len(PATHS)
