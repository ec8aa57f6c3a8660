"""The blocks of a causal decoder, and a way to run any run of them alone.

In: token ids, or hidden states that earlier blocks have computed. Out: the states of chosen blocks.
Blocks are counted from 1; states of layer ``l`` are what block ``l`` leaves, before the final norm.

The model's own forward does the work, with the blocks that are not wanted passing their input on:
masks, rotary angles, scalings of the embedding and caches are then right for every architecture,
and nothing of it is written a second time here. Threads that run one model wait for one another.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, LinearAttentionCacheLayerMixin

from hyperlm.errors import ModelError
from hyperlm.lm.backbone import num_layers
from hyperlm.lm.running import alone, at_rest

__all__ = ["LayerStack", "StageCache"]

_HOLES = 32
_NORMS = ("norm", "ln_f", "norm_f", "final_layer_norm", "final_layernorm")


class StageCache(DynamicCache):
    """A cache whose layers may have seen different numbers of tokens.

    The library asks one layer how much all of them have seen; ``first`` is the layer that is asked,
    the lowest of those about to run. Windows are left to the masks: every attention layer keeps all
    tokens, so that rows can be moved against each other.

    Attributes:
        windowed: whether places between tokens count, in a window that reaches back only so far or
            in a bias by distance; a hole among the tokens would then change the answer.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config=config)
        self.first = 0
        sliding = [bool(getattr(layer, "is_sliding", False)) for layer in self.layers]
        self.windowed = any(sliding)
        self.layers: list[Any] = [
            DynamicLayer() if slides else layer
            for slides, layer in zip(sliding, self.layers, strict=True)
        ]

    @property
    def recurrent(self) -> bool:
        """Whether any layer keeps a running state instead of its tokens."""
        return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in self.layers)

    @property
    def hybrid(self) -> bool:
        """Whether recurrent and attention layers occur together."""
        return self.recurrent and any(isinstance(layer, CacheLayerMixin) for layer in self.layers)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        if self.first >= len(self.layers) or not isinstance(
            self.layers[self.first], CacheLayerMixin
        ):
            return 0
        return int(self.layers[self.first].get_seq_length())

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


class LayerStack:
    """Finds the blocks and the final norm of a bare decoder and runs blocks ``first + 1..last``.

    Args:
        backbone: without a language head, as ``AutoModel`` gives it.
    Raises:
        ModelError: the blocks or the final norm are not where decoders keep them.
    """

    def __init__(self, backbone: PreTrainedModel) -> None:
        self.backbone = backbone
        self.depth = num_layers(backbone.config)
        path, self.layers = _find_layers(backbone, self.depth)
        owner = backbone.get_submodule(path.rpartition(".")[0])
        found = [getattr(owner, name, None) for name in _NORMS]
        self.norm = next((norm for norm in found if isinstance(norm, nn.Module)), None)
        if self.norm is None:
            raise ModelError(
                f"{type(backbone).__name__}: no final norm beside its {self.depth} blocks (looked "
                f"for {', '.join(_NORMS)}). Use another causal decoder of transformers."
            )
        accepted = inspect.signature(backbone.forward).parameters
        self.takes_positions = "position_ids" in accepted
        self._cache_name = "past_key_values" if "past_key_values" in accepted else "cache_params"
        self._tuples: bool | None = None
        self._counts: bool | None = None
        self._packs: bool | None = None

    def new_cache(self) -> StageCache:
        """An empty cache for all blocks."""
        cache = StageCache(self.backbone.config)
        cache.windowed = cache.windowed or (not cache.recurrent and self._counts_places())
        return cache

    def check_staged(self) -> None:
        """Refuse what cannot be decoded in stages.

        Raises:
            ModelError: the architecture mixes recurrent and attention layers.
        """
        if StageCache(self.backbone.config).hybrid:
            raise ModelError(
                f"{type(self.backbone).__name__} mixes recurrent and attention layers, which "
                "staged decoding cannot keep in step. Use a plain transformer or a plain "
                "state-space model."
            )

    @property
    def can_pack(self) -> bool:
        """Whether several texts can share a row: attention can be kept apart, a state cannot.

        Some architectures take positions and attend across them all the same, so it is tried once.
        """
        if not self.takes_positions or StageCache(self.backbone.config).recurrent:
            return False
        if self._packs is None:
            places = [0, 1, 2, 0, 1, 2]
            first, other = ([[token, 1, 2, 3, 2, 1]] for token in (1, 4))
            states = [self._last_state(ids, positions=places) for ids in (first, other)]
            self._packs = self._alike(*states)
        return self._packs

    def _counts_places(self) -> bool:
        """Whether empty places between tokens change what is computed; tried once."""
        if self._counts is None:
            # Windows are wider than anything that could be tried here.
            local = "local" in (getattr(self.backbone.config, "attention_layers", None) or ())
            tokens = [1, 2, 3, 2]
            # Many: a bias by distance grows with them, the rounding of half precision does not.
            holes = [*tokens[:2], *[0] * _HOLES, *tokens[2:]]
            seen = [1, 1, *[0] * _HOLES, 1, 1]
            places = [0, 1, *[1] * _HOLES, 2, 3]
            whole = self._last_state([tokens], mask=[1] * 4, positions=[0, 1, 2, 3])
            apart = self._last_state([holes], mask=seen, positions=places)
            self._counts = local or not self._alike(whole, apart)
        return self._counts

    @torch.no_grad()
    def _last_state(
        self, ids: list[list[int]], *, positions: list[int], mask: list[int] | None = None
    ) -> Tensor:
        """The top state of the last of some tokens ``(1, T)``, without dropout."""
        device, kept = self.backbone.device, dict[int, Tensor]()
        inputs: dict[str, Any] = {"input_ids": torch.tensor(ids, device=device), "use_cache": False}
        if mask is not None:
            inputs["attention_mask"] = torch.tensor([mask], device=device)
        if self.takes_positions:
            inputs["position_ids"] = torch.tensor([positions], device=device)
        with (
            alone(self.backbone),
            at_rest(self.backbone),
            self._only(0, self.depth, None, (self.depth,), kept),
        ):
            self.backbone(**inputs)
        return kept[self.depth][0, -1].float()

    def _alike(self, a: Tensor, b: Tensor) -> bool:
        """Whether two states ``(D,)`` differ by no more than arithmetic."""
        # To call two alike that are not costs right answers, the other way round time alone.
        precision = max(3e-4, 4 * torch.finfo(self.backbone.dtype).eps)
        return bool((a - b).norm() <= precision * a.norm())

    def run(
        self,
        first: int,
        last: int,
        *,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        states: Tensor | None = None,
        cache: StageCache | None = None,
        keep: Sequence[int] | None = None,
    ) -> dict[int, Tensor]:
        """States ``(B, T, D)`` of the layers in ``keep`` (default: ``last`` alone).

        Args:
            first: blocks already done; 0 starts from the tokens.
            last: the last block to run.
            input_ids: ``(B, T)``.
            attention_mask: ``(B, T)``, with a cache ``(B, tokens seen + T)``.
            states: ``(B, T, D)`` of layer ``first``; needed where ``first`` > 0.
            cache: is filled for the blocks that run; ``None`` computes without one.
        """
        inputs: dict[str, Any] = {"input_ids": input_ids, "use_cache": cache is not None}
        if cache is not None:
            cache.first = first
            inputs[self._cache_name] = cache
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask
        if position_ids is not None and self.takes_positions:
            inputs["position_ids"] = position_ids
        kept: dict[int, Tensor] = {}
        with alone(self.backbone), self._only(first, last, states, keep or (last,), kept):
            self.backbone(**inputs)
        return kept

    @contextlib.contextmanager
    def _only(
        self,
        first: int,
        last: int,
        states: Tensor | None,
        keep: Sequence[int],
        kept: dict[int, Tensor],
    ) -> Iterator[None]:
        with contextlib.ExitStack() as undo:
            if first > 0 or last < self.depth:
                skip = _pass_tuple if self._returns_tuples() else _pass_on
                for index, layer in enumerate(self.layers):
                    if not first <= index < last:
                        undo.enter_context(_forward_of(layer, skip))
            if states is not None:
                entry = self.layers[first]
                undo.enter_context(_forward_of(entry, _entering(entry.forward, states)))
            for number in keep:

                def note(_: nn.Module, __: Any, output: Any, number: int = number) -> None:
                    kept[number] = output[0] if isinstance(output, tuple) else output

                hook = self.layers[number - 1].register_forward_hook(note)
                undo.callback(hook.remove)
            yield

    @torch.no_grad()
    def _returns_tuples(self) -> bool:
        """Whether a block answers with a tuple; asked once, of the first block, with one token."""
        if self._tuples is None:
            seen: list[bool] = []
            hook = self.layers[0].register_forward_hook(
                lambda _, __, output: seen.append(isinstance(output, tuple))
            )
            token = torch.zeros(1, 1, dtype=torch.long, device=self.backbone.device)
            try:
                # The random numbers of a training run stay as they are.
                with at_rest(self.backbone):
                    self.backbone(
                        input_ids=token, attention_mask=torch.ones_like(token), use_cache=False
                    )
            finally:
                hook.remove()
            self._tuples = seen[0]
        return self._tuples


def _find_layers(backbone: PreTrainedModel, depth: int) -> tuple[str, nn.ModuleList]:
    found = [
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    if not found:
        raise ModelError(
            f"{type(backbone).__name__}: no list of {depth} blocks found in it, so its layers "
            "cannot be run one by one. Use another architecture, or --answer points."
        )
    least = min(name.count(".") for name, _ in found)
    found = [item for item in found if item[0].count(".") == least]
    if len(found) > 1:
        raise ModelError(
            f"{type(backbone).__name__}: its blocks are spread over {len(found)} lists "
            f"({', '.join(name for name, _ in found)}), so its layers cannot be run one by one. "
            "Use another architecture, or --answer points."
        )
    return found[0]


@contextlib.contextmanager
def _forward_of(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace what a block computes; an instance attribute shadows the method of its class."""
    before = layer.__dict__.get("forward")
    layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del layer.__dict__["forward"]
        else:
            layer.__dict__["forward"] = before


def _pass_on(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden_states


def _pass_tuple(hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
    return (hidden_states,)


def _entering(forward: Callable[..., Any], states: Tensor) -> Callable[..., Any]:
    """The block's forward on ``states``, whatever comes from below."""

    def enter(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return forward(states, *args, **kwargs)

    return enter
