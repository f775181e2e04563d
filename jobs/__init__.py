"""The three jobs as Python functions; each is also a command of `gemma3-batch`.

    captioning, translation, moderation   one package a job: its options, task and result columns
    job, registry                         what a job is, and how a name leads to one
    options                               what the options of all jobs have in common
    forecast                              what a run will take, found out by a pilot
    sdk, cli                              the jobs from Python, and from the command line
    demo                                  the bundled model and the drawings it was trained on

Importing this package imports none of them: each name of `__init__.pyi` brings its module when it
is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
