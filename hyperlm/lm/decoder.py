"""A causal decoder that answers level by level, each level spoken by a layer of its own.

Enters: texts, or sequences ``[text, r1, ..., rD]`` with the level of every token. Leaves: a loss,
or for each text the label path (and free text after it) with the probability of every level.

After HdLM (arXiv 2507.12930): the tokens of level ``d`` are predicted from the states of layer
``k_d`` through a copy of the final norm and the language head.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils.generic import ModelOutput

from hyperlm.errors import HyperlmError, ModelError, OptionError
from hyperlm.lm.backbone import (
    load_tokenizer,
    longest_input,
    num_layers,
    pooling_for,
    resolve_backbone,
    resolve_layers,
)
from hyperlm.lm.hdlm.config import HierarchicalDecoderConfig
from hyperlm.lm.hdlm.format import SequenceFormat
from hyperlm.lm.hdlm.grammar import Grammar
from hyperlm.lm.hdlm.heads import LevelHead
from hyperlm.lm.hdlm.search import Cost, Hypothesis, Sampling, search
from hyperlm.lm.hdlm.stack import LayerStack
from hyperlm.lm.hdlm.staged import Session
from hyperlm.lm.lora import inject_lora, merge_lora
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


@dataclass(frozen=True)
class Answer:
    """One answer to one text.

    Attributes:
        words: what each level says; "" for a level with nothing to say.
        nodes: label nodes from the top down.
        probabilities: of each level, given those above it.
        tokens: token ids of each level.
    """

    words: tuple[str, ...]
    nodes: tuple[int, ...]
    probabilities: tuple[float, ...]
    tokens: tuple[tuple[int, ...], ...]

    @property
    def probability(self) -> float:
        """Of the whole answer."""
        return math.prod(self.probabilities)


@dataclass(frozen=True)
class Answers:
    """Answers to a batch.

    Attributes:
        best: answers of each text, best first.
        certain: for each text how many of its answers, from the best on, are surely the best there
            are: nothing the search left out can be more probable.
        cost: blocks and seconds that it took.
    """

    best: list[list[Answer]]
    certain: list[int]
    cost: Cost


class HierarchicalDecoder(PreTrainedModel):
    """A bare decoder and one language head per level, each on the layer that speaks the level.

    Build it with :meth:`from_backbone`, load it with :meth:`from_pretrained`; saving and sharing
    work as for every model of the ecosystem.
    """

    config_class = HierarchicalDecoderConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    supports_gradient_checkpointing = True
    tokenizer: PreTrainedTokenizerBase

    def __init__(
        self, config: HierarchicalDecoderConfig, backbone: PreTrainedModel | None = None
    ) -> None:
        super().__init__(config)
        self.taxonomy = config.tree()
        self.backbone = (
            AutoModel.from_config(config.backbone_config) if backbone is None else backbone
        )
        _refuse_encoder(self.backbone.config)
        self.stack = LayerStack(self.backbone)
        labels = self.taxonomy.num_levels if self.taxonomy is not None else 0
        self.num_levels = labels + config.text_levels
        self.layers = resolve_layers(
            config.layers or [], num_levels=self.num_levels, available=self.stack.depth
        )
        if config.weights is not None:
            _check_weights(config.weights, self.num_levels)
        vocabulary, width = _matrix(self.backbone).shape
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
        if config.lora:
            # After post_init(), which would fill the zeros that adapters start from with noise.
            inject_lora(self.backbone, **config.lora)
            self._freeze_beside_adapters()

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
        max_length: int = 128,
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
            max_length: longest text in tokens.
        Raises:
            OptionError: an option out of range; a model that cannot be loaded.
            ModelError: a model that is no causal decoder, or has a head this cannot copy.
        """
        full = _load_causal(name)
        tokenizer = load_tokenizer(name)
        backbone: Any = full.base_model
        output = full.get_output_embeddings()
        if output is None or backbone is full:
            raise ModelError(f"{name}: {type(full).__name__} has no language head to copy.")
        levels = (taxonomy.num_levels if taxonomy is not None else 0) + text_levels
        shape = backbone.config.get_text_config()
        shape.tie_word_embeddings = output.weight is _matrix(backbone)
        config = HierarchicalDecoderConfig(
            # A copy: building the outer model resets the attention choice of its own.
            backbone_config=copy.deepcopy(backbone.config),
            backbone_name=name,
            taxonomy=taxonomy.to_dict() if taxonomy is not None else None,
            text_levels=text_levels,
            layers=list(
                resolve_layers(layers, num_levels=levels, available=num_layers(backbone.config))
            ),
            heads={"kind": heads}
            | ({"rank": head_rank} if heads == "lora" else {})
            | ({"bias": True} if output.bias is not None else {}),
            lora=dict(lora) if lora else None,
            weights=_weights(weights, levels),
            max_length=max_length,
            max_text_tokens=max_text_tokens,
            cue=cue,
            level_names=list(level_names) if level_names else None,
        )
        SequenceFormat(
            tokenizer,
            taxonomy,
            text_levels=text_levels,
            max_length=max_length,
            context=longest_input(backbone),
            max_text_tokens=max_text_tokens,
            cue=cue,
        )
        expected = _probe(full)
        model = cls(config, backbone=backbone)
        model.tokenizer = tokenizer
        with torch.no_grad():
            if model.unembedding is not None:
                model.unembedding.weight.copy_(output.weight)
                if output.bias is not None:
                    model.unembedding.bias.copy_(output.bias)
            for head in model.head:
                assert isinstance(head, LevelHead)
                head.copy_from(output.weight, output.bias)
        model._check_head(expected, name)
        return model

    @torch.no_grad()
    def _check_head(self, expected: Tensor, name: str) -> None:
        """The copied head on the last layer must say what the model itself says."""
        training = self.training
        self.eval()
        top = self.stack.depth
        ids = _PROBE.to(self.device)
        states = self.stack.run(0, top, input_ids=ids, attention_mask=torch.ones_like(ids))[top]
        logits = self.level_logits(1, states)
        self.train(training)
        if not torch.allclose(logits, expected, rtol=1e-3, atol=1e-3):
            raise ModelError(
                f"{name}: {type(self.backbone).__name__} does more between its last layer and its "
                "scores than a norm and a matrix, so a copied head on another layer would not say "
                "what the model says. Use another model, for example of the Llama, Qwen, Mistral, "
                "GPT-2 or Mamba families."
            )

    def _init_weights(self, module: nn.Module) -> None:
        # The backbone initialises itself when it is built; only a head can be missing its weights.
        if isinstance(module, LevelHead):
            module.reset_parameters()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As everywhere in the ecosystem; nothing is unpickled."""
        kwargs.setdefault("use_safetensors", True)
        loaded: Any = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if model.config.lora:
            model._freeze_beside_adapters()  # loading makes every weight trainable
        return loaded

    def _freeze_beside_adapters(self) -> None:
        """Leave adapters, heads and loss weights to train."""
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad = "lora_" in name
        if self.unembedding is not None:
            self.unembedding.requires_grad_(False)

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def merge_lora(self) -> "HierarchicalDecoder":
        """Fold the adapters into the backbone's weights; the model is then one without LoRA."""
        if not self.config.lora:
            raise ModelError("merge_lora(): this model has no LoRA adapters to merge.")
        merge_lora(self.backbone)
        self.config.lora = None
        return self

    @property
    def format(self) -> SequenceFormat:
        """How texts and answers are written as tokens; needs ``tokenizer``."""
        if "_format" not in self.__dict__:
            config = self.config
            self.__dict__["_format"] = SequenceFormat(
                self.tokenizer,
                self.taxonomy,
                text_levels=config.text_levels,
                max_length=config.max_length,
                context=longest_input(self.backbone),
                max_text_tokens=config.max_text_tokens,
                cue=config.cue,
            )
        form: SequenceFormat = self.__dict__["_format"]
        return form

    def level_logits(self, level: int, states: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Scores of the next token by the head of a level (from 1).

        Args:
            states: ``(..., D)`` of that level's layer, or of any other.
            tokens: ``(U,)``, to score only these.
        """
        own = self.unembedding
        matrix = _matrix(self.backbone) if own is None else own.weight
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
        **_: Any,
    ) -> HierarchicalDecoderOutput:
        """One pass for all levels; blocks above the highest layer asked for do not run.

        Args:
            input_ids: ``(B, T)``, padded on the right.
            attention_mask: ``(B, T)``.
            position_ids: ``(B, T)``, beginning anew with each sequence of packed rows.
            levels: ``(B, T)`` level of each token, 0 for those without a loss. Without it the
                scores of all levels are returned.
        """
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
        losses = []
        for number, layer in enumerate(self.layers, start=1):
            here = levels[:, 1:] == number
            hidden = states[layer][:, :-1][here]  # (tokens of the level, D)
            scores = self.level_logits(number, hidden).float()
            total = F.cross_entropy(scores, input_ids[:, 1:][here], reduction="sum")
            # A batch may hold no token of a level; the sum is then a 0 that keeps the graph.
            losses.append(total / max(1, int(here.sum())))
        level_losses = torch.stack(losses)
        return HierarchicalDecoderOutput(
            loss=self._weighted(level_losses), level_losses=level_losses.detach()
        )

    def _weighted(self, losses: Tensor) -> Tensor:
        if self.log_variance is not None:
            s = self.log_variance.float()
            return (torch.exp(-s) * losses + s / 2).sum()
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
        if isinstance(texts, str):
            raise OptionError("answer() takes a list of texts; for a single one give [text].")
        spoken = tuple(layers or self.layers)
        if not texts:
            return Answers([], [], Cost(self.stack.depth))
        form = self.format
        session = Session(self.stack, form.prompts(texts), layers=spoken)
        found, left_out, cost = search(
            session,
            Grammar(form, constrained=constrained),
            spoken,
            self.level_logits,
            width=width,
            scoring=scoring,
            sampling=sampling,
            watch=watch,
        )
        best = [[self._said(h) for h in of_text] for of_text in found]
        # A drawn answer is the best of nothing.
        certain = [
            0 if sampling is not None else sum(h.log_prob >= bound for h in of_text)
            for of_text, bound in zip(found, left_out, strict=True)
        ]
        return Answers(best, certain, cost)

    def _said(self, hypothesis: Hypothesis) -> Answer:
        return Answer(
            words=tuple(self.format.words(tokens) for tokens in hypothesis.tokens),
            nodes=tuple(hypothesis.nodes),
            probabilities=tuple(math.exp(p) for p in hypothesis.log_probs),
            tokens=hypothesis.tokens,
        )

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # type: ignore[override]
        kwargs.setdefault("safe_serialization", True)
        super().save_pretrained(save_directory, **kwargs)
        tokenizer = getattr(self, "tokenizer", None)
        if tokenizer is not None:
            tokenizer.save_pretrained(save_directory)


_PROBE = torch.tensor([[1, 2, 3, 4]])


@torch.no_grad()
def _probe(full: PreTrainedModel) -> Tensor:
    full.eval()
    ids = _PROBE.to(full.device)
    mask = torch.ones_like(ids)
    logits: Tensor = full(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return logits


def _matrix(backbone: PreTrainedModel) -> Tensor:
    """The embedding, which is the output matrix as well where the two are tied."""
    weight = backbone.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight


def _refuse_encoder(config: Any) -> None:
    if pooling_for(config) != "last":
        raise ModelError(
            f"A model of type {config.model_type!r} reads in both directions and cannot speak: "
            "answers in words need a causal decoder, for example smollm2. For an encoder use "
            "--answer points."
        )


def _weights(given: str | Sequence[float], levels: int) -> list[float] | None:
    """Weights as the configuration keeps them: ``None`` stands for learned ones."""
    if isinstance(given, str):
        if given not in ("equal", "learned"):
            raise OptionError(
                f"loss weights {given!r}: give equal, learned, or {levels} numbers, one per level."
            )
        return None if given == "learned" else [1.0] * levels
    _check_weights(given, levels)
    return [float(weight) for weight in given]


def _check_weights(weights: Sequence[float], levels: int) -> None:
    if len(weights) != levels or not all(0 <= w < math.inf for w in weights) or not any(weights):
        raise OptionError(
            f"loss weights {list(weights)}: give {levels} numbers, one per level, none negative "
            "and not all 0; or 'equal' or 'learned'."
        )


def _load_causal(name: str) -> PreTrainedModel:
    """A causal language model in float32, with its head."""
    source = resolve_backbone(name)
    try:
        config = AutoConfig.from_pretrained(source.location, **source.options)
        _refuse_encoder(config)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.location,
            dtype="float32",
            # The look for an adapter beside the model has options of its own.
            adapter_kwargs={k: v for k, v in source.options.items() if k == "local_files_only"},
            output_loading_info=True,
            **source.options,
        )
    except HyperlmError:
        raise
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OptionError(
            f"--backbone {name}: cannot be loaded as a causal decoder ({reason}). Give smollm2, a "
            "folder written by save_pretrained, or a hub id this machine can reach."
        ) from error
    model: PreTrainedModel = loaded[0]
    if loaded[1]["missing_keys"]:
        raise ModelError(
            f"--backbone {name}: weights are missing, {sorted(loaded[1]['missing_keys'])[0]} among "
            "them. A hierarchical decoder needs the language head; give a model saved with it."
        )
    return model
