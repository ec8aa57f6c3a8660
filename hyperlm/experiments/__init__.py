"""Experiments: one file, one question, one table; every run in a results file as it ends."""

from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.runner import run_all
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.trials import Trial, run_trials

__all__ = ["FrozenData", "HeadRun", "Record", "ResultsFile", "Trial", "run_all", "run_trials"]
