"""What a run that finished gives its caller: counts, and its rows when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.output.results import open_results
from pipeline.storage.location import locate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    import pyarrow.dataset as ds

    from pipeline.profiling.profile import Profile
    from pipeline.sources import Skipped
    from pipeline.storage.location import StorageOptions


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What is in OUTPUT after a run that finished.

    Attributes:
        output: The folder with the parts, an absolute path or a URI.
        rows: Rows in it, one for each input row.
        outcomes: Rows by outcome.
        duplicates: Rows that took the results of an identical one.
        skipped: The files of INPUT that are not read, by reason.
        new_rows: Rows that this run computed; the others were there.
        model_class: Module and name of the model class that the engine loaded; None if no row
            reached the engine.
        seconds: From the first check to the last commit, engine start included.
        rows_per_second: From when the first engine was ready to the last row; 0 if none started.
        left_out: Input files whose rows were planned and not finished, and are no longer planned,
            because the files are not in INPUT any more.
        profile: Where the time went; None if there was nothing to compute.
        storage_options: With which OUTPUT can be read.
    """

    output: str
    rows: int
    outcomes: Mapping[str, int]
    duplicates: int
    skipped: tuple[Skipped, ...] = ()
    new_rows: int
    model_class: str | None
    seconds: float
    rows_per_second: float
    left_out: Sequence[str] = ()
    profile: Profile | None = field(default=None, repr=False, compare=False)
    storage_options: StorageOptions = field(default_factory=dict, repr=False, compare=False)

    def dataset(self) -> ds.Dataset:
        """The rows of OUTPUT in input order, read when they are asked for. Raises OSError."""
        return open_results(locate(self.output, self.storage_options))

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of OUTPUT in input order, with some columns or all. Raises OSError."""
        return self.dataset().to_table(columns=None if columns is None else [*columns])

    def _repr_html_(self) -> str | None:
        """What a notebook shows: some rows; without OUTPUT the text form alone."""
        from pipeline.output.glance import glance  # Pillow takes a while to import

        try:
            where = locate(self.output, self.storage_options)
            return glance(where, self.outcomes, self.storage_options)
        except Exception:  # a cell that ran well should not end in an error
            return None
