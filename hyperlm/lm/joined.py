"""``--answer joined``: what is predicted on one level conditions how the next one is read.

Enters: the hidden states of the block that serves a level. The head scores the level there; the
point it expects under its own softmax, a tangent vector at the origin, goes through a learned map
and is added to the states before the blocks above read them. Leaves: the pooled states of all
levels, each seen after the points of the levels above it went in. After the injected coarse prompt
of TransHP (Wang et al. 2023, arXiv 2304.06385), with points of a head in place of prompt tokens.

The map starts at zero: a fresh joined model says exactly what one without conditioning says.
"""

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hyperlm.errors import ModelError, OptionError
from hyperlm.heads import HierarchicalHead, HyperbolicHead, LinearHead
from hyperlm.lm.backbone import num_layers
from hyperlm.lm.hdlm.stack import _find_layers
from hyperlm.lm.pooling import pool
from hyperlm.lm.running import alone

__all__ = ["Conditioning", "check_layers", "expected_vector", "joined_states"]


class Conditioning(nn.Module):
    """One linear map per level but the last, from a point of the head to a change of the states.

    Args:
        hidden_size: D of the backbone.
        dim: d of the head.
        num_levels: L, at least 2.
    """

    def __init__(self, hidden_size: int, dim: int, num_levels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_levels - 1, hidden_size, dim))
        if not self.weight.is_meta:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """No effect at the start. The gradient at zero is not zero, so training leaves it."""
        with torch.no_grad():
            self.weight.zero_()

    def forward(self, level: int, vector: Tensor, pooled: Tensor) -> Tensor:
        """What the states of a text get added, ``(B, D)`` float32.

        Args:
            level: from 0.
            vector: expected points, tangent vectors at the origin, ``(B, d)``.
            pooled: the pooled states they were predicted from, ``(B, D)``. Their root mean square
                is the unit of the change: states grow with depth and differ between backbones, and
                a step of training is to mean the same on all of them.
        """
        # A length, whose slope at zero is zero: a text without a token pools to zeros.
        length = torch.linalg.vector_norm(pooled.float(), dim=1, keepdim=True)
        unit = length / pooled.shape[1] ** 0.5
        return unit * (vector @ self.weight[level].float().T)


def check_layers(layers: Sequence[int], available: int) -> None:
    """Refuse layers at which no prediction from above could reach a level.

    Args:
        layers: backbone layer of each level, coarse to fine.
        available: blocks of the backbone.
    Raises:
        OptionError: one level alone, or levels on one layer.
    """
    levels = len(layers)
    if levels < 2:
        raise OptionError(
            "--answer joined conditions each level on the one above it, and this taxonomy has "
            "one level alone. Use --answer points."
        )
    if any(low >= high for low, high in itertools.pairwise(layers)):
        if available < levels:
            remedy = (
                f"The backbone has {available} layers for {levels} levels: take a deeper one, or "
                "--answer points."
            )
        else:
            example = ",".join(str(available * (at + 1) // levels) for at in range(levels))
            remedy = f"Give one layer per level, strictly rising, for example --layers {example}."
        raise OptionError(
            f"--answer joined: the levels are read at layers {', '.join(map(str, layers))}, but a "
            "prediction reaches only levels whose layer lies above its own. " + remedy
        )


def expected_vector(head: HierarchicalHead, logits: Tensor, level: int) -> Tensor:
    """The mean of a level's node vectors under the head's own probabilities, ``(B, d)``.

    Node vectors are the points as tangent vectors at the origin, in Riemannian length (a linear
    head: the rows of its weight). Where paths may end early the level is the cut of the taxonomy,
    in which an ended path keeps its last node.

    Args:
        logits: scores of all levels down to this one, ``(B, nodes so far)``.
        level: from 0.
    """
    cuts = head.cuts(logits.device)
    members = cuts.members[level]
    if head.loss_kind == "path":
        # The probability of a node is the product of the choices that lead to it; those below
        # have no say in it, whatever stands in their place.
        whole = nn.functional.pad(logits, (0, cuts.num_nodes - logits.shape[1]))
        scores, full, _ = cuts.path_scores(whole, "path")
        ended = scores.index_copy(1, cuts.terminals, full)  # having stopped there
        above = cuts.depth[members] <= level
        scores = torch.where(above, ended[:, members], scores[:, members])
    else:
        scores = logits.index_select(1, members)
    return scores.softmax(dim=1) @ _node_vectors(head)[members]


def _node_vectors(head: HierarchicalHead) -> Tensor:
    if isinstance(head, HyperbolicHead):
        return head.node_tangents()
    assert isinstance(head, LinearHead), "there are two heads"
    return head.weight.float()


def joined_states(
    backbone: PreTrainedModel,
    head: HierarchicalHead,
    conditioning: Conditioning,
    layers: Sequence[int],
    pooling: str,
    input_ids: Tensor,
    attention_mask: Tensor,
) -> Tensor:
    """Pooled states of all levels, ``(B, L, D)``, in one pass through the backbone.

    What a level predicts is added to every token behind the block that serves it. The blocks are
    watched meanwhile: threads that run one model wait for one another.

    Args:
        layers: of each level, strictly rising, from 1.
        pooling: ``mean`` or ``last``.
        input_ids, attention_mask: ``(B, T)``, padding on the right.
    """
    depth = num_layers(backbone.config)
    _, blocks = _find_layers(backbone, depth)
    pooled: list[Tensor] = []
    logits: list[Tensor] = []

    def read(level: int, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        if not isinstance(states, Tensor) or states.shape[:2] != attention_mask.shape:
            raise _no_states(backbone)
        here = pool(states, attention_mask, pooling)
        pooled.append(here)
        if level + 1 == len(layers):
            return output
        tangent = _project(head, level, here)
        with torch.autocast(here.device.type, enabled=False):
            logits.append(head.level_scores(tangent, level))
            vector = expected_vector(head, torch.cat(logits, dim=1), level)
            added = conditioning(level, vector, here)
        states = states + added.unsqueeze(1).to(states.dtype)
        return (states, *output[1:]) if isinstance(output, tuple) else states

    with contextlib.ExitStack() as undo:
        undo.enter_context(alone(backbone))
        for level, layer in enumerate(layers):
            if layer < depth:
                # Outside of what gradient checkpointing computes twice.
                hook = blocks[layer - 1].register_forward_hook(
                    lambda _, __, output, level=level: read(level, output)
                )
                undo.callback(hook.remove)
        outputs = backbone(
            input_ids=input_ids,
            attention_mask=attention_mask,
            return_dict=True,
            **({"use_cache": False} if pooling == "last" else {}),
        )
    if len(pooled) < sum(layer < depth for layer in layers):
        raise _no_states(backbone)
    if layers[-1] == depth:
        pooled.append(pool(outputs.last_hidden_state, attention_mask, pooling))
    return torch.stack(pooled, dim=1)


def _no_states(backbone: PreTrainedModel) -> ModelError:
    return ModelError(
        f"{type(backbone).__name__}: its blocks do not hand on one state for each token of a text, "
        "so that its levels cannot be joined. Use --answer points."
    )


def _project(head: HierarchicalHead, level: int, pooled: Tensor) -> Tensor:
    """The tangent of a level without dropout: the blocks above are told what is told in use."""
    project = head.each_projection()[level]
    training = project.training
    try:
        project.eval()
        tangent: Tensor = project(pooled)
    finally:
        project.train(training)
    return tangent
