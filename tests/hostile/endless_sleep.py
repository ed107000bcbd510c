# Sleeps.
# gate: forbidden_import
# alone: timeout
import time

def revise_state(s):
    time.sleep(10**6)
