"""The program as it is, which at its end leaves its peak memory in the file PEAK_MEMORY_FILE.

The kernel counts what the parent held before exec into ru_maxrss; VmHWM is this program's alone.
"""

import os
import sys
from pathlib import Path

from bootstrap import cli


def peak_kib() -> int:
    """Return the most memory that this process ever held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    code = cli.main()
    Path(os.environ["PEAK_MEMORY_FILE"]).write_text(str(peak_kib()))
    sys.exit(code)
