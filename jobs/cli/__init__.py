"""The command line, `gemma3-batch`.

app             the commands, and their exit codes
flags           makes a job's command from its options
job_file        job files: a job and its options in YAML
tables          shows a run's state and its failed rows
profile_tables  shows where a run's time went
demonstration   the command `demo`
bench           the command `bench`, and what it measures
reference       writes the options' reference and the functions' type stubs
"""

from jobs.cli.app import main

__all__ = ["main"]
