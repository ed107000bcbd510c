# Plainly reads the file.
# gate: forbidden_import
# alone: raised
import os

def revise_state(s):
    fd = os.open("@SECRET@", os.O_RDONLY)
    return list(os.read(fd, 1000))
