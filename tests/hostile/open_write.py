# Writes a file outside of its directory.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    with open("@OUTSIDE@/written", "w") as file:
        file.write("x")
    return s
