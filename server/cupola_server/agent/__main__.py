"""`python -m cupola_server.agent`: runs the agent, with --detach in the background."""

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Run the agent until it stops."""
    parser = argparse.ArgumentParser(prog="python -m cupola_server.agent", description="Run Cupola's service.")
    parser.add_argument("--config", type=Path, help="settings file")
    parser.add_argument("--set", dest="overrides", metavar="SECTION.KEY=VALUE", action="append", default=[])
    parser.add_argument("--detach", action="store_true", help="run in the background")
    arguments = parser.parse_args()
    if arguments.detach:
        _detach()
    from cupola_server.agent.agent import run_agent  # noqa: PLC0415 - starts threads, which do not survive a fork

    return run_agent(arguments.overrides, arguments.config)


def _detach() -> None:
    """Continue in a child process, so that the caller need not wait. Not needed on Windows."""
    if hasattr(os, "fork") and os.fork():
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
