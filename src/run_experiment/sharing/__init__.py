"""Results in the forms that people already use: inspect-ai's viewer, a comparison in the terminal, an RO-Crate.

It imports results and the floors below; the command line may import it.
Each module is one command: begin with the one of its name.
"""
