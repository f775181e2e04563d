"""`translate`: a row's texts, or the text in its image, into one or more languages.

job         the options, and how the task is built from them
task        from a row to requests, and from the answers to the result columns
answers     puts together and checks the answers for one text in one language
prompts     the prompts
in_order    asks for a document's chunks one after the other
documents   cuts a text into chunks, and puts the translations back
glossary    terms with a fixed translation
checks      what a translation lost, and whether it is a loop
detection   the language of a text
"""

from jobs.translation.job import JOB

__all__ = ["JOB"]
