"""`service`, of `cupola` and `foundry`: start, stop and look at the background service.

SDKs search what these commands print for an address, so the sentences are those of Foundry Local 0.8, to the letter.
"""

from cupola_server.cli.service.group import service

__all__ = ["service"]
