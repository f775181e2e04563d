"""`caption`: what the model says about a row's images.

job           the options, and how the task is built from them
task          from a row to a request, and from the answer to the result columns
styles        the built-in kinds of captions
prompt        a user's own prompt, with columns of the row in it
json_schema   a user's own JSON schema, and the column type it gives
questions     several questions about the same images, which may use each other's answers
question_file the file that has them
"""

from jobs.captioning.job import JOB

__all__ = ["JOB"]
