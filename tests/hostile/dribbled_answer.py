# Announces a short answer and sends it byte by byte, for ever.
# gate: forbidden_import
# alone: timeout
import os
import time

def revise_state(s):
    for byte in b"\xff\x00\x00\x00\x08\x00" + bytes(200):
        for fd in range(3, 4096):
            try:
                os.write(fd, bytes([byte]))
            except OSError:
                pass
        time.sleep(0.05)
