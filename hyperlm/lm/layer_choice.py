"""Measured layers: what ``hyperlm experiment layer-sweep`` leaves for ``hyperlm train``.

In: a backbone and a taxonomy. Out: one layer per level, where a sweep has measured them. A choice
is a small JSON file in the cache folder, one per backbone and taxonomy: the last sweep's. Nothing
but the command ``train`` with ``--layers auto`` reads it: models and experiments that are told
``auto`` take the rule of :func:`~hyperlm.lm.backbone.resolve_layers` on every machine.
"""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hyperlm.errors import DataError, OutputError
from hyperlm.lm.backbone import SHORT_NAMES
from hyperlm.lm.cache import cache_folder, cache_key
from hyperlm.taxonomy import Taxonomy

__all__ = ["LayerChoice", "choice_path", "keep_choice", "measured_layers"]

_WEIGHTS = (".safetensors", ".bin", ".gguf")


@dataclass(frozen=True)
class LayerChoice:
    """Layers that a sweep chose.

    Attributes:
        backbone: what was measured; see :func:`_identity`.
        taxonomy: fingerprint of the labels.
        pooling: ``mean`` or ``last``; a choice says nothing of states that are pooled otherwise.
        depth: layers of the backbone, K.
        layers: one per level, coarse to fine, in 1..K.
        measured: for the reader: data, texts, seeds, accuracy by level and layer.
    """

    backbone: str
    taxonomy: str
    pooling: str
    depth: int
    layers: tuple[int, ...]
    measured: dict[str, Any]


def choice_path(backbone: str, taxonomy: Taxonomy) -> Path:
    """Where the choice for a backbone (as in ``--backbone``) and a taxonomy is kept."""
    return _path(_identity(backbone), taxonomy)


def keep_choice(
    backbone: str,
    taxonomy: Taxonomy,
    layers: tuple[int, ...],
    *,
    pooling: str,
    depth: int,
    measured: dict[str, Any],
) -> Path:
    """Write a choice, in place of an earlier one; whole or not at all.

    Raises:
        OutputError: the cache folder cannot be written.
    """
    identity = _identity(backbone)
    path = _path(identity, taxonomy)
    choice = LayerChoice(identity, taxonomy.fingerprint, pooling, depth, layers, measured)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(choice), file, indent=1, allow_nan=False)
            file.write("\n")
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(
            f"{path}: the choice of layers could not be written ({error.strerror or error}). Set "
            "HYPERLM_CACHE to a folder that can be written, or name the layers with --layers "
            f"{','.join(map(str, layers))}."
        ) from error
    return path


def measured_layers(
    backbone: str,
    taxonomy: Taxonomy,
    *,
    pooling: str = "auto",
    text_levels: int = 0,
) -> tuple[int, ...] | None:
    """One layer per level as a sweep chose them; ``None`` where none has been made.

    Args:
        pooling: as in ``--pooling``; sweeps measure ``auto``, that of the architecture.
        text_levels: levels of free text below the labels, which no sweep measures: the last layer
            says them.
    Raises:
        DataError: the file is damaged, or not the choice for this backbone and taxonomy.
    """
    identity = _identity(backbone)
    path = _path(identity, taxonomy)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(path, f"it cannot be read ({error.strerror or error})") from error
    try:
        choice = LayerChoice(**json.loads(raw))
    except (ValueError, TypeError) as error:
        names = ", ".join(field.name for field in fields(LayerChoice))
        raise _refused(path, f"it is not a JSON object of {names}") from error
    if (choice.backbone, choice.taxonomy) != (identity, taxonomy.fingerprint):
        raise _refused(path, "it was measured on another backbone or other labels")
    layers: Any = choice.layers  # what a file holds may be anything
    depth: Any = choice.depth
    numbers = isinstance(layers, list) and all(type(n) is int for n in (depth, *layers))
    if not numbers or len(layers) != taxonomy.num_levels:
        raise _refused(
            path, f"{layers!r} is not one layer for each of {taxonomy.num_levels} levels"
        )
    if sorted(layers) != layers or not 1 <= layers[0] <= layers[-1] <= depth:
        raise _refused(path, f"its layers {layers!r} do not ascend in 1..{depth}")
    return (*layers, *[depth] * text_levels) if pooling in ("auto", choice.pooling) else None


def _refused(path: Path, why: str) -> DataError:
    return DataError(
        f"{path}: no choice of layers can be read from this file: {why}. Delete it or run "
        "'hyperlm experiment layer-sweep' again; or name layers, as --layers 4,5,6."
    )


def _path(identity: str, taxonomy: Taxonomy) -> Path:
    key = cache_key(backbone=identity, taxonomy=taxonomy.fingerprint)
    return cache_folder() / "layers" / f"{key}.json"


def _identity(backbone: str) -> str:
    """What tells a backbone from others: its hub id, or a digest of a folder's model files."""
    if backbone in SHORT_NAMES:
        return SHORT_NAMES[backbone].hub_id
    folder = Path(backbone)
    if not folder.is_dir():
        return backbone
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name == "config.json" or path.suffix in _WEIGHTS:
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"
