"""The steps of a row, in their order; `execution.dataflow` puts them on Ray Data.

read         a unit to its rows
render       a row to the engine's input, in CPU actors
generate     the engine's input to answers, in the actors that hold engines
feed         which rows in an engine's actor the engine has, and which wait
follow_ups   what a row is asked once it has answers
rendered_row what a row asks the engine, and has asked
parse        answers to result columns, into the journal
blocks       the tables that travel between the steps
payloads     what a row carries in them, as bytes
store_faults rows whose images a store refuses
poison_rows  rows that end the process that works on them
start_board  how engines tell which step of their start they are in
drain        how engines are asked to take no more rows
"""
