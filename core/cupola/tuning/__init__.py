"""Finds the layout in which a model runs best on this machine, and how good predictions are."""

from cupola.tuning.quality import TEXT, Predictions, Reading, divergence, read_text
from cupola.tuning.search import TUNED, Goal, Tuner, Tuning
from cupola.tuning.trial import Trial

__all__ = [
    "TEXT",
    "TUNED",
    "Goal",
    "Predictions",
    "Reading",
    "Trial",
    "Tuner",
    "Tuning",
    "divergence",
    "read_text",
]
