"""Choosing the type of every layer, and writing the choice into the graph."""

if __name__ != "edgeir.calibrate":
    raise ImportError(
        "this folder is the package edgeir.calibrate: run 'pip install -e .' in the repository and "
        "import edgeir.calibrate"
    )
