"""From a folder or hub id to a model with its tokenizer, with errors that say what is wrong."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedConfig

from hyperlm.data.named import hub_answers
from hyperlm.errors import ModelError
from hyperlm.lm.decoder import HierarchicalDecoder
from hyperlm.lm.model import HierarchicalLM

__all__ = ["answers_in_words", "load_decoder", "load_model"]

_POINTS, _WORDS = "hyperlm", "hyperlm-decoder"  # as config.json names the kinds of model

# What a configuration or weights that were cut, edited or mixed up make the libraries raise.
_BROKEN = (
    OSError,
    SafetensorError,
    ValueError,  # with it the errors of this package
    KeyError,
    RuntimeError,
    TypeError,
    AttributeError,
)


def load_model(run: str | Path) -> HierarchicalLM:
    """Load what :meth:`HierarchicalLM.save_pretrained` wrote.

    Raises:
        ModelError: nothing there, another kind of model, or damaged files.
    """
    model: HierarchicalLM = _load(run, HierarchicalLM)
    return model


def load_decoder(run: str | Path) -> HierarchicalDecoder:
    """Load what :meth:`HierarchicalDecoder.save_pretrained` wrote.

    Raises:
        ModelError: nothing there, another kind of model, or damaged files.
    """
    model: HierarchicalDecoder = _load(run, HierarchicalDecoder)
    return model


def answers_in_words(run: str | Path) -> bool:
    """Whether a folder or hub id holds a :class:`HierarchicalDecoder`; ``False`` if unreadable."""
    try:
        cached = not Path(run).exists() and not hub_answers()
        config, _ = PreTrainedConfig.get_config_dict(run, local_files_only=cached)
        return bool(config.get("model_type") == _WORDS)
    except _BROKEN:
        return False


def _load(run: str | Path, kind: Any) -> Any:
    folder = Path(run)
    if folder.exists() or folder.is_absolute() or str(run).startswith("."):
        _check_folder(folder, kind.config_class.model_type)
    # The library tries a silent hub for a minute; what was downloaded before loads without it.
    cached = not folder.exists() and not hub_answers()
    try:
        loaded = kind.from_pretrained(run, output_loading_info=True, local_files_only=cached)
    except _BROKEN as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not folder.exists():
            raise ModelError(
                f"{run}: no such folder here, and the Hugging Face hub "
                f"{'does not answer' if cached else f'gave no model of that name ({first})'}. Give "
                "the folder that 'hyperlm train --output' wrote, or a hub id."
            ) from error
        raise ModelError(
            f"{run}: the model cannot be loaded ({first}). If the folder was copied, copy it "
            "again; otherwise train it anew with 'hyperlm train'."
        ) from error
    model, info = loaded
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise ModelError(
            f"{run}: the weights do not fit config.json: {len(missing)} are missing or of another "
            f"shape, {missing[0]} among them. The files come from different models; copy or train "
            "the folder again."
        )
    try:
        if getattr(model, "tokenizer", None) is None:
            model.read_tokenizer(run, local_files_only=cached)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{run}: the tokenizer beside the model cannot be loaded ({first}). Copy the tokenizer "
            "files of the backbone into the folder."
        ) from error
    if model.tokenizer.pad_token_id is None:
        raise ModelError(
            f"{run}: the tokenizer beside the model has no padding token "
            "(tokenizer_config.json). Copy the tokenizer files of the backbone into the folder."
        )
    # Without tokenizer.json the library makes an empty vocabulary and says nothing. Folders from
    # before have no number; their models may have more rows than tokens, but not a hundred times.
    rows = getattr(model.get_input_embeddings(), "num_embeddings", 0)
    wanted = model.config.tokens or rows // 100
    if len(model.tokenizer) < wanted:
        raise ModelError(
            f"{run}: the tokenizer beside the model knows {len(model.tokenizer)} tokens of "
            f"{model.config.tokens or rows}: its vocabulary is missing (tokenizer.json or its "
            "like). Copy the tokenizer files of the backbone into the folder."
        )
    return model


def _check_folder(folder: Path, wanted: str) -> None:
    if not folder.is_dir():
        raise ModelError(
            f"{folder}: no such folder. Give the folder that 'hyperlm train --output' wrote."
        )
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(
            f"{folder}: not a model folder, it has no config.json. Give the folder that "
            "'hyperlm train --output' wrote; a run that was stopped before its end continues with "
            "'hyperlm train --resume'."
        )
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{config}: damaged, it is not readable JSON ({error}). Copy the folder again, or "
            "train it anew."
        ) from error
    if kind != wanted and kind in (_POINTS, _WORDS):
        words, points = ("in words", "with points")
        has, needs = (words, points) if kind == _WORDS else (points, words)
        raise ModelError(
            f"{folder}: this model answers {has}, and what was asked for needs one that answers "
            f"{needs} (hyperlm train --answer {'text' if needs == words else 'points'})."
        )
    if kind != wanted:
        raise ModelError(
            f"{folder}: a model of type {kind!r}, not of hyperlm. To fine-tune it, give it as "
            f"--backbone {folder} to 'hyperlm train'."
        )
