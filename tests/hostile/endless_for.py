# An endless loop that the gate does not see.
# gate: timeout
# alone: timeout
def revise_state(s):
    for _ in iter(int, 1):
        s = s + 1
