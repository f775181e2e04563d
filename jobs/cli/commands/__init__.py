"""The commands that are no jobs: a module with one function each, which `app` registers.

Their annotations are read by typer when the command line starts, so what they name is imported.
"""
