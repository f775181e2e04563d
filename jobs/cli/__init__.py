"""The command line, `gemma3-batch`.

app             the command line: every job is a command, beside those of `commands`
commands        the other commands, a module each
exit_codes      with which code and words a command ends
running         what a command that computes rows prints at its end
console         how text gets to the terminal, and in which form
again           the command to go on with
flags           makes a job's command from its options, and arguments that commands share
help            how `--help` looks and how a wrong command line is reported
job_file        job files: a job and its options in YAML
tables          shows a run's state and its failed rows
versions        what `--version` prints
completion      what a shell completes as an option's value
profile_tables  shows where a run's time went
demonstration   the command `demo`
bench           the command `bench`, and what it measures
reference       writes the options' reference and the functions' type stubs
"""

from jobs.cli.app import main

__all__ = ["main"]
