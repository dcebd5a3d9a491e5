"""The image's HEALTHCHECK: exit status 0 once the first start is over, and for as long as the engine is alive.

Asks the health sidecar, which knows busy from hung, where the running server's own plan says that it listens: flags
count more than variables, and Kubernetes may set those to something else. Imports next to nothing: it runs every few
seconds.
"""

import json
import os
import socket
import sys

_PARENT = b"/aim_engine/runtime/__main__.py"  # followed by "boot" and the state folder (aim_engine/runtime/handover.py)


def main(proc: str = "/proc") -> int:
    where = address(proc, os.environ)
    for path in ("/health/startup", "/health/live"):
        status, body = ask(where, path)
        if status != "200":
            print(body)
            return 1
    return 0


def address(proc: str, environment: "os._Environ[str] | dict[str, str]") -> tuple[str, int]:
    """Where the sidecar of the server below `proc` listens; until there is one, where the variables say."""
    host, port = planned(proc)
    host = host or environment.get("AIM_HOST") or "0.0.0.0"
    port = port or number(environment.get("AIM_HEALTH_PORT")) or 8080
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def planned(proc: str) -> tuple[str, int]:
    """The host and the port of the running server's plan; nothing where none is found."""
    try:
        # the parent is pid 1, but for docker run --init
        pids = sorted((name for name in os.listdir(proc) if name.isdigit()), key=int)  # noqa: PTH208 - slim
    except OSError:
        return "", 0
    for pid in pids:
        try:
            with open(f"{proc}/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - slim
                _, found, rest = file.read().partition(_PARENT + b"\0boot\0")
            if not found:
                continue
            folder = rest.partition(b"\0")[0]
            with open(folder + b"/plan.json", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - slim
                runtime = json.load(file)["runtime"]
            return str(runtime.get("host", "")), number(runtime.get("health_port"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return "", 0


def number(text: object) -> int:
    """A port, or 0 for what is none: Kubernetes puts tcp://ADDRESS:PORT there where a service is called aim-health."""
    digits = str(text)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 and 0 < int(digits) < 65536 else 0


def ask(where: tuple[str, int], path: str) -> tuple[str, str]:
    """GET a path: its status and body, or why there is none."""
    try:
        with socket.create_connection(where, timeout=2) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = b""
            while data := connection.recv(65536):
                answer += data
    except (OSError, ValueError) as error:  # ValueError: a host that is no name at all
        shown = ascii(where[0])[1:-1]
        return "", f"the health sidecar on {shown}:{where[1]} does not answer: {error}"
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    return [*head.split(" "), "", ""][1], body


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
