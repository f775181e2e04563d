"""What `jobs`, every room of the pipeline and the readers of an OUTPUT agree on.

    task        what a job is: its requests, the model's generations, a row's results
    record      what an output row is: its outcome, its key, the columns every job has
    adapted     a task whose rows choose a LoRA adapter
    config      what a user may set, checked
    errors      the kinds of failure: of the run, of a unit, of a row
    reason      which failures of rows have the same reason
    redaction   credentials are kept out of messages
    suggest     the nearest of several names, for messages
    image_formats   which image formats are read, and their suffixes

Imports nothing else of the pipeline.
"""
