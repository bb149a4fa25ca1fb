"""Everything a change must pass, in the order in which it fails fastest: `python tests/check.py [pytest arguments]`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "--output-format", "concise", "."),
    ("lint-imports",),
    ("mypy",),
)


def main(arguments: list[str]) -> int:
    """Run each check; stops at the first that fails and returns its exit code."""
    scripts = Path(sys.executable).parent
    commands = [[str(scripts / name), *rest] for name, *rest in CHECKS]
    if arguments != ["--no-tests"]:
        commands.append([sys.executable, "-m", "pytest", *arguments])
    for command in commands:
        print("→", Path(command[0]).name, *command[1:], flush=True)
        if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
