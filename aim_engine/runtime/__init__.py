"""What runs inside the container: the parent, the supervised programs, and the sidecar that tells the truth.

Everything here uses the standard library only and imports little of it, so that the processes around the engine stay
small and are up before the engine has read its first module. Nothing here chooses a recipe.
"""
