"""Arrays that are dear to compute and cheap to keep: token ids and pooled features.

One safetensors file per key under ``HYPERLM_CACHE`` (default ``~/.cache/hyperlm``). A key is a hash
of everything the arrays depend on, so a stale entry cannot be read; a damaged or unwritable cache
costs time, never a result.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = ["cache_folder", "cache_key", "cached"]


def cache_key(**parts: Any) -> str:
    """A hash over JSON-able values; long lists of texts are fine."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(name.encode())
        digest.update(json.dumps(parts[name], sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]


def cached(
    kind: str, key: str, compute: Callable[[], Mapping[str, Tensor]]
) -> Mapping[str, Tensor]:
    """Read the arrays of ``key``, or compute and keep them."""
    path = cache_folder() / kind / f"{key}.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        arrays = compute()
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        save_file({name: array.contiguous() for name, array in arrays.items()}, temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError):
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return arrays


def cache_folder() -> Path:
    """``HYPERLM_CACHE``, or the usual place for caches; it may not exist yet."""
    if own := os.environ.get("HYPERLM_CACHE"):
        return Path(own)
    usual = os.environ.get("XDG_CACHE_HOME")
    # A user in a container may have no home, which is an error only where it is asked for.
    return (Path(usual) if usual else Path.home() / ".cache") / "hyperlm"
