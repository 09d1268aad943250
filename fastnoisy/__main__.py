"""`python -m fastnoisy` is the `fastnoisy` command."""

from fastnoisy.cli import main

if __name__ == "__main__":
    main()
