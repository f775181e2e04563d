"""Reads a user's own policies from a YAML or JSON file.

The file is a list of policies, or a mapping of names to texts:

    - name: weapons                                     weapons: "No Weapons: The image shall ..."
      text: "No Weapons: The image shall not ..."       spam: "No Spam: The image shall not ..."
      threshold: 0.7
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from jobs.moderation.policies import Policy
from jobs.options.entries import Entry, EntryKind, read_entries

if TYPE_CHECKING:
    from pathlib import Path

KIND = EntryKind(
    option="policies",
    one="policy",
    keys=tuple(field.name for field in fields(Policy)),
    main="text",
    required=("name", "text"),
)


def read_policies(path: str | Path) -> tuple[Policy, ...]:
    """Read the policies from a `.json` file, or from a YAML file of any other name.

    Raises:
        UserError: The file cannot be read or is wrong; one line with the file and, for YAML, the
            line in it.
    """
    return tuple(map(_policy, read_entries(path, KIND)))


def _policy(entry: Entry) -> Policy:
    with entry.checking():
        return Policy(**entry.values)
