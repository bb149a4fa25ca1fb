"""`python -m cupola_server.cli.foundry`, for when the script is not on PATH."""

from cupola_server.cli import main

if __name__ == "__main__":
    main("foundry")
