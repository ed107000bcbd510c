# Returns an object that decides itself what array it is.
# gate: forbidden_syntax
# alone: raised
class Array:
    def __array__(self, dtype=None, copy=None):
        raise SystemExit("out")

def revise_state(s):
    return Array()
