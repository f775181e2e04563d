"""Decides what a plain word of a YAML file means where YAML 1.1 surprises.

Dates and times are text, and a number that begins with 0 is no octal one. What users mean by `no`
depends on where it stands, which whoever reads the file knows: see `text_of`.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

TRUTH = "tag:yaml.org,2002:bool"
WHOLE = "tag:yaml.org,2002:int"
OTHERWISE = (WHOLE, "tag:yaml.org,2002:timestamp")
"""Tags that plain words do not get as YAML 1.1 says."""
NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)\Z")
"""A whole number; `010` is text, which options that are numbers read as ten."""


class Loader(yaml.SafeLoader):
    """Reads YAML as described in the module; other objects than values are refused."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {
        first: [(tag, pattern) for tag, pattern in rules if tag not in OTHERWISE]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


Loader.add_implicit_resolver(WHOLE, NUMBER, [*"-+0123456789"])


def text_of(node: yaml.Node) -> str | None:
    """The text of `no` (Norwegian), `off`, `yes` and `on`, which YAML 1.1 reads as truths.

    Options that are true or false take these texts as well. None for all else.
    """
    is_word = node.tag == TRUTH and node.value.lower() not in ("true", "false")
    return node.value if is_word else None
