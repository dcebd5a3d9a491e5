"""The image's HEALTHCHECK: exit status 0 once the first start is over, and for as long as the engine is alive.

Asks the health sidecar, which knows busy from hung. Imports next to nothing: it runs every few seconds.
"""

import os
import socket
import sys


def main() -> int:
    host = os.environ.get("AIM_HOST") or "0.0.0.0"
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(os.environ.get("AIM_HEALTH_PORT") or 8080)
    for path in ("/health/startup", "/health/live"):
        status, body = ask(address, path)
        if status != "200":
            print(body)
            return 1
    return 0


def ask(address: tuple[str, int], path: str) -> tuple[str, str]:
    """GET a path: its status and body, or why there is none."""
    try:
        with socket.create_connection(address, timeout=2) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = b""
            while data := connection.recv(65536):
                answer += data
    except OSError as error:
        return "", f"the health sidecar on {address[0]}:{address[1]} does not answer: {error}"
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    return [*head.split(" "), "", ""][1], body


if __name__ == "__main__":
    sys.exit(main())
