"""What a run tells Prometheus while it works, through Ray's metrics.

table          every metric: name, kind, unit, labels, description
labels         which run it is of
instruments    Ray's instruments for these, in this process
of_run         what the driver knows: rows, outcomes, tokens, stages, commits, faults
of_engine      what the actor of an engine knows at this moment
reference      the table as a page of the documentation

Nothing is measured for it a second time: it tells what `profiling` has measured anyway. Nor can it
fail a run: without Ray, or where Ray collects no metrics, it does nothing.
"""
