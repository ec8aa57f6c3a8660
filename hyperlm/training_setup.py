"""How the transformers Trainer is set up and run, the same for every kind of answer.

In: options and a run folder. Out: arguments, callbacks and the checkpoint to go on from; then a
training run whose model answers in float32 at its end.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import EarlyStoppingCallback, PreTrainedModel, Trainer, TrainingArguments
from transformers.integrations.integration_utils import (
    TensorBoardCallback,
    get_available_reporting_integrations,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from hyperlm.checkpoints import epochs_if_stopped_early, last_checkpoint, relocate
from hyperlm.errors import HyperlmWarning, OptionError
from hyperlm.lm.base import BackboneModel
from hyperlm.lm.batches import LengthGroupedSampler
from hyperlm.options import TrainingOptions
from hyperlm.options_checks import PRECISIONS
from hyperlm.progress import TrainingProgress

__all__ = [
    "checkpoint_to_resume",
    "first_device",
    "precision_name",
    "prepare_backbone",
    "resolve_precision",
    "run_trainer",
    "shared_callbacks",
    "train_sampler",
    "training_arguments",
    "training_attention",
    "training_dropout",
    "use_one_gpu",
]

# Where modules keep a probability that they hand to torch's functions.
_DROPOUTS = (
    "dropout", "attention_dropout", "activation_dropout", "hidden_dropout", "residual_dropout",
    "embedding_dropout", "resid_pdrop", "attn_pdrop", "attn_dropout_p", "dropout_prob", "dropout_p",
)  # fmt: skip


def first_device() -> torch.device:
    """Where this process trains: each of a launched group has a GPU of its own.

    Some launchers show every process its GPU alone, as number 0.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    rank = max(0, int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cuda", rank % torch.cuda.device_count())


def precision_name(dtype: torch.dtype) -> str:
    """``fp32``, ``bf16`` or ``fp16``, as ``--precision`` takes it."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype the backbone computes in; ``auto`` is bf16 where the hardware multiplies in it.

    Raises:
        OptionError: an unknown name, or fp16 on a processor.
    """
    if precision not in PRECISIONS:
        raise OptionError(
            f"--precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}."
        )
    if precision == "fp32":
        return torch.float32
    if precision == "fp16":
        if device.type == "cpu":
            raise OptionError("--precision fp16 needs a GPU; on a CPU use fp32, bf16 or auto.")
        return torch.float16
    if precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    if device.type == "cpu":
        return torch.bfloat16 if _multiplies_bf16() else torch.float32
    return torch.float32


def _multiplies_bf16() -> bool:
    """Whether the processor has instructions for it; without them it takes ten times float32's."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _check_report_to(name: str) -> None:
    there = ("none", "all", *sorted(get_available_reporting_integrations()))
    if name not in there:
        raise OptionError(
            f"--report-to {name!r} is unknown, or its package is not installed; what can be used "
            f"here is {', '.join(there)}. For TensorBoard: pip install tensorboard."
        )


def training_arguments(
    options: TrainingOptions, folder: Path, *, has_val: bool
) -> TrainingArguments:
    """What the Trainer is told, the same for every kind of answer."""
    _check_report_to(options.report_to)
    probe = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = resolve_precision(options.precision, probe)
    if options.precision == "bf16" and probe.type == "cpu" and not _multiplies_bf16():
        warnings.warn(
            "this processor has no instructions for bf16, and training in it takes some ten times "
            "as long as in float32. Leave --precision at auto, or give fp32.",
            HyperlmWarning,
            stacklevel=2,
        )
    strategy = "epoch" if has_val else "no"
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1  # by torchrun or accelerate launch
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=2 * options.batch_size,
        gradient_accumulation_steps=options.accumulate,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        warmup_steps=options.warmup,
        lr_scheduler_type="linear",
        max_grad_norm=options.max_grad_norm,
        bf16=precision == torch.bfloat16 and not options.freeze,
        fp16=precision == torch.float16 and not options.freeze,
        use_cpu=probe.type == "cpu",
        ddp_backend="gloo" if probe.type == "cpu" and launched else None,
        # Poolers and the layers above the last tap have no gradient; a head uses all it has.
        ddp_find_unused_parameters=not options.freeze,
        eval_strategy=strategy,
        save_strategy="epoch",
        # The last beside the best: a run stopped after its last epoch then has nothing to repeat.
        save_total_limit=2,
        load_best_model_at_end=has_val,
        # Patience counts on where it stood.
        restore_callback_states_from_checkpoint=True,
        metric_for_best_model="eval_path_accuracy" if has_val else None,
        greater_is_better=True if has_val else None,
        logging_strategy="steps",
        logging_steps=10,
        logging_nan_inf_filter=False,
        label_names=["targets"],
        remove_unused_columns=False,
        dataloader_pin_memory=probe.type == "cuda",
        report_to=options.report_to,
        disable_tqdm=True,
        seed=options.seed,
        data_seed=options.seed,
    )
    if not launched:
        use_one_gpu(arguments)
    return arguments


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Train on the first of several GPUs, and say how to use them all.

    Left alone the Trainer copies the model to all of them in threads of one process, where copies
    share the hooks that read layers, and points are no longer manifold parameters.
    """
    if arguments.n_gpu > 1:
        warnings.warn(
            f"training on one of {arguments.n_gpu} GPUs. For all of them: torchrun "
            f"--nproc-per-node {arguments.n_gpu} -m hyperlm train ...",
            HyperlmWarning,
            stacklevel=3,
        )
        arguments._n_gpu = 1


def checkpoint_to_resume(folder: Path, arguments: TrainingArguments) -> Path:
    """The last checkpoint of a run folder, made ready; ``arguments`` then ask for what is left.

    Raises:
        OptionError: the folder has none.
    """
    checkpoint = last_checkpoint(folder)
    if checkpoint is None:
        raise OptionError(
            f"--resume: {folder} has no checkpoint to continue from; one is written at the end of "
            "each epoch. Start again with --overwrite."
        )
    relocate(checkpoint)
    # Patience ran out before the interruption: nothing is left to train.
    done = epochs_if_stopped_early(checkpoint)
    arguments.num_train_epochs = done or arguments.num_train_epochs
    return checkpoint


def prepare_backbone(
    model: BackboneModel, options: TrainingOptions, arguments: TrainingArguments
) -> None:
    """Move a model to the device it trains on, and let it forget activations where asked to.

    Raises:
        OptionError: activations are to be forgotten, and the architecture keeps them always.
    """
    if options.gradient_checkpointing and not model.backbone.supports_gradient_checkpointing:
        raise OptionError(
            f"--gradient-checkpointing: {type(model.backbone).__name__} of transformers cannot do "
            "without its activations. Leave the option out; a smaller --batch-size with "
            "--accumulate, or a smaller --max-length, saves memory too."
        )
    model.to(arguments.device)  # type: ignore[arg-type]  # a wrapper hides the signature
    if options.gradient_checkpointing:
        # Renamed in transformers 5; the old name warns.
        name = "activation_checkpointing_enable"
        getattr(model.backbone, name, model.backbone.gradient_checkpointing_enable)()


@contextmanager
def training_dropout(backbone: PreTrainedModel, dropout: float | None) -> Iterator[None]:
    """Within the block the backbone drops with this probability wherever it drops; None: as ever.

    Dropout of adapters is theirs, and stays.
    """
    changed: list[tuple[nn.Module, str, float]] = []
    if dropout is not None:
        for name, module in backbone.named_modules():
            if "lora_dropout" in name:
                continue
            known = ("p",) if isinstance(module, _DropoutNd) else _DROPOUTS
            for attribute in known:
                value = getattr(module, attribute, None)
                if isinstance(value, int | float) and not isinstance(value, bool):
                    changed.append((module, attribute, value))
                    setattr(module, attribute, dropout)
    try:
        yield
    finally:
        for module, attribute, value in changed:
            setattr(module, attribute, value)


@contextmanager
def training_attention(
    backbone: PreTrainedModel,
    device: torch.device,
    precision: torch.dtype,
    dropout: float | None = None,
) -> Iterator[None]:
    """Within the block a backbone attends in the way that trains fastest; same up to rounding.

    Torch's fused attention has no dropout on a processor and falls back to plain products, whose
    backward pass is slow in bf16: transformers' own (``eager``) needs fewer seconds and less
    memory there. An attention other than the standard one was chosen by somebody, and stays.

    Args:
        dropout: of the backbone, where it is not its own; without any the fused one is fastest.
    """
    config = backbone.config
    names = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
    drops = any(getattr(config, name, 0.0) for name in names) if dropout is None else dropout > 0
    standard = config._attn_implementation == "sdpa"
    if not (device.type == "cpu" and precision == torch.bfloat16 and drops and standard):
        yield
        return
    backbone.set_attn_implementation("eager")
    try:
        yield
    finally:
        backbone.set_attn_implementation("sdpa")


def shared_callbacks(
    options: TrainingOptions, folder: Path, *, has_val: bool, progress: bool
) -> list[Any]:
    """The bar with its log, and early stopping where val can tell."""
    callbacks: list[Any] = [TrainingProgress(folder / "train_log.jsonl", show=progress)]
    if options.patience and has_val:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=options.patience))
    return callbacks


def train_sampler(lengths: Sequence[int], arguments: TrainingArguments) -> LengthGroupedSampler:
    """Texts of like length together, in an order that a resumed run repeats."""
    return LengthGroupedSampler(
        lengths,
        arguments.train_batch_size * arguments.gradient_accumulation_steps,
        arguments.seed,
    )


def run_trainer(
    trainer: Trainer,
    folder: Path,
    checkpoint: Path | None,
    *,
    first: dict[str, float] | None = None,
) -> None:
    """Train, from ``checkpoint`` on where there is one; the best model is then in place.

    Args:
        first: figures of the start, for the log of a run that begins.
    """
    for callback in trainer.callback_handler.callbacks:
        # Its own choice lies among the checkpoints, which are deleted at the end.
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(folder / "tensorboard")
    # One bar and one log: ours.
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    if first and checkpoint is None:
        trainer.log(first)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    # Mixed precision has wrapped forward(); what is evaluated and saved answers in float32.
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
