"""Models that are pushed to the hub: everything that loading needs goes there, by either way."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import transformers
from hdlm_models import made, save_causal
from huggingface_hub import HfApi

import hyperlm
from hyperlm.lm import HierarchicalLM
from hyperlm.taxonomy import Taxonomy


@pytest.fixture
def pushed(monkeypatch, tmp_path):
    """Files by repository, and with what it was made; nothing leaves the machine."""
    found: dict[str, tuple[set[str], dict[str, object]]] = {}

    def create_repo(self, repo_id, *, token=None, private=None, exist_ok=False):
        found[repo_id] = set(), {"private": private, "token": token}
        return SimpleNamespace(repo_id=repo_id)

    def upload(self, folder, repo_id, files_timestamps, **options):
        files = {path.name for path in Path(folder).iterdir()} - set(files_timestamps)
        found[repo_id] = files, found[repo_id][1] | options

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(transformers.PreTrainedModel, "_upload_modified_files", upload)
    return found


def test_what_is_pushed_can_be_loaded(pushed, tiny_backbone, tmp_path_factory, tmp_path):
    tree = Taxonomy.from_paths([("a", "b"), ("a", "c"), ("d",)])
    points = HierarchicalLM.from_backbone(str(tiny_backbone), tree, head={"dim": 4})
    words = made(save_causal("llama", tmp_path_factory.mktemp("words")))
    for model in (points, words, hyperlm.Classifier(points)):
        folder = tmp_path / type(model).__name__
        model.save_pretrained(
            folder, push_to_hub=True, repo_id="some/one", private=True, commit_message="first"
        )
        files, options = pushed.pop("some/one")
        assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= files
        assert options["private"] is True
        assert options["commit_message"] == "first"
        assert (folder / "tokenizer.json").exists()
    points.save_pretrained(tmp_path / "named", push_to_hub=True)  # by the folder's name
    assert "tokenizer.json" in pushed.pop("named")[0]
    points.push_to_hub("some/one")
    assert "tokenizer.json" in pushed.pop("some/one")[0]
    points.save_pretrained(tmp_path / "other", is_main_process=False, push_to_hub=True)
    assert not pushed
    assert not (tmp_path / "other" / "tokenizer.json").exists()
