# Evaluates a text.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    return list(eval("open('@SECRET@', 'rb').read()"))
