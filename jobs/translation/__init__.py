"""`translate`: a row's texts, or the text in its image, in one or more languages.

job         its options and how the task is built
task        what is asked about a row, and the columns that come of it
prompts     the words a model is asked in
documents   how a text is cut into chunks, and put together again
glossary    terms that are translated in one way
checks      what an answer must have kept of its source
detection   which language a text is in
"""

from jobs.translation.job import JOB

__all__ = ["JOB"]
