"""Which models are loaded, and for how long. The engine is the only caller."""

from cupola.residency.residency import Residency, ResidencyLimits

__all__ = ["Residency", "ResidencyLimits"]
