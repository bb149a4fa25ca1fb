"""`python -m cupola_server.agent`: run the agent; with --detach, in the background."""

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Run it to its end."""
    parser = argparse.ArgumentParser(prog="python -m cupola_server.agent", description="Run Cupola's service.")
    parser.add_argument("--config", type=Path, help="settings file to read instead")
    parser.add_argument("--set", dest="overrides", metavar="SECTION.KEY=VALUE", action="append", default=[])
    parser.add_argument("--detach", action="store_true", help="leave the parent process once started")
    arguments = parser.parse_args()
    if arguments.detach:
        _detach()
    from cupola_server.agent.agent import run_agent  # noqa: PLC0415 - brings threads, which no fork survives

    return run_agent(arguments.overrides, arguments.config)


def _detach() -> None:
    """Go on in a child whose parent has ended, so that nobody has to wait for it. Windows needs none of that."""
    if hasattr(os, "fork") and os.fork():
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
