"""Running networks: one engine per file, each importing its own engine lazily; restoring pictures; timing."""
