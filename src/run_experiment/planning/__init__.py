"""What there is to make, and why: every target with its state, and the jobs that make them.

It imports jobs, summary and the floors below; results, session and status may import it.
Begin with `build.make_plan`.
"""
