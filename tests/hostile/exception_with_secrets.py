# An exception whose text is longer than a book, and names paths.
# gate: raised
# alone: raised
def revise_state(s):
    raise ValueError("/home/user/secret/file " + "x" * 10**6)
