"""`python -m resay` is the command `resay`."""

import os
import sys

from . import find_command

command = str(find_command())
os.execv(command, [command, *sys.argv[1:]])
