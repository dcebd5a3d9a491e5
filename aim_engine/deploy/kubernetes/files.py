"""ClusterSpec → text: one YAML stream, a List for programs, or the files of a kustomize folder. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from aim_engine.deploy.kubernetes.components import Component, with_pieces
from aim_engine.deploy.kubernetes.manifest import Manifest
from aim_engine.deploy.kubernetes.objects import base_objects, deadline_seconds, workload_kind
from aim_engine.deploy.kubernetes.pieces import Pieces
from aim_engine.deploy.kubernetes.spec import ClusterSpec
from aim_engine.deploy.yaml_text import comment_lines, without_notes, yaml_text

_KUSTOMIZATION = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
_WIDTH = 110
EVERYTHING = "complete"  # the overlay with every component, of those that do the same the first


def stream_text(spec: ClusterSpec, components: Sequence[Component] = ()) -> str:
    """All objects as one YAML stream, for `kubectl apply -f`.

    Raises:
        InputError: a component cannot be had for this plan.
    """
    objects = with_pieces(base_objects(spec), [one.make(spec) for one in components])
    return text_of(spec, objects, how=["kubectl apply -f FILE", *until_served(spec)])


def text_of(spec: ClusterSpec, objects: Sequence[Manifest], *, how: Sequence[str]) -> str:
    """These objects as one YAML stream, with what is to be said of them first: `how` they are used."""
    return "\n".join([*_header(spec, how), *_stream(objects)])


def list_document(spec: ClusterSpec, components: Sequence[Component] = ()) -> Manifest:
    """The same as one value, which `kubectl apply -f` takes as JSON."""
    return list_of(with_pieces(base_objects(spec), [one.make(spec) for one in components]))


def list_of(objects: Sequence[Manifest]) -> Manifest:
    """These objects as one."""
    document: Manifest = without_notes({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    return document


def kustomize_files(spec: ClusterSpec, components: Sequence[Component]) -> dict[str, str]:
    """Files by their path below a folder: the base, and an overlay for each component and for all of them.

    Raises:
        InputError: a component cannot be had for this plan.
    """
    base = {_file_name(one): one for one in base_objects(spec)}
    files = {f"base/{name}": _document(one) for name, one in base.items()}
    header = _header(spec, ["kubectl apply -k FOLDER, of this folder or of one of overlays/", *until_served(spec)])
    files["base/kustomization.yaml"] = "\n".join(
        [*header, "", yaml_text({**_KUSTOMIZATION, "resources": list(base)}), ""]
    )
    made = {one.name: one.make(spec) for one in components}
    overlays = {one.name: (one.summary, [made[one.name]]) for one in components}
    together = [one.name for one in components if one.instead_of not in made]
    if len(together) > 1:
        overlays[EVERYTHING] = (" and ".join(together), [made[name] for name in together])
    for name, (summary, pieces) in overlays.items():
        for path, text in _overlay(name, summary, pieces):
            files[f"overlays/{name}/{path}"] = text
    return files


def _overlay(name: str, summary: str, pieces: Sequence[Pieces]) -> Iterator[tuple[str, str]]:
    objects = {_file_name(one): one for each in pieces for one in each.objects}
    patches = {f"patch-{number}-{_file_name(one)}": one
               for number, one in enumerate((one for each in pieces for one in each.patches), 1)}  # fmt: skip
    for path, one in {**objects, **patches}.items():
        yield path, _document(one)
    kustomization: Manifest = {**_KUSTOMIZATION, "resources": ["../../base", *objects]}
    if patches:
        kustomization["patches"] = [{"path": path} for path in patches]
    yield "kustomization.yaml", "\n".join([*comment_lines([f"{name}: {summary}"]), yaml_text(kustomization), ""])


def _file_name(one: Mapping[str, object]) -> str:
    """`service-aim-engine-qwen.yaml`: its kind and name, which are as unique in a folder as in a cluster."""
    metadata = one["metadata"]
    assert isinstance(metadata, Mapping)
    return f"{str(one['kind']).lower()}-{metadata['name']}.yaml"


def _stream(objects: Sequence[Manifest]) -> Iterator[str]:
    for one in objects:
        yield "---"
        yield yaml_text(one)
    yield ""


def _document(one: Manifest) -> str:
    return yaml_text(one) + "\n"


def _header(spec: ClusterSpec, how: Sequence[str]) -> list[str]:
    return comment_lines([*spec.about, "", *how, "", *_about_secrets(spec), *spec.warnings])


def until_served(spec: ClusterSpec) -> list[str]:
    """The command that waits for the pods as long as they may take."""
    kind, where = workload_kind(spec)[1].lower(), f"-n {spec.namespace} " if spec.namespace else ""
    seconds = deadline_seconds(spec)
    verb = "wait --for=condition=Available" if spec.nodes > 1 else "rollout status"
    return in_lines(f"kubectl {verb} {kind}/{spec.name}", f"{where}--timeout {seconds}s")


def in_lines(command: str, rest: str) -> list[str]:
    """A command that can be copied from a comment: what is too long for a line of it is broken as a shell breaks it."""
    whole = f"{command} {rest}"
    return [whole] if len(whole) <= _WIDTH else [f"{command} \\", f"  {rest}"]


def _about_secrets(spec: ClusterSpec) -> Iterator[str]:
    """How the secret is made, with its values in nobody's argv and in no file."""
    names = [one.name for one in spec.container.passed]
    needed = [one.name for one in spec.container.passed if one.required]
    where = f" -n {spec.namespace}" if spec.namespace else ""
    yield (f"The values of {', '.join(names)} are in no file. They are taken from the secret {spec.secret}"
           + (f", which must have {', '.join(needed)}:" if needed else ", where there is one:"))  # fmt: skip
    check = " && ".join(f': "${{{name}:?}}"' for name in needed)
    pairs = " \\\n    ".join(f'${{{name}:+"{name}=${name}"}}' for name in names)
    if check:
        yield f"  {check} &&"
    yield from f"  printf '%s\\n' {pairs} |".split("\n")
    yield f"  kubectl create secret generic {spec.secret}{where} \\"
    yield "    --from-env-file=/dev/stdin"
