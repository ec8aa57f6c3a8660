"""A trained model as an ONNX file, for runtimes that know neither torch nor hyperlm.

The graph holds everything from token ids to the probabilities of paths: backbone, head and the
sums over the tree. What reads it needs no decoding of its own: the answer is the largest entry.

The folder is complete: ``model.onnx`` (with ``model.onnx.data`` beside it where weights are large),
``tokenizer.json`` with the model's cut and padding, ``labels.json`` with the names, and a
``README.md`` whose lines of Python answer a text.
"""

import contextlib
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperlm import decoding
from hyperlm.classifier import Classifier
from hyperlm.errors import ModelError, OptionError, OutputError
from hyperlm.export_graph import plain, write_graph
from hyperlm.export_readme import readme
from hyperlm.runfolder import filling

__all__ = ["check_export", "export_onnx"]

_GRAPH, _LABELS, _TOKENIZER, _README = "model.onnx", "labels.json", "tokenizer.json", "README.md"
_DATA = f"{_GRAPH}.data"
_FILES = {_GRAPH, _DATA, _LABELS, _TOKENIZER, _README}
_AGREE = 1e-3  # in probability; trained models differ by a thousandth of it


def export_onnx(model: Classifier, folder: str | Path, *, overwrite: bool = False) -> float:
    """Write a classifier as an ONNX graph, in float32, with all that is needed to answer texts.

    The file is run before it is kept, and its answers compared with those of the model.

    Args:
        model: from :func:`hyperlm.load`; one that answers as points. It stays as it is.
        folder: to be made; files of an earlier export are replaced with ``overwrite``.
    Returns:
        The largest difference in a probability that the comparison met.
    Raises:
        OptionError: a model that answers in words, or the extra ``onnx`` is missing. OutputError:
            the folder holds something, or cannot be written. ModelError: the exporter does not
            know an operator of this backbone, or the file answers otherwise than the model.
    """
    if type(model) is not Classifier:
        raise OptionError(
            "export: a model that answers in words speaks them step by step, which one graph does "
            "not hold. Export one that answers as points (--answer points, joined)."
        )
    check_export(folder, overwrite=overwrite)
    runtime = importlib.import_module("onnxruntime")
    # What is traced, and compared: a half-precision model differs from it by more than the graph.
    exact = Classifier(plain(model.model), run=model.run)
    tokenizer = _tokenizer(exact)
    target = Path(folder).expanduser()
    with _made(target), filling(target) as temporary:
        tokenizer.save(str(temporary / _TOKENIZER))
        texts = _texts(exact)
        ids, mask = (torch.from_numpy(a[:3, :16]) for a in _inputs(tokenizer, texts).values())
        write_graph(exact.model, ids, mask, temporary / _GRAPH)
        found = _difference(runtime, temporary / _GRAPH, exact, tokenizer, texts)
        if not found <= _AGREE:
            raise ModelError(
                f"{target}: the exported graph gives other probabilities than the model (they "
                f"differ by {found:.2g}), so nothing was kept. The exporter of torch "
                f"{torch.__version__} does not carry this backbone, "
                f"{exact.model.config.backbone_name}, over faithfully; try another version."
            )
        _describe(exact, temporary)
        if not (temporary / _DATA).exists():
            (target / _DATA).unlink(missing_ok=True)
    return found


def check_export(folder: str | Path, *, overwrite: bool) -> None:
    """Refuse, before anything is loaded, what :func:`export_onnx` would refuse later.

    Raises:
        OptionError: the extra ``onnx`` is missing. OutputError: the folder holds something.
    """
    try:
        for name in ("onnx", "onnxscript", "onnxruntime"):  # the exporter of torch asks late
            importlib.import_module(name)
    except ImportError as error:
        raise OptionError(
            f"export needs the package {error.name}, not installed here: "
            "pip install 'hyperlm-toolkit[onnx]' (from a checkout: pip install -c constraints.txt "
            "-e '.[onnx]')."
        ) from error
    target = Path(folder).expanduser()
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target}: a file is in the way. Choose another --output.")
    there = {path.name for path in target.iterdir()} if target.is_dir() else set()
    there = {name for name in there if not name.startswith(".partial-")}  # of an end by force
    if there - _FILES:
        raise OutputError(
            f"{target}: the folder holds {min(there - _FILES)}, which no export wrote. Choose an "
            "--output of its own."
        )
    if there and not overwrite:
        raise OutputError(
            f"{target}: an export is there already. --overwrite replaces it; or choose another "
            "--output."
        )


@contextlib.contextmanager
def _made(target: Path) -> Iterator[None]:
    """The folder, made for the time inside; of a failure nothing stays that was not there."""
    missing = [path for path in (target, *target.parents) if not path.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            raise OutputError(
                f"{target}: the export cannot be written ({error.strerror or error}). Choose "
                "another --output."
            ) from error
        raise


def _tokenizer(model: Classifier) -> Any:
    """A copy of the fast tokenizer that cuts and pads as the model does."""
    ours = model.model.tokenizer
    backend = getattr(ours, "backend_tokenizer", None)
    if backend is None:
        raise OptionError(
            f"export: the tokenizer of {model.model.config.backbone_name} has no tokenizer.json "
            "form, which other programs could read. Take a backbone whose tokenizer has one."
        )
    tokenizer = type(backend).from_str(backend.to_str())
    tokenizer.enable_truncation(model.model.config.max_length, direction=ours.truncation_side)
    tokenizer.enable_padding(pad_id=ours.pad_token_id, pad_token=ours.pad_token)
    return tokenizer


def _texts(model: Classifier) -> list[str]:
    """Texts to compare on: some of the labels' own words, an empty one, one longer than is read."""
    taxonomy = model.taxonomy
    ends = taxonomy.terminals[:: max(1, len(taxonomy.terminals) // 6)][:6]
    short = [", ".join(taxonomy.path(int(end))) for end in ends]
    short *= 1 + 2 // len(short)  # three at least, for the example
    return [*short, "", " ".join(short * (1 + model.model.config.max_length // len(short)))]


def _inputs(tokenizer: Any, texts: list[str]) -> dict[str, np.ndarray]:
    encoded = tokenizer.encode_batch(texts)
    return {
        "input_ids": np.array([text.ids for text in encoded], dtype=np.int64),
        "attention_mask": np.array([text.attention_mask for text in encoded], dtype=np.int64),
    }


@torch.no_grad()
def _difference(
    runtime: Any, path: Path, model: Classifier, tokenizer: Any, texts: list[str]
) -> float:
    """The largest difference between what the file and the model say of some texts; may be NaN."""
    config, cuts = model.model.config, model.model.head.cuts(torch.device("cpu"))
    # The long one alone: among others it would take their memory too. A graph that has taken the
    # size of the example for granted fails here.
    parts = [texts[:-1], texts[-1:], texts[-2:-1]]
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        answers = [session.run(None, _inputs(tokenizer, part)) for part in parts]
    except Exception as error:  # the runtime's own classes, which differ between versions
        shown = " ".join(str(error).split())[:300]
        raise ModelError(
            f"onnxruntime cannot run the graph that torch {torch.__version__} made of "
            f"{config.backbone_name} ({shown}). Of a backbone that goes from token to token in a "
            "loop, as state-space models do, a graph knows one length alone: take another one."
        ) from error
    at = {"loss": model.model.head.loss_kind, "temperature": model.temperature}
    worst = []
    for part, answer in zip(parts, answers, strict=True):
        logits = model.logits(part)
        scores = decoding.path_scores(logits, cuts, loss=at["loss"])[:, cuts.terminals]
        expected = [
            (scores / model.temperature).softmax(1),
            decoding.marginals(logits, cuts, **at),
            *([scores.softmax(1)] if config.several_from is not None else []),
        ]
        for ours, theirs in zip(expected, answer, strict=True):
            worst.append(np.abs(ours.numpy() - theirs).max())
    return float(np.max(worst))


def _describe(model: Classifier, folder: Path) -> None:
    taxonomy = model.taxonomy
    document: dict[str, Any] = {
        "levels": list(model.level_names),
        "paths": [list(taxonomy.path(int(end))) for end in taxonomy.terminals],
        "nodes": [list(taxonomy.path(node)) for node in range(len(taxonomy))],
    }
    if model.several_from is not None:
        document["several_from"] = model.several_from
    text = json.dumps(document, ensure_ascii=False, indent=1)
    (folder / _LABELS).write_text(text + "\n", encoding="utf-8")
    words = readme(model, large=(folder / _DATA).exists())
    (folder / _README).write_text(words, encoding="utf-8")
