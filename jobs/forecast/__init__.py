"""What a run will take, before it is run: time, GPU-hours, failures, tokens, bytes.

units       which rows there are to compute, of the real plan of INPUT, without beginning OUTPUT
sample      which of them a pilot computes: rows of many units, each way through sizes
strata      rows by the size of what they hold, and how many of each are drawn
pilot       the real job over these rows, into a temporary OUTPUT beside the real one
course      a pilot's time: the start, the steady rate, the rest
intervals   how sure a share is that was counted in a sample
predictor   from a course and its rows to the time and the failures of all rows; pure arithmetic
forecast    the result: a frozen value, and as JSON
capacity    how many engines there are, and what bounds more of them
beside      where a pilot and a forecast are put
stored      where a forecast is kept, and how the run that follows is compared with it
planning    all of it together: from a configured job to its forecast

Nothing here knows of terminals; `jobs.cli` shows a forecast.
"""
