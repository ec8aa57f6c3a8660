"""The model card of a run: Markdown with the front matter that the Hugging Face hub reads.

In: the trained model, its options, data record and metrics. Out: text. Nothing in it is written by
hand later, so that a card never tells another story than the run.
"""

import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from hyperlm import __version__
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.backbone import SHORT_NAMES
from hyperlm.lm.decoder import HierarchicalDecoder
from hyperlm.options import TrainingOptions
from hyperlm.training import resolve_precision

__all__ = ["data_name", "head_in_words", "model_card", "result_rows"]


def model_card(
    model: HierarchicalLM | HierarchicalDecoder,
    options: TrainingOptions,
    source: dict[str, Any],
    metrics: dict[str, Any],
    *,
    command: str,
    seconds: float,
) -> str:
    """The text of ``README.md``.

    Args:
        source: ``DataBundle.source``.
        metrics: ``{"val": ..., "test": ...}``.
        command: the command line that repeats the run.
        seconds: wall-clock time of the whole run.
    """
    taxonomy = model.taxonomy
    assert taxonomy is not None, "what a run trains classifies"
    shape = f"{len(taxonomy)} labels on {taxonomy.num_levels} levels"
    parts = [
        "---\n" + yaml.safe_dump(_front_matter(options, source), sort_keys=False) + "---",
        f"# {data_name(source)}: hierarchical text classifier",
        f"Answers every text with a path that exists in the label taxonomy ({shape}). Made with "
        f"hyperlm: {options.backbone}, {head_in_words(options)}, path decoding.",
        "```python\nimport hyperlm\n\nmodel = hyperlm.load(RUN)  # this folder\n"
        'answer = model.predict(["..."])[0]\nanswer.path, answer.probabilities\n```',
        "## Results",
        _results(metrics),
        "Accuracies, F1 and consistencies in percent, after path decoding; raw consistency is that "
        "of the levels' separate answers. Mistake severity is the mean number of edges between a "
        "wrong answer and the right one." + _sureness(model, metrics),
        "## Data",
        _data(source),
        "## Settings",
        _table(
            ["option", "value"],
            [[f"`{key}`", f"`{value}`"] for key, value in options.to_json().items()],
        ),
        "Command:",
        f"```\n{command}\n```",
        "## Environment",
        _table(["what", "value"], _environment(model, options, seconds)),
    ]
    return "\n\n".join(parts) + "\n"


def result_rows(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Results as the cells of a table: header and rows, for the documents that are there.

    Args:
        metrics: documents of ``Classifier.evaluate`` by name, ``None`` where there is none.
    """
    there = {name: document for name, document in metrics.items() if document is not None}
    if not there:
        return [], []
    documents = list(there.values())
    rows = [["texts", *(f"{document['n']:,}" for document in documents)]]
    for number, level in enumerate(documents[0]["levels"]):
        for key, label in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
            cells = [_percent(document["levels"][number][key]) for document in documents]
            rows.append([f"{level['name']} {label}", *cells])
    for label, pick in _FIGURES.items():
        rows.append([label, *(pick(document) for document in documents)])
    if any("several" in document for document in documents):
        for label, pick in _SEVERAL_FIGURES.items():
            rows.append([label, *(pick(document.get("several", {})) for document in documents)])
    if any("reply" in document for document in documents):
        for label, pick in _REPLY_FIGURES.items():
            rows.append([label, *(pick(document.get("reply", {})) for document in documents)])
    return ["", *there], rows


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


_FIGURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "path accuracy": lambda m: _percent(m["path_accuracy"]),
    "hierarchical F1": lambda m: _percent(m["hierarchical"]["f1"]),
    "raw consistency": lambda m: _percent(m["raw_consistency"]),
    "path consistency": lambda m: _percent(m["path_consistency"]),
    "mistake severity": lambda m: _plain(m["mistake_severity"]),
    "ECE": lambda m: _plain(m["ece"]),
}


_SEVERAL_FIGURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "several paths: micro-F1": lambda s: _percent(s.get("micro_f1")),
    "several paths: macro-F1": lambda s: _percent(s.get("macro_f1")),
    "several paths: F1 of paths": lambda s: _percent(s.get("p_f1")),
    "several paths: all as gold": lambda s: _percent(s.get("exact")),
    "several paths: paths a text": lambda s: _plain(s.get("paths_per_text")),
    "several paths: gold paths": lambda s: _plain(s.get("gold_paths_per_text")),
}


_REPLY_FIGURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "reply BLEU-2": lambda r: _percent(r.get("bleu_2")),
    "reply ROUGE-L": lambda r: _percent(r.get("rouge_l")),
    "reply distinct-2": lambda r: _percent(r.get("distinct_2")),
    "distinct-2 of wanted replies": lambda r: _percent(r.get("distinct_2_wanted")),
    "reply perplexity, gold label": lambda r: _plain(r.get("perplexity")),
    "reply perplexity, own label": lambda r: _plain(r.get("perplexity_own_label")),
}


def data_name(source: dict[str, Any]) -> str:
    """What to call a data set: files and folders go by their last name."""
    name = str(source["name"])
    return name if source["kind"] in ("named", "hub") else Path(name).resolve().name


def head_in_words(options: TrainingOptions) -> str:
    """What scores the labels, as in "node points in the Poincaré ball"."""
    if options.answer == "text":
        return f"labels in words, one {options.speakers} language head per level"
    # The levels of such a head are read one after the other.
    joined = ", each level's point passed to the layers above" if options.answer == "joined" else ""
    if options.head == "linear":
        return f"linear head of {options.dim} dimensions{joined}"
    if options.geometry == "euclidean":
        return f"label points in {options.dim} flat dimensions{joined}"
    space = {"poincare": "the Poincaré ball", "lorentz": "the hyperboloid"}[options.geometry]
    bend = f"{-options.curvature:g}" + (" at the start" if options.learn_curvature else "")
    return f"label points in {space}, {options.dim} dimensions, curvature {bend}{joined}"


def _front_matter(options: TrainingOptions, source: dict[str, Any]) -> dict[str, Any]:
    tags = ["hyperlm", "text-classification", "hierarchical-text-classification"]
    if options.answer != "text" and options.head != "linear" and options.geometry != "euclidean":
        tags += ["hyperbolic", options.geometry]
    front: dict[str, Any] = {
        "library_name": "hyperlm",
        "pipeline_tag": "text-classification",
        "tags": tags,
    }
    base = options.backbone
    if base in SHORT_NAMES:
        front["base_model"] = SHORT_NAMES[base].hub_id
    elif not Path(base).exists():
        front["base_model"] = base
    if source.get("kind") == "hub":
        front["datasets"] = [source["name"]]
    return front


def _results(metrics: dict[str, Any]) -> str:
    header, rows = result_rows(metrics)
    return _table(header, rows) if rows else "The data has neither a val nor a test split."


def _sureness(model: HierarchicalLM | HierarchicalDecoder, metrics: dict[str, Any]) -> str:
    """What was done to the probabilities, in a sentence; nothing for words and without val."""
    heat = getattr(model.config, "path_temperature", None)
    if heat is None or metrics.get("val") is None:
        return ""
    told = f" Probabilities have the temperature {heat:g}, which was fitted to val."
    cut = model.config.several_from
    if cut is None:
        return told
    if cut == 1:
        return f"{told} Val texts with several labels are answered best by one path each."
    return (
        f"{told} Further paths are answered beside the best from a share of {cut:g} on, also "
        "fitted to val; *several paths* are figures of all of them, the others of the best alone. "
        "Micro- and macro-F1 are those of labels with their ancestors."
    )


def _data(source: dict[str, Any]) -> str:
    digests = source.get("files", {})
    splits = {**dict.fromkeys(digests), **source.get("rows", {})}
    rows = [
        [
            split,
            "" if count is None else f"{count:,}",
            digests.get(split, {}).get("file", ""),
            digests.get(split, {}).get("sha256", ""),
        ]
        for split, count in splits.items()
    ]
    columns = source.get("columns", {})
    notes = [
        f"`{data_name(source)}` ({source['kind']}). Text column `{columns.get('text')}`, labels "
        f"from {', '.join(f'`{name}`' for name in columns.get('labels', []))}. Taxonomy: "
        f"{source.get('taxonomy')}.",
        _table(["split", "texts", "file", "sha256"], rows),
    ]
    for split, record in source.get("cuts", {}).items():
        notes.append(
            f"- {split}: {record['rows']} texts cut from `{record['cut_from']}`, stratified, "
            f"fraction {record['fraction']:g}, seed {record['seed']}"
        )
    notes += [f"- {warning}" for warning in source.get("warnings", [])]
    empty = {split: some["count"] for split, some in source.get("empty_texts", {}).items()}
    notes += [f"- {count} empty texts in {split}, kept" for split, count in empty.items()]
    text, *rest = notes
    table, lines = rest[0], rest[1:]
    return "\n\n".join([text, table, *(["\n".join(lines)] if lines else [])])


def _environment(
    model: HierarchicalLM | HierarchicalDecoder, options: TrainingOptions, seconds: float
) -> list[list[str]]:
    device = model.device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    precision = str(resolve_precision(options.precision, device)).removeprefix("torch.")
    threads = torch.get_num_threads()
    return [
        ["time", f"{seconds:.0f} s"],
        ["device", f"{device.type} ({where})"],
        ["cores", f"{os.cpu_count()}, {threads} thread{'s' * (threads != 1)}"],
        ["processes", os.environ.get("WORLD_SIZE", "1")],
        ["precision", f"{precision} (head: float32)"],
        ["seed", str(options.seed)],
        ["hyperlm", __version__],
        *([name, _version(name)] for name in ("torch", "transformers", "peft", "geoopt")),
        ["python", platform.python_version()],
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell would end it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
