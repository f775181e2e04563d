"""The command `bench`: how fast a job is on this machine, beside its engine alone.

workload   the rows, and the job over them
rendered   all rows rendered in memory, without Ray
offline    vLLM's own offline class over them, in a process of its own
measure    what is measured, and in which order
report     the figures as a table and as JSON
"""
