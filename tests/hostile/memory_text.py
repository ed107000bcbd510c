# A long text.
# gate: memory
# alone: memory
def revise_state(s):
    return len("x" * 10**12)
