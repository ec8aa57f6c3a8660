"""The same decoding without stages, caches or batches: every token recomputes everything.

Written from the definition alone: the model's own forward over the whole sequence, the state of the
level's layer at the last position, the final norm's copy and the output matrix.
"""

import math

import torch
from torch.nn import functional as F


@torch.no_grad()
def next_scores(model, ids, level, layer):
    """Scores (V,) of the token after ``ids`` by the head of ``level``."""
    seen = {}
    block = model.stack.layers[layer - 1]
    hook = block.register_forward_hook(
        lambda _, __, out: seen.update(x=out[0] if isinstance(out, tuple) else out)
    )
    one = torch.tensor([ids])
    model.backbone(input_ids=one, attention_mask=torch.ones_like(one), use_cache=False)
    hook.remove()
    head = model.head[level - 1]
    state = head.norm(seen["x"][0, -1])
    if head.weight is not None:
        return F.linear(state, head.weight, head.bias)
    matrix, bias = model.backbone.get_input_embeddings().weight, None
    if model.unembedding is not None:
        matrix, bias = model.unembedding.weight, model.unembedding.bias
    scores = F.linear(state, matrix, bias)
    if head.down is not None:
        scores = scores + head.up @ (head.down @ state)
    return scores


def spoken(model, name):
    """Tokens of a label, with the one that ends it."""
    end = model.tokenizer("\n", add_special_tokens=False).input_ids
    assert len(end) == 1
    return [*model.tokenizer(" " + name, add_special_tokens=False).input_ids, *end]


def prompt(model, text):
    config, words = model.config, model.tokenizer
    ids = words(text, add_special_tokens=False).input_ids[-config.max_length :]
    return [*ids, *words(config.cue, add_special_tokens=False).input_ids]


def options(model, paths, above):
    """What may be said below the labels ``above``: token sequences, by the label they name.

    ``None`` as a label says that the path ends where it may also go on.
    """
    below = {p[len(above)] for p in paths if p[: len(above)] == above and len(p) > len(above)}
    said = {name: spoken(model, name) for name in below}
    if below and above in paths:
        said[None] = spoken(model, "x")[-1:]
    return said


def greedy_path(model, paths, text, layers):
    """Tokens of each level and the log-probability of each, one text."""
    ids, above, ended = prompt(model, text), (), False
    tokens, log_probs = [], []
    for level, layer in enumerate(layers, start=1):
        said, log_prob = [], 0.0
        left = {} if ended else options(model, paths, above)
        while left and not any(len(said) == len(t) for t in left.values()):
            allowed = sorted({t[len(said)] for t in left.values()})
            chances = next_scores(model, ids, level, layer)[allowed].log_softmax(0)
            best = int(chances.argmax())
            said.append(allowed[best])
            log_prob += float(chances[best])
            ids.append(allowed[best])
            left = {name: t for name, t in left.items() if t[: len(said)] == said}
        if left:
            (name,) = left
            ended = name is None
            above = above if ended else (*above, name)
        else:
            ended = True
        tokens.append(tuple(said))
        log_probs.append(log_prob)
    return above, tokens, log_probs


def path_log_prob(model, paths, text, path, layers, *, free=False):
    """Log-probability of one path, token by token."""
    ids, total = prompt(model, text), 0.0
    steps = [(path[:at], name) for at, name in enumerate(path)]
    if options(model, paths, path):
        steps.append((path, None))
    for (above, name), (level, layer) in zip(steps, enumerate(layers, start=1), strict=False):
        every = options(model, paths, above)
        target, said = every[name], []
        for token in target:
            scores = next_scores(model, ids, level, layer)
            allowed = sorted({t[len(said)] for t in every.values() if t[: len(said)] == said})
            if free:
                total += float(scores.log_softmax(0)[token])
            else:
                total += float(scores[allowed].log_softmax(0)[allowed.index(token)])
            said.append(token)
            ids.append(token)
    return total


def beam(model, text, layers, width, limit, end):
    """Beam search for free text on every level: [(log-probability, tokens of each level)]."""
    beams = [(0.0, prompt(model, text), [])]
    for level, layer in enumerate(layers, start=1):
        beams = [(score, ids, [*said, []], False) for score, ids, said in beams]
        while not all(done for *_, done in beams):
            offers = []
            for score, ids, said, done in beams:
                if done:
                    offers.append((score, ids, said, True))
                    continue
                if len(said[-1]) == limit - 1:
                    offers.append((score, [*ids, end], [*said[:-1], [*said[-1], end]], True))
                    continue
                chances = next_scores(model, ids, level, layer).log_softmax(0)
                for token in chances.topk(width + 1).indices.tolist():
                    more = [*said[:-1], [*said[-1], token]]
                    offers.append(
                        (score + float(chances[token]), [*ids, token], more, token == end)
                    )
            beams = sorted(offers, key=lambda offer: -offer[0])[:width]
        beams = [(score, ids, said) for score, ids, said, _ in beams]
    return [(score, said) for score, _, said in beams if score > -math.inf]
