"""The command line, `gemma3-batch`: thin, over the registry's jobs and the SDK's functions."""

from jobs.cli.app import main

__all__ = ["main"]
