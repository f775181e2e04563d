"""From a dataset of rows to a dataset of rows with a model's answers, on Ray Data and vLLM.

A row's way: `sources` cut the input into units; `stages` read, render, generate and parse its rows,
with `images` and an `engine`; `output` keeps finished rows and commits whole units; `execution`
runs the stages until all units are committed, and `profiling` measures where the time goes.
`contract.task` is what a job implements.

Importing this package imports none of it: each name of `__init__.pyi` brings its module when it is
first used. Every process of a run imports this package, and needs little of what is in it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
