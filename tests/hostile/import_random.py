# Random features, through the front door.
# gate: forbidden_import
# alone: values
import math
import random

def revise_state(s):
    return math.sin(random.random())
