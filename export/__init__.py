"""From a network to a typed graph and engines: tracing, graph conventions, engine builds."""

if __name__ != "edgeir.export":
    raise ImportError(
        "this folder is the package edgeir.export: run 'pip install -e .' in the repository and import edgeir.export"
    )
