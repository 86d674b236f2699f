"""python -m benchmark, which imports little: a worker process imports it too."""

import signal


def main() -> None:
    """Run the command line. While that is imported, which takes seconds, a Ctrl-C ends the process without a word."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from benchmark import command_line

    signal.signal(signal.SIGINT, before)
    command_line.main()


if __name__ == "__main__":
    main()
