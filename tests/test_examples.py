"""The documented examples run as they are, only shorter."""

import importlib.util
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def example():
    return loaded("conv_text_classifier")


def test_the_convolutional_model_learns_and_prints_paths_that_exist(example, capsys):
    accuracy = example.main(steps=40, batch_size=32)
    printed = capsys.readouterr().out
    assert 0.2 < accuracy <= 1  # 40 short steps: better than guessing among nine classes
    taxonomy = example.load_data("demo").taxonomy
    (loss,) = re.findall(r"step +40 +loss ([\d.]+)", printed)
    guessing = sum(math.log(len(nodes)) for nodes in taxonomy.levels)
    assert float(loss) < guessing / 2
    answers = re.findall(r"answer (.+)", printed)
    assert len(answers) == 3
    for answer in answers:
        taxonomy.index(tuple(answer.split(" > ")))  # raises for a path that is none
    assert len(re.findall(r"accuracy down to level \d: 0\.\d+", printed)) == 3


def test_equal_seeds_give_equal_runs(example, capsys):
    runs = []
    for seed in (1, 1, 2):
        example.main(steps=3, batch_size=8, seed=seed)
        runs.append(capsys.readouterr().out)
    assert runs[0] == runs[1] != runs[2]


def test_it_uses_no_transformers(example):
    """The head needs nothing of them: neither the example nor the head imports them."""
    code = (
        "import sys, runpy; sys.argv = ['x', '--steps', '1'];"
        f"runpy.run_path({str(EXAMPLES / 'conv_text_classifier.py')!r}, run_name='__main__');"
        "sys.exit('transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_padding_says_nothing(example):
    model = example.ConvTextClassifier(example.load_data("demo").taxonomy).eval()
    words = example.encode(("A lamp on a reef.", ""))
    with torch.no_grad():
        full = model(words).logits
        short = model(words[:, :5]).logits
    torch.testing.assert_close(full, short, rtol=1e-4, atol=1e-4)
