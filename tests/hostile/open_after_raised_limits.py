# Raises its own limits first.
# gate: forbidden_import
# alone: raised
import resource

def revise_state(s):
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    return list(open("@SECRET@", "rb").read())
