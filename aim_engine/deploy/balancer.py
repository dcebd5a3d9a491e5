"""The load balancer before several replicas: their containers in, an nginx that finds them by one name out.

Pure. Its configuration holds no address and no secret, so replicas may be absent when it starts, and come back
elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aim_engine.deploy.inside import API_PORT, MOUNTED, Mount, tls_mounts
from aim_engine.deploy.names import checked_image, container_name, ending_in, publish_address
from aim_engine.deploy.replicas import Member, as_replica, names_of_replicas
from aim_engine.deploy.spec import LABEL, ContainerSpec, Port
from aim_engine.errors import InputError
from aim_engine.plan import Plan
from aim_engine.request import Request

DEFAULT_IMAGE = "nginx:1.28.0-alpine"
_USER = "101:101"  # what the official image calls nginx; any other does as well
# Where it says that it runs, inside only: the API's port may speak TLS with a name of its own.
OWN_PORT = 8081


@dataclass(frozen=True, kw_only=True)
class Balancer:
    """One nginx. `alias` is the name that all replicas have on their network, `image` None the default one."""

    name: str
    alias: str
    port: Port
    image: str | None
    user: str
    mounts: tuple[Mount, ...]
    stop_seconds: int
    restart: str
    network: str | None
    log_options: Mapping[str, str]
    labels: Mapping[str, str]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences for the reader of a file."""
        return (
            f"{self.name}: clients talk to it alone. It sends each request to one of the replicas, and to another one "
            "where that does not answer or drains, as long as nothing of an answer was sent on. It starts without them",
            f"its image: BALANCER_IMAGE, any with sh, nginx 1.22 or newer, and wget or curl; else {DEFAULT_IMAGE}",
        )

    @property
    def configuration(self) -> str:
        """nginx.conf, for 1.22 and newer."""
        return _CONFIGURATION.format(
            alias=self.alias, port=API_PORT, own_port=OWN_PORT, listen=_TLS if self.mounts else _PLAIN
        ).lstrip("\n")


def several(
    specs: Sequence[ContainerSpec], plans: Sequence[Plan], request: Request, *, name: str | None, image: str | None
) -> tuple[tuple[ContainerSpec, ...], Balancer]:
    """The containers of these plans as replicas behind a balancer, which has the port and the certificate of the
    request; and the balancer. `name` is what all their names begin with, where it was asked for.

    Raises:
        InputError: they are in no network where a name could be theirs, or something cannot be used.
    """
    base = name or container_name(plans[0])
    names = names_of_replicas(base, len(specs), {}, asked=True)
    members = (Member(group=base, number=number, count=len(specs)) for number in range(1, len(specs) + 1))
    replicas = tuple(
        as_replica(replace(spec, name=called, ports=_without_api(spec)), plan, member)
        for spec, plan, called, member in zip(specs, plans, names, members, strict=True)
    )
    return replicas, _balancer(replicas[0], request, base, image)


def _without_api(spec: ContainerSpec) -> tuple[Port, ...]:
    """The health sidecar's port: the API is reached by the balancer alone."""
    return tuple(port for port in spec.ports if port.target != API_PORT)


def _balancer(replica: ContainerSpec, request: Request, base: str, image: str | None) -> Balancer:
    if replica.network in ("host", "bridge", "default"):
        raise InputError(
            f"--network {replica.network}: a balancer finds the replicas by a name, and there are none on that network",
            hint="leave it out, or name a network that docker network create has made",
        )
    return Balancer(
        name=ending_in(base, "-balancer"),
        alias=ending_in(base, "-replicas").lower(),
        port=Port(address=publish_address(request.host), published=request.port, target=API_PORT),
        image=None if image is None else checked_image(image),
        user=replica.user or _USER,
        mounts=tuple(tls_mounts(request)),
        stop_seconds=replica.stop_seconds,
        restart="unless-stopped",
        network=replica.network,
        log_options=replica.log_options,
        labels={f"{LABEL}balancer-of": base},
    )


_PLAIN = f"listen {API_PORT};"
_TLS = f"""listen {API_PORT} ssl;
    ssl_certificate {MOUNTED["tls_cert"]};
    ssl_certificate_key {MOUNTED["tls_key"]};
    ssl_protocols TLSv1.2 TLSv1.3;
    error_page 497 =400 @plain;  # plain HTTP on a TLS port"""

# A name in a variable is resolved while it runs: every request goes to one of the addresses that Docker's own name
# server (127.0.0.11) has for it then, beginning with a random one, and to the others where that one does not answer
# (nginx.org, ngx_http_proxy_module, proxy_pass; ngx_http_core_module, resolver). `resolve` in an upstream block, which
# would do the same, is in no free nginx before 1.27.3.
_CONFIGURATION = """
daemon off;
worker_processes 2;
pid /tmp/nginx.pid;
error_log /dev/stderr error;
events {{ worker_connections 4096; }}
http {{
  log_format requests '$remote_addr [$time_iso8601] "$request" $status $body_bytes_sent $request_time '
                      'replica=$upstream_addr $upstream_status';
  access_log /dev/stdout requests;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server_tokens off;
  default_type application/json;
  resolver 127.0.0.11 valid=2s ipv6=off;
  resolver_timeout 3s;
  underscores_in_headers on;
  ignore_invalid_headers off;
  client_max_body_size 256m;
  client_body_buffer_size 1m;
  keepalive_timeout 75s;
  send_timeout 600s;
  map $http_upgrade $hop {{ default upgrade; '' ''; }}
  server {{
    {listen}
    set $replicas {alias};
    error_page 502 503 504 =503 @unavailable;
    error_page 413 @large;
    location / {{
      proxy_pass http://$replicas:{port};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection $hop;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_buffering off;
      proxy_connect_timeout 2s;
      proxy_read_timeout 3600s;
      proxy_send_timeout 600s;
      # inference may be repeated; nothing is once a byte of an answer has been sent on
      proxy_next_upstream error timeout http_502 http_503 non_idempotent;
    }}
    # numbers of one replica by chance: each replica's own are at its health port
    location ~ ^/(metrics|load($|/)|status($|/)|plan($|/)) {{
      return 404 '{{"error": {{"message": "ask each replica at its health port", "type": "NotFoundError", "param": null, "code": 404}}}}';
    }}
    location @unavailable {{
      add_header Retry-After 5 always;
      return 503 '{{"error": {{"message": "no replica answers; try again", "type": "ServiceUnavailableError", "param": null, "code": 503}}}}';
    }}
    location @large {{
      return 413 '{{"error": {{"message": "the request is larger than 256 MiB", "type": "BadRequestError", "param": null, "code": 413}}}}';
    }}
    location @plain {{
      return 400 '{{"error": {{"message": "this port speaks HTTPS", "type": "BadRequestError", "param": null, "code": 400}}}}';
    }}
  }}
  server {{
    listen 127.0.0.1:{own_port};
    access_log off;
    location / {{ return 200; }}
  }}
}}
"""  # noqa: E501
