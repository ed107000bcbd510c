# Stops itself, and would be continued by nobody.
# gate: forbidden_import
# alone: raised|timeout
import os

def revise_state(s):
    os.kill(os.getpid(), 19)
    return s
