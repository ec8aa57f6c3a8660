"""Tiny backbones of every architecture, made once for all tests that ask."""

import pytest
from tiny_models import save_backbone


@pytest.fixture(scope="session")
def backbone_of(tmp_path_factory):
    """Function from the name of an architecture to a folder with a tiny model of it."""
    made = {}

    def folder(architecture):
        if architecture not in made:
            path = tmp_path_factory.mktemp(architecture.replace("-", "_"))
            made[architecture] = save_backbone(architecture, path)
        return str(made[architecture])

    return folder
