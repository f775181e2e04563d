"""One attempt at a run, in a process of its own that a test may kill: a RunConfig as JSON."""

from __future__ import annotations

import json
import sys

from pipeline import RunConfig, run
from tests.pipeline.fakes import SLOW_FAKE, ColourTask


def main() -> None:
    settings = json.loads(sys.argv[1])
    result = run(RunConfig.model_validate(settings), ColourTask(), backend=SLOW_FAKE)
    print(json.dumps({"rows": result.rows, "outcomes": dict(result.outcomes)}))


if __name__ == "__main__":
    main()
