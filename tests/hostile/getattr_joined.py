# Puts a forbidden attribute's name together at run time.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    builtins = getattr(revise_state, "__glo" + "bals__")["__builtins__"]
    return list(builtins.open("@SECRET@", "rb").read())
