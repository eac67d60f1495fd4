"""`python -m gauntlet` is the `gauntlet` command."""

from gauntlet.cli import main

if __name__ == "__main__":
    main()
