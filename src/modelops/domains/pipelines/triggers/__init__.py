"""Triggers: things begin because something happened, here or outside.

What belongs here: which events count, what they hand over, and the door for messages from outside. What never does: what
it is that begins, and whether it may while an earlier one runs (that is in `beginnings`).
"""
