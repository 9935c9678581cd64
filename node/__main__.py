"""Start the command line: ``delineate``, or ``python -m node``."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is still being loaded is no fault."""
    try:
        from node.cli import main as run  # noqa: PLC0415 - what is loaded here takes long enough to be interrupted

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
