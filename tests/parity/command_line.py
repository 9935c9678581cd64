"""The command line ``delineate`` where nnU-Net is, with what else the node needs from another interpreter.

As ``python -m tests.parity.command_line SITE_PACKAGES model import ...``: what is in the place of nnU-Net comes first.
"""

import sys

if __name__ == "__main__":
    sys.path.append(sys.argv.pop(1))

    from node.cli import main

    main()
