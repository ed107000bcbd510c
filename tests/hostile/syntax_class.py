# A class.
# gate: forbidden_syntax
# alone: values
class Scale:
    by = 2

def revise_state(s):
    return s * Scale.by
