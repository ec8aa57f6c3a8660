"""Decoding in stages: rows of tokens whose states are known up to some layer, and no further.

``advance`` carries all tokens up together to a higher layer; ``extend`` adds tokens and computes
them as far as the others. So a token said at layer ``k`` costs ``k`` blocks one after the other,
and the blocks above see it later, in parallel with all the rest.

Rows are padded on the left. Where rows end a level after different numbers of tokens, holes appear;
``advance`` closes them by moving every row's tokens and cached keys to the right. Recurrent layers
have no place for a hole: the states of rows that say nothing are put back instead.

Where a row is taken several times, its copies share the prompt: it is carried to the top once
before it is copied, and only what is said afterwards is carried up for each copy. Layers with a
window or a running state cannot do that and carry the prompt up with every copy.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin, LinearAttentionCacheLayerMixin

from hyperlm.lm.hdlm.stack import LayerStack

__all__ = ["Session"]


class Session:
    """Prompts on their way up.

    Args:
        prompts: token ids of each row, none empty.
        layers: those that will be asked for; states are kept until the highest is reached.

    Attributes:
        reach: layer up to which all tokens are computed.
        last: state of each row's last token at ``reach``, ``(R, D)``.
        mask: ``(R, T)``, 1 at tokens, 0 at padding and holes.
    Raises:
        ModelError: the architecture mixes recurrent and attention layers.
    """

    last: Tensor

    def __init__(
        self, stack: LayerStack, prompts: Sequence[Sequence[int]], *, layers: Sequence[int]
    ) -> None:
        self.stack, self.layers, self.deepest, self.reach = stack, layers, max(layers), 0
        self.device = stack.backbone.device
        stack.check_staged()
        self.cache = stack.new_cache()
        width = max(map(len, prompts))
        self.ids = torch.tensor(
            [[0] * (width - len(row)) + list(row) for row in prompts], device=self.device
        )
        self.mask = torch.tensor(
            [[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=self.device
        )
        # States at ``reach`` of all tokens, or of those said since rows were first copied.
        self._carried: Tensor | None = None
        # State of the last token before that, at each layer still to be asked for.
        self._prompt_last: dict[int, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def advance(self, layer: int) -> None:
        """Compute all tokens up to ``layer``, in one pass; layers already passed cost nothing."""
        if layer <= self.reach:
            return
        if self._prompt_last is not None:
            self._carry_said(layer)
            return
        self._close_holes()
        states = self._carry(layer)[layer]
        self.reach, self.last = layer, states[:, -1]
        self._carried = states if layer < self.deepest else None

    @torch.inference_mode()
    def copy(self) -> "Session":
        """The same prompts, to be answered in another way; before anything has been said.

        What both need of the prompts is computed now, once.
        """
        self.advance(min(self.layers))
        if self._shares and self._carried is not None and self._prompt_last is None:
            self._carry_prompts()
        twin = copy.copy(self)  # all but the cache is replaced, never changed in place
        twin.cache = copy.deepcopy(self.cache)
        return twin

    @property
    def _shares(self) -> bool:
        """Whether rows can go on from one prompt: no window, no running state to keep apart."""
        return not self.cache.recurrent and not self.cache.windowed

    def _carry(self, layer: int, keep: Sequence[int] | None = None) -> dict[int, Tensor]:
        """Run what is carried up to ``layer``."""
        width = self.mask.shape[1] if self._carried is None else self._carried.shape[1]
        return self.stack.run(
            self.reach,
            layer,
            input_ids=self.ids[:, -width:],
            attention_mask=self.mask,
            position_ids=self._positions()[:, -width:],
            states=self._carried,
            cache=self.cache,
            keep=keep,
        )

    def _carry_prompts(self) -> None:
        """Take all tokens so far to the top, where copies of a row will share them."""
        assert self._carried is not None
        self._close_holes()
        above = [layer for layer in self.layers if layer > self.reach]
        states = self._carry(self.deepest, above)
        self._prompt_last = {layer: states[layer][:, -1] for layer in above}
        self._carried = self._carried[:, :0]

    def _carry_said(self, layer: int) -> None:
        """Take what was said since to ``layer``; holes stay, and the mask passes them over."""
        assert self._prompt_last is not None
        assert self._carried is not None
        last = self._prompt_last[layer]
        width = self._carried.shape[1]
        if width:
            states = self._carry(layer)[layer]
            last = _last_of(states, self.mask[:, -width:], last)
            self._carried = states
        self.reach, self.last = layer, last

    def extend(self, tokens: Sequence[Sequence[int]]) -> int:
        """Add tokens behind each row (none, for some) and compute them up to ``reach``.

        Returns:
            How many passes, one after the other, that took.
        """
        width = max(map(len, tokens))
        if width == 0:
            return 0
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens])
        real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in tokens])
        ids, real = ids.to(self.device), real.to(self.device)
        # A recurrent layer continues from its state one token at a time.
        step = 1 if self.cache.recurrent else width
        for start in range(0, width, step):
            self._extend(ids[:, start : start + step], real[:, start : start + step])
        return -(-width // step)

    def _extend(self, ids: Tensor, real: Tensor) -> None:
        if self.cache.windowed:
            self._close_holes()  # places count, and holes would take some
        self.ids = torch.cat([self.ids, ids], dim=1)
        self.mask = torch.cat([self.mask, real], dim=1)
        width = ids.shape[1]
        recurrent = self.cache.recurrent
        silent = real[:, 0] == 0
        before = self._states_of(silent) if recurrent and bool(silent.any()) else None
        states = self.stack.run(
            0,
            self.reach,
            input_ids=ids,
            attention_mask=real if recurrent else self.mask,
            position_ids=self._positions()[:, -width:],
            cache=self.cache,
        )[self.reach]
        if before is not None:
            self._put_back(before, silent)
        self.last = _last_of(states, real, self.last)
        if self._carried is not None:
            self._carried = torch.cat([self._carried, states], dim=1)

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; a row may be taken several times."""
        if list(rows) == list(range(len(self))):
            return
        first = self._carried is not None and self._prompt_last is None
        if self._shares and first and len(set(rows)) < len(rows):
            self._carry_prompts()
        index = torch.tensor(list(rows), device=self.device)
        self.ids, self.mask, self.last = self.ids[index], self.mask[index], self.last[index]
        if self._carried is not None:
            self._carried = self._carried[index]
        filled = self.reach
        if self._prompt_last is not None:
            filled = self.deepest
            self._prompt_last = {layer: x[index] for layer, x in self._prompt_last.items()}
        for layer in self.cache.layers[:filled]:
            layer.reorder_cache(index)

    def _positions(self) -> Tensor:
        return self.mask.cumsum(1).sub(1).clamp(min=0)

    def _close_holes(self) -> None:
        """Move every row's tokens to the right end, in the caches as well."""
        if bool((self.mask[:, 1:] >= self.mask[:, :-1]).all()):
            return
        width = int(self.mask.sum(1).max())
        order = self.mask.argsort(dim=1, stable=True)[:, -width:]  # (R, width)
        self.ids, self.mask = self.ids.gather(1, order), self.mask.gather(1, order)
        if self._carried is not None:
            self._carried = self._carried[torch.arange(len(order))[:, None], order]
        for layer in self.cache.layers[: self.reach]:
            if isinstance(layer, CacheLayerMixin) and layer.keys is not None:
                assert layer.values is not None
                place = order[:, None, :, None]
                layer.keys = layer.keys.gather(2, _like(place, layer.keys))
                layer.values = layer.values.gather(2, _like(place, layer.values))

    def _states_of(self, rows: Tensor) -> list[Tensor]:
        return [state[rows].clone() for state in self._recurrent_states()]

    def _put_back(self, before: list[Tensor], rows: Tensor) -> None:
        for state, old in zip(self._recurrent_states(), before, strict=True):
            state[rows] = old

    def _recurrent_states(self) -> list[Tensor]:
        states: list[Tensor] = []
        for layer in self.cache.layers[: self.reach]:
            if isinstance(layer, LinearAttentionCacheLayerMixin):
                kept = (*layer.conv_states.values(), *layer.recurrent_states.values())
                states += [state for state in kept if state is not None]
        return states


def _last_of(states: Tensor, real: Tensor, otherwise: Tensor) -> Tensor:
    """The state ``(R, D)`` of each row's last real token, ``otherwise`` where it has none.

    Args:
        states: ``(R, T, D)``.
        real: ``(R, T)``, 1 at tokens.
    """
    places = torch.arange(1, real.shape[1] + 1, device=real.device)
    last = (real * places).amax(1) - 1
    newest = states[torch.arange(len(states)), last.clamp(min=0)]
    return torch.where(last.unsqueeze(1) >= 0, newest, otherwise)


def _like(place: Tensor, keys: Tensor) -> Tensor:
    """``(R, 1, T, 1)`` as an index into keys ``(R, heads, tokens, width)``."""
    return place.expand(-1, keys.shape[1], -1, keys.shape[3])
