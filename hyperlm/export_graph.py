"""From a model to an ONNX graph: token ids in, probabilities of paths and labels out."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from hyperlm.errors import ModelError
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.batches import blank_token
from hyperlm.lm.pooling import pack_right

__all__ = ["plain", "write_graph"]

_OPSET = 18


class _Answers(nn.Module):
    """From token ids to probabilities; what it needs of the tree is constant in the graph."""

    def __init__(self, model: HierarchicalLM) -> None:
        super().__init__()
        self.model = model
        self.loss = model.head.loss_kind
        self.cuts = model.head.cuts(torch.device("cpu"))
        self.temperature = float(model.config.path_temperature)
        self.several = model.config.several_from is not None
        self.blank, self.tokens = blank_token(model.tokenizer), model.config.max_length

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        # A text without tokens reads a blank one, here as in ``tokenise``.
        empty = attention_mask.sum(1, keepdim=True).eq(0).to(attention_mask.dtype)
        input_ids = torch.cat([input_ids, torch.full_like(empty, self.blank)], 1)
        input_ids, mask = pack_right(input_ids, torch.cat([attention_mask, empty], 1))
        logits = self.model(input_ids[:, : self.tokens], mask[:, : self.tokens]).logits
        scores, _ = self.cuts.terminal_scores(logits, self.loss)
        scores = scores - scores.amax(1, keepdim=True)
        paths = (scores / self.temperature).softmax(1)
        out = paths, self.cuts.sums_below(paths).clamp(max=1.0)
        return (*out, scores.softmax(1)) if self.several else out


def plain(model: HierarchicalLM) -> HierarchicalLM:
    """The model on the CPU in float32, adapters folded in; the caller's stays as it is."""
    if model.device.type == "cpu" and model.dtype == torch.float32 and not model.config.lora:
        return model.eval()
    copied: HierarchicalLM = copy.deepcopy(model)
    copied.tokenizer = model.tokenizer
    copied.cpu().float().eval()
    # Updates through hyperbolic space cannot be folded in; they are operators like others.
    if copied.config.lora and copied.config.lora.get("adapter", "lora") == "lora":
        copied.merge_lora()
    return copied


def write_graph(model: HierarchicalLM, ids: Tensor, mask: Tensor, path: Path) -> None:
    """Trace a model and write what it does to tokens.

    Args:
        model: from :func:`plain`.
        ids, mask: an example, ``(B, T)``; sizes of 0 and 1 would be taken for constants.
        path: of the file; weights of 1.5 GB and more stand beside it, in ``NAME.data``.
    Raises:
        ModelError: the exporter does not know an operator. OSError: the file cannot be written.
    """
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                _Answers(model),
                (ids, mask),
                dynamo=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=["input_ids", "attention_mask"],
                output_names=["paths", "nodes", "shares"][
                    : 2 + (model.config.several_from is not None)
                ],
                dynamic_shapes=(axes, axes),
            )
        assert program is not None  # with dynamo there is one
    except Exception as error:  # exporters raise whatever their translation of an operator meets
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        shown = next((line for line in lines if "No ONNX function" in line), (lines or ["?"])[0])
        raise ModelError(
            f"torch {torch.__version__} cannot write {model.config.backbone_name} as ONNX "
            f"({shown}). Another version, or another backbone, may do."
        ) from error
    # Which line of which file on this machine each operator came from: not for those who get it.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.save(path)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter tells of its own parts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
