"""What a plan will cost, GPU-hours and its longest path, judged by how long such jobs took.

It imports planning and the floors below; the rules, the tables under `-n`, session and status may import it.
Begin with `cost.estimate`.
"""
