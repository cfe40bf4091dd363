"""Other machines, over the user's own OpenSSH: `ssh` and `sftp`, their keys, their known hosts, their configuration.

::

    here                                          on the board, below ~/.local/share/edgeir
    addresses ── devices.json                     envs/        a virtual environment with this edgeir
    connection ─ ssh, sftp: errors as sentences   bundles/     what was pushed
    additions ── which engines go where
    bundles ──── push, pull by hash               incoming/    files on their way, resumed by size, proven by hash
    jobs ─────── start, follow, read ──────────►  jobs/        detached commands: log, output, exit code
                                                  board.py answers there, in the edgeir that was installed
"""
