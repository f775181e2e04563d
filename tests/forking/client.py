"""What is started in place of a Ray worker or an engine: asks for one by fork, and lasts as long.

    client.py SCRIPT OPTION...     in place of Ray's `setup_worker.py`
    client.py --engine SOCKET      in place of `python -m pipeline.engine.vllm_process SOCKET`

It imports next to nothing, so that its own start costs little; what it sends is as `messages` says.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    """Send working directory, arguments, environment and files; wait for the process's end."""
    files = [0, 1, 2]
    if sys.argv[1] == "--engine":
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as an engine does
        files.append(int(sys.argv[2]))
    body = json.dumps([os.getcwd(), sys.argv[1:], dict(os.environ)]).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ["TESTS_FORK_SERVER"])
        socket.send_fds(server, [len(body).to_bytes(8, "big")], files)
        server.sendall(body)
        for file in files[3:]:
            os.close(file)  # its other end is to see when the engine closes it
        status = b""
        while part := server.recv(4):
            status += part
    end_as(int.from_bytes(status, "big", signed=True))


def end_as(status: int) -> None:
    """End with a status, or by the signal that a negative one means."""
    if status >= 0:
        sys.exit(status)
    if status == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), -status)


if __name__ == "__main__":
    main()
