"""What a container cannot share with whoever launches it: a folder of ours and our place in; the words for secrets that
become variables out. Knows no container.
"""

from __future__ import annotations

from pathlib import Path

from aim_engine.deploy.reach import Vantage


def shown_secrets(names: str, folder: Path, place: Vantage) -> str:
    """The warning that secrets become variables, and how they would become files; `folder` is where these would be."""
    if place.paths is None:
        why, remedy = "the Docker Engine does not see this machine's files", ""
    else:
        state = folder.parents[1]
        why = f"{state} is on no mount of this container"
        remedy = f"; with -v FOLDER_OF_THE_HOST:{state} on its docker run it would get a file"
    return f"{names}: {why}, so the container gets it as a variable, and docker inspect shows it{remedy}"
