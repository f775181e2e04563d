"""What the options of jobs have in common: types of values, options of every job, their checks.

common      the options of every job, and where an option goes (engine, run or task)
values      how lists and mappings are written as text
check       names and values from a user to a job's options, or one line about a fault
languages   which codes name a language
model       what a name after `--model` tells besides the folder
"""
