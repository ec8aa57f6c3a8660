"""The settings of a training run, in one place: the command fills them, a run folder keeps them."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, get_args

from hyperlm import __version__
from hyperlm.errors import ModelError, OptionError
from hyperlm.options_checks import check_options, flag

__all__ = ["TrainingOptions", "head_arguments"]

_OF_HEADS = ("dim", "loss", "dropout", "seed")
_OF_POINT_HEADS = (
    "geometry", "curvature", "learn_curvature", "coordinates", "init", "cone_weight", "cone_pairs",
    "text_cone_weight", "temperature",
)  # fmt: skip
# By what a head starts from: learning rates of the head and of its points, and the temperature.
# What a start knows, fast rates undo (docs/decisions/0015 and 0018).
_PACES = {"texts": (1e-4, 3e-3, 20.0), "names": (3e-4, 1e-2, 20.0)}
_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
_FROM_NOTHING = (3e-3, 3e-2, 10.0)


# How a table is read.
OF_COLUMNS = ("text_column", "label_columns", "reply_column", "path_separator", "label_separator")


@dataclass(frozen=True)
class TrainingOptions:
    """Everything that decides the result of ``hyperlm train``, with the defaults of the command.

    Places may be given as ``Path``, and lists for what the command separates by commas; both are
    kept as the command would have them, as text (names of columns as a tuple).

    Attributes:
        data: named set, file or folder; see :func:`hyperlm.data.load_data`, also for
            ``text_column``, ``label_columns`` (else every other column is a level),
            ``path_separator``, ``label_separator``, ``taxonomy`` and ``val_fraction``.
        descriptions: table that says what labels mean, read with their names where the head starts.
        reply_column: texts to say after the labels, with ``--answer text``.
        reply_tokens: most tokens of a reply that is generated; those learnt are never cut.
        backbone: ``minilm``, ``smollm2``, a folder or a hub id.
        layers: ``auto`` or layer numbers, coarse to fine.
        pooling: of token states: ``mean``, ``last``, or ``auto`` by the architecture.
        max_length: tokens of a text that are read; ``None`` for 256, or what the backbone can.
        answer: ``points`` scores all labels at once; ``text`` lets a causal decoder say the labels
            of a path one after the other, each at the layer of its level; ``joined`` is ``points``
            with each level's predicted point told to the layers above it.
        speakers: language heads of the levels with ``--answer text``: ``tied``, ``lora``, ``free``.
        level_weights: of the levels' losses with ``--answer text``: ``equal``, ``learned``, or
            numbers with commas between.
        packed: put several short texts into one row, with ``--answer text``.
        head: ``points`` or ``linear``.
        geometry: of the points: ``poincare``, ``lorentz`` or ``euclidean``.
        dim: dimensions of the head's space.
        curvature, learn_curvature: c of the space, of curvature -c; whether it is trained.
        coordinates: points are trained as ``tangent`` vectors or in ``native`` coordinates.
        loss: softmax per ``level``, per parent along the ``path``, or over ``leaf`` nodes.
        cone_weight, cone_pairs: of the loss that keeps children in their parents' cones; pairs of
            the ``closure`` or of ``edges``.
        text_cone_weight: of the loss that keeps texts in their labels' cones.
        dropout: of what the head reads, while it trains.
        backbone_dropout: of the backbone while it trains, wherever it drops; ``None`` for what it
            comes with.
        epochs, batch_size: passes over the texts, and texts of a step; ``accumulate`` such steps
            are taken together.
        learning_rate: of the backbone (or its adapters).
        weight_decay: of weight matrices.
        warmup: share of the steps in which rates rise; they fall to 0 over the others.
        max_grad_norm: longer gradients are shortened to this.
        gradient_checkpointing: compute activations of the backbone twice, to save memory.
        head_learning_rate: of the projections, biases and temperatures; ``None`` for 3e-4 from
            names, 1e-4 from texts, which has less to go, and else 3e-3.
        point_learning_rate: of the node points, in Riemannian length a step; ``None`` for 1e-2
            from names, 3e-3 from texts, else 3e-2. Of the node weights of a linear head, in each
            coordinate; ``None`` for the same numbers, and at random for ``head_learning_rate``.
        init: where the head starts: ``names`` (nodes at the label names, through the backbone),
            ``texts`` (projections and nodes from the training texts as the untrained backbone sees
            them, and from the names), ``tree`` (points alone: from the taxonomy) or ``random``;
            ``auto`` is ``texts`` with ``freeze`` and ``names`` without.
        temperature: start of the factor on the distances to the nodes, learned, one per level;
            ``None`` for 20 from names and texts, else 10. Of a linear head from names or texts: on
            half the squared distances that its scores start as.
        lora: rank of low-rank adapters, ``None`` for none.
        adapter: kind of the adapters: ``lora``, or ``hyplora`` (the update passes through the
            hyperboloid; cannot be merged).
        freeze: train the head alone, on features computed once.
        patience: epochs without a better path accuracy on val before training stops; 0 for never.
        precision: arithmetic of the backbone; ``auto`` takes bf16 where the hardware has it. The
            head always computes in float32.
        seed: of everything drawn, and of the cuts of a single table.
        report_to: who is told of the training beside ``train_log.jsonl``, as ``tensorboard``.
    """

    data: str | Path = "demo"
    text_column: str | None = None
    label_columns: Sequence[str] | None = None
    reply_column: str | None = None
    path_separator: str = " > "
    label_separator: str | None = None
    taxonomy: str | Path | None = None
    descriptions: str | Path | None = None
    val_fraction: float = 0.1
    backbone: str | Path = "minilm"
    layers: str | Sequence[int] = "auto"
    pooling: str = "auto"
    max_length: int | None = None
    answer: str = "points"
    speakers: str = "tied"
    level_weights: str | Sequence[float] = "equal"
    packed: bool = False
    reply_tokens: int = 64
    head: str = "points"
    geometry: str = "poincare"
    dim: int = 128
    curvature: float = 1.0
    learn_curvature: bool = False
    coordinates: str = "tangent"
    init: str = "auto"
    temperature: float | None = None
    loss: str = "level"
    cone_weight: float = 0.0
    cone_pairs: str = "closure"
    text_cone_weight: float = 0.0
    dropout: float = 0.1
    backbone_dropout: float | None = None
    lora: int | None = None
    adapter: str = "lora"
    freeze: bool = False
    epochs: int = 4
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-4
    head_learning_rate: float | None = None
    point_learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    patience: int = 3
    gradient_checkpointing: bool = False
    precision: str = "auto"
    seed: int = 0
    report_to: str = "none"

    def __post_init__(self) -> None:
        for name, value in _as_kept(self).items():
            object.__setattr__(self, name, value)  # frozen from here on
        check_options(self)

    def start(self) -> str:
        """``init``, decided; words have no points to start."""
        if self.answer == "text":
            return "auto"
        if self.init != "auto":
            return self.init
        return "texts" if self.freeze else "names"

    def has_temperature(self) -> bool:
        """Words have none to start at, nor has a linear head from a random start."""
        return self.answer != "text" and (self.head == "points" or self.start() != "random")

    def resolved(self) -> "TrainingOptions":
        """The same with everything that was left to the others decided."""
        init = self.start()
        head, point, temperature = _PACES.get(init, _FROM_NOTHING)
        # A linear head from a random start is what others have: one rate for all of it.
        nodes = self.answer != "text" and (self.head == "points" or init in _PACES)
        return replace(
            self,
            init=init,
            temperature=self.temperature or (temperature if self.has_temperature() else None),
            head_learning_rate=self.head_learning_rate or head,
            point_learning_rate=self.point_learning_rate or (point if nodes else None),
        )

    def loss_weights(self) -> str | list[float]:
        """``level_weights`` as the decoder takes them."""
        weights = str(self.level_weights)
        if weights in ("equal", "learned"):
            return weights
        try:
            return [float(part) for part in weights.split(",")]
        except ValueError:
            raise OptionError(
                f"--level-weights {self.level_weights!r}: give equal, learned, or one number per "
                "level with commas between, as 1,1,2."
            ) from None

    def column_options(self) -> dict[str, Any]:
        """How a table is read, as arguments of :func:`hyperlm.data.load_data`."""
        return {name: getattr(self, name) for name in OF_COLUMNS}

    def lora_options(self) -> dict[str, Any] | None:
        """Keyword arguments for the adapters, or ``None`` for none."""
        if self.lora is None:
            return None
        # Named where it is not the default: plain LoRA models keep their configuration.
        return {"rank": self.lora} | ({"adapter": self.adapter} if self.adapter != "lora" else {})

    def head_options(self) -> dict[str, Any]:
        """Keyword arguments for :func:`hyperlm.heads.build_head`."""
        return head_arguments(self.resolved())

    def command(self, output: str | Path) -> str:
        """The command line that repeats a run, naming what differs from the defaults."""
        words = ["hyperlm", "train", "--data", str(self.data)]
        open_ = replace(self, temperature=None, head_learning_rate=None, point_learning_rate=None)
        decided = open_.resolved()
        usual = {
            "init": replace(open_, init="auto").start(),
            "temperature": decided.temperature,
            "head_learning_rate": decided.head_learning_rate,
            "point_learning_rate": decided.point_learning_rate,
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "data" or value in (field.default, usual.get(field.name)):
                continue
            if value is True:
                words.append(flag(field.name))
            elif field.name == "label_columns":
                # A name with a comma in quotes, as the option reads it.
                named = (f'"{name}"' if "," in name else name for name in value)
                words += [flag(field.name), ",".join(named)]
            else:
                words += [flag(field.name), str(value)]
        words += ["--output", str(output)]
        return " ".join(_quoted(word) for word in words)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(
        cls,
        data: dict[str, Any],
        *,
        path: str | Path = "run.json",
        written_by: str | None = None,
    ) -> "TrainingOptions":
        """From what ``to_json`` gave.

        Args:
            path: where it stands, for messages.
            written_by: the version of hyperlm that wrote it.
        Raises:
            ModelError: options that this version does not have.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ModelError(
                f"{path}: options {', '.join(unknown)} are unknown to this version of hyperlm, "
                f"{__version__}. Use the version that wrote the run"
                f"{f', {written_by}' if written_by else ''}."
            )
        return cls(**data)

    @classmethod
    def read(cls, path: str | Path) -> "TrainingOptions":
        """Options kept in a run folder's ``run.json``."""
        try:
            stored = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls.from_json(stored["options"], path=path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ModelError | OptionError):
                raise
            raise ModelError(
                f"{path}: no readable options of a training run ({error}). "
                "Give the folder that 'hyperlm train --output' wrote."
            ) from error


def _as_kept(options: TrainingOptions) -> dict[str, Any]:
    """As a run folder can keep it: texts and tuples for what Python may give otherwise."""
    kept: dict[str, Any] = {}
    for name in ("data", "taxonomy", "descriptions", "backbone"):
        value = getattr(options, name)
        if isinstance(value, PathLike):
            place = fspath(value)
            # A word alone would be the short name of something.
            kept[name] = place if os.sep in place else f".{os.sep}{place}"
        elif not isinstance(value, str) and (value is not None or name in ("data", "backbone")):
            raise OptionError(
                f"{flag(name)} is a {type(value).__name__}. Give the name of a file or folder; "
                "write what is in memory first, as table.to_csv('mine.csv', index=False) or "
                "taxonomy.write('labels.json')."
            )
    for name in ("layers", "level_weights"):
        value = getattr(options, name)
        if value is None:
            kept[name] = "auto" if name == "layers" else "equal"
        elif not isinstance(value, str):
            numbers = value if isinstance(value, Iterable) else [value]
            kept[name] = ",".join(map(str, numbers))
    columns = options.label_columns
    if isinstance(columns, str):
        kept["label_columns"] = tuple(name.strip() for name in columns.split(","))
    elif isinstance(columns, Iterable):
        kept["label_columns"] = tuple(columns) or None
    elif columns is not None:
        raise OptionError(f"--label-columns is a {type(columns).__name__}. Give names of columns.")
    for field in fields(options):
        value = kept.get(field.name, getattr(options, field.name))
        allowed = get_args(field.type) or (field.type,)
        kind = next((kind for kind in _KINDS if kind in allowed), None)
        if kind is not None and not (value is None and type(None) in allowed):
            kept[field.name] = _of_kind(field.name, value, kind)
    return kept


def _of_kind(name: str, value: Any, kind: type) -> Any:
    """Python's own number for one of NumPy's; anything else that is not of the kind is refused."""
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        value = value.item()
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not fits and not (kind is float and whole):
        raise OptionError(f"{flag(name)} is {value!r}. Give {_KINDS[kind]}.")
    return value


def head_arguments(settings: Any, *further: str) -> dict[str, Any]:
    """Keyword arguments for :func:`hyperlm.heads.build_head` from an object's settings.

    Args:
        settings: with the fields that :class:`TrainingOptions` has for a head.
        further: names of more fields, that only a head of points takes.
    """
    arguments = {"kind": settings.head} | {name: getattr(settings, name) for name in _OF_HEADS}
    if settings.head == "linear":
        return arguments
    arguments |= {name: getattr(settings, name) for name in (*_OF_POINT_HEADS, *further)}
    if settings.init in ("auto", "names", "texts"):
        # What the backbone sees is known later, and replaces a tree start then.
        arguments["init"] = "tree"
    return arguments


def _quoted(word: str) -> str:
    plain = word and all(ch.isalnum() or ch in "-_./,:=+" for ch in word)
    return word if plain else "'" + word.replace("'", "'\"'\"'") + "'"
