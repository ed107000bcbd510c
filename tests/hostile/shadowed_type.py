# A parameter called type does not make the builtin one's own elsewhere.
# gate: forbidden_name
# alone: raised
def helper(type):
    return type

def revise_state(s):
    mine = type("Mine", (), {"__len__": lambda self: 1 / 0})
    return len(mine())
