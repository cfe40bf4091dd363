"""The networks: ExDA, KGT, CEA, Restormer and PromptIR, each with a published and an export-friendly form.

Importing this package imports no torch. Start at `edgeir.models.registry` (the zoo, one literal table) and
`edgeir.models.loading` (names and checkpoints to modules; imports torch).
"""
