"""The jobs from Python: functions for files and for data in memory, and a warm engine.

functions   `caption`, `translate`, `moderate`; their types are in `functions.pyi`
function    makes the function of a job
calls       what a call does with files, and with data in memory
assembly    from a job's options to a task and a run's configuration
memory      how tables, datasets and lists become files, and results the same kind again
engine      `Engine`, which stays loaded from one job to the next
retry       computes failed rows again, with the settings that OUTPUT records
"""
