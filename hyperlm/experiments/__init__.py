"""Experiments: one file, one question, one table; every run in a results file as it ends.

Names are imported when first used: records are read without a backbone's libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperlm.experiments.features import FrozenData
    from hyperlm.experiments.results import Record, ResultsFile
    from hyperlm.experiments.runner import run_all
    from hyperlm.experiments.settings import HeadRun
    from hyperlm.experiments.trials import Trial, run_trials

_HOME = {
    "FrozenData": "features",
    "HeadRun": "settings",
    "Record": "results",
    "ResultsFile": "results",
    "Trial": "trials",
    "run_all": "runner",
    "run_trials": "trials",
}

__all__ = ["FrozenData", "HeadRun", "Record", "ResultsFile", "Trial", "run_all", "run_trials"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"hyperlm.experiments.{_HOME[name]}"), name)
    raise AttributeError(f"module 'hyperlm.experiments' has no attribute {name!r}")
