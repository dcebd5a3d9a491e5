"""What holds for every test: an interrupt is not ignored, so that the programs which tests start and interrupt hear it.

A shell that runs the tests in the background has it ignored (POSIX, "Asynchronous Lists"), and children inherit that.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
