"""Signals as a program in the foreground of a terminal has them, for programs that tests start."""

import signal


def foreground() -> None:
    """To be the `preexec_fn` of a program that Ctrl-C or SIGHUP is to reach.

    Tests in the background of a shell ignore the one, tests under nohup the other, and so would
    whatever they start.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
