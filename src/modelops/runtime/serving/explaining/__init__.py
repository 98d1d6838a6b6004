"""Explanations: which method fits a model, what it costs, and that predictions go on beside it."""
