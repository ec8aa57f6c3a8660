"""Points as files: one safetensors file that says what its rows are.

Tensor ``points``: ``(N, d)`` float64 tangent vectors at the origin in Riemannian length. float64,
since directions of neighbours at radius r differ by about ``exp(-sqrt(c) r)``. Metadata:
``taxonomy`` (JSON of ``Taxonomy.to_dict``), ``c``, ``geometry``, ``command``. Files are written
under a temporary name and renamed, so that a kill leaves the old file or the new one.
"""

import json
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hyperlm.errors import DataError, OptionError, OutputError
from hyperlm.manifolds import polar
from hyperlm.taxonomy import Taxonomy

__all__ = ["load_points", "read_tensors", "save_points", "write_tensors"]


def save_points(
    path: str | PathLike[str],
    points: Tensor,
    taxonomy: Taxonomy,
    *,
    c: float = 1.0,
    command: str = "",
) -> None:
    """Write points with their taxonomy; an existing file is replaced.

    Args:
        c: Curvature is ``-c``; 0 is flat space.
    Raises:
        OutputError: The file cannot be written. OptionError: Not one row for each node.
        OffManifoldError: Points that are no numbers.
    """
    if points.ndim != 2 or len(points) != len(taxonomy):
        raise OptionError(
            f"{path}: points {tuple(points.shape)} for a taxonomy of {len(taxonomy)} nodes; give "
            "(N, d), a row for each node in the order of their numbers."
        )
    polar.check_finite(points, "points")
    metadata = {
        "taxonomy": json.dumps(taxonomy.to_dict(), ensure_ascii=False),
        "c": repr(float(c)),
        "geometry": "poincare" if c else "euclidean",
        "coordinates": "tangent vectors at the origin, Riemannian length",
        "command": command,
    }
    write_tensors(Path(path), {"points": points.detach().double().cpu()}, metadata)


def load_points(path: str | PathLike[str]) -> tuple[Tensor, Taxonomy, float]:
    """Points, taxonomy and c from a file of ``save_points``.

    Raises:
        DataError: It is no such file.
    """
    tensors, metadata = read_tensors(Path(path))
    if "points" not in tensors or not {"taxonomy", "c"} <= metadata.keys():
        raise DataError(
            f"{path}: holds {sorted(tensors)} with metadata {sorted(metadata)}; points with "
            "'taxonomy' and 'c' were expected. Write the file with hyperlm embed."
        )
    try:
        taxonomy = Taxonomy.from_dict(json.loads(metadata["taxonomy"]))
        points, c = tensors["points"], float(metadata["c"])
    except ValueError as error:  # JSON that is none, or a c that is no number
        raise DataError(
            f"{path}: its metadata is damaged ({error}). Write the file again with hyperlm embed."
        ) from error
    if points.ndim != 2 or len(points) != len(taxonomy):
        raise DataError(
            f"{path}: points {tuple(points.shape)} for a taxonomy of {len(taxonomy)} nodes. Write "
            "the file again with hyperlm embed."
        )
    return points, taxonomy, c


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file({key: value.contiguous() for key, value in tensors.items()}, part, dict(metadata))
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path}: cannot be written: {reason}.") from error
    finally:
        part.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, torch.Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read as safetensors ({error}).") from error
