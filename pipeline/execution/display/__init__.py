"""How a run is shown: on a terminal, in lines, or as JSON. All three say the same facts.

facts      what is known of a run at a moment
wording    how numbers, times and outcomes are written for people
display    what a display can do, and which one a run has
live       a few lines on a terminal, which change in place
lines      plain lines, for files and schedulers
json_log   one JSON object a line, for programs
"""
