"""`python -m jobs`: the command line, without the installed script."""

from jobs.cli.app import main

if __name__ == "__main__":
    main()
