"""What a plan will cost, GPU-hours and its longest path, judged by how long such jobs took.

It imports planning and the floors below; the rules and the tables under `-n` may import it.
Begin with `cost.estimate`.
"""
