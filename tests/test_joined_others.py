"""Architectures whose levels cannot be joined: said so, with what to do instead."""

import pytest
import torch
from joined_models import encoded, made

from hyperlm.errors import ModelError

pytest_plugins = ["backbone_fixtures"]


@pytest.mark.parametrize("architecture", ["albert", "longformer", "squeezebert", "xlnet"])
def test_blocks_that_hand_on_no_state_for_each_token_are_refused(architecture, backbone_of):
    folder = backbone_of(architecture)

    def joined():
        model = made(folder)
        return model(**encoded(model))

    with pytest.raises(ModelError, match="--answer points"):
        joined()
    plain = made(folder, joined=False)
    with torch.no_grad():
        assert plain(**encoded(plain)).logits.isfinite().all()
