"""The command `darkroom`, also as `python -m darkroom`: quiet from its first moment when it is stopped."""

import signal


def main() -> None:
    """Entry point; Ctrl-C ends it without a word while the rest is imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from darkroom.main import main as run

    run()


if __name__ == "__main__":
    main()
