"""What a container shares with whoever launches it: the cache's folder and its owner, and the words for secrets that
cannot be shared as files. A plan and our place in; folders made, sentences out. Knows no container.
"""

from __future__ import annotations

from pathlib import Path

from aim_engine.deploy.reach import Vantage
from aim_engine.errors import CacheError
from aim_engine.plan import Plan


def owner_of_cache(plan: Plan) -> str | None:
    """The owner of a cache that is a folder of this host: without capabilities the image's root could not write it."""
    if plan.request.origins.get("cache_dir", "default") == "default":
        return None
    try:
        found = plan.request.cache_dir.stat()
    except OSError:
        return None
    return f"{found.st_uid}:{found.st_gid}" if found.st_uid else None


def make_cache(plan: Plan, place: Vantage) -> None:
    """The folder that was named for the cache; the engine makes none.

    Raises:
        CacheError: it cannot be made.
    """
    folder = plan.request.cache_dir
    if plan.request.origins.get("cache_dir", "default") == "default" or place.on_host(folder) is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"{folder} cannot be made: {error.strerror}", hint="name another") from None


def shown_secrets(names: str, folder: Path, place: Vantage) -> str:
    """The warning that secrets become variables, and how they would become files; `folder` is where these would be."""
    if place.paths is None:
        why, remedy = "the Docker Engine does not see this machine's files", ""
    else:
        state = folder.parents[1]
        why = f"{state} is on no mount of this container"
        remedy = f"; with -v FOLDER_OF_THE_HOST:{state} on its docker run it would get a file"
    return f"{names}: {why}, so the container gets it as a variable, and docker inspect shows it{remedy}"
