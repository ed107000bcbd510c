# Leaves a process behind that nobody knows.
# gate: forbidden_import
# alone: raised
import os
import time

def revise_state(s):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
    return s
