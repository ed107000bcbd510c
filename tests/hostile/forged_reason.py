# Answers in the name of the child that something was raised, and gives no reason.
# gate: forbidden_import
# alone: raised
import os
import time

def revise_state(s):
    for fd in range(3, 4096):
        try:
            os.write(fd, b"\x09\x00\x00\x00\x07\x00raised\x00")
        except OSError:
            pass
    time.sleep(100)
