"""Passes: each takes a program and returns a new one. Imported as ``atofx.passes``."""

if __name__ != "atofx.passes":
    raise ImportError(f"import `atofx.passes`, not `{__name__}`: a second name would make a second copy of every class")
