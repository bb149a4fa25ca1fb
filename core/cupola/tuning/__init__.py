"""Finds the layout in which a model runs best on this machine. The engine is the only caller."""

from cupola.tuning.search import TUNED, Goal, Tuner, Tuning
from cupola.tuning.trial import Trial

__all__ = ["TUNED", "Goal", "Trial", "Tuner", "Tuning"]
