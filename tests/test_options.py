"""Settings that contradict each other or are no numbers are refused before anything is loaded."""

import pytest

from hyperlm.errors import ModelError, OptionError
from hyperlm.options import TrainingOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": float("inf")}, "--learning-rate inf: must be greater than 0 and finite"),
        ({"point_learning_rate": float("nan")}, "--point-learning-rate nan"),
        ({"epochs": -1}, "--epochs -1: give 1 or more"),
        ({"epochs": 0, "init": "random"}, "--epochs 0: give 1 or more"),
        ({"epochs": 0, "answer": "text"}, "--epochs 0"),
        ({"cone_weight": float("nan")}, "--cone-weight nan"),
        ({"seed": -1}, "--seed -1: give a number from 0"),
        ({"seed": 2**32}, "--seed 4294967296"),
        ({"freeze": True, "gradient_checkpointing": True}, "--gradient-checkpointing"),
        ({"freeze": True, "lora": 8}, "exclude each other"),
        ({"head": "linear", "curvature": 3.0}, "mean nothing with --head linear"),
        ({"geometry": "euclidean", "learn_curvature": True}, "with --geometry euclidean"),
        ({"head": "linear", "cone_weight": 0.1}, "--cone-weight needs --head points"),
        ({"loss": "flat"}, "choose one of level, path, leaf"),
    ],
)
def test_refused(options, message):
    with pytest.raises(OptionError, match=message):
        TrainingOptions(**options)


def test_kept_and_read_again():
    options = TrainingOptions(data="x.csv", label_columns=("a", "b"), seed=2**32 - 1, lora=4)
    assert TrainingOptions.from_json(options.to_json()) == options


def test_options_of_another_version_name_it():
    data = TrainingOptions(data="x").to_json() | {"later": 1}
    with pytest.raises(ModelError, match=r"later are unknown.*wrote the run, 9\.1\."):
        TrainingOptions.from_json(data, written_by="9.1")
    with pytest.raises(ModelError, match=r"that wrote the run\.$"):
        TrainingOptions.from_json(data)
