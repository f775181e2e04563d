"""Where a run's time goes: measured always, at microseconds a row, and kept in its record.

stopwatch      seconds of each step in this thread
events         how often something happened in this process, such as a store that was asked again
measures       what a process has measured; it travels with the blocks, so it costs no message
engine_gauge   what is measured in the actor that holds an engine
series         amounts over time, in few points however long a run is
collector      adds up, in the driver, what the blocks bring back
profile        the result: a frozen value, and as JSON
bounds         which stage, or what else, bounds a run

Nothing is sampled from outside, and nothing is lost silently: a block that dies takes what was
measured on it away in all stages alike.
"""
