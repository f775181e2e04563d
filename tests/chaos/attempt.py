"""One attempt at a run, in a process of its own that a test may kill.

Its arguments are a RunConfig as JSON and, if it is not the slow one, the name of a fake backend.
"""

from __future__ import annotations

import json
import sys

from pipeline import RunConfig, run
from tests.pipeline import fakes


def main() -> None:
    settings = json.loads(sys.argv[1])
    backend = getattr(fakes, sys.argv[2] if sys.argv[2:] else "SLOW_FAKE")
    result = run(RunConfig.model_validate(settings), fakes.ColourTask(), backend=backend)
    print(json.dumps({"rows": result.rows, "outcomes": dict(result.outcomes)}))


if __name__ == "__main__":
    main()
