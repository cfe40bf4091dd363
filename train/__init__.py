"""Training code installs here; this version has none yet, see the limits in the README."""

if __name__ != "edgeir.train":
    raise ImportError(
        "this folder is the package edgeir.train: run 'pip install -e .' in the repository and import edgeir.train"
    )
