"""HierarchicalLM: saving, loading, refusing what is foreign or damaged, and training frozen."""

import copy
import json
import shutil
import subprocess
import sys

import pytest
import torch
import transformers

from hyperlm import Classifier, HierarchicalLM, HyperbolicHead
from hyperlm.data import load_data
from hyperlm.errors import ModelError, OptionError
from hyperlm.lm.loading import load_model
from hyperlm.manifolds import ManifoldParameter
from hyperlm.optim import build_optimizer
from hyperlm.options import TrainingOptions
from hyperlm.taxonomy import Taxonomy
from hyperlm.training import fit

SPACES = [("poincare", "tangent"), ("poincare", "native"), ("lorentz", "tangent"),
          ("lorentz", "native"), ("euclidean", "tangent")]  # fmt: skip


def tree() -> Taxonomy:
    return Taxonomy.from_paths([(a, a + b, a + b + c) for a in "xy" for b in "12" for c in "pq"])


def made(folder, **options) -> HierarchicalLM:
    head = {"dim": 8, "dropout": 0.0, **options.pop("head", {})}
    return HierarchicalLM.from_backbone(
        str(folder), options.pop("taxonomy", tree()), head=head, **options
    )


def batch(model, texts=("owl0 word1", "carp2 carp1 word3", "oak1")):
    ids = model.tokenizer(list(texts), padding=True, return_tensors="pt")
    return {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"]}


def logits(model, **options):
    with torch.inference_mode():
        return model.eval()(**batch(model), **options).logits


# --- saving and loading --------------------------------------------------------------------------


HEADS = [
    {"kind": "linear"},
    *({"geometry": g, "coordinates": c, "curvature": 1.3} for g, c in SPACES),
    {"geometry": "poincare", "learn_curvature": True, "loss": "path", "cone_weight": 0.5},
    {"geometry": "lorentz", "learn_curvature": True, "loss": "leaf", "init": "random"},
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: "-".join(map(str, head.values())))
def test_a_round_trip_gives_identical_logits(head, tiny_backbone, tmp_path):
    model = made(tiny_backbone, head=head, level_names=["a", "b", "c"], layers="1,2,2")
    optimizer = build_optimizer(model, learning_rate=1e-3, point_learning_rate=1e-2)
    for _ in range(2):  # away from the start, which loading could otherwise repeat by chance
        optimizer.zero_grad()
        model(**batch(model), targets=torch.tensor([6, 7, 8])).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert torch.equal(logits(loaded), logits(model))
    assert loaded.taxonomy == model.taxonomy
    assert loaded.config.level_names == ["a", "b", "c"]
    assert loaded.config.layers == [1, 2, 2]
    for (name, value), other in zip(loaded.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(value, other), name
        assert value.requires_grad
        assert type(value) is type(other), name
    if "geometry" in head:
        assert type(loaded.head.points.manifold) is type(model.head.points.manifold)
        assert float(loaded.head.points.manifold.c) == pytest.approx(
            float(model.head.points.manifold.c)
        )
    saved = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= saved
    assert not {name for name in saved if name.endswith((".bin", ".pt", ".pkl", ".pth"))}


@pytest.mark.parametrize(("geometry", "coordinates"), SPACES[:4])
def test_sixty_outward_steps_after_loading_stay_inside(
    geometry, coordinates, tiny_backbone, tmp_path
):
    made(tiny_backbone, head={"geometry": geometry, "coordinates": coordinates}).save_pretrained(
        tmp_path
    )
    head = HierarchicalLM.from_pretrained(tmp_path).head
    optimizer = build_optimizer(head, learning_rate=0.1, point_learning_rate=0.5)
    start = head.node_tangents().norm(dim=1).detach()
    for _ in range(60):
        optimizer.zero_grad()
        (-head.space().dist0(head.node_points())).sum().backward()
        optimizer.step()
    inside, reason = head.points.manifold.check_point_on_manifold(
        head.points.detach(), explain=True, atol=1e-4
    )
    assert inside, reason
    end = head.node_tangents().norm(dim=1)
    assert torch.isfinite(end).all()
    assert (end > start + 5).all()  # they did go outwards
    if geometry == "poincare":
        assert head.node_points().norm(dim=1).max() <= 1  # beyond radius 17 float32 rounds to 1
    assert torch.isfinite(head(torch.randn(2, 32)).logits).all()


def test_loading_twice_and_copying_keep_the_model(tiny_backbone, tmp_path):
    model = made(tiny_backbone)
    model.save_pretrained(tmp_path / "a")
    again = load_model(tmp_path / "a")
    again.save_pretrained(tmp_path / "b")
    twice = load_model(tmp_path / "b")
    assert torch.equal(logits(twice), logits(model))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    copied = copy.deepcopy(model)
    assert isinstance(copied.head.points, ManifoldParameter)
    assert torch.equal(logits(copied), logits(model))


def test_the_taxonomy_travels_in_config_json(tiny_backbone, tmp_path):
    taxonomy = Taxonomy.from_paths([("ä", "x y", "🦉"), ("ä", "x y"), ("b",)])
    made(tiny_backbone, taxonomy=taxonomy).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert Taxonomy.from_dict(stored["taxonomy"]) == taxonomy
    assert stored["model_type"] == "hyperlm"
    assert str(tmp_path) not in json.dumps(stored["head"])
    assert load_model(tmp_path).taxonomy.fingerprint == taxonomy.fingerprint


def test_loading_says_nothing(tiny_backbone, tmp_path, caplog):
    """The library warns of configurations it has to guess; a user could only wonder."""
    made(tiny_backbone).save_pretrained(tmp_path)
    caplog.clear()
    load_model(tmp_path)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


def test_weights_in_shards_load_as_well(tiny_backbone, tmp_path):
    model = made(tiny_backbone)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(logits(load_model(tmp_path)), logits(model))


# --- refusing ------------------------------------------------------------------------------------


@pytest.fixture
def saved(tiny_backbone, tmp_path):
    folder = tmp_path / "run"
    made(tiny_backbone).save_pretrained(folder)
    return folder


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"no such folder\. Give the folder that 'hyperlm train"):
        load_model(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="no such folder"):
        load_model(tmp_path / "file")


def test_a_folder_that_is_empty(tmp_path):
    with pytest.raises(ModelError, match=r"it has no config\.json.*--resume"):
        load_model(tmp_path)


def test_a_model_of_another_kind(tiny_backbone):
    with pytest.raises(ModelError, match=r"a model of type 'bert', not of hyperlm.*--backbone"):
        load_model(tiny_backbone)


@pytest.mark.parametrize("content", ["{", "[]", "", "null", "\x00\xff"])
def test_a_damaged_configuration(saved, content):
    (saved / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"taxonomy": None},
        {"taxonomy": {"nodes": 3}},
        {"backbone_config": None},
        {"backbone_config": {"model_type": "nothing-known"}},
        {"layers": [7, 7, 7]},
        {"layers": []},
        {"layers": None},
        {"head": {"kind": "cosine"}},
        {"head": {"dims": 3}},
        {"head": 5},
        {"pooling": "max"},
        {"lora": {"rank": 0}},
    ],
)
def test_a_configuration_that_makes_no_sense(saved, changes):
    rewrite(saved, **changes)
    with pytest.raises(ModelError, match=str(saved)):
        load_model(saved)


def test_missing_weights(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(saved)


@pytest.mark.parametrize("keep", [0, 8, 100, 5000])
def test_truncated_weights(saved, keep):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(saved)


def test_weights_of_another_model(saved, tiny_backbone, tmp_path):
    other = tmp_path / "other"
    made(tiny_backbone, head={"dim": 16}).save_pretrained(other)
    shutil.copy(other / "model.safetensors", saved / "model.safetensors")
    with pytest.raises(ModelError, match=r"the weights do not fit|cannot be loaded"):
        load_model(saved)
    shutil.copy(tiny_backbone / "model.safetensors", saved / "model.safetensors")
    with pytest.raises(ModelError, match="the weights do not fit"):
        load_model(saved)


def test_pickled_weights_are_never_read(saved):
    """A pickle can run code: without safetensors there is nothing to load."""
    model = load_model(saved)
    torch.save(model.state_dict(), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(saved)


def test_a_missing_tokenizer(saved):
    for path in saved.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="the tokenizer beside the model cannot be loaded"):
        load_model(saved)


def test_a_name_that_is_no_folder_is_looked_up_and_not_found():
    with pytest.raises(ModelError, match="nobody/nothing: no such folder here, and the Hugging"):
        load_model("nobody/nothing")


def test_forward_without_input_is_refused(tiny_backbone):
    with pytest.raises(OptionError, match="needs input_ids, or features"):
        made(tiny_backbone)()


def test_merging_without_adapters_is_refused(tiny_backbone):
    with pytest.raises(ModelError, match="no LoRA adapters to merge"):
        made(tiny_backbone).merge_lora()


# --- behaviour -----------------------------------------------------------------------------------


def test_without_a_mask_every_token_counts(tiny_backbone):
    model = made(tiny_backbone).eval()
    ids = torch.tensor([[2, 7, 8, 3]])
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, model(ids, torch.ones_like(ids)).logits)


def test_features_stand_in_for_texts(tiny_backbone):
    model = made(tiny_backbone, layers="1,2,2").eval()
    with torch.inference_mode():
        features = model.pooled_states(**batch(model))
        assert features.shape == (3, 2, 32)
        assert torch.equal(model(features=features).logits, logits(model))


def test_a_given_head_start_survives_building_the_model(tiny_backbone):
    """The outer model's initialisation must not disturb the pretrained weights or the head."""
    model = made(tiny_backbone, layers="2", head={"seed": 3})
    alone = HyperbolicHead(32, tree(), 8, dropout=0.0, seed=3)
    for name, value in model.head.named_parameters():
        assert torch.equal(value, dict(alone.named_parameters())[name]), name
    backbone = transformers.AutoModel.from_pretrained(tiny_backbone)
    for (name, value), other in zip(
        model.backbone.named_parameters(), backbone.parameters(), strict=True
    ):
        assert torch.equal(value, other), name


def test_bf16_autocast_leaves_the_geometry_exact(tiny_backbone):
    model = made(tiny_backbone).eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        features = model.pooled_states(**batch(model))
        out = model(features=features)
    with torch.inference_mode():
        assert torch.equal(out.logits, model(features=features).logits)
    assert out.logits.dtype == torch.float32


# --- a frozen backbone ---------------------------------------------------------------------------


def test_a_frozen_run_costs_one_pass_and_answers_like_the_live_path(
    tiny_backbone, demo_like, tmp_path, monkeypatch
):
    monkeypatch.setenv("HYPERLM_CACHE", str(tmp_path / "cache"))
    bundle = load_data(demo_like)
    model = made(tiny_backbone, taxonomy=bundle.taxonomy)
    before = {n: p.detach().clone() for n, p in model.backbone.named_parameters()}
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    texts = len(bundle.split("train")) + len(bundle.split("val"))

    def run(epochs, name):
        options = TrainingOptions(
            data=str(demo_like), backbone=str(tiny_backbone), freeze=True, epochs=epochs,
            head_learning_rate=0.02, point_learning_rate=0.02, batch_size=16, precision="fp32",
        )  # fmt: skip
        return fit(model, bundle, options, tmp_path / name, progress=False)

    run(1, "one")
    passes = len(calls)
    assert 0 < passes <= texts // 64 + 2  # each text once
    del calls[:]
    trainer = run(6, "six")
    assert not calls  # six more epochs and their validation, and no pass at all
    for name, value in model.backbone.named_parameters():
        assert torch.equal(value, before[name]), name
        assert not value.requires_grad
    figures = [log["eval_path_accuracy"] for log in trainer.state.log_history
               if "eval_path_accuracy" in log]  # fmt: skip
    # What was validated on features is what the whole model answers from text.
    live = Classifier(model).evaluate(bundle.split("val"))
    assert calls
    assert live["path_accuracy"] == pytest.approx(max(figures), abs=1e-6)


def test_importing_the_package_is_light():
    """`import hyperlm` and its taxonomy bring neither torch nor transformers."""
    code = (
        "import sys, hyperlm, hyperlm.errors; hyperlm.Taxonomy.from_paths([('a', 'b')]);"
        "print([m for m in ('torch', 'transformers', 'geoopt', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rows_that_no_token_uses_do_not_keep_a_model_from_loading(tiny_backbone, tmp_path):
    taxonomy = Taxonomy.from_paths([("a", "b"), ("a", "c")])
    model = HierarchicalLM.from_backbone(str(tiny_backbone), taxonomy, head={"dim": 4})
    model.backbone.resize_token_embeddings(5 * len(model.tokenizer))
    model.config.backbone_config = model.backbone.config
    model.save_pretrained(tmp_path)
    assert len(load_model(tmp_path).tokenizer) == len(model.tokenizer)


def test_what_was_loaded_the_usual_way_is_saved_whole(tiny_backbone, tmp_path):
    """from_pretrained, further training, save_pretrained: the tokenizer comes along."""
    made(tiny_backbone).save_pretrained(tmp_path / "first")
    again = HierarchicalLM.from_pretrained(tmp_path / "first")
    assert again.tokenizer("owl0").input_ids
    again.save_pretrained(tmp_path / "second")
    assert load_model(tmp_path / "second").tokenizer("owl0") == again.tokenizer("owl0")
    for file in (tmp_path / "first").glob("token*"):
        file.unlink()
    assert getattr(HierarchicalLM.from_pretrained(tmp_path / "first"), "tokenizer", None) is None


def test_tokens_that_were_added_are_saved(tiny_backbone, tmp_path):
    model = made(tiny_backbone)
    model.tokenizer.add_tokens(["[E1]", "[E2]"])
    model.resize_token_embeddings(len(model.tokenizer))
    want = logits(model)
    Classifier(model).save_pretrained(tmp_path / "more")
    assert torch.equal(logits(load_model(tmp_path / "more")), want)


def test_a_tokenizer_without_padding_is_named(saved):
    (saved / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer.*(padding|Copy)"):
        load_model(saved)
