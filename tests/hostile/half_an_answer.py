# Announces an answer of four gigabytes and sends nothing more.
# gate: forbidden_import
# alone: bad_output
import os
import time

def revise_state(s):
    for fd in range(3, 4096):
        try:
            os.write(fd, b"\xf0\xff\xff\xff\x08\x00")
        except OSError:
            pass
    time.sleep(100)
