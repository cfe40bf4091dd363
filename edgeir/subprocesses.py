"""Running a module of edgeir in a process of its own."""

from __future__ import annotations


def run_module(name: str) -> str:
    """Code for ``python -c`` that runs module ``name``.

    Like ``python -m``, but without the folder the user stands in at the head of the search path: a ``json.py`` or a
    ``train.py`` of theirs must not be taken for ours. (``PYTHONSAFEPATH`` does the same from Python 3.11 on.)
    """
    return (
        "import sys; sys.path[:] = [folder for folder in sys.path if folder]; import runpy; "
        f"runpy.run_module({name!r}, run_name='__main__', alter_sys=False)"
    )
