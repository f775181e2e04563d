"""`python -m jobs`: the command line without an installed script."""

from jobs.cli import main

if __name__ == "__main__":
    main()
