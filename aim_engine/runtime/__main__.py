"""The one door to the programs of this folder: `python -I -S .../__main__.py PROGRAM ARGUMENTS`.

In: the program's name. Out: its exit status. It finds the package from its own path, so that it works without `site`
(which costs 10 ms and 2 MB for each process, and would need an editable install's import hook).
"""

import sys


def _main() -> int:
    root = __file__.rsplit("/", 3)[0]
    if root not in sys.path:
        sys.path.append(root)  # last: a module installed next to us must not hide one of Python's own
    program, arguments = sys.argv[1], sys.argv[2:]
    if program == "boot":
        from aim_engine.runtime import boot

        return boot.main(arguments)
    if program == "supervisord":
        from aim_engine.runtime import supervisord

        return supervisord.main(arguments)
    if program == "serve":
        from aim_engine.runtime import serve

        return serve.main(arguments)
    if program == "watch":
        from aim_engine.runtime import watch

        return watch.main(arguments)
    if program == "sidecar":
        from aim_engine.runtime import sidecar

        return sidecar.main(arguments)
    if program == "inventory":
        from aim_engine.runtime import inventory

        return inventory.main(arguments)
    raise SystemExit(f"unknown program {program!r}")


if __name__ == "__main__":
    sys.exit(_main())
