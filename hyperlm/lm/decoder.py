"""A causal decoder that answers level by level, each level spoken by a layer of its own.

Enters: texts, or sequences ``[text, r1, ..., rD]`` with the level of every token. Leaves: a loss,
or for each text the label path (and free text after it) with the probability of every level.

After HdLM (arXiv 2507.12930): the tokens of level ``d`` are predicted from the states of layer
``k_d`` through a copy of the final norm and the language head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils.generic import ModelOutput

from hyperlm.errors import ModelError, OptionError
from hyperlm.lm.backbone import load_tokenizer, longest_input, resolve_layers, text_length
from hyperlm.lm.base import BackboneModel, backbone_settings, refuse_unknown
from hyperlm.lm.hdlm.answers import Answer, Answers
from hyperlm.lm.hdlm.config import HierarchicalDecoderConfig
from hyperlm.lm.hdlm.format import SequenceFormat
from hyperlm.lm.hdlm.grammar import Grammar
from hyperlm.lm.hdlm.heads import LevelHead, resized
from hyperlm.lm.hdlm.loading import (
    check_copied_head,
    embedding_matrix,
    load_causal,
    probe,
    refuse_encoder,
)
from hyperlm.lm.hdlm.search import Cost, Hypothesis, Sampling, search
from hyperlm.lm.hdlm.stack import LayerStack
from hyperlm.lm.hdlm.staged import Session
from hyperlm.lm.hdlm.weights import check_weights, loss_weights
from hyperlm.lm.running import at_rest
from hyperlm.lm.texts import check_texts, tokenizer_of
from hyperlm.taxonomy import Taxonomy

__all__ = ["Answer", "Answers", "HierarchicalDecoder", "HierarchicalDecoderOutput"]


@dataclass
class HierarchicalDecoderOutput(ModelOutput):
    """What the model says of a batch of sequences.

    Attributes:
        loss: scalar, the weighted sum of the levels' losses; when levels were given.
        level_losses: ``(D,)`` mean cross-entropy of each level's tokens, 0 where there is none.
        logits: ``(D, B, T, V)`` scores of the next token by every level; when no levels were given.
    """

    loss: Tensor | None = None
    level_losses: Tensor | None = None
    logits: Tensor | None = None


class HierarchicalDecoder(BackboneModel):
    """A bare decoder and one language head per level, each on the layer that speaks the level.

    Build it with :meth:`from_backbone`, load it with :meth:`from_pretrained`; saving and sharing
    work as for every model of the ecosystem.
    """

    config_class = HierarchicalDecoderConfig
    config: HierarchicalDecoderConfig

    def __init__(
        self, config: HierarchicalDecoderConfig, backbone: PreTrainedModel | None = None
    ) -> None:
        super().__init__(config, backbone)
        refuse_encoder(self.backbone.config)
        self.stack = LayerStack(self.backbone)
        labels = self.taxonomy.num_levels if self.taxonomy is not None else 0
        self.num_levels = labels + config.text_levels
        self.layers = resolve_layers(
            config.layers or [], num_levels=self.num_levels, available=self.stack.depth
        )
        if config.weights is not None:
            check_weights(config.weights, self.num_levels)
        vocabulary, width = embedding_matrix(self.backbone).shape
        kind = {"kind": "tied"} | (config.heads or {})
        shape = self.backbone.config.get_text_config()
        # A matrix of the model's own, where it is not that of the embedding.
        own = not getattr(shape, "tie_word_embeddings", True) and kind["kind"] != "free"
        biased = bool((config.heads or {}).get("bias"))
        self.unembedding = nn.Linear(width, vocabulary, bias=biased) if own else None
        assert self.stack.norm is not None
        self.head = nn.ModuleList(
            LevelHead(self.stack.norm, vocabulary, width, **kind) for _ in range(self.num_levels)
        )
        # Logarithms of the levels' noise, as variances: Kendall et al. 2018, arXiv 1705.07115.
        self.log_variance = (
            nn.Parameter(torch.zeros(self.num_levels)) if config.weights is None else None
        )
        self.post_init()
        self._mark_parameters()

    @classmethod
    def from_backbone(
        cls,
        name: str,
        taxonomy: Taxonomy | None = None,
        *,
        text_levels: int = 0,
        layers: str | Sequence[int] = "auto",
        heads: str = "tied",
        head_rank: int = 16,
        lora: dict[str, Any] | None = None,
        weights: str | Sequence[float] = "equal",
        max_length: int | None = None,
        max_text_tokens: int = 64,
        cue: str = "\nLabels:",
        level_names: Sequence[str] | None = None,
    ) -> "HierarchicalDecoder":
        """Heads for every level on a pretrained causal language model.

        Args:
            name: short name (``smollm2``), folder or hub id of a model with a language head.
            taxonomy: labels of the first levels; ``None`` for free text alone.
            text_levels: levels of free text after the labels.
            layers: see :func:`~hyperlm.lm.backbone.resolve_layers`; coarse to fine.
            heads: ``tied``, ``lora`` or ``free``; see :mod:`hyperlm.lm.hdlm.heads`.
            head_rank: of ``lora`` heads.
            lora: ``{"rank": ...}`` for low-rank adapters on the backbone, ``None`` for none.
            weights: of the levels' losses: ``equal``, ``learned``, or one number per level.
            max_length: longest text in tokens; by default see
                :func:`~hyperlm.lm.backbone.text_length`.
        Raises:
            OptionError: an option out of range; a model that cannot be loaded.
            ModelError: a model that is no causal decoder, or has a head this cannot copy.
        """
        full = load_causal(name)
        tokenizer = load_tokenizer(name)
        backbone: Any = full.base_model
        output = full.get_output_embeddings()
        if output is None or backbone is full:
            raise ModelError(f"{name}: {type(full).__name__} has no language head to copy.")
        levels = (taxonomy.num_levels if taxonomy is not None else 0) + text_levels
        shape = backbone.config.get_text_config()
        shape.tie_word_embeddings = output.weight is embedding_matrix(backbone)
        config = HierarchicalDecoderConfig(
            **backbone_settings(name, backbone, layers=layers, num_levels=levels, lora=lora),
            taxonomy=taxonomy.to_dict() if taxonomy is not None else None,
            text_levels=text_levels,
            heads={"kind": heads}
            | ({"rank": head_rank} if heads == "lora" else {})
            | ({"bias": True} if output.bias is not None else {}),
            weights=loss_weights(weights, levels),
            # More than its context is no error here: a text is cut to what the answer leaves of it.
            max_length=text_length(None, name, backbone) if max_length is None else max_length,
            max_text_tokens=max_text_tokens,
            cue=cue,
            level_names=list(level_names) if level_names else None,
        )
        _format(config, tokenizer, taxonomy, backbone)  # refuses what does not fit, before the work
        expected = probe(full)
        model = cls(config, backbone=backbone)
        model.tokenizer = tokenizer
        model._copy_head(output)
        training = model.training
        check_copied_head(
            model.eval().stack, lambda states: model.level_logits(1, states), expected, name
        )
        return model.train(training)

    @torch.no_grad()
    def _copy_head(self, output: nn.Module) -> None:
        """Begin every level with the backbone's own language head."""
        weight: Any = output.weight
        bias: Any = output.bias
        if self.unembedding is not None:
            self.unembedding.weight.copy_(weight)
            if bias is not None:
                self.unembedding.bias.copy_(bias)
        for head in self.head:
            assert isinstance(head, LevelHead)
            head.copy_from(weight, bias)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As of every model of the library; what scores tokens is resized with the embedding."""
        embedding: nn.Embedding = super().resize_token_embeddings(*args, **kwargs)
        rows = embedding_matrix(self.backbone).shape[0]
        own = self.unembedding
        if own is not None:
            own.weight, own.out_features = resized(own.weight, rows), rows
            if own.bias is not None:
                own.bias = resized(own.bias, rows)
        for head in self.head:
            assert isinstance(head, LevelHead)
            head.resize(rows)
        self.__dict__.pop("_made_of", None)  # the tokenizer may have changed too
        return embedding

    def _init_weights(self, module: nn.Module) -> None:
        # The backbone initialises itself when it is built; only a head can be missing its weights.
        if isinstance(module, LevelHead):
            module.reset_parameters()

    def _mark_parameters(self) -> None:
        """Beside adapters, leave heads and loss weights to train, not the backbone."""
        super()._mark_parameters()
        if self.config.lora and self.unembedding is not None:
            self.unembedding.requires_grad_(False)

    @property
    def format(self) -> SequenceFormat:
        """How texts and answers are written as tokens; needs ``tokenizer``."""
        tokenizer, config = tokenizer_of(self), self.config
        # Made again where what it is made of has changed.
        made_of = (id(tokenizer), config.max_length, config.max_text_tokens, config.cue)
        if self.__dict__.get("_made_of") != made_of:
            form = _format(config, tokenizer, self.taxonomy, self.backbone)
            self.__dict__.update(_form=form, _made_of=made_of)
        found: SequenceFormat = self.__dict__["_form"]
        return found

    def level_logits(self, level: int, states: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Scores of the next token by the head of a level (from 1).

        Args:
            states: ``(..., D)`` of that level's layer, or of any other.
            tokens: ``(U,)``, to score only these.
        """
        own = self.unembedding
        matrix = embedding_matrix(self.backbone) if own is None else own.weight
        scores: Tensor = self.head[level - 1](
            states, matrix, None if own is None else own.bias, tokens
        )
        return scores

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        levels: Tensor | None = None,
        **further: Any,
    ) -> HierarchicalDecoderOutput:
        """One pass for all levels; blocks above the highest layer asked for do not run.

        Args:
            input_ids: ``(B, T)``, padded on the right.
            attention_mask: ``(B, T)``.
            position_ids: ``(B, T)``, beginning anew with each sequence of packed rows.
            levels: ``(B, T)`` level of each token, 0 for those without a loss. Without it the
                scores of all levels are returned.
            further: what tokenizers and trainers add, and this model has no use for.
        """
        refuse_unknown(further)
        if position_ids is not None and attention_mask is None and not self.stack.can_pack:
            raise OptionError(
                f"{type(self.backbone).__name__} cannot keep the sequences of a packed row apart. "
                "Pad instead: one sequence a row, with an attention mask."
            )
        states = self.stack.run(
            0,
            max(self.layers),
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            keep=sorted(set(self.layers)),
        )
        if levels is None:
            each = [self.level_logits(n, states[k]) for n, k in enumerate(self.layers, start=1)]
            return HierarchicalDecoderOutput(logits=torch.stack(each))
        losses, present = [], []
        for number, layer in enumerate(self.layers, start=1):
            here = levels[:, 1:] == number
            hidden = states[layer][:, :-1][here]  # (tokens of the level, D)
            scores = self.level_logits(number, hidden).float()
            total = F.cross_entropy(scores, input_ids[:, 1:][here], reduction="sum")
            # A batch may hold no token of a level; the sum is then a 0 that keeps the graph.
            losses.append(total / max(1, int(here.sum())))
            present.append(here.any())
        level_losses = torch.stack(losses)
        return HierarchicalDecoderOutput(
            loss=self._weighted(level_losses, torch.stack(present)),
            level_losses=level_losses.detach(),
        )

    def _weighted(self, losses: Tensor, present: Tensor) -> Tensor:
        """The sum of the levels' losses; those not ``present`` in the batch, 0, teach nothing."""
        if self.log_variance is not None:
            s = self.log_variance.float()
            return ((torch.exp(-s) * losses + s / 2) * present).sum()
        return (losses.new_tensor(self.config.weights) * losses).sum()

    @torch.inference_mode()
    def answer(
        self,
        texts: Sequence[str],
        *,
        width: int = 1,
        scoring: str = "constrained",
        constrained: bool = True,
        sampling: Sampling | None = None,
        layers: Sequence[int] | None = None,
        watch: Callable[[int, Sequence[Hypothesis]], None] | None = None,
    ) -> Answers:
        """Answer texts, level by level, each level with no more blocks than it needs.

        Args:
            texts: decoded together; memory grows with their number times ``width``.
            width: 1 takes the best token each time; more search so many answers side by side.
            scoring: ``constrained`` or ``free``; see :mod:`hyperlm.lm.hdlm.search`.
            constrained: confine labels to the children of the label above.
            sampling: draw answers instead.
            layers: compute the levels at these layers instead of their own; to measure what
                speaking early saves.
            watch: called with the level and its hypotheses whenever something has been said.
        """
        check_texts(texts, "answer")
        if not texts:
            return Answers([], [], Cost(self.stack.depth))
        asked = self.layers if layers is None else self._checked(layers)
        session = Session(self.stack, self.format.prompts(texts), layers=asked)
        return self.answer_prompts(
            session,
            width=width,
            scoring=scoring,
            constrained=constrained,
            sampling=sampling,
            watch=watch,
        )

    def _checked(self, layers: Sequence[int]) -> Sequence[int]:
        if len(layers) != len(self.layers):
            raise OptionError(
                f"answer(layers={list(layers)}) names {len(layers)} layers, and the model has "
                f"{len(self.layers)} levels. Give one layer per level."
            )
        return resolve_layers(layers, num_levels=len(layers), available=self.stack.depth)

    @torch.inference_mode()
    def answer_prompts(
        self,
        session: Session,
        *,
        width: int = 1,
        scoring: str = "constrained",
        constrained: bool = True,
        sampling: Sampling | None = None,
        watch: Callable[[int, Sequence[Hypothesis]], None] | None = None,
    ) -> Answers:
        """:meth:`answer` for prompts that are tokens already.

        Args:
            session: over them, nothing said yet; it is used up, a copy is not.
        Returns:
            Answers; their cost leaves out what had been computed before.
        """
        form = self.format
        with at_rest(self):
            found, left_out, cost = search(
                session,
                Grammar(form, constrained=constrained),
                session.layers,
                self.level_logits,
                width=width,
                scoring=scoring,
                sampling=sampling,
                watch=watch,
            )
        return Answers.read(found, left_out, cost, form, drawn=sampling is not None)


def _format(
    config: HierarchicalDecoderConfig,
    tokenizer: PreTrainedTokenizerBase,
    taxonomy: Taxonomy | None,
    backbone: PreTrainedModel,
) -> SequenceFormat:
    return SequenceFormat(
        tokenizer,
        taxonomy,
        text_levels=config.text_levels,
        max_length=config.max_length,
        context=longest_input(backbone),
        max_text_tokens=config.max_text_tokens,
        cue=config.cue,
    )


# As for models of points: AutoModel.from_pretrained() knows a saved one.
AutoConfig.register(HierarchicalDecoderConfig.model_type, HierarchicalDecoderConfig, exist_ok=True)
AutoModel.register(HierarchicalDecoderConfig, HierarchicalDecoder, exist_ok=True)
