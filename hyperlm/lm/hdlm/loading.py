"""A pretrained causal model with its language head, and the check that a copy of the head is true.

Enters: a name. Leaves: the whole model, and the scores by which a head copied onto another layer
is later found to say, on the last layer, what the model itself says.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from hyperlm.errors import HyperlmError, ModelError, OptionError
from hyperlm.lm.backbone import is_hyperlm, pooling_for, resolve_backbone
from hyperlm.lm.hdlm.stack import LayerStack

__all__ = ["check_copied_head", "embedding_matrix", "load_causal", "probe", "refuse_encoder"]

_PROBE = torch.tensor([[1, 2, 3, 4]])


def load_causal(name: str) -> PreTrainedModel:
    """A causal language model in float32, with its head.

    Raises:
        OptionError: it cannot be loaded.
        ModelError: an encoder, or a model saved without its head.
    """
    source = resolve_backbone(name)
    if is_hyperlm(source):
        raise OptionError(
            f"--backbone {name}: answers in words begin with the language head of a pretrained "
            "decoder, and a run has none. Give the decoder that the run began from."
        )
    try:
        config = AutoConfig.from_pretrained(source.location, **source.options)
        refuse_encoder(config)
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
            f"--backbone {name}: cannot be loaded as a causal decoder ({reason}). Give a folder "
            "written by save_pretrained, or a hub id this machine can reach; smollm2 needs the hub "
            "once, or its package."
        ) from error
    model: PreTrainedModel = loaded[0]
    if loaded[1]["missing_keys"]:
        raise ModelError(
            f"--backbone {name}: weights are missing, {sorted(loaded[1]['missing_keys'])[0]} among "
            "them. A hierarchical decoder needs the language head; give a model saved with it."
        )
    return model


def refuse_encoder(config: Any) -> None:
    """A ModelError for the configuration of a model that reads in both directions."""
    if pooling_for(config) != "last":
        raise ModelError(
            f"A model of type {config.model_type!r} reads in both directions and cannot speak: "
            "answers in words need a causal decoder, for example smollm2. For an encoder use "
            "--answer points."
        )


def embedding_matrix(backbone: PreTrainedModel) -> Tensor:
    """The embedding ``(V, D)``, which is the output matrix as well where the two are tied."""
    weight = backbone.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight


@torch.no_grad()
def probe(full: PreTrainedModel) -> Tensor:
    """What the whole model says of a few tokens, ``(1, T, V)``; leaves it in evaluation mode."""
    full.eval()
    ids = _PROBE.to(full.device)
    mask = torch.ones_like(ids)
    logits: Tensor = full(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return logits


@torch.no_grad()
def check_copied_head(
    stack: LayerStack, head: Callable[[Tensor], Tensor], expected: Tensor, name: str
) -> None:
    """The copied head on the last layer must say what the model itself says.

    Args:
        stack: of the backbone, in evaluation mode.
        head: from states ``(B, T, D)`` to scores ``(B, T, V)``.
        expected: of :func:`probe`.
    """
    ids = _PROBE.to(stack.backbone.device)
    top = stack.depth
    states = stack.run(0, top, input_ids=ids, attention_mask=torch.ones_like(ids))[top]
    if not torch.allclose(head(states), expected, rtol=1e-3, atol=1e-3):
        raise ModelError(
            f"{name}: {type(stack.backbone).__name__} does more between its last layer and its "
            "scores than a norm and a matrix, so a copied head on another layer would not say "
            "what the model says. Use another model, for example of the Llama, Qwen, Mistral, "
            "GPT-2 or Mamba families."
        )
