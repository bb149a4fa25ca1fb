"""Environments of execution providers: installed, probed and removed here, and what devices the probes found.

The engine, the doctor and `cupola provider` use it. Nothing in it runs a driver: that is left to worker processes.
"""

from cupola.environments.diagnosis import Diagnosis, diagnose
from cupola.environments.environment import Environment, Environments, install
from cupola.environments.inventory import Inventory
from cupola.environments.probes import probe

__all__ = ["Diagnosis", "Environment", "Environments", "Inventory", "diagnose", "install", "probe"]
