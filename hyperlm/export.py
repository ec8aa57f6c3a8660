"""A trained model as an ONNX file, for runtimes that know neither torch nor hyperlm.

The graph holds everything from token ids to the probabilities of paths: backbone, head and the
sums over the tree. What reads it needs no decoding of its own: the answer is the largest entry.

The folder it is written to is complete: ``model.onnx``, ``tokenizer.json`` with the model's cut and
padding, ``labels.json`` with the names, and a ``README.md`` whose lines of Python answer a text.
"""

import copy
import importlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyperlm import decoding
from hyperlm.classifier import Classifier
from hyperlm.errors import ModelError, OptionError, OutputError
from hyperlm.lm import HierarchicalLM

__all__ = ["export_onnx"]

_LABELS = "labels.json"
_FILES = ("README.md", _LABELS, "model.onnx", "model.onnx.data", "tokenizer.json")
_OPSET = 18
_AGREE = 1e-3  # in probability; trained models differ by a thousandth of it

_README = """# {title}

Written by `hyperlm export`: {backbone} with {labels:,} labels in {levels} levels.

| file | |
|---|---|
| `model.onnx` | {graph} |
| `labels.json` | the names: `paths[i]` and `nodes[i]` are those of column i |
| `tokenizer.json` | cuts texts at {tokens} tokens and pads them, on the right |

`pip install onnxruntime tokenizers numpy`, and in this folder:

```python
import json
from pathlib import Path

import onnxruntime
from tokenizers import Tokenizer

labels = json.loads(Path("labels.json").read_text(encoding="utf-8"))
tokenizer = Tokenizer.from_file("tokenizer.json")
session = onnxruntime.InferenceSession("model.onnx")

texts = ["A lamp on a reef, kept by three men in turn.", "Eight strings and a bow."]
encoded = tokenizer.encode_batch(texts)
answers = session.run(
    ["paths"],
    {{
        "input_ids": [text.ids for text in encoded],
        "attention_mask": [text.attention_mask for text in encoded],
    }},
)[0]
for text, probabilities in zip(texts, answers):
    best = probabilities.argmax()
    print(text, " > ".join(labels["paths"][best]), f"{{probabilities[best]:.2f}}")
```
{notes}"""
_GRAPH = (
    "in: `input_ids`, `attention_mask`, both `(batch, tokens)` int64; out: `paths` `(batch, "
    "{paths})`, the probability of every whole path, and `nodes` `(batch, {labels})`, that a text "
    "belongs at or below each label"
)
_SEVERAL = """
This model was trained on texts with several labels. Its answers are the best path and every other
one whose share in the third output, `shares`, is at least `several_from` of `labels.json`; of two
paths of which one goes on in the other, the more probable.
"""
_DAG = """
Some labels have several parents here. A column of `paths` stands for its last label, with the best
way down to it; `labels.json` names the way along first parents.
"""


class _Answers(nn.Module):
    """From token ids to probabilities; what it needs of the tree is constant in the graph."""

    def __init__(self, model: HierarchicalLM) -> None:
        super().__init__()
        self.model = model
        self.loss = model.head.loss_kind
        self.cuts = model.head.cuts(torch.device("cpu"))
        self.temperature = float(model.config.path_temperature)
        self.several = model.config.several_from is not None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        logits = self.model(input_ids, attention_mask).logits
        scores, _ = self.cuts.terminal_scores(logits, self.loss)
        scores = scores - scores.amax(1, keepdim=True)
        paths = (scores / self.temperature).softmax(1)
        out = paths, self.cuts.sums_below(paths).clamp(max=1.0)
        return (*out, scores.softmax(1)) if self.several else out


def export_onnx(model: Classifier, folder: str | Path, *, overwrite: bool = False) -> float:
    """Write a classifier as an ONNX graph with all that is needed to answer texts.

    The file is run before it is kept, and its answers compared with those of the model.

    Args:
        model: from :func:`hyperlm.load`; one that answers as points.
        folder: to be made; files of an earlier export are replaced with ``overwrite``.
    Returns:
        The largest difference in the probability of a path that the comparison met.
    Raises:
        OptionError: a model that answers in words, or the extra ``onnx`` is missing. OutputError:
            the folder holds something. ModelError: the exporter does not know an operator of this
            backbone, or the file answers otherwise than the model.
    """
    if type(model) is not Classifier:
        raise OptionError(
            "export: a model that answers in words speaks them step by step, which one graph does "
            "not hold. Export one that answers as points (--answer points, joined)."
        )
    runtime = _libraries()
    target = Path(folder).expanduser()
    _check_free(target, overwrite=overwrite)
    tokenizer = _tokenizer(model)
    with _beside(target) as temporary:
        inner = _plain(model.model)
        tokenizer.save(str(temporary / "tokenizer.json"))
        texts = _texts(model)
        _trace(inner, tokenizer, texts, temporary / "model.onnx")
        found = _difference(runtime, temporary / "model.onnx", model, tokenizer, texts)
        if not found <= _AGREE:
            raise ModelError(
                f"{target}: the exported graph gives other probabilities than the model (they "
                f"differ by {found:.2g}), so nothing was kept. The exporter of torch "
                f"{torch.__version__} does not carry this backbone, "
                f"{model.model.config.backbone_name}, over faithfully; try another version."
            )
        _describe(model, temporary, title=target.resolve().name)
        _move(temporary, target)
    return found


def _libraries() -> Any:
    """The runtime that checks the file."""
    try:
        for name in ("onnx", "onnxscript"):  # the exporter of torch asks for them late
            importlib.import_module(name)
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise OptionError(
            f"export needs the package {error.name}, not installed here: "
            "pip install 'hyperlm-toolkit[onnx]' (from a checkout: pip install -c constraints.txt "
            "-e '.[onnx]')."
        ) from error


def _check_free(target: Path, *, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target}: a file is in the way. Choose another --output.")
    there = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if not there:
        return
    foreign = [name for name in there if name not in _FILES]
    if foreign or _LABELS not in there:
        raise OutputError(
            f"{target}: the folder holds {(foreign or there)[0]}, which no export wrote. Choose an "
            "--output of its own."
        )
    if not overwrite:
        raise OutputError(
            f"{target}: an export is there already. --overwrite replaces it; or choose another "
            "--output."
        )


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A temporary folder next to the target, gone at the end."""
    temporary = target.resolve().parent / f".partial-{os.getpid()}-{target.resolve().name}"
    try:
        try:
            temporary.mkdir(parents=True)
        except OSError as error:
            raise OutputError(
                f"{target}: the output folder cannot be written ({error.strerror or error}). "
                "Choose another --output."
            ) from error
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move(temporary: Path, target: Path) -> None:
    """The finished files to their place, each whole; one that is not written anew goes."""
    target.mkdir(exist_ok=True)
    for name in _FILES:
        if (temporary / name).exists():
            os.replace(temporary / name, target / name)
        else:
            (target / name).unlink(missing_ok=True)


def _plain(model: HierarchicalLM) -> HierarchicalLM:
    """The model on the CPU in float32, adapters folded in; the caller's stays as it is."""
    if model.device.type == "cpu" and model.dtype == torch.float32 and not model.config.lora:
        return model.eval()
    plain: HierarchicalLM = copy.deepcopy(model)
    plain.cpu().float().eval()
    if plain.config.lora and plain.config.lora.get("adapter", "lora") == "lora":
        plain.merge_lora()
    return plain


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
    """Texts to compare on: short ones, of the labels' own words, and one longer than is read."""
    taxonomy = model.taxonomy
    ends = taxonomy.terminals[:: max(1, len(taxonomy.terminals) // 6)][:6]
    short = [", ".join(taxonomy.path(int(end))) for end in ends]
    return [*short, " ".join(short * (1 + model.model.config.max_length // len(short)))]


def _inputs(tokenizer: Any, texts: list[str]) -> dict[str, np.ndarray]:
    encoded = tokenizer.encode_batch(texts)
    return {
        "input_ids": np.array([text.ids for text in encoded], dtype=np.int64),
        "attention_mask": np.array([text.attention_mask for text in encoded], dtype=np.int64),
    }


def _trace(model: HierarchicalLM, tokenizer: Any, texts: list[str], path: Path) -> None:
    # Sizes of 0 and 1 would be taken for constants.
    ids, mask = (torch.from_numpy(part[:3, :16]) for part in _inputs(tokenizer, texts).values())
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    outputs = ["paths", "nodes"] + ["shares"] * (model.config.several_from is not None)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                _Answers(model),
                (ids, mask),
                dynamo=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=["input_ids", "attention_mask"],
                output_names=outputs,
                dynamic_shapes=(axes, axes),
            )
            assert program is not None  # with dynamo there is one
            program.save(path)
    except Exception as error:  # exporters raise whatever their translation of an operator meets
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        shown = next((line for line in lines if "No ONNX function" in line), (lines or ["?"])[0])
        raise ModelError(
            f"torch {torch.__version__} cannot write {model.config.backbone_name} as ONNX "
            f"({shown}). Another version, or another backbone, may do."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells of its own parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


@torch.no_grad()
def _difference(
    runtime: Any, path: Path, model: Classifier, tokenizer: Any, texts: list[str]
) -> float:
    """The largest difference between what the file and the model say of some texts."""
    # All, and one alone: a graph that has taken the size of a batch for granted fails at one.
    parts = [texts, texts[:1]]
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        answers = [session.run(None, _inputs(tokenizer, part)) for part in parts]
    except Exception as error:  # the runtime's own classes, which differ between versions
        raise ModelError(
            f"onnxruntime cannot run the exported graph ({str(error).splitlines()[0]}). The "
            f"exporter of torch {torch.__version__} does not carry this backbone, "
            f"{model.model.config.backbone_name}, over."
        ) from error
    logits = model.logits(texts)
    cuts, loss = model.model.head.cuts(logits.device), model.model.head.loss_kind
    scores = decoding.path_scores(logits, cuts, loss=loss)[:, cuts.terminals]
    expected = (
        (scores / model.temperature).softmax(1),
        decoding.marginals(logits, cuts, loss=loss, temperature=model.temperature),
    )
    return max(
        float(np.abs(ours[: len(theirs)].numpy() - theirs).max())
        for answer in answers
        for ours, theirs in zip(expected, answer, strict=False)  # the third, shares, is its first
    )


def _describe(model: Classifier, folder: Path, *, title: str) -> None:
    taxonomy, config = model.taxonomy, model.model.config
    document: dict[str, Any] = {
        "levels": list(model.level_names),
        "paths": [list(taxonomy.path(int(end))) for end in taxonomy.terminals],
        "nodes": [list(taxonomy.path(node)) for node in range(len(taxonomy))],
        "max_length": config.max_length,
        "temperature": model.temperature,
    }
    several = model.several_from is not None
    if several:
        document["several_from"] = model.several_from
    text = json.dumps(document, ensure_ascii=False, indent=1)
    (folder / _LABELS).write_text(text + "\n", encoding="utf-8")
    readme = _README.format(
        title=title,
        backbone=config.backbone_name,
        labels=len(taxonomy),
        levels=taxonomy.num_levels,
        graph=_GRAPH.format(paths=len(taxonomy.terminals), labels=len(taxonomy))
        + "; and `shares`, see below" * several,
        tokens=config.max_length,
        notes=_SEVERAL * several + _DAG * (not taxonomy.is_tree),
    )
    (folder / "README.md").write_text(readme, encoding="utf-8")
