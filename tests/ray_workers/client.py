"""What Ray starts as a worker: asks the fork server for one, and lasts as long as it.

It imports next to nothing, so that its own start costs little.
"""

import json
import os
import socket
import sys


def main() -> None:
    """Send working directory, arguments, environment and streams; wait for the worker's end."""
    body = json.dumps([os.getcwd(), sys.argv[1:], dict(os.environ)]).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ["TESTS_FORK_SERVER"])
        socket.send_fds(server, [len(body).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(body)
        while server.recv(1):
            pass


if __name__ == "__main__":
    main()
