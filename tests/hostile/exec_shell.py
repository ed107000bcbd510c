# Becomes a shell.
# gate: forbidden_import
# alone: raised
import os

def revise_state(s):
    os.execv("/bin/sh", ["sh", "-c", "cat @SECRET@ > @OUTSIDE@/copied"])
