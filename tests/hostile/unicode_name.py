# Python reads full-width letters as plain ones.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    return list(ｅval("ｏpen('@SECRET@', 'rb')").read())
