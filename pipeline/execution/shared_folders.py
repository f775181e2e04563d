"""Decides whether every machine of the cluster sees what a run reads and writes on a disk.

A path names something else on another machine, unless the folder is shared (NFS, say). So before
any work begins every machine looks for the first file of INPUT and one of the model's, which may be
copies, and for a file that the driver has just written to OUTPUT, beside which it writes one of its
own. A machine that joins the cluster later is not asked.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import UserError, one_line
from pipeline.engine.adapters import CONFIG as ADAPTER_FILE
from pipeline.engine.models.fetched import is_fetched
from pipeline.engine.models.gguf import SUFFIX
from pipeline.storage.access import write_fix
from pipeline.storage.atomic import overwrite, remove_folder
from pipeline.storage.fingerprint import fingerprint
from pipeline.storage.location import INTERNAL, Location, locate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.contract.config import EngineConfig, RunConfig
    from pipeline.sources import Listing

ANSWER_SECONDS = 60.0
"""Time that a machine has to look; it may have to start a process for it."""
MODEL_FILE = "config.json"
ABSENT = ""
"""The tag of a file that the driver does not see either."""
SHARE = "use s3:// or gs://, or a folder that all machines share"
COPY = "copy it to the same path on all machines, or name a folder that they share"


@dataclass(frozen=True)
class Sought:
    """A file that machines look for.

    Attributes:
        file: On a disk.
        what: What a message calls it.
        fix: What to do if it is not there.
        tag: Its fingerprint; None for one beside which they write another one.
        needs_cpu: Whether only machines with CPUs need it.
    """

    file: Location
    what: str
    fix: str
    tag: str | None
    needs_cpu: bool = False


Look = Callable[[Sequence[Sought]], "tuple[str, list[bool]]"]
"""The name of the machine, and whether it sees each file."""


def check_shared_folders(
    config: RunConfig, listing: Listing, output: Location, look: Look | None = None
) -> None:
    """Check that all machines of the cluster see INPUT, OUTPUT and the model; once Ray runs.

    Args:
        config: What the run is on.
        listing: The files of INPUT.
        output: The folder to write to.
        look: How a machine looks; another one only in tests.

    Raises:
        UserError: One of them is on a disk that a machine does not see, or OUTPUT cannot be
            written to.
    """
    first = listing.root / listing.files[0].path
    with _token(output) as token:
        files = [
            _copy_of(first, f"INPUT {listing.root}", SHARE),
            *_of_the_model(config.engine),
            Sought(token, f"OUTPUT {output}", SHARE, None),
        ]
        _check(files, look or look_for)


def _of_the_model(engine: EngineConfig) -> Iterator[Sought]:
    """A file of the model and of each adapter, but of what each machine fetches or a server has."""
    model = engine.model
    if engine.endpoint is not None:
        return
    if model.endswith(SUFFIX):  # a file, which each machine converts
        yield _copy_of(locate(model), f"model {model}", COPY, needs_cpu=True)
    elif not is_fetched(model):
        yield _copy_of(locate(model) / MODEL_FILE, f"model {model}", COPY, needs_cpu=True)
    for adapter in engine.lora.values():
        if not is_fetched(adapter):
            file = locate(adapter) / ADAPTER_FILE
            yield _copy_of(file, f"adapter {adapter}", COPY, needs_cpu=True)


def check_shared_file(path: str, look: Look | None = None) -> None:
    """Check that all machines of the cluster see a file that a row of INPUT names.

    Raises:
        UserError: A machine does not see it.
    """
    _check(
        [_copy_of(locate(path), f"file {path}", f"{SHARE}, or give its bytes")], look or look_for
    )


def look_for(files: Sequence[Sought]) -> tuple[str, list[bool]]:
    """Look for files on this machine; see `Look`."""
    import socket

    return socket.gethostname(), [_is_there(sought) for sought in files]


def _is_there(sought: Sought) -> bool:
    try:
        if sought.tag is not None:
            return fingerprint(sought.file, sought.file.info()) == sought.tag
        sought.file.read()
        overwrite(sought.file.parent / uuid.uuid4().hex, b"", sync=False)
    except OSError:
        return False
    return True


def _copy_of(file: Location, what: str, fix: str, *, needs_cpu: bool = False) -> Sought:
    try:
        tag = fingerprint(file, file.info()) if file.is_local else ABSENT
    except OSError:  # a row's or a unit's fault, which is told elsewhere
        tag = ABSENT
    return Sought(file, what, fix, tag, needs_cpu)


def _check(files: Sequence[Sought], look: Look) -> None:
    """Ask all machines. Raises UserError for the first one that does not see a file."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    local = [sought for sought in files if sought.file.is_local and sought.tag != ABSENT]
    if len(nodes) == 1 or not local:
        return
    asked = {}
    for node in nodes:
        has_cpu = bool(node["Resources"].get("CPU"))
        due = [sought for sought in local if has_cpu or not sought.needs_cpu]
        asked[_ask(node["NodeID"], look, due)] = due
    answered, _ = ray.wait([*asked], num_returns=len(asked), timeout=ANSWER_SECONDS)
    for answer in answered:
        with contextlib.suppress(ray.exceptions.RayError):  # the machine went away
            machine, is_there = ray.get(answer)
            hidden = [s for s, found in zip(asked[answer], is_there, strict=True) if not found]
            if hidden:
                raise UserError(
                    f"{hidden[0].what} is on a disk that not all machines of the cluster see "
                    f"({machine} does not); {hidden[0].fix}"
                )


def _ask(node_id: str, look: Look, files: Sequence[Sought]) -> Any:
    """A reference to the answer of a machine."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=there)(_look).remote(look, files)


def _look(look: Look, files: Sequence[Sought]) -> tuple[str, list[bool]]:
    return look(files)


@contextlib.contextmanager
def _token(output: Location) -> Iterator[Location]:
    """A new file in an OUTPUT on a disk; afterwards everything is as it was."""
    folder = output / INTERNAL / f"nodes-{uuid.uuid4().hex}"
    if not output.is_local:
        yield folder
        return
    new = [path for path in (folder.parent.path, output.path) if not os.path.exists(path)]
    try:
        overwrite(folder / "token", b"", sync=False)
    except OSError as error:
        raise UserError(
            f"OUTPUT {output} cannot be written to: {one_line(error)}; {write_fix(error)}"
        ) from None
    try:
        yield folder / "token"
    finally:
        remove_folder(folder)
        for path in new:
            with contextlib.suppress(OSError):  # another run uses it by now
                os.rmdir(path)
