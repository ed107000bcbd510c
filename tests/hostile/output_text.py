# Returns a text.
# gate: bad_output
# alone: bad_output
def revise_state(s):
    return f"{s[0]:.3f}"
