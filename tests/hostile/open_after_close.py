# Makes room in the table of descriptors first.
# gate: forbidden_import
# alone: raised
import os

def revise_state(s):
    for fd in (0, 1, 2):
        os.close(fd)
    return list(open("@SECRET@", "rb").read())
