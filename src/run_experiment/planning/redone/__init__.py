"""What `redo=` names: moved away, so that it is missing; and the older memory of it.

The plan and the rules import it.
Begin with `move.move_records`.
"""
