"""``hyperlm info``: what a run folder holds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hyperlm.cli.errors import Debug
from hyperlm.errors import OutputError

__all__ = ["info"]


def info(
    run: Annotated[str, typer.Argument(help="Folder of a run, or a hub id.", metavar="RUN")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Debug = False,
) -> None:
    """Say what a model is, what it was trained on and how well it does."""
    from hyperlm.cli.output import show_json
    from hyperlm.quiet import quiet_libraries

    quiet_libraries()
    document = _describe(run)
    if json:
        show_json(document)
    else:
        _show(document)


def _describe(run: str) -> dict[str, Any]:
    """Facts from the model itself, and from the record beside it where there is one."""

    from hyperlm.checkpoints import last_checkpoint, step_of
    from hyperlm.runfolder import read_metrics, read_record

    try:
        record = read_record(Path(run))
    except OutputError:
        record = {}
    facts: dict[str, Any] = {"run": run, "status": record.get("status")}
    if record.get("status") == "training" and not (Path(run) / "metrics.json").is_file():
        checkpoint = last_checkpoint(Path(run))
        facts["checkpoint_step"] = step_of(checkpoint) if checkpoint else None
    else:
        facts |= _model_facts(run)
    if record:
        facts["data"] = {key: record["data"].get(key) for key in ("name", "kind", "rows")}
        facts |= {key: record.get(key) for key in ("options", "seconds", "hyperlm")}
    measured = (Path(run) / "metrics.json").is_file()
    facts["results"] = read_metrics(Path(run)) if measured else None
    return facts


def _model_facts(run: str) -> dict[str, Any]:
    import torch

    from hyperlm.heads import HyperbolicHead
    from hyperlm.lm.loading import answers_in_words, load_model

    if answers_in_words(run):
        return _facts_in_words(run)
    model = load_model(run)
    head, config, taxonomy = model.head, model.config, model.taxonomy
    points = isinstance(head, HyperbolicHead)
    curvature = None
    if isinstance(head, HyperbolicHead) and head.geometry != "euclidean":
        with torch.no_grad():  # a learned one carries a gradient
            curvature = -float(head.c)
    names = config.level_names or [f"L{n + 1}" for n in range(taxonomy.num_levels)]
    return {
        "answer": "joined" if config.joined else "points",
        "backbone": config.backbone_name,
        "architecture": config.backbone_config.model_type,
        "layers": config.layers,
        "pooling": config.pooling,
        "max_length": config.max_length,
        "lora": config.lora,
        "head": "points" if points else "linear",
        "geometry": head.geometry if points else None,
        "dim": head.dim,
        "curvature": curvature,
        "loss": head.loss_kind,
        "path_temperature": config.path_temperature,
        "several_from": config.several_from,
        "calibrated_on": config.calibrated_on,
        "levels": [
            {"name": name, "nodes": len(nodes)}
            for name, nodes in zip(names, taxonomy.levels, strict=True)
        ],
        "nodes": len(taxonomy),
        "path_ends": len(taxonomy.terminals),
        "tree": bool(taxonomy.is_tree),
        "taxonomy": taxonomy.fingerprint,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _facts_in_words(run: str) -> dict[str, Any]:
    """The same of a model that says its labels."""
    from hyperlm.lm.loading import load_decoder

    model = load_decoder(run)
    config, taxonomy = model.config, model.taxonomy
    names = config.level_names or []
    facts: dict[str, Any] = {
        "answer": "text",
        "backbone": config.backbone_name,
        "architecture": config.backbone_config.model_type,
        "layers": config.layers,
        "max_length": config.max_length,
        "lora": config.lora,
        "speakers": (config.heads or {}).get("kind", "tied"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "levels": [],
    }
    if taxonomy is not None:
        facts |= {
            "levels": [
                {"name": names[at] if at < len(names) else f"L{at + 1}", "nodes": len(nodes)}
                for at, nodes in enumerate(taxonomy.levels)
            ],
            "nodes": len(taxonomy),
            "path_ends": len(taxonomy.terminals),
            "tree": bool(taxonomy.is_tree),
            "taxonomy": taxonomy.fingerprint,
        }
    return facts


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console

    from hyperlm.cli.output import pairs, results_table

    console = Console()
    rows = [("run", facts["run"])]
    if "checkpoint_step" in facts:
        step = facts["checkpoint_step"]
        where = f"checkpoint at step {step}" if step is not None else "no checkpoint yet"
        how = "continues it" if step is not None else "begins again"
        rows.append(("status", f"not finished ({where}); hyperlm train --resume {how}"))
    else:
        if facts["status"] == "training":
            rows.append(("status", "stopped as it finished; hyperlm train --resume completes it"))
        levels = ", ".join(f"{level['nodes']:,} {level['name']}" for level in facts["levels"])
        given = facts["lora"] or {}
        name = "HypLoRA" if given.get("adapter") == "hyplora" else "LoRA"
        lora = f", {name} rank {given['rank']}" if given else ""
        rows += [
            ("backbone", f"{facts['backbone']} ({facts['architecture']}{lora})"),
            ("layers", ", ".join(map(str, facts["layers"])) + _pooling(facts)),
            ("head", _head(facts)),
        ]
        if "path_temperature" in facts:
            heat = facts["path_temperature"]
            known = f"at temperature {heat:g}" + " (fitted)" * (heat != 1)
            if since := facts["calibrated_on"]:
                texts = f"{since['n']:,} texts" + (f" of {since['data']}" if since["data"] else "")
                known = f"at temperature {heat:g}, fitted to {texts}"
                known += "; the errors below are from before" if facts["results"] else ""
            rows.append(("probabilities", known))
            if (cut := facts["several_from"]) is not None:
                several = f"all paths with a share of at least {cut:g}"
                rows.append(("answers", ("one path" if cut == 1 else several) + " (fitted)"))
        if "nodes" in facts:
            kind = "tree" if facts["tree"] else "DAG"
            ends = f"{facts['path_ends']:,} ends"
            rows.append(("labels", f"{facts['nodes']:,} in a {kind} ({levels}), {ends}"))
        rows.append(("parameters", f"{facts['parameters']:,}"))
    if facts.get("data"):
        data = facts["data"]
        counts = ", ".join(f"{n:,} {split}" for split, n in (data["rows"] or {}).items())
        took = f", in {facts['seconds']:,.0f} s" if facts.get("seconds") else ""
        rows.append(("trained on", f"{data['name']} ({counts}){took}"))
    pairs(rows, console)
    if facts["results"]:
        results_table(facts["results"], console)


def _pooling(facts: dict[str, Any]) -> str:
    return f"; {facts['pooling']} pooling" if "pooling" in facts else ""


def _head(facts: dict[str, Any]) -> str:
    if facts.get("answer") == "text":
        return f"labels in words, one {facts['speakers']} language head per level"
    space = facts["geometry"] or "linear"
    bend = f", curvature {facts['curvature']:.3g}" if facts["curvature"] is not None else ""
    joined = ", levels joined" if facts.get("answer") == "joined" else ""
    return f"{space}, {facts['dim']} dimensions{bend}, {facts['loss']} loss{joined}"
