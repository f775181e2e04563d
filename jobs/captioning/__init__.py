"""`caption`: an answer about a row's images.

job           its options and how the task is built
task          what is asked about a row, and the columns that come of it
styles        the built-in kinds of captions
prompt        a user's own prompt, with columns of the row in it
json_schema   captions of a user's own form
"""

from jobs.captioning.job import JOB

__all__ = ["JOB"]
