"""What objects of Kubernetes may be called: a plan or a typed name in, a name that its API takes out. Pure text.

The rules: kubernetes.io, "Object Names and IDs". Names are RFC 1035 labels, because a Service's must be one.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from aim_engine.deploy.names import container_name
from aim_engine.errors import InputError
from aim_engine.plan import Plan

# A label has 63 characters. What is made from a name has up to 13 more: -secrets, and a StatefulSet's pods bear a label
# of its name and a hash of 10 (controller-revision-hash).
LONGEST = 50
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_LONGEST_SUBDOMAIN = 253
_OURS = frozenset(f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "managed-by"))
_LABEL_NAME = re.compile(r"([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", re.ASCII)
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", re.ASCII)
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*", re.ASCII)


def cluster_name(plan: Plan) -> str:
    """`aim-engine-qwen-qwen3-32b-4gpu-bf16-vllm`, as the container would be called, cut where that is too long."""
    return container_name(plan, longest=LONGEST)[:LONGEST].rstrip("-")


def checked_name(name: str) -> str:
    """A typed name for the objects.

    Raises:
        InputError: a Service could not be called so, or what is made from it would be too long.
    """
    if _LABEL.fullmatch(name) and len(name) <= LONGEST:
        return name
    raise InputError(
        f"--name {name[:80]!r} cannot be the name of a Service",
        hint=f"use small letters, digits and '-', beginning with a letter, ending without '-', up to {LONGEST} in all",
    )


def checked_namespace(name: str) -> str:
    """A typed namespace.

    Raises:
        InputError: there can be none of that name.
    """
    if _NAMESPACE.fullmatch(name):
        return name
    raise InputError(
        f"--namespace {name[:80]!r} cannot be a namespace",
        hint="use small letters, digits and '-', not at the ends, up to 63 in all",
    )


def checked_reference(flag: str, name: str) -> str:
    """The typed name of something that is in the cluster already, or will be: a claim, a class, a secret.

    Raises:
        InputError: nothing can be called so.
    """
    if len(name) <= _LONGEST_SUBDOMAIN and _SUBDOMAIN.fullmatch(name):
        return name
    raise InputError(
        f"{flag} {name[:80]!r} cannot be the name of anything in a cluster",
        hint="use small letters, digits, '-' and '.', beginning and ending with a letter or digit",
    )


def checked_variable(name: str) -> str:
    """The name of a variable of a pod.

    Raises:
        InputError: Kubernetes takes none of that name.
    """
    if _VARIABLE.fullmatch(name):
        return name
    raise InputError(
        f"--env {name[:80]!r} cannot be a variable of a pod",
        hint="use letters, digits, '_', '-' and '.', not beginning with a digit",
    )


def checked_label(flag: str, text: str) -> tuple[str, str]:
    """A typed NAME=VALUE that a label can be made of.

    Raises:
        InputError: Kubernetes takes no such label.
    """
    name, _, value = text.partition("=")
    if name in _OURS:
        raise InputError(f"{flag} {name[:80]!r}: by this label its own objects are found", hint="choose another NAME")
    if _LABEL_NAME.fullmatch(name) and _LABEL_VALUE.fullmatch(value):
        return name, value
    raise InputError(f"{flag} {text[:80]!r} is no label", hint="use NAME=VALUE, for instance release=prometheus")


def checked_address(flag: str, url: str) -> str:
    """The typed address of a web server.

    Raises:
        InputError: it is none.
    """
    if "@" in url:
        raise InputError(
            f"{flag}: an address with a user or a password would be written down for others to read",
            hint="use http://HOST:PORT; KEDA takes a password from a secret, by a TriggerAuthentication of yours",
        )
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isascii() and url.isprintable()
        if known and " " not in url and parts.port != 0:
            return url
    except ValueError:  # a port that is none
        pass
    raise InputError(f"{flag} {url[:80]!r} is no address", hint="use http://HOST:PORT")
