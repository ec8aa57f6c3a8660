"""Settings that contradict each other or are no numbers are refused before anything is loaded."""

import dataclasses
import inspect
import json
import shlex

import numpy as np
import pytest

from hyperlm.cli.columns import listed
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


def test_python_may_give_paths_and_lists(tmp_path):
    given = TrainingOptions(
        data=tmp_path / "x.csv", backbone=tmp_path, label_columns=["a", "b"], layers=[4, 6],
        taxonomy=tmp_path / "t.json", descriptions=tmp_path / "d.csv",
    )  # fmt: skip
    same = TrainingOptions(
        data=str(tmp_path / "x.csv"), backbone=str(tmp_path), label_columns=("a", "b"),
        layers="4,6", taxonomy=str(tmp_path / "t.json"), descriptions=str(tmp_path / "d.csv"),
    )  # fmt: skip
    assert given == same
    assert TrainingOptions.from_json(json.loads(json.dumps(given.to_json()))) == given
    assert TrainingOptions(label_columns="a, b").label_columns == ("a", "b")
    assert TrainingOptions(layers=-1).layers == "-1"
    words = TrainingOptions(answer="text", level_weights=[1, 0.5])
    assert words.loss_weights() == [1.0, 0.5]


def test_the_command_of_a_run_names_columns_as_the_option_reads_them():
    names = ("City, State", "l2")
    words = shlex.split(TrainingOptions(label_columns=names).command("runs/x"))
    assert listed(words[words.index("--label-columns") + 1]) == names


def test_numbers_of_numpy_are_kept_as_python_has_them():
    given = TrainingOptions(dim=np.int64(8), learning_rate=np.float32(0.5), seed=np.int32(1))
    assert type(given.dim) is type(given.seed) is int
    assert type(given.learning_rate) is float
    assert TrainingOptions.from_json(json.loads(json.dumps(given.to_json()))) == given
    assert TrainingOptions(layers=None).layers == "auto"
    assert TrainingOptions(curvature=2).curvature == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": "8"}, "--dim is '8'. Give a whole number"),
        ({"dim": 8.0}, "--dim is 8.0. Give a whole number"),
        ({"freeze": "yes"}, "--freeze is 'yes'. Give True or False"),
        ({"lora": True}, "--lora is True. Give a whole number"),
        ({"learning_rate": "1e-4"}, "--learning-rate is '1e-4'. Give a number"),
        ({"geometry": None}, "--geometry is None. Give a text"),
        ({"data": None}, "--data is a NoneType"),
        ({"label_columns": 3}, "--label-columns is a int"),
        ({"taxonomy": ["a"]}, r"--taxonomy is a list.*taxonomy.write\('labels.json'\)"),
    ],
)
def test_values_of_another_kind_are_refused_at_once(options, message):
    with pytest.raises(OptionError, match=message):
        TrainingOptions(**options)


def test_every_option_is_explained():
    told = inspect.getdoc(TrainingOptions).partition("Attributes:")[2]
    missing = [f.name for f in dataclasses.fields(TrainingOptions) if f.name not in told]
    assert missing == []


def test_a_table_in_memory_is_refused_with_the_way_to_write_it():
    with pytest.raises(OptionError, match=r"--data is a dict.*to_csv\('mine.csv'"):
        TrainingOptions(data={"text": ["a"], "l1": ["b"]})


def test_options_of_another_version_name_it():
    data = TrainingOptions(data="x").to_json() | {"later": 1}
    with pytest.raises(ModelError, match=r"later are unknown.*wrote the run, 9\.1\."):
        TrainingOptions.from_json(data, written_by="9.1")
    with pytest.raises(ModelError, match=r"that wrote the run\.$"):
        TrainingOptions.from_json(data)
