"""pytest where torch is, with what else the tests need from another interpreter.

As ``python -m tests.parity.pytest_there SITE_PACKAGES ARGUMENTS``: what is in the place of torch comes first.
"""

import sys

if __name__ == "__main__":
    sys.path.append(sys.argv.pop(1))

    import pytest

    sys.exit(pytest.main(sys.argv[1:]))
