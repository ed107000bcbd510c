# Closes every descriptor and goes on.
# gate: forbidden_import
# alone: died
import os
import time

def revise_state(s):
    for fd in range(4096):
        try:
            os.close(fd)
        except OSError:
            pass
    time.sleep(100)
