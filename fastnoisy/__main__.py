"""The `fastnoisy` command, and `python -m fastnoisy`."""

from fastnoisy import signals


def main() -> None:
    """The console script. Signals are handled before the commands are imported, which takes a while."""
    signals.quiet()
    from fastnoisy import cli

    cli.main()


if __name__ == "__main__":
    main()
