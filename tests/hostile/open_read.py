# Opens the file.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    return list(open("@SECRET@", "rb").read())
