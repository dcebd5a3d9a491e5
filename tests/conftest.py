"""What holds for every test: an interrupt and a hang-up are not ignored, so that the programs which tests start and
interrupt hear them.

A shell that runs the tests in the background has the one ignored (POSIX, "Asynchronous Lists"), nohup the other, and
children inherit that.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
