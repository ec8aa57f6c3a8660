"""Whether options of a training run can be meant: each by itself, and one beside the other."""

import math
from dataclasses import fields
from typing import TYPE_CHECKING

from hyperlm.errors import OptionError

if TYPE_CHECKING:
    from hyperlm.options import TrainingOptions

__all__ = ["ADAPTERS", "PRECISIONS", "check_joined", "check_options", "flag"]

ADAPTERS = ("lora", "hyplora")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")

_CHOICES = {
    "answer": ("points", "text", "joined"),
    "speakers": ("tied", "lora", "free"),
    "head": ("points", "linear"),
    "geometry": ("poincare", "lorentz", "euclidean"),
    "coordinates": ("tangent", "native"),
    "init": ("auto", "names", "texts", "tree", "random"),
    "loss": ("level", "path", "leaf"),
    "cone_pairs": ("closure", "edges"),
    "pooling": ("auto", "mean", "last"),
    "adapter": ADAPTERS,
    "precision": PRECISIONS,
}
_OF_POINTS = (
    "pooling", "head", "geometry", "dim", "curvature", "learn_curvature", "coordinates", "init",
    "loss", "cone_weight", "cone_pairs", "text_cone_weight", "dropout", "backbone_dropout",
    "point_learning_rate", "temperature", "freeze", "descriptions",
)  # fmt: skip
_OF_WORDS = ("speakers", "level_weights", "packed", "reply_column", "reply_tokens")


def check_options(options: "TrainingOptions") -> None:
    """An OptionError that names what cannot be meant, and the remedy."""
    _check_values(options)
    _check_answer(options)
    _check_training(options)
    _check_head(options)


def _check_values(options: "TrainingOptions") -> None:
    """Each by itself."""
    positive = (
        "batch_size", "accumulate", "max_length", "learning_rate", "head_learning_rate",
        "point_learning_rate", "temperature", "max_grad_norm", "reply_tokens",
    )  # fmt: skip
    for name in positive:
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise OptionError(
                f"{flag(name)} {getattr(options, name)}: must be greater than 0 and finite."
            )
    for name in ("cone_weight", "text_cone_weight", "weight_decay", "patience"):
        if not 0 <= getattr(options, name) < math.inf:
            raise OptionError(
                f"{flag(name)} {getattr(options, name)}: must be finite and not negative."
            )
    if not 0 <= options.seed < 2**32:
        raise OptionError(f"--seed {options.seed}: give a number from 0 to {2**32 - 1}.")
    for name in ("dropout", "backbone_dropout", "warmup", "val_fraction"):
        if not 0 <= (getattr(options, name) or 0.0) < 1:
            raise OptionError(f"{flag(name)} {getattr(options, name)}: must lie in [0, 1).")
    for name, allowed in _CHOICES.items():
        value = getattr(options, name)
        if value not in allowed:
            raise OptionError(
                f"{flag(name)} {value!r} is unknown; choose one of {', '.join(allowed)}."
            )


def _check_answer(options: "TrainingOptions") -> None:
    """Options that say nothing about the kind of answer asked for are refused."""
    words = options.answer == "text"
    idle = _OF_POINTS if words else _OF_WORDS
    there = {field.name: field.default for field in fields(options)}
    for name in idle:
        if getattr(options, name) != there[name]:
            raise OptionError(f"{flag(name)} means nothing with --answer {options.answer}.")
    if words:
        options.loss_weights()
    if options.answer == "joined":
        check_joined(loss=options.loss, freeze=options.freeze)


def _check_training(options: "TrainingOptions") -> None:
    """What trains: adapters, a frozen backbone."""
    if options.adapter != "lora" and options.lora is None:
        raise OptionError(
            f"--adapter {options.adapter} says which adapters to train; give their rank with "
            "--lora RANK."
        )
    if options.freeze and options.lora:
        raise OptionError(
            "--freeze and --lora exclude each other: one trains nothing of the backbone, "
            "the other adapters inside it. Give one."
        )
    if options.freeze and options.backbone_dropout is not None:
        raise OptionError(
            "--backbone-dropout: with --freeze nothing of the backbone trains. Leave one out."
        )
    if options.freeze and options.gradient_checkpointing:
        raise OptionError(
            "--gradient-checkpointing saves memory in the backward pass of the backbone; with "
            "--freeze there is none. Leave one out."
        )


def _check_head(options: "TrainingOptions") -> None:
    """The space of the points, and where the head starts."""
    flat = "--head linear" if options.head == "linear" else "--geometry euclidean"
    if (options.head == "linear" or options.geometry == "euclidean") and (
        options.learn_curvature or options.curvature != 1.0
    ):
        raise OptionError(f"--curvature and --learn-curvature mean nothing with {flat}.")
    if options.head == "linear" and (options.cone_weight or options.text_cone_weight):
        raise OptionError(
            "--cone-weight needs --head points: a linear head has no points to put in cones."
        )
    if options.head == "linear" and options.init == "tree":
        raise OptionError(
            "--init tree places node points, and --head linear has none: choose names, texts "
            "or random, or leave it out."
        )
    if options.descriptions is not None and options.start() not in ("names", "texts"):
        raise OptionError(
            f"--descriptions says what label names mean, and --init {options.init} reads no "
            "names: choose names or texts, or leave it out."
        )
    if options.temperature is not None and not options.has_temperature():
        raise OptionError(
            "--temperature: a linear head has one where it starts from names or texts. Add "
            "--init names or texts, or leave it out."
        )
    if options.epochs < 0 or (options.epochs == 0 and options.start() not in ("names", "texts")):
        raise OptionError(
            f"--epochs {options.epochs}: give 1 or more. With --init texts or names it may be 0, "
            "which keeps the head as it starts."
        )


def check_joined(*, loss: str, freeze: bool) -> None:
    """An OptionError for what cannot be had with levels that condition each other."""
    if freeze:
        raise OptionError(
            "--freeze trains the head on features computed once; with --answer joined the features "
            "of a level change with what the head predicts above it. Use --lora RANK, or --answer "
            "points."
        )
    if loss == "leaf":
        raise OptionError(
            "--answer joined with --loss leaf: one softmax over path ends predicts nothing on the "
            "levels above them. Use --loss level or path."
        )


def flag(name: str) -> str:
    """An option as the command spells it."""
    return "--" + name.replace("_", "-")
