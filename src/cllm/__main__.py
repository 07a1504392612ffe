"""`python -m cllm` is the same as the command `cllm`."""

import sys

from cllm.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
