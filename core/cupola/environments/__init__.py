"""The environments of execution providers, and the devices that their probes find.

Providers that need packages of their own run in a private virtual environment. The engine, the doctor and
`cupola provider` use this package. It never imports a runtime or calls a driver; worker processes do.
"""

from cupola.environments.diagnosis import Diagnosis, diagnose
from cupola.environments.environment import Environment, Environments, install
from cupola.environments.inventory import Inventory
from cupola.environments.probes import probe

__all__ = ["Diagnosis", "Environment", "Environments", "Inventory", "diagnose", "install", "probe"]
