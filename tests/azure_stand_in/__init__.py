"""A loopback stand-in of the Azure services that Foundry Local uses: catalog v1 and v2, registry, blob container.

Real HTTP, in a thread (`with AzureStandIn() as azure`) or in a process of its own (`python -m azure_stand_in`).
"""

from azure_stand_in.faults import Fault
from azure_stand_in.server import AzureStandIn
from azure_stand_in.variants import Variant

__all__ = ["AzureStandIn", "Fault", "Variant"]
