"""The group `service` of `cupola` and `foundry`: start, stop, configure and inspect the background service.

SDKs parse what these commands print, so the output is that of Foundry Local 0.8, to the letter.
"""

from cupola_server.cli.service.commands import service
from cupola_server.cli.service.settings import set_

service.add_command(set_)

__all__ = ["service"]
