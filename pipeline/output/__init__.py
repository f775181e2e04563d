"""OUTPUT: what is written there, and when; README.md says what that promises.

run_record      what is asked; whether a run may write here
plan            which units there are: how a plan is read
comparison      what has changed in the input since
extension       what a plan gets for new and changed files, and loses for those that are gone
pieces          the units of new files
recut           the units of changed files, and whose parts they take over
plan_file       how a plan is written
order           in which order units are worked on, if not in that of the input
fencing         which driver is the newest
heartbeat       whether another run is at work
journal         rows that are finished, of units that are not
damage          whether a small file of ours is whole
commit          the two ways to make parts of them
parts           what a part is as a file
results         which columns all parts have together
formats/        how rows are written in it: parquet, JSON lines, CSV, tar shards
sidecars        the answers beside the images of INPUT
hub/            what is missing of OUTPUT in a repository of the Hugging Face Hub
counts          which units are committed, and what is in all parts
profile_files   where the profile of a run is found before its record has it
status          how far a run is, and which rows failed
cleanup         what is removed in the end
"""
