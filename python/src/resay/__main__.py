"""`python -m resay` is the command `resay`."""

import os
import sys

from . import find_command


def main():
    command = str(find_command())
    os.execv(command, [command, *sys.argv[1:]])


if __name__ == "__main__":
    main()
