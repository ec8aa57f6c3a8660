"""What a training run starts from: its data, its layers, and a model whose head has its start."""

from hyperlm.data import DataBundle, load_data
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.decoder import HierarchicalDecoder
from hyperlm.lm.labelled import start_from_labelled
from hyperlm.lm.layer_choice import measured_layers
from hyperlm.lm.names import start_from_names
from hyperlm.options import TrainingOptions
from hyperlm.training import set_seed
from hyperlm.training_setup import first_device, resolve_precision

__all__ = ["Model", "build_model", "layers_measured", "load_run_data"]

Model = HierarchicalLM | HierarchicalDecoder


def load_run_data(options: TrainingOptions) -> DataBundle:
    """The data of a run, cut as the run cuts it."""
    return load_data(
        options.data,
        **options.column_options(),
        taxonomy=options.taxonomy,
        descriptions=options.descriptions,
        seed=options.seed,
        val_fraction=options.val_fraction,
    )


def layers_measured(options: TrainingOptions, bundle: DataBundle) -> tuple[int, ...] | None:
    """What ``--layers auto`` takes from a layer sweep, ``None`` where it is the rule.

    Raises:
        DataError: the file of the sweep's choice is damaged or foreign.
    """
    if options.layers != "auto":
        return None
    found = measured_layers(
        str(options.backbone),
        bundle.taxonomy,
        pooling=options.pooling,
        text_levels=int(options.answer == "text" and bundle.has_replies),
    )
    if options.answer == "joined" and found is not None and len(set(found)) < len(found):
        return None  # a sweep is of levels that are read apart; joined ones cannot share a layer
    return found


def build_model(options: TrainingOptions, bundle: DataBundle, *, progress: bool = False) -> Model:
    """The model a run starts from, the same for the same options and data."""
    options = options.resolved()
    set_seed(options.seed)
    if options.answer == "text":
        return HierarchicalDecoder.from_backbone(
            str(options.backbone),
            bundle.taxonomy,
            text_levels=int(bundle.has_replies),
            max_text_tokens=options.reply_tokens,
            layers=options.layers,
            heads=options.speakers,
            weights=options.loss_weights(),
            lora=options.lora_options(),
            max_length=options.max_length,
            level_names=bundle.level_names,
        )
    model = HierarchicalLM.from_backbone(
        str(options.backbone),
        bundle.taxonomy,
        layers=options.layers,
        head=options.head_options(),
        lora=options.lora_options(),
        pooling=options.pooling,
        joined=options.answer == "joined",
        max_length=options.max_length,
        level_names=bundle.level_names,
    )
    if options.init in ("names", "texts"):
        # Some thousand texts go through the backbone: on the GPU, if there is one.
        device = first_device()
        model.to(device)  # type: ignore[arg-type]
        texts = bundle.split("train").texts
        precision = resolve_precision(options.precision, device)
        assert options.temperature is not None  # as resolved
        if options.init == "names":
            frozen = precision if options.freeze else None
            start_from_names(
                model,
                texts,
                descriptions=bundle.descriptions,
                frozen=frozen,
                temperature=options.temperature,
                seed=options.seed,
                progress=progress,
            )
        else:
            start_from_labelled(
                model,
                texts,
                bundle.gold("train"),
                val=None if bundle.val is None else (bundle.val.texts, bundle.gold("val")),
                descriptions=bundle.descriptions,
                precision=precision,
                temperature=options.temperature,
                seed=options.seed,
                progress=progress,
            )
    return model
