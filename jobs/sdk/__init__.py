"""The jobs from Python: functions over files and over what is in memory, and a warm engine.

functions   `caption`, `translate`, `moderate`; their types are in `functions.pyi`
function    how a job becomes a function
calls       what a call does: files, or what is in memory
assembly    from a job's options to a task and a run's configuration
memory      how tables, datasets and lists become files, and come back
engine      `Engine`, which stays loaded from one job to the next
retry       failed rows again, with the settings that OUTPUT records
"""
