# Leaves at once.
# gate: forbidden_import
# alone: died
import os

def revise_state(s):
    os._exit(0)
