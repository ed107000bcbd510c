# Ends itself by a signal that has no name.
# gate: forbidden_import
# alone: raised|died
import os

def revise_state(s):
    os.kill(os.getpid(), 40)
