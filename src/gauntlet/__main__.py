"""The `gauntlet` command: run by a fork of a process that has the libraries loaded, where there is one, else here."""

from __future__ import annotations

import sys

from gauntlet.core.user_modules import find_user_modules_last

# `python -m gauntlet` begins with the working folder first on the path, where nothing more may be imported from.
find_user_modules_last()

from gauntlet.pipeline.forking.client import run_in_fork  # noqa: E402


def main() -> None:
    """Run the command. A client of a fork server loads nothing but this."""
    run_in_fork("gauntlet", sys.argv[1:])
    from gauntlet.cli import main as run_here

    run_here()


if __name__ == "__main__":
    main()
