"""Finds the weight layout with which a model runs best on this machine, and measures prediction quality."""

from cupola.tuning.quality import TEXT, Predictions, TextScore, divergence, score_text
from cupola.tuning.search import TUNED, Goal, Tuner, Tuning
from cupola.tuning.trial import Trial

__all__ = [
    "TEXT",
    "TUNED",
    "Goal",
    "Predictions",
    "TextScore",
    "Trial",
    "Tuner",
    "Tuning",
    "divergence",
    "score_text",
]
