# Ends the trainer.
# gate: forbidden_import
# alone: raised
import os

def revise_state(s):
    os.kill(@PARENT@, 9)
    return s
