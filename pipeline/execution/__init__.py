"""How the stages are run on a Ray cluster until all work is committed.

The checks (`preparation`, `shared_folders`); where the stages run and how they share it
(`cluster`, `placement`); the stages over all work, batch by batch (`driver`, `dataflow`, `ledger`),
and how many rows are in them at once (`depth`); how a run is shown (`progress`, `pace`,
`start_watch`, `alarms`, and in which form: `display`), where all else goes (`quiet`,
`engine_logs`), and how it ends (`error_rate`, `shutdown`, `unfinished`, `root_cause`).
"""
