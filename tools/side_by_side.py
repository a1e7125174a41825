"""python tools/side_by_side.py COMMAND… -- COMMAND…: run two commands at once.

What the second one prints comes in one piece, when both have ended. The exit status is 1 if either failed.
"""

import shutil
import subprocess
import sys
import tempfile

BETWEEN = "--"


def main(first: list[str], second: list[str]) -> int:
    """0 if both succeeded, else 1."""
    with tempfile.TemporaryFile() as said:
        behind = subprocess.Popen(second, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)  # noqa: S603
        codes = [wait(subprocess.Popen(first)), wait(behind)]  # noqa: S603
        said.seek(0)
        shutil.copyfileobj(said, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    return int(any(codes))


def wait(command: "subprocess.Popen[bytes]") -> int:
    """Its exit code. Ctrl-C goes to it as well as to us, and how it ends is its own affair."""
    while True:
        try:
            return command.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    middle = sys.argv.index(BETWEEN)
    sys.exit(main(sys.argv[1:middle], sys.argv[middle + 1 :]))
