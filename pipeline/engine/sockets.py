"""The folder of an engine's sockets, which goes with it.

vLLM's processes talk through sockets in the temporary folder, with random names, and those of a
process that is killed stay there (0.32; libzmq's issue 3204). So each engine has a folder for its
own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

VARIABLE = "VLLM_RPC_BASE_PATH"
"""Where vLLM makes sockets; read each time it makes one, in each of its processes."""
PREFIX = "g3b-"
"""Short: the path of a socket may have 107 bytes, and its name has 36."""


class SocketFolder:
    """A new folder, in the one where vLLM would make its sockets."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix=PREFIX, dir=os.environ.get(VARIABLE))

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Let the engine that is made within, and its processes, make their sockets there."""
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = self.path
        try:
            yield
        except BaseException:
            self.remove()
            raise
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before

    def remove(self) -> None:
        """Remove it, once the engine's processes have ended."""
        shutil.rmtree(self.path, ignore_errors=True)
