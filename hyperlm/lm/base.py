"""What every model around a pretrained backbone shares: building, loading, adapters, saving."""

import contextlib
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoTokenizer, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hyperlm.errors import ModelError, OptionError
from hyperlm.lm.backbone import auto_class, num_layers, resolve_layers
from hyperlm.lm.lora import checked_lora, inject_lora, merge_lora, train_adapters_alone
from hyperlm.taxonomy import Taxonomy

__all__ = ["BackboneModel", "backbone_settings", "refuse_unknown"]

# Arguments of a forward pass that the libraries around a model add, whatever it takes.
_ADDED = (
    "token_type_ids", "position_ids", "num_items_in_batch", "return_dict", "output_attentions",
    "output_hidden_states", "use_cache",
)  # fmt: skip
_OF_PUSH = (
    "repo_id", "commit_message", "commit_description", "private", "revision", "create_pr", "tags",
)  # fmt: skip
_OF_HUB = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


class BackboneModel(PreTrainedModel):
    """A bare transformer in ``backbone``, whose tokenizer travels with the model.

    A subclass adds its heads, and calls :meth:`post_init` when it has them.

    Args:
        config: with ``backbone_config``, ``lora`` and ``tree()``.
        backbone: already loaded; built from ``backbone_config`` where there is none.
    """

    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    supports_gradient_checkpointing = True
    # T5 keeps its embedding under two names; a file holds one, and the Trainer asks for the other.
    _keys_to_ignore_on_save = ["backbone.encoder.embed_tokens.weight"]  # noqa: RUF012
    # The loss is a mean over the texts of a batch: the Trainer divides by the batches it gathers.
    accepts_loss_kwargs = False
    tokenizer: PreTrainedTokenizerBase
    taxonomy: Taxonomy | None

    def __init__(self, config: Any, backbone: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self.taxonomy = config.tree()
        if backbone is None:
            shape = config.backbone_config
            backbone = auto_class(shape.model_type).from_config(shape)
        self.backbone = backbone

    def post_init(self) -> None:
        super().post_init()
        if self.config.lora:
            # Only now: the library's part would fill the zeros that adapters start from with noise.
            inject_lora(self.backbone, **self.config.lora)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As everywhere in the ecosystem; nothing is unpickled."""
        kwargs.setdefault("use_safetensors", True)
        loaded: Any = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model._mark_parameters()
        where = args[0] if args else kwargs.get("pretrained_model_name_or_path")
        if where is not None:
            # A folder without one is no error here: hyperlm.load() says what is missing.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                model.read_tokenizer(where, **{k: kwargs[k] for k in _OF_HUB if k in kwargs})
        return loaded

    def read_tokenizer(self, run: str | Path, **kwargs: Any) -> None:
        """Take the tokenizer beside a saved model; raises what the library raises.

        Args:
            run: folder or hub id.
            kwargs: of ``AutoTokenizer.from_pretrained``.
        """
        # With the configuration at hand the library does not guess one, and does not warn.
        self.tokenizer = AutoTokenizer.from_pretrained(run, config=self.config, **kwargs)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def _mark_parameters(self) -> None:
        """Set again what loading forgets: beside adapters the backbone does not train."""
        if self.config.lora:
            train_adapters_alone(self.backbone)

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def merge_lora(self) -> Any:
        """Fold the adapters into the backbone's weights; the model is then one without LoRA."""
        if not self.config.lora:
            raise ModelError("merge_lora(): this model has no LoRA adapters to merge.")
        merge_lora(self.backbone)
        self.config.lora = None
        # What adapters had frozen trains again, as after a load.
        self.requires_grad_(True)
        self._mark_parameters()
        return self

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, *, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """As everywhere in the ecosystem; the tokenizer is written, and pushed, with the model."""
        of_push = {name: kwargs.pop(name) for name in _OF_PUSH if push_to_hub and name in kwargs}
        tokenizer = getattr(self, "tokenizer", None)
        self.config.tokens = None if tokenizer is None else len(tokenizer)
        rows = getattr(self.get_input_embeddings(), "num_embeddings", None)
        text = self.config.backbone_config.get_text_config()
        if rows is not None and hasattr(text, "vocab_size"):
            text.vocab_size = rows  # new tokens may have been added
        super().save_pretrained(save_directory, **kwargs)
        main = kwargs.get("is_main_process", True)
        if tokenizer is not None and main:
            tokenizer.save_pretrained(save_directory)
        if push_to_hub and main:
            # The library would push at once, without the tokenizer; this saves once more.
            repo = of_push.pop("repo_id", Path(save_directory).name)
            both = {name: kwargs[name] for name in ("token", "max_shard_size") if name in kwargs}
            self.push_to_hub(repo, **of_push, **both)


def refuse_unknown(arguments: dict[str, Any]) -> None:
    """An OptionError for arguments that are most likely misspelt, as ``target=``."""
    unknown = sorted(set(arguments) - set(_ADDED))
    if unknown:
        raise OptionError(
            f"forward() takes no {', '.join(unknown)}. For a loss give targets= to a model of "
            "points, levels= to a decoder."
        )


def backbone_settings(
    name: str,
    backbone: PreTrainedModel,
    *,
    layers: str | Sequence[int],
    num_levels: int,
    lora: dict[str, Any] | None,
    rising: bool = False,
) -> dict[str, Any]:
    """What a model's configuration keeps of the backbone it is built on.

    Args:
        layers, rising: see :func:`~hyperlm.lm.backbone.resolve_layers`.
        lora: keyword arguments of the adapters, ``None`` for none.
    """
    available = num_layers(backbone.config)
    resolved = resolve_layers(layers, num_levels=num_levels, available=available, rising=rising)
    return {
        # A copy: building the outer model resets the attention choice of its own.
        "backbone_config": copy.deepcopy(backbone.config),
        "backbone_name": name,
        "layers": list(resolved),
        "lora": None if lora is None else checked_lora(lora),
    }
