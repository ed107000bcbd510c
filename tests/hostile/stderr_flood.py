# The same past Python.
# gate: forbidden_import
# alone: values
import os

def revise_state(s):
    for _ in range(50):
        os.write(2, b"x" * 10**6)
    return s
