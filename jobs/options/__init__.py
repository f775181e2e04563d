"""What the options of all jobs have in common.

common      the options that every job has, and where an option goes: engine, run or task
values      types of option values that can be written as text: lists and mappings
writing     the options of every job that has the model write text
entries     options that have several entries, as in a file of policies
yaml_values what a plain word of a YAML file means
check       checks names and values from a user; reports the first fault in one line
languages   the language codes that are accepted, and the name of each
model       a model's folder, and what else `--model` decides
"""
