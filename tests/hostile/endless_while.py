# An endless loop that the gate sees.
# gate: forbidden_syntax
# alone: timeout
def revise_state(s):
    while True:
        s = s + 1
