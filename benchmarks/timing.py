"""Medians of interleaved runs, so that other load on the machine meets every contestant alike."""

import statistics
import time
from collections.abc import Callable

import torch


def medians(contestants: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Seconds of each, the median of ``runs`` rounds after one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(runs + 1):
        for name, function in contestants.items():
            start = time.perf_counter()
            function()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def peak(function: Callable[[], object]) -> float:
    """Largest sum of live allocations made inside, in bytes, from the profiler's memory events."""
    with torch.profiler.profile(profile_memory=True) as profile:
        kept = function()
    del kept
    held = high = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            high = max(high, held)
    return float(high)
