"""Which run a metric is of: a name that people know, and that two runs do not share.

But all runs in memory share one: a program may make thousands of them, and Ray forgets no label.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pipeline.storage.location import MEMORY

IN_MEMORY = "in-memory"
"""The label of runs whose OUTPUT is in memory."""


@dataclass(frozen=True, kw_only=True)
class RunLabels:
    """The labels of all metrics of a run.

    Attributes:
        run: OUTPUT's name, and six digits of its whole address; the same when the run is resumed.
            Of runs in memory, `IN_MEMORY`.
        task: The task's name, such as `caption`.
    """

    run: str
    task: str

    @classmethod
    def of(cls, output: str, task: str) -> RunLabels:
        """Those of a run.

        Args:
            output: OUTPUT, a path or a URI.
            task: The task's name.
        """
        if output.startswith(f"{MEMORY}://"):
            return cls(run=IN_MEMORY, task=task)
        name = output.rstrip("/").rpartition("/")[2]
        address = hashlib.blake2b(output.rstrip("/").encode(), digest_size=3).hexdigest()
        return cls(run=f"{name}-{address}", task=task)

    def as_tags(self) -> dict[str, str]:
        """As Ray takes them."""
        return {"run": self.run, "task": self.task}
